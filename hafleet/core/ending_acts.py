"""What to do about servers that wait in a terminate hook: from what the passes tell to the next call to AWS. Pure.

First the own tag says what this node has drained. Then, on the one node that speaks, the others' tags are read while there is an
instance that this node has drained and that waits; when all of them name it, its hook is completed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hafleet.core.endings import Ending, EndingRow, EndingSituation, missing
from hafleet.core.sources import INSTANCE_ID

Key = tuple[str, str]  # instance, hook

AGAIN = 60.0  # seconds after which a hook is completed once more, while the instance still waits
_LOOK_LEAST, _LOOK_MOST = 2.0, 10.0  # seconds between two looks at the others' tags
_LOOK_SHARE = 5  # the longer it has waited already, the longer to the next look: a fifth of it
_IDLE = 600.0  # seconds to the next look while nothing is due


@dataclass(frozen=True, slots=True)
class EndingMemory:
    """What one process knows of its own doing. A new process finds it out anew. Times are of a clock that does not step."""

    tag: str | None = None  # the own tag's value; "" when it is empty or not there, None while that is not known
    told: Mapping[str, str] | None = None  # node -> value of its tag, as last read; None: never
    told_at: float = 0.0
    since: float = 0.0  # when this node began to wait for the others; 0 while it does not
    done: Mapping[Key, float] = field(
        default_factory=dict
    )  # when the hook was completed; infinity: nothing waits in it


@dataclass(frozen=True, slots=True)
class ReadOwn:
    """Read the own tag: an earlier process may have left one."""


@dataclass(frozen=True, slots=True)
class WriteTag:
    """Write the own tag. It is emptied, not removed: a role cannot be held to its own instance for DeleteTags."""

    value: str


@dataclass(frozen=True, slots=True)
class ReadTags:
    """Read the tags of the other live nodes."""


@dataclass(frozen=True, slots=True)
class Release:
    """Complete a hook: every live node has drained this instance."""

    instance: str
    group: str
    hook: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do for so many seconds, unless the situation changes."""

    seconds: float


def next_tag(told: EndingSituation, memory: EndingMemory) -> ReadOwn | WriteTag | None:
    """What to do about the own tag; None when it is as it should be. A node that is no EC2 instance has none."""
    if memory.tag == told.value or not INSTANCE_ID.fullmatch(told.node.id):
        return None
    if memory.tag is None and not told.value:
        return ReadOwn()
    return WriteTag(told.value)


def next_word(told: EndingSituation, memory: EndingMemory, at: float) -> ReadTags | Release | Wait:
    """What to do about the hooks. ``at`` is by the clock of the memory; ``memory`` has ``heard`` of ``told``."""
    due = due_hooks(told, memory, at)
    if not due:
        return Wait(AGAIN if any(ending.waits and ending.drained for ending in told.endings) else _IDLE)
    if told.others:
        gap = min(_LOOK_MOST, max(_LOOK_LEAST, (at - memory.since) / _LOOK_SHARE))
        left = memory.told_at + gap - at
        if memory.told is None or left <= 0:
            return ReadTags()
    else:
        left = AGAIN
    tags = memory.told or {}
    for ending, hook in due:
        if not missing(ending.instance, told.others, tags):
            return Release(ending.instance, ending.group, hook)
    return Wait(left)


def due_hooks(told: EndingSituation, memory: EndingMemory, at: float) -> tuple[tuple[Ending, str], ...]:
    """The hooks that this node may have to complete, as far as it knows by itself."""
    if not told.speaks:
        return ()
    return tuple(
        (ending, hook)
        for ending in told.endings
        if ending.waits and ending.drained
        for hook in ending.hooks
        if at - memory.done.get((ending.instance, hook), -AGAIN) >= AGAIN
    )


def heard(told: EndingSituation, memory: EndingMemory, at: float) -> EndingMemory:
    """The memory after what a pass has told: what is over is forgotten, so that an id that comes back begins anew."""
    there = {ending.instance for ending in told.endings if ending.waits}
    done = {key: when for key, when in memory.done.items() if key[0] in there}
    waits = bool(due_hooks(told, memory, at)) and bool(told.others)
    return EndingMemory(
        tag=memory.tag,
        told=memory.told if waits else None,
        told_at=memory.told_at if waits else 0.0,
        since=(memory.since or at) if waits else 0.0,
        done=done,
    )


def rows(told: EndingSituation, memory: EndingMemory) -> tuple[EndingRow, ...]:
    """How it stands with each instance."""
    return tuple(EndingRow(ending.instance, ending.group, _waiting(told, memory, ending)) for ending in told.endings)


def _waiting(told: EndingSituation, memory: EndingMemory, ending: Ending) -> str:
    if not ending.drained:
        return "this node to drain it"
    if not ending.waits:
        return f"Auto Scaling to ask {', '.join(ending.hooks)}"
    if all((ending.instance, hook) in memory.done for hook in ending.hooks):
        return "Auto Scaling to go on"
    if not told.speaks:
        return f"{told.nodes[0]} to speak for the fleet" if told.nodes else "the own group to be known"
    lacking = missing(ending.instance, told.others, memory.told) if memory.told is not None else told.others
    return f"{', '.join(lacking)} to drain it" if lacking else "AWS to answer"
