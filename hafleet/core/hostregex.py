"""A regular expression over host names -> the names it means, as ``domains`` of a backend takes them.

The ancestor matched such an expression on Host and on SNI, anywhere in the name unless it was anchored, case and all. hafleet
looks names up, so an expression must come down to a list of names and of ``*.suffix``. It is expanded into all texts it can
mean; runs such as ``.*`` may stand at the beginning only, where they mean "every name below".
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hafleet.core.texts import parse_domain
from hafleet.core.values import Refusal, shown

MOST = 100  # names that one expression may expand to; a backend's list should stay readable

Drift = Literal["dots", "start", "end", "depth"]

_START, _END, _RUN, _LABEL, _ANY = "\x01", "\x02", "\x03", "\x04", "\x05"  # of no host name; YAML refuses them, too
_MARKS = re.compile("[\x01-\x05]")
_SETS = {"d": "0123456789", "w": "abcdefghijklmnopqrstuvwxyz0123456789_"}
_PORT = re.compile(r"\((?:\?:)?:(?:\\d|\[0-9\])[+*]\)\?(?=\$|$)")
_COUNT = re.compile(r"\{([0-9]{1,3})(,([0-9]{0,3}))?\}")
_BELOW = re.compile("[\x03\x04]\\.")
_FIX = r"list the names instead, such as ^(shop|www)\.example\.com$, or take all below with \.example\.com$"


@dataclass(frozen=True, slots=True)
class Names:
    """What an expression came down to.

    ``drifts`` are where it matched other names than these: a bare ``.`` that meant any character; names that merely start
    before (``notexample.com``) or go on behind; ``*.suffix`` for one label, or for some characters only.
    """

    domains: tuple[str, ...]
    drifts: frozenset[Drift]


def names_of(expression: str) -> Names:
    """The names that an expression means.

    Args:
        expression: as it stood in an ACL: several patterns may stand side by side, and ``-i`` before them.

    Raises:
        Refusal: HAProxy refuses the expression, or it comes down to no list of names.
    """
    found: dict[str, None] = {}
    drifts: set[Drift] = set()
    for pattern in patterns_of(expression):
        for text in _Reader(_PORT.sub("", pattern)).whole():
            domains, drifted = _domains(text, pattern)
            found |= dict.fromkeys(domains)
            drifts |= drifted
    return Names(tuple(found), frozenset(drifts))


def patterns_of(expression: str) -> tuple[str, ...]:
    """The patterns of an ACL's line, less its flag ``-i``. Raises Refusal for other flags, and when there is none."""
    words = [word for word in expression.replace("\\\\", "\\").split() if word != "-i"]
    if not words:
        raise Refusal("the expression is empty", _FIX)
    for word in words:
        if word.startswith("-"):
            raise Refusal(f"{shown(word)} is a flag of HAProxy's, no expression", _FIX)
    return tuple(words)


def covered(domain: str, by: Iterable[str]) -> bool:
    """True when one of these domains takes every name that ``domain`` does."""
    labels = domain.split(".")
    above = {"*." + ".".join(labels[depth:]) for depth in range(1, len(labels))}
    return not ({domain} | above).isdisjoint(by)


@dataclass(frozen=True, slots=True)
class _Atom:
    """One piece of an expression: the texts it can be, and the run it becomes when it is repeated without end."""

    texts: tuple[str, ...]
    run: str = ""


