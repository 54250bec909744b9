"""pydantic's errors in the words of someone who writes settings: what is wrong, and what to write instead."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from hafleet.core.checks.finding import Path
from hafleet.core.settings import Settings
from hafleet.core.values import Refusal, shown


def describe(error: ErrorDetails, path: Path, *, stands: bool) -> tuple[str, str]:
    """What and fix of one error.

    Args:
        error: as ``ValidationError.errors()`` gives it.
        path: the part of its location that stands in the file; for a missing key, with the key.
        stands: False when the path's last key does not stand in the file.
    """
    kind, value = error["type"], error["input"]
    label = spelled(path)
    if kind == "missing" and stands:
        return f"{label} is empty", "write a value"
    if kind == "missing":
        return f"{label} is missing", f"add `{path[-1]}:`"
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if value is None:
        return f"{label} is empty", "write a value, or remove the line"
    what, fix = _of_value(kind, value, error.get("ctx", {}), error["msg"])
    return f"{label}: {what}", fix


def spelled(path: Path) -> str:
    """``("backends", 0, "name")`` -> ``backends[0].name``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _of_value(kind: str, value: object, context: dict[str, Any], message: str) -> tuple[str, str]:
    """What and fix of a value that is there. ``context`` holds pydantic's figures."""
    cause = context.get("error")
    if isinstance(cause, Refusal):
        return cause.what, cause.fix
    if kind == "literal_error":
        expected = str(context.get("expected", ""))
        allowed = re.findall(r"'([^']*)'", expected) or re.findall("[0-9]+", expected)
        return f"{shown(value)} is not one of {', '.join(allowed)}", _close(str(value), allowed)
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        return f"{shown(value)} is too {word}", f"write {_LIMITS[kind]} {context[key]:g}"
    if kind == "too_short" and value:
        return f"this has {context['actual_length']} item", f"write at least {context['min_length']}"
    if kind == "too_short":
        return "this is empty", "write at least one item, or remove the key where it may be left out"
    if kind in _SHAPES:
        return f"this must be {_SHAPES[kind][0]}, not {_shape(value)}", _SHAPES[kind][1]
    return message[:1].lower() + message[1:], ""


_BOUNDS = {
    "greater_than_equal": ("small", "ge"),
    "greater_than": ("small", "gt"),
    "less_than_equal": ("large", "le"),
}
_LIMITS = {"greater_than_equal": "at least", "greater_than": "more than", "less_than_equal": "at most"}
_SHAPES = {
    "string_type": ("a text", "write one value after the colon"),
    "tuple_type": ("a list", "begin each item with `- `, or write [one, two]"),
    "model_type": ("a section", "write `key: value` lines below it"),
    "dict_type": ("a section", "write `key: value` lines below it"),
}


def _shape(value: object) -> str:
    if isinstance(value, dict):
        return "a section"
    return "a list" if isinstance(value, list) else f"the text {shown(value)}"


def _unknown_key(path: Path) -> tuple[str, str]:
    key, section = str(path[-1]), path[:-1]
    known = list(_keys(section))
    inside = f" in {spelled(section)}" if section else ""
    return f"unknown key {shown(key)}{inside}", _close(key, known) or f"known here: {', '.join(known)}"


def _close(text: str, known: list[str]) -> str:
    near = get_close_matches(text.lower(), known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def _keys(section: Path) -> Iterator[str]:
    """The keys that a section knows."""
    model: type[BaseModel] = Settings
    for step in section:
        if isinstance(step, str) and step in model.model_fields:
            model = next(_models(model.model_fields[step].annotation), model)
    yield from model.model_fields


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The models inside an annotation such as ``tuple[Backend, ...]`` or ``Check | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
