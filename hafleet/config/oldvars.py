"""The vars file of an older load balancer -> OldVars: every problem at once, each with its line.

The file was read by Ansible, which resolved ``{{ name }}``. Those that name another value of the same file are resolved here, too;
every other expression needs Ansible, and is named instead.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from hafleet.config import bytes_of, first_hand
from hafleet.config.document import Document, Plain, Unreadable, read
from hafleet.config.words import describe
from hafleet.core.checks.finding import Finding
from hafleet.core.checks.finding import Path as Place
from hafleet.core.migration import left_out
from hafleet.core.oldvars import ANSIBLE_ONLY, Mapping, OldVars, Rule
from hafleet.core.values import shown
from hafleet.errors import Problem, SettingsError

_DEEPEST = 10  # values that name one another
_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_NAME = re.compile(r"\{\{-?\s*([A-Za-z_][A-Za-z0-9_]*)\s*-?\}\}")
_INSIDE: dict[str, frozenset[str]] = {
    "lb_mappings": frozenset(Mapping.model_fields),
    "security_group_rules": frozenset(Rule.model_fields),
}


@dataclass(frozen=True, slots=True)
class OldFile:
    """A vars file that can be converted."""

    path: Path
    old: OldVars
    findings: tuple[Finding, ...]  # warnings: what was left out while reading
    document: Document

    def problems(self, findings: Iterable[Finding]) -> tuple[Problem, ...]:
        """Findings with their lines in this file, in its order."""
        return _problems(self.path, self.document, findings)


def load(path: Path) -> OldFile:
    """The vars file at this path.

    Raises:
        SettingsError: with every problem of the file, in file order, warnings included.
    """
    data = bytes_of(path, noun="vars", fix="on the command line")
    try:
        document = read(data, fix="name the vars file of a load balancer, with lb_mappings")
    except Unreadable as error:
        fault = error.fault
        raise SettingsError((Problem(f"{path}:{fault.line}", fault.what, fault.fix),)) from None
    raw, _ = document.plain()
    values, unresolved = _resolved(raw)
    known = {key: value for key, value in values.items() if key in OldVars.model_fields}
    findings = [*unresolved, *left_out(tuple(key for key in raw if key not in OldVars.model_fields))]
    findings += _strip(known)
    faults = tuple(Problem(f"{path}:{fault.line}", fault.what, fault.fix) for fault in document.faults)
    stuck = {finding.path[0] for finding in unresolved if finding.fatal}
    try:
        old = OldVars.model_validate(known)
    except ValidationError as error:
        findings += [each for each in _refusals(document, error) if each.path[0] not in stuck]
        raise SettingsError((*faults, *_problems(path, document, findings))) from None
    if faults or any(finding.fatal for finding in findings):
        raise SettingsError((*faults, *_problems(path, document, findings)))
    return OldFile(path, old, tuple(findings), document)


def _problems(path: Path, document: Document, findings: Iterable[Finding]) -> tuple[Problem, ...]:
    placed = ((document.place(each.path)[1], each) for each in dict.fromkeys(findings))
    ordered = sorted(placed, key=lambda pair: pair[0])
    return tuple(Problem(f"{path}:{line}", each.what, each.fix, each.fatal) for line, each in ordered)


def _refusals(document: Document, error: ValidationError) -> Iterator[Finding]:
    for each in first_hand(error):
        standing, _ = document.place(each["loc"])
        path = each["loc"] if each["type"] == "missing" else standing
        yield Finding(path, *describe(each, path, stands=path == standing))


def _resolved(raw: dict[str, Plain]) -> tuple[dict[str, Plain], list[Finding]]:
    """The values with every ``{{ name }}`` replaced, less those of the role's own variables that stay unresolved."""
    names = {key: value for key, value in raw.items() if isinstance(value, str)}
    values: dict[str, Plain] = {}
    findings: list[Finding] = []
    for key, value in raw.items():
        if key not in OldVars.model_fields:
            continue
        found: list[Finding] = []
        made = _walk(value, (key,), names, found)
        optional = key in ANSIBLE_ONLY
        if not found or not optional:
            values[key] = made
        findings += [replace(each, fatal=not optional) for each in found]
    return values, findings


def _walk(value: Plain, path: Place, names: dict[str, str], found: list[Finding]) -> Plain:
    if isinstance(value, dict):
        return {key: _walk(each, (*path, key), names, found) for key, each in value.items()}
    if isinstance(value, list):
        return [_walk(each, (*path, index), names, found) for index, each in enumerate(value)]
    if value is None:
        return None
    text = value
    for _ in range(_DEEPEST):
        text = _NAME.sub(lambda match: names.get(match[1], match[0]), text)
    if left := _EXPRESSION.search(text):
        what = f"the expression {shown(left[0])} is not evaluated: only {{{{ name }}}} of a value in this file is"
        found.append(Finding(path, what, "write the value itself, or set the role's variable by hand", fatal=True))
    return text


def _strip(values: dict[str, Plain]) -> Iterator[Finding]:
    """Take keys that nothing knows out of the items of lists, each with a finding."""
    for section, known in _INSIDE.items():
        items = values.get(section)
        for index, item in enumerate(items if isinstance(items, list) else []):
            if not isinstance(item, dict):
                continue
            for key in sorted(item.keys() - known):
                del item[key]
                what = f"the key {shown(key)} of {section}[{index}] is not carried over: hafleet knows no such key"
                yield Finding((section, index, key), what, "carry it over by hand", fatal=False)
