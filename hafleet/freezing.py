"""``hafleet rollback`` and ``hafleet thaw``: put an earlier configuration back, and hold everything until told to go on."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from hafleet import compose
from hafleet.core.proxyplan import parse
from hafleet.errors import HafleetError, StoreError
from hafleet.reconcile import Outcome
from hafleet.show import short


@dataclass(frozen=True, slots=True)
class Choice:
    """One configuration that ``hafleet rollback`` can put back."""

    number: int  # what to give to the command; 0 is the newest
    at: float  # wall clock at which it was last the live one
    structure: str
    live: bool  # the installed file has this structure


def kept(path: Path) -> tuple[Choice, ...]:
    """What is kept, newest first. Raises HafleetError when the installed file cannot be read."""
    parts = compose.build(path)
    text = parts.proxy.installed().text
    live = parse(text).structure if text is not None else ""
    entries = enumerate(parts.history.list())
    return tuple(Choice(number, entry.at, entry.structure, entry.structure == live) for number, entry in entries)


def rollback(path: Path, number: int) -> list[str]:
    """Install the ``number``th earlier configuration and freeze.

    Raises:
        StoreError: nothing that old is kept.
        HafleetError: HAProxy did not take it; what ran before runs on.
    """
    parts = compose.build(path)
    entries = parts.history.list()
    if number >= len(entries):
        how_many = f"only {len(entries) - 1} earlier" if len(entries) > 1 else "no earlier"
        raise StoreError(
            f"{how_many} configurations are kept",
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
    return [
        f"put back structure {short(entry.structure)} with {servers} servers: {_did(done)}",
        "frozen: membership changes are not followed until `hafleet thaw`",
    ]


def _did(done: Outcome) -> str:
    if done.reloaded:
        return f"reloaded ({', '.join(done.reloaded)})"
    if done.commands or done.wrote:
        return f"{done.commands} runtime commands, no reload"
    return "it was live already, nothing changed"


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
