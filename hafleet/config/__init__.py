"""hafleet.yaml -> Settings: every problem at once, each with its line and with what to do."""

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from hafleet.config.document import Document, Fault, Unreadable, read
from hafleet.config.words import describe
from hafleet.core.checks import Finding, check
from hafleet.core.checks.finding import Path as Place
from hafleet.core.settings import Backend, Frontend, Settings
from hafleet.errors import Problem, SettingsError

LARGEST_FILE = 1024 * 1024  # bytes; 10,000 domains take less than half of it


@dataclass(frozen=True, slots=True)
class Loaded:
    """A settings file that can be used."""

    settings: Settings
    problems: tuple[Problem, ...]  # warnings only, in file order
    path: Path
    digest: str  # sha256 of the file, in hex


class _Partial(Settings):
    """Settings of a file that has errors: what is left of it, so that rules over several fields can still run."""

    fleet: str = ""
    frontends: tuple[Frontend, ...] = Field(default=())
    backends: tuple[Backend, ...] = Field(default=())


def load(path: Path, *, elsewhere: bool = False) -> Loaded:
    """The settings in this file.

    Args:
        path: of hafleet.yaml.
        elsewhere: this host is none that the settings are for, so that the folders they name are not looked for.

    Raises:
        SettingsError: with every problem of the file, in file order, warnings included.
    """
    data = bytes_of(path)
    try:
        document = read(data)
    except Unreadable as error:
        raise SettingsError(_problems(path, [(error.fault, True)])) from None
    settings, found = _judge(document, elsewhere=elsewhere)
    problems = _problems(path, [*((fault, True) for fault in document.faults), *found])
    if settings is None or any(problem.fatal for problem in problems):
        raise SettingsError(problems)
    return Loaded(settings, problems, path, hashlib.sha256(data).hexdigest())


def json_schema() -> dict[str, JsonValue]:
    """The JSON Schema of hafleet.yaml, for editors; durations, percentages and sizes are numbers or texts with a unit."""
    schema = Settings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "hafleet.yaml"}


def bytes_of(path: Path, *, noun: str = "settings", fix: str = "with -c") -> bytes:
    """The file's bytes. Raises SettingsError when it cannot be read, is no file, or is too large.

    ``noun`` is what it should hold, and ``fix`` how the user names another.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SettingsError((Problem(str(path), "this is not a file", f"name the {noun} file {fix}"),))
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        what = f"the {noun} cannot be read: {reason}"
        raise SettingsError((Problem(str(path), what, f"name a readable file {fix}"),)) from error
    if len(data) > LARGEST_FILE:
        what = f"the file is larger than {LARGEST_FILE} bytes"
        raise SettingsError((Problem(str(path), what, "shorten it; repeated parts can use YAML anchors"),))
    return data


def _judge(document: Document, *, elsewhere: bool) -> tuple[Settings | None, list[tuple[Fault, bool]]]:
    """The settings, or None, and every fault: (fault, fatal)."""
    values, _ = document.plain()
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        refused = first_hand(error)
        return None, [*_refusals(document, refused), *_rules_of_the_rest(document, refused)]
    return settings, _rules(document, check(settings) if elsewhere else _findings(settings))


def first_hand(error: ValidationError) -> list[ErrorDetails]:
    """pydantic's errors, less those that only say that a list is too short after its items were refused."""
    errors: list[ErrorDetails] = [{**each, "loc": _untagged(each["loc"])} for each in error.errors(include_url=False)]
    above = {each["loc"][:depth] for each in errors for depth in range(len(each["loc"]))}
    return [each for each in errors if each["type"] != "too_short" or each["loc"] not in above]


def _untagged(loc: Place) -> Place:
    """pydantic's location of an error -> the path in the text: less the names of the two kinds of a DnsTarget.

    ``("dns", "tree", "failover", 0, "branch", "latency")`` has a tag after the step into each level of the tree.
    """
    if loc[:2] != ("dns", "tree"):
        return loc
    path, rest = loc[:2], loc[2:]
    while rest:
        path, rest = path + rest[:2], rest[3:] if rest[2:3] in (("branch",), ("group",)) else rest[2:]
    return path


def _refusals(document: Document, errors: list[ErrorDetails]) -> list[tuple[Fault, bool]]:
    """One fault per refused place, in words."""
    faults = []
    for error in errors:
        standing, line = document.place(error["loc"])
        path = error["loc"] if error["type"] == "missing" else standing
        faults.append((Fault(line, *describe(error, path, stands=path == standing)), True))
    return faults


def _rules_of_the_rest(document: Document, errors: list[ErrorDetails]) -> list[tuple[Fault, bool]]:
    """What the rules find in the part of the file that was not refused."""
    without: frozenset[Place] = frozenset()
    while True:
        places = {_refused_place(document, error) for error in errors}
        if () in places or places <= without:
            return []
        without |= places
        values, moved = document.plain(without)
        try:
            partial = _Partial.model_validate(values)
        except ValidationError as error:
            errors = [{**each, "loc": _original(each["loc"], moved)} for each in first_hand(error)]
            continue
        findings = [_moved_back(finding, moved) for finding in _findings(partial)]
        return _rules(document, [finding for finding in findings if not _rests_on(finding, without)])


def _refused_place(document: Document, error: ErrorDetails) -> Place:
    """What to leave out so that the error goes away: the value, or the section that lacks a key.

    A key missing at the top needs nothing left out: _Partial does without it.
    """
    if error["type"] == "missing":
        return error["loc"][:-1] or error["loc"]
    return document.place(error["loc"])[0]


def _findings(settings: Settings) -> list[Finding]:
    found = list(check(settings))
    folder = settings.haproxy.templates_dir
    if folder is not None and not os.access(f"{folder}/.", os.R_OK | os.X_OK):  # "/." so that a file is none
        what = f"the folder {folder!r} does not exist or cannot be entered"
        found.append(
            Finding(("haproxy", "templates_dir"), what, "create it, or remove the key for the shipped templates")
        )
    return found


def _rules(document: Document, findings: Iterable[Finding]) -> list[tuple[Fault, bool]]:
    return [(Fault(document.place(each.path)[1], each.what, each.fix), each.fatal) for each in findings]


def _moved_back(finding: Finding, moved: dict[Place, tuple[int, ...]]) -> Finding:
    also = tuple(_original(path, moved) for path in finding.also)
    return Finding(_original(finding.path, moved), finding.what, finding.fix, finding.fatal, also)


def _original(path: Place, moved: dict[Place, tuple[int, ...]]) -> Place:
    """A path in values that lost items -> the path in the text."""
    original: Place = ()
    for depth, step in enumerate(path):
        kept = moved.get(path[:depth])
        original += (kept[step] if kept is not None and isinstance(step, int) and step < len(kept) else step,)
    return original


def _rests_on(finding: Finding, without: frozenset[Place]) -> bool:
    """True when the finding uses a value that was left out, or a part or the whole of it."""
    return any(
        all("*" in pair or pair[0] == pair[1] for pair in zip(read, left, strict=False))
        for read in (finding.path, *finding.also)
        for left in without
    )


def _problems(path: Path, faults: Iterable[tuple[Fault, bool]]) -> tuple[Problem, ...]:
    """Problems in file order, each said once."""
    ordered = sorted(dict.fromkeys(faults), key=lambda each: each[0].line)
    return tuple(Problem(f"{path}:{fault.line}", fault.what, fault.fix, fatal) for fault, fatal in ordered)
