"""IAM's decision: may this be done with this policy? Pure. Identity policies of one account; nothing else is known here.

Sources: IAM user guide, policy evaluation logic, elements of JSON policies (Condition, variables), ARN wildcards. What this
evaluator does not know (NotAction, other operators) is refused when the policy is set, and never ignored.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_SPECIAL = frozenset("*?$")  # ${*}, ${?} and ${$} stand for themselves
_KNOWN = frozenset({"Sid", "Effect", "Action", "Resource", "Condition"})
_SEGMENTS = 5  # colons that part an ARN; what follows the last is one segment


@dataclass(frozen=True, slots=True)
class Ask:
    """One action on one resource."""

    action: str  # service:Operation
    resource: str = "*"  # its ARN; "*" for an action that knows no resources
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # condition key -> values; no key, no entry


@dataclass(frozen=True, slots=True)
class Test:
    """One line of a statement's conditions."""

    quantifier: str  # "", ForAllValues or ForAnyValue
    operator: str
    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement."""

    sid: str
    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    tests: tuple[Test, ...]

    def applies(self, ask: Ask) -> bool:
        """True when it says something about this."""
        known = {key.lower(): values for key, values in ask.context.items()}
        return (
            any(_like(action.lower(), ask.action.lower(), {}) for action in self.actions)
            and any(_covers(resource, ask.resource, known) for resource in self.resources)
            and all(_holds(test, known) for test in self.tests)
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """What a caller may do: nothing but what a statement allows, and nothing that one denies."""

    statements: tuple[Statement, ...]

    def refusal(self, ask: Ask) -> str:
        """Why not, as AWS words it; "" when it may be done."""
        applying = [statement for statement in self.statements if statement.applies(ask)]
        if any(not statement.allows for statement in applying):
            return "with an explicit deny in an identity-based policy"
        return "" if applying else f"because no identity-based policy allows the {ask.action} action"


def parse(document: Any) -> Policy:
    """A policy from its JSON data.

    Raises:
        ValueError: it is none, or says something that is not known here.
    """
    if not isinstance(document, dict) or document.get("Version") != "2012-10-17" or "Statement" not in document:
        raise ValueError('a policy is {"Version": "2012-10-17", "Statement": [...]}')
    statements = tuple(_statement(item) for item in _listed(document["Statement"]))
    sids = [statement.sid for statement in statements if statement.sid]
    if len(set(sids)) != len(sids):
        raise ValueError("two statements have the same Sid")
    return Policy(statements)


def _statement(item: Any) -> Statement:
    if not isinstance(item, dict) or not {"Effect", "Action", "Resource"} <= item.keys():
        raise ValueError(f"a statement has Effect, Action and Resource: {item!r:.200}")
    sid, unknown = str(item.get("Sid", "")), sorted(item.keys() - _KNOWN)
    if unknown or item["Effect"] not in {"Allow", "Deny"} or not re.fullmatch("[A-Za-z0-9]*", sid):
        raise ValueError(f"not known in a statement: {', '.join(unknown) or item['Effect']} (Sid {sid!r})")
    for resource in _texts(item["Resource"]):
        if resource != "*" and (not resource.startswith("arn:") or resource.count(":") < _SEGMENTS):
            raise ValueError(f"{resource!r} is no ARN")
    return Statement(
        sid,
        item["Effect"] == "Allow",
        _texts(item["Action"]),
        _texts(item["Resource"]),
        tuple(_tests(item.get("Condition", {}))),
    )


def _tests(conditions: Any) -> Iterator[Test]:
    for name, lines in conditions.items():
        quantifier, _, operator = name.rpartition(":")
        if operator not in _OPERATORS or quantifier not in {"", "ForAllValues", "ForAnyValue"}:
            raise ValueError(f"{name} is no operator that is known here")
        for key, values in lines.items():
            yield Test(quantifier, operator, key.lower(), _texts(values))


def _holds(test: Test, known: Mapping[str, tuple[str, ...]]) -> bool:
    """One condition. A key that the request does not have fails it, but for ForAllValues and Null."""
    have = known.get(test.key)
    if test.operator == "Null":
        return (have is None) == (test.values[0].lower() == "true")
    matches = _OPERATORS[test.operator]

    def fits(value: str) -> bool:
        return any(matches(wanted, value, known) for wanted in test.values)

    if test.quantifier == "ForAllValues":
        return all(fits(value) for value in have or ())
    if test.quantifier == "ForAnyValue":
        return any(fits(value) for value in have or ())
    return have is not None and len(have) == 1 and fits(have[0])  # several values without a quantifier: AWS says do not


def _covers(pattern: str, arn: str, known: Mapping[str, tuple[str, ...]]) -> bool:
    """True when the pattern of a statement is of this resource. A wildcard does not reach over a colon, but in the last segment."""
    if "*" in (pattern, arn):  # what knows no resources is allowed by "*" alone
        return pattern == "*"
    mine, theirs = pattern.split(":", _SEGMENTS), arn.split(":", _SEGMENTS)
    return len(mine) == len(theirs) and all(_like(m, t, known) for m, t in zip(mine, theirs, strict=True))


def _like(pattern: str, text: str, known: Mapping[str, tuple[str, ...]]) -> bool:
    """Match with * and ?, and variables filled in as they are. One that has no value fits nothing."""
    made, end = "", 0
    for found in _VARIABLE.finditer(pattern):
        value = _value(found[1], known)
        if value is None:
            return False
        made += _wild(pattern[end : found.start()]) + re.escape(value)
        end = found.end()
    return re.fullmatch(made + _wild(pattern[end:]), text, re.DOTALL) is not None


def _equal(wanted: str, value: str, known: Mapping[str, tuple[str, ...]]) -> bool:
    found = [_value(name, known) for name in _VARIABLE.findall(wanted)]
    values = iter([text for text in found if text is not None])
    return None not in found and _VARIABLE.sub(lambda _: next(values), wanted) == value


def _wild(pattern: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)


def _value(name: str, known: Mapping[str, tuple[str, ...]]) -> str | None:
    """What a variable stands for: the one value of a condition key."""
    if name in _SPECIAL:
        return name
    values = known.get(name.lower(), ())
    return values[0] if len(values) == 1 else None


def _texts(value: Any) -> tuple[str, ...]:
    found = tuple(_listed(value))
    if not found or not all(isinstance(item, str) for item in found):
        raise ValueError(f"a text or a list of texts is wanted: {value!r:.200}")
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_OPERATORS: Mapping[str, Callable[[str, str, Mapping[str, tuple[str, ...]]], bool]] = {
    "StringEquals": _equal,
    "StringLike": _like,
    "ArnEquals": _covers,
    "ArnLike": _covers,
    "Null": _equal,  # told apart before
}
