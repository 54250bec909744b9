"""Reasons for a pass: which of them wait for company, and whether a pass by the timer has to read AWS anew."""

from collections.abc import Collection

from hafleet.core.model import Memory

FILE = "file "  # how the reason of a changed file begins
TIMER = "timer"


def settles(reason: str) -> bool:
    """True for what comes in pieces: of a configuration that is being installed, half is worth nothing."""
    return reason.startswith(FILE)


def by_timer(reasons: tuple[str, ...]) -> bool:
    """True when nothing but the time has come."""
    return reasons == (TIMER,)


def calm(memory: Memory, held: Collection[object]) -> bool:
    """True when nothing of the last pass waits for another look at AWS: no step is held, nobody drains, the node serves."""
    return memory.phase == "serving" and not held and not memory.draining and not memory.missing
