"""The words of this node's lifecycle hooks: what is told of the node, what is remembered, what can be done, what is reported.

Times are wall clock seconds. Those of the memory are of a clock that does not step while the agent lives, so that a clock that
is set at boot abandons nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from hafleet.core.model import Node

Result = Literal["CONTINUE", "ABANDON"]
Record = Literal["none", "stands", "gone", "pending"]  # no dns section; registered; nothing left; anything else


@dataclass(frozen=True, slots=True)
class LifeSituation:
    """What the hooks' side is told of the node after each pass."""

    at: float  # wall clock
    node: Node
    state: str  # own lifecycle state as the group tells it; "" while that is not known
    ready: bool  # phase SERVING, and HAProxy serves
    leaving: bool  # phase LEAVING
    sessions: int | None  # connections of the running worker to servers; None while HAProxy does not answer
    old_workers: int = 0
    record: Record = "none"  # how this node stands in DNS
    spot_at: float = 0.0  # wall clock at which EC2 takes this spot instance back; 0 when it does not
    alone: bool = False  # no other instance of the group is known to be in service
    kept_out: str = ""  # why people alone keep it out of service; "" when they do not
    old_sessions: int = 0  # connections of the old workers to servers, as far as they are known


@dataclass(frozen=True, slots=True)
class LifeMemory:
    """What Auto Scaling cannot tell, kept in ``state_dir/life.json``. Times are wall clock."""

    node: str = ""  # whose memory this is
    state: str = ""  # the state it was last seen in
    since: float = 0.0  # first seen in that state
    beats: Mapping[str, float] = field(default_factory=dict)  # hook -> its last heartbeat in this wait
    done: Mapping[str, float] = field(default_factory=dict)  # hook -> when it was completed in this wait, or found gone
    result: Literal["", "CONTINUE", "ABANDON"] = ""  # what was decided in this wait; it is not decided twice
    reason: str = ""  # why
    cut: int = 0  # connections that were not waited for any more, when that was decided
    left_at: float = 0.0  # when the node began to leave; 0 while it does not
    record_gone_at: float = 0.0  # when its record was first seen gone; 0 while it is not
    quiet_since: float = 0.0  # when its last connection was seen to have ended; 0 while there are some
    mute_since: float = 0.0  # since when HAProxy does not answer; 0 while it does
    unhealthy_at: float = 0.0  # when it last asked to be replaced; 0: not since HAProxy answered


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that was done."""

    at: float  # wall clock; of two deeds the later has the higher
    what: str
    cut: int = 0  # connections that end with the instance because of it


@dataclass(frozen=True, slots=True)
class LifeReport:
    """One run of the hooks' side. ``at`` is wall clock, ``next_at`` seconds from now."""

    at: float
    state: str = ""  # own lifecycle state as last told
    waiting: str = ""  # for what; "" when nothing is pending
    result: Literal["", "CONTINUE", "ABANDON"] = ""  # of the wait it is in
    reason: str = ""
    done: tuple[Deed, ...] = ()  # the last ones, of earlier runs too: a run may end unseen before the next
    problems: tuple[str, ...] = ()
    next_at: float = 0.0


# --- memory ---------------------------------------------------------------------------------------------------------


def remembered(memory: LifeMemory, told: LifeSituation, at: float) -> LifeMemory:
    """The memory after what a pass has told. Another state begins another wait; an unknown one changes nothing.

    Args:
        memory: as it was; another node's counts for nothing.
        told: the node's situation.
        at: now, by the clock that does not step.
    """
    if memory.node != told.node.id:
        memory = LifeMemory(node=told.node.id)
    if told.state and told.state != memory.state:
        memory = replace(memory, state=told.state, since=at, beats={}, done={}, result="", reason="", cut=0)
    busy = told.sessions is None or told.sessions > 0 or told.old_workers > 0
    mute = told.sessions is None and not told.leaving
    return replace(
        memory,
        since=min(memory.since, at),
        left_at=_first(memory.left_at, at, there=told.leaving),
        record_gone_at=_first(memory.record_gone_at, at, there=told.leaving and told.record in {"none", "gone"}),
        quiet_since=_first(memory.quiet_since, at, there=told.leaving and not busy),
        mute_since=_first(memory.mute_since, at, there=mute),
        unhealthy_at=memory.unhealthy_at if mute else 0.0,
    )


def beaten(memory: LifeMemory, hook: str, at: float) -> LifeMemory:
    """The memory after a heartbeat."""
    return replace(memory, beats={**memory.beats, hook: at})


def decided(memory: LifeMemory, result: Result, reason: str, cut: int = 0) -> LifeMemory:
    """The memory before a hook is completed: what was decided once stands for every hook of this wait."""
    return replace(memory, result=result, reason=reason, cut=cut)


def ended(memory: LifeMemory, hook: str, at: float) -> LifeMemory:
    """The memory after a hook was completed, or found gone."""
    return replace(memory, done={**memory.done, hook: at})


def parting(state: str, result: str) -> bool:
    """True when the instance is about to be gone: it gives up its launch, or may terminate, or does so already.

    Args:
        state: its lifecycle state.
        result: what was decided in the wait that it is in.
    """
    return result == "ABANDON" or ("Terminating" in state and (result == "CONTINUE" or state.endswith(":Proceed")))


def _first(before: float, at: float, *, there: bool) -> float:
    """Since when something is there. A time that lies ahead is of a clock that went back."""
    return min(before or at, at) if there else 0.0
