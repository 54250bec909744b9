"""What ``hafleet doctor`` finds: one value per thing looked at."""

import grp
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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


def shut(path: Path) -> Path | None:
    """What keeps this process from looking at a path: the first folder above it that it may not enter; None: nothing does."""
    return next(
        (folder for folder in reversed(path.parents) if folder.is_dir() and not os.access(folder, os.X_OK)), None
    )


def closed(about: str, path: Path) -> Finding:
    """A file, socket or folder that is there, and that this process may not use: its group mostly may. Raises OSError."""
    number = path.stat().st_gid
    try:
        group = grp.getgrgid(number).gr_name
    except KeyError:
        group = str(number)
    mine = number in {os.getegid(), *os.getgroups()}
    what = f"{path} is closed to uid {os.getuid()}" + ("" if mine else f", which is not in group {group}")
    fix = f"let group {group} use it" if mine else f"add the agent's user to group {group}, then start the agent again"
    return Finding("fail", about, what, fix)