class _Reader:
    """Reads one pattern, left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def whole(self) -> tuple[str, ...]:
        """Every text that the pattern can be. Raises Refusal."""
        flag = "(?i)"
        self._at = len(flag) if self._pattern.startswith(flag) else 0
        texts = self._choice()
        if self._at < len(self._pattern):
            raise self._refused("a ) stands without its (")
        return texts

    def _choice(self) -> tuple[str, ...]:
        texts = self._row()
        while self._took("|"):
            texts = (*texts, *self._row())
        return tuple(dict.fromkeys(texts))

    def _row(self) -> tuple[str, ...]:
        texts: tuple[str, ...] = ("",)
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            texts = self._product(texts, self._repeated(self._atom()))
        return texts

    def _product(self, texts: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
        if len(texts) * len(more) > MOST:
            raise Refusal(f"{shown(self._pattern)} means more than {MOST} names", _FIX)
        return tuple(dict.fromkeys(one + other for one in texts for other in more))

    def _atom(self) -> _Atom:
        char = self._next()
        match char:
            case "(":
                return self._group()
            case "[":
                return self._set()
            case "\\":
                return self._escaped()
            case "^":
                return _Atom((_START,))
            case "$":
                return _Atom((_END,))
            case ".":
                return _Atom((_ANY,), _RUN)
            case "*" | "+" | "?":
                raise self._refused(f"{char} has nothing to repeat")
            case _:
                return _Atom((char,))

    def _group(self) -> _Atom:
        if self._took("?") and not self._took(":"):
            raise self._unclear()
        texts = self._choice()
        if not self._took(")"):
            raise self._refused("a ( is never closed")
        below = all(_BELOW.fullmatch(text) for text in texts)
        return _Atom(texts, f"{_RUN}." if below else "")

    def _escaped(self) -> _Atom:
        char = self._next()
        if char in _SETS:
            return _Atom(tuple(_SETS[char]), _LABEL)
        if char.isalnum():
            raise self._unclear()
        return _Atom((char,))

    def _set(self) -> _Atom:
        """``[...]``: a choice of characters; without end a run inside one label, or over dots when a dot is among them."""
        negated = self._took("^")
        first, chars = self._at, set[str]()
        while (char := self._next()) != "]" or self._at == first + 1:
            if char == "[":  # a POSIX class
                raise self._unclear()
            if char == "\\":
                char = self._next()
                chars |= set(_SETS.get(char, char))
                continue
            last = char
            if self._pattern[self._at : self._at + 1] == "-" and self._pattern[self._at + 1 : self._at + 2] not in {
                "",
                "]",
            }:
                self._at += 1
                last = self._next()
            if last < char:
                raise self._refused(f"the range {char}-{last} is upside down")
            chars |= {chr(code) for code in range(ord(char), ord(last) + 1)}
        dots = ("." in chars) is not negated
        texts = () if negated else tuple(sorted({char.lower() for char in chars}))
        return _Atom(texts, _RUN if dots else _LABEL)

    def _repeated(self, atom: _Atom) -> tuple[str, ...]:
        before = self._at
        least, most = self._times()
        if self._at > before and not {_START, _END}.isdisjoint(atom.texts):
            raise self._unclear()
        if most is None:
            if not atom.run:
                raise self._unclear()
            whole_labels = len(atom.run) > 1  # "no label at all" is a name of its own; an empty one is none
            return ("", atom.run) if whole_labels and not least else (atom.run,)
        if not atom.texts or (_ANY in atom.texts and (least, most) != (1, 1)):
            raise self._unclear()
        texts: tuple[str, ...] = ("",) if least == 0 else ()
        power: tuple[str, ...] = ("",)
        for times in range(1, most + 1):
            power = self._product(power, atom.texts)
            if times >= least:
                texts = (*texts, *power)
        return texts

    def _times(self) -> tuple[int, int | None]:
        """Least and most repetitions of what was just read; None is without end."""
        times: tuple[int, int | None] = (1, 1)
        if found := _COUNT.match(self._pattern, self._at):
            self._at = found.end()
            least = int(found[1])
            times = least, least if found[2] is None else int(found[3]) if found[3] else None
        elif self._took("?"):
            times = 0, 1
        elif self._took("*"):
            times = 0, None
        elif self._took("+"):
            times = 1, None
        else:
            return times
        self._took("?")  # lazy: matches the same names
        if times[1] is not None and times[1] < times[0]:
            raise self._refused("a count is upside down")
        return times

    def _took(self, char: str) -> bool:
        if not self._pattern.startswith(char, self._at):
            return False
        self._at += 1
        return True

    def _next(self) -> str:
        if self._at >= len(self._pattern):
            raise self._refused("it ends too early")
        self._at += 1
        return self._pattern[self._at - 1]

    def _refused(self, why: str) -> Refusal:
        return Refusal(f"{shown(self._pattern)} is no regular expression: {why}", "HAProxy refuses it, too: mend it")

    def _unclear(self) -> Refusal:
        part = self._pattern[: self._at]
        return Refusal(f"{shown(self._pattern)} is no list of names from {shown(part)} on", _FIX)


def _domains(text: str, pattern: str) -> tuple[tuple[str, ...], set[Drift]]:
    """One text of the expansion -> domains, and where they drift. Raises Refusal."""
    drifts: set[Drift] = {"dots"} if _ANY in text else set()
    text = text.replace(_ANY, ".")
    name = text.lstrip(_START).rstrip(_END)
    anchored, closed = text.startswith(_START), text.endswith(_END)
    if name.startswith(_RUN):
        name, anchored = name.lstrip(_RUN), False
    if name.startswith(_LABEL + "."):
        name, anchored = name[1:], False
        drifts.add("depth")
    if name.endswith(_RUN):
        name, closed = name.rstrip(_RUN), False
    if _MARKS.search(name):
        raise Refusal(f"{shown(pattern)} leaves open what stands inside a name", _FIX)
    if name.endswith("."):
        raise Refusal(f"{shown(pattern)} takes names with any ending, or such that end in a dot", _FIX)
    if not closed:
        if "." not in name.strip("."):
            raise Refusal(f"{shown(pattern)} takes names with any ending", _FIX)
        drifts.add("end")
    if anchored:
        return (parse_domain(name),), drifts
    if name.startswith("."):
        return (parse_domain(f"*{name}"),), drifts
    return (parse_domain(name), parse_domain(f"*.{name}")), drifts | {"start"}
