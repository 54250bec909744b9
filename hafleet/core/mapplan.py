"""Runtime commands that bring a map of the running worker to the wanted content.

Each map file holds a stamp entry whose value is the digest of the others; the worker tells it by ``get map``. While a map is
changed entry by entry its stamp says so, and whoever finds it that way replaces the whole map in one transaction.
"""

import re
from collections.abc import Iterator

from hafleet.core.command import Command

STAMP_KEY = "hafleet-stamp.invalid"
VERSION = "{version}"  # stands for the number that `prepare map` answers, in the commands that follow it
_SAFE = re.compile(r"[^\s;\\#\"'<]+")  # what needs no escaping on a command line of the Runtime API
_DIRTY = "changing"  # the stamp of a map between the first and the last of several commands
_SMALL = 200  # more changes than this go as one transaction: atomic, and 10,000 entries take 14 to 148 ms


def entries(content: str) -> dict[str, str]:
    """key -> value of a map file; the first of two equal keys counts, as it does for HAProxy."""
    found: dict[str, str] = {}
    for raw in content.split("\n"):
        line = raw.strip()
        if line and not line.startswith("#"):
            key, _, value = line.partition(" ")
            found.setdefault(key, value.strip())
    return found


def stamp(content: str) -> str:
    """The stamp entry of a map file; "" when it has none."""
    at = content.find(f"{STAMP_KEY} ")
    return "" if at < 0 else content[at:].partition("\n")[0].partition(" ")[2].strip()


def commands(path: str, base: str | None, wanted: str) -> tuple[Command, ...] | None:
    """The commands for one map; None when an entry holds characters that mean something else on a command line.

    Args:
        path: the map file as the configuration names it.
        base: the content that the worker surely has; None when that is not known.
        wanted: the content it shall have.
    """
    new = entries(wanted)
    if not all(_SAFE.fullmatch(key) and _SAFE.fullmatch(value) for key, value in new.items()):
        return None
    old = entries(base) if base is not None else None
    if old is None or not all(_SAFE.fullmatch(key) for key in old):
        return tuple(_transaction(path, new))
    changed = tuple(_changes(path, old, new))
    return tuple(_transaction(path, new)) if len(changed) > _SMALL else changed


def _transaction(path: str, new: dict[str, str]) -> Iterator[Command]:
    yield Command(f"prepare map {path}", "map-prepare")
    for key, value in new.items():
        yield Command(f"add map @{VERSION} {path} {key} {value}", "map-set")
    yield Command(f"commit map @{VERSION} {path}", "map-set")


def _changes(path: str, old: dict[str, str], new: dict[str, str]) -> Iterator[Command]:
    """Adds, then changes, then removals, between two marks in the stamp entry."""
    yield Command(f"set map {path} {STAMP_KEY} {_DIRTY}", "map-set")
    for key in sorted(new.keys() - old.keys()):
        yield Command(f"add map {path} {key} {new[key]}", "map-set")
    for key in sorted(new.keys() & old.keys() - {STAMP_KEY}):
        if new[key] != old[key]:
            yield Command(f"set map {path} {key} {new[key]}", "map-set")
    for key in sorted(old.keys() - new.keys()):
        yield Command(f"del map {path} {key}", "map-set")
    yield Command(f"set map {path} {STAMP_KEY} {new[STAMP_KEY]}", "map-set")
