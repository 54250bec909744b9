"""What ``hafleet doctor`` finds: one value per thing looked at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hafleet.errors import HafleetError

State = Literal["ok", "warn", "fail", "hint"]  # hint: something that cannot be tried from here


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    state: State
    about: str
    what: str
    fix: str = ""


def tried(about: str, act: Callable[[], str]) -> Finding:
    """What came of an attempt: its own words, or the error's."""
    try:
        return Finding("ok", about, act())
    except HafleetError as error:
        return Finding("fail", about, f"{error.where}: {error.what}" if error.where else error.what, error.fix)
