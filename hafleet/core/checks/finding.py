"""What a rule finds, and where. Paths are those of the settings: ("backends", 0, "check", "path")."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hafleet.core.settings import Settings

Path = tuple[str | int, ...]

NAMES: tuple[Path, ...] = (("backends", "*", "name"),)
ROUTING: tuple[Path, ...] = (
    ("frontends", "*", "mode"),
    ("frontends", "*", "route_by"),
    ("frontends", "*", "default_backend"),
    ("frontends", "*", "routes"),
    ("backends", "*", "name"),
    ("backends", "*", "mode"),
    ("backends", "*", "domains"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault that a rule sees.

    ``also`` are the other places it rests on ("*" stands for any): a finding that rests on a value which was refused by
    itself would only confuse, so ``hafleet.config`` drops it.
    """

    path: Path
    what: str
    fix: str = ""
    fatal: bool = True
    also: tuple[Path, ...] = ()


Rule = Callable[[Settings], Iterator[Finding]]
