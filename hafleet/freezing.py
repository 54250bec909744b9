"""``hafleet rollback`` and ``hafleet thaw``: put an earlier configuration back, and hold everything until told to go on."""

import time
from dataclasses import replace
from pathlib import Path

from hafleet import compose
from hafleet.adapters.history import Kept
from hafleet.core.proxyplan import parse
from hafleet.errors import HafleetError, StoreError
from hafleet.show import short


def kept(path: Path) -> list[str]:
    """One line per kept configuration, newest first; 0 is the live one."""
    return [_line(number, entry) for number, entry in enumerate(compose.build(path).history.list())]


def _line(number: int, entry: Kept) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
    return f"{number}  {moment}  structure {short(entry.structure)}"


def rollback(path: Path, number: int) -> list[str]:
    """Install the ``number``th earlier configuration and freeze.

    Raises:
        StoreError: nothing that old is kept.
        HafleetError: HAProxy did not take it; what ran before runs on.
    """
    parts = compose.build(path)
    entries = parts.history.list()
    if number >= len(entries):
        raise StoreError(
            f"only {max(0, len(entries) - 1)} earlier configurations are kept",
            where=str(Path(parts.settings.state_dir) / "history"),
            fix="see `hafleet rollback --list`",
        )
    entry = entries[number]
    earlier = parts.history.load(entry)
    reason = f"rollback to structure {short(entry.structure)} at {time.strftime('%Y-%m-%d %H:%M:%S')}"
    with parts.locks.one_pass():
        reconciler = parts.reconciler()
        done = reconciler.put_back(earlier, reason)
    if done.errors:
        raise done.errors[0]
    servers = len(parse(earlier.text).servers)
    did = f"reloaded ({', '.join(done.reloaded)})" if done.reloaded else f"{done.commands} runtime commands, no reload"
    return [
        f"put back structure {short(entry.structure)} with {servers} servers: {did}",
        "frozen: membership changes are not followed until `hafleet thaw`",
    ]


def thaw(path: Path) -> list[str]:
    """End the freeze. Raises StoreError when the memory cannot be written."""
    parts = compose.build(path)
    with parts.locks.one_pass():
        memory = parts.ports.store.load(None)
        if not memory.frozen:
            return ["not frozen"]
        parts.ports.store.save(replace(memory, frozen=""))
    return [f"thawed ({memory.frozen}); the next pass goes on"]


__all__ = ["HafleetError", "kept", "rollback", "thaw"]
