"""How a server leaves: it gets no new sessions, then its drain time or its last session ends, then it is gone.

Fail open: a backend of nothing but drained servers answers 503. So while no other server takes traffic, one that leaves on
evidence stays at its weight until it is replaced, until its groups want zero, or until it is really gone.
"""

from dataclasses import dataclass, replace

from hafleet.core.model import Member, RunningServer, Worker

SETTLED = 2.0  # seconds a drain lasts at least, so that a request on its way to the server still counts as a session


@dataclass(frozen=True, slots=True)
class Leave:
    """Why a member leaves."""

    reason: str
    at_once: bool = False  # its address belongs to another instance now: draining would feed the wrong host
    there: bool = False  # it still exists, as far as AWS or the settings tell: it may serve while nobody replaces it
    yields: bool = True  # False: it drains even if nobody else takes traffic (the guard has decided that)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a drain is judged by."""

    at: float  # wall clock
    drain: float  # seconds, from the settings
    replaced: bool  # another server takes traffic, or none is wanted
    idle: bool  # the worker shows no session on it, takes no new one there, and no old worker lives


@dataclass(frozen=True, slots=True)
class Step:
    """The member after this pass (None: it is gone), and when its drain began."""

    member: Member | None
    start: float
    reason: str


def step(member: Member, leave: Leave, start: float | None, moment: Moment) -> Step:
    """One pass of a leaving member.

    Args:
        member: as the last pass left it.
        leave: why it leaves.
        start: wall clock at which it was first seen to leave; None when that is now. A start in the future means that the
            clock went back: the time runs anew.
        moment: what this pass knows.
    """
    began = moment.at if start is None else min(start, moment.at)
    if leave.at_once:
        return Step(None, began, leave.reason)
    if not member.draining:
        if leave.yields and not moment.replaced:
            if start is not None and not leave.there and moment.at - began >= moment.drain:
                return Step(None, began, f"{leave.reason}; gone for {moment.at - began:.0f} s, and nobody replaced it")
            return Step(member, began, f"{leave.reason}; keeps its weight (fail open): no other server takes traffic")
        began = moment.at
    passed = moment.at - began
    if passed >= moment.drain:
        return Step(None, began, f"{leave.reason}; drained for {passed:.0f} s")
    if moment.idle and passed >= SETTLED:
        return Step(None, began, f"{leave.reason}; drained, no session left after {passed:.0f} s")
    draining = member if member.draining else replace(member, draining=True)
    return Step(draining, began, f"{leave.reason}; draining for {passed:.0f} of {moment.drain:.0f} s")


def idle(worker: Worker | None, server: RunningServer | None) -> bool:
    """True when the worker proves that nobody uses the server: it takes no new session and has none."""
    if worker is None or worker.old_workers:
        return False
    if server is None:
        return True
    return server.sessions == 0 and (server.weight == 0 or server.drain or server.maint)


def takes_traffic(server: RunningServer | None) -> bool:
    """True when the worker sends new sessions to the server now."""
    return server is not None and server.up and server.weight > 0 and not server.maint and not server.drain
