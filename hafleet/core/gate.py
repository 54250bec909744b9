"""When a reload may happen. Each rule is a function from what is known to a ``Held`` or None; the first that holds decides.

A reload costs: old workers that live on with a frozen server list, health checks that start anew, and within seconds of a cold
start the stick tables. So it is let through at once when it comes alone, and then at a minimum gap.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hafleet.core.model import Door, Held, Memory, Worker
from hafleet.core.settings import Safety

_RETRY_FIRST = 10.0  # seconds until a refused reload is tried again; doubles each time ...
_RETRY_MOST = 600.0  # ... up to this


@dataclass(frozen=True, slots=True)
class Question:
    """Everything a reload rule looks at. ``at`` is wall clock seconds; ``removes`` is True when servers leave by this reload."""

    worker: Worker
    memory: Memory
    safety: Safety
    at: float
    removes: bool


_LISTED = 5.0  # seconds after a peer has come: it has just loaded its new list, and may still learn what it will teach

Rule = Callable[[Question], Held | None]


def cold_start(q: Question) -> Held | None:
    """Not within the first seconds of HAProxy: its stick tables are not learned yet, and a reload now would lose them."""
    left = q.safety.cold_start_quiet - q.worker.master_uptime
    if left <= 0:
        return None
    return Held("cold_start", "reload", f"HAProxy started {q.worker.master_uptime:.0f} s ago; waits {left:.0f} s more")


def min_interval(q: Question) -> Held | None:
    """A minimum gap since the last reload. The first after a quiet time goes at once."""
    left = q.safety.reload_min_interval - q.worker.uptime
    if left <= 0:
        return None
    return Held("min_interval", "reload", f"the last reload was {q.worker.uptime:.0f} s ago; waits {left:.0f} s more")


def old_workers(q: Question) -> Held | None:
    """Not while too many old workers live, except to remove servers."""
    if q.removes or q.worker.old_workers < q.safety.max_old_workers:
        return None
    return Held(
        "old_workers",
        "reload",
        f"{q.worker.old_workers} old workers still hold connections (max_old_workers {q.safety.max_old_workers})",
    )


def failing(q: Question) -> Held | None:
    """After a refused reload the next try waits, longer each time: every refused bind costs the old listeners two seconds."""
    if q.memory.reload_failures == 0:
        return None
    pause = min(_RETRY_FIRST * 2 ** (q.memory.reload_failures - 1), _RETRY_MOST)
    since = q.at - q.memory.reload_failed_at
    if since < 0 or since >= pause:  # a clock that stepped back must not hold a reload for good
        return None
    return Held(
        "reload_failing", "reload", f"{q.memory.reload_failures} reloads failed; next try in {pause - since:.0f} s"
    )


RULES: tuple[Rule, ...] = (cold_start, min_interval, failing, old_workers)


def hold_reload(question: Question, rules: tuple[Rule, ...] = RULES) -> Held | None:
    """The first rule that keeps the reload back, or None when it may go."""
    for rule in rules:
        held = rule(question)
        if held is not None:
            return held
    return None


def hold_first_start(door: Door | None, timeout: float, *, alone: bool) -> Held | None:
    """Holds the first file of a node that joins, and with it HAProxy's start, until a peer lists the node.

    A HAProxy that starts before its peers list it never learns their stick tables (FACTS, peers).

    Args:
        door: what came to the node's peers address; None when nobody waits there.
        timeout: seconds that a peer is waited for at most.
        alone: no other node of the group is in service, so there is nothing to learn.
    """
    if door is None or alone:
        return None
    if door.heard is not None:
        left = _LISTED - door.heard
        reason = f"a peer has connected; HAProxy starts in {left:.0f} s, when it can teach the stick tables"
        return Held("peers_first", "reload", reason) if left > 0 else None
    if door.waited >= timeout:
        return None
    why = f" ({door.problem})" if door.problem else ""
    reason = f"HAProxy starts once a peer has connected, to learn the stick tables; waits {timeout - door.waited:.0f} s more{why}"
    return Held("peers_first", "reload", reason)
