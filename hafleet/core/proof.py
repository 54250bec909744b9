"""Whether events can be relied on: proven by a pulse that comes the same way, and doubted when a change came without one.

A rule of EventBridge sends a pulse each minute over the fleet's topic to every node's queue. While it arrives, a pass by the timer
need not read AWS as often: an event would have told. Times are monotonic seconds.
"""

from dataclasses import dataclass, replace

from hafleet.core.model import Group, Groups

LATE = 150.0  # seconds without a pulse after which events are not relied on: the second one in a row is late
EAGER = 30.0  # seconds after an event in which every pass reads: changes come in flocks, and AWS's answers lag behind events
GRACE = 30.0  # seconds in which the event of a change that a read found first may still come
DOUBT = 3600.0  # seconds for which events are not relied on after a change that none told


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of the way that events take. None: never."""

    pulse_at: float | None = None  # the last pulse
    event_at: float | None = None  # the last event that woke a pass
    untold_at: float | None = None  # a change that was found, and that no event has told since
    failing: bool = False  # the last poll of the queue failed


def pulsed(proof: Proof, at: float) -> Proof:
    """After a pulse."""
    return replace(proof, pulse_at=at)


def told(proof: Proof, at: float) -> Proof:
    """After an event that woke a pass: they come, and whatever was found before is explained."""
    return replace(proof, event_at=at, untold_at=None)


def polled(proof: Proof, *, failing: bool) -> Proof:
    """After a poll of the queue."""
    return replace(proof, failing=failing)


def found(proof: Proof, at: float) -> Proof:
    """After a read that was due by time alone, and in which instances have come or gone."""
    if proof.untold_at is not None or _within(proof.event_at, at, EAGER):
        return proof
    return replace(proof, untold_at=at)


def proven(proof: Proof, at: float) -> bool:
    """True while every change of the groups can be expected to be told."""
    if proof.failing or not _within(proof.pulse_at, at, LATE):
        return False
    return proof.untold_at is None or not GRACE <= at - proof.untold_at < DOUBT


def spares(proof: Proof, at: float, age: float, interval: float) -> bool:
    """True while a pass by the timer can do with a read of this age. ``interval``: seconds between two reads then."""
    return age < interval and proven(proof, at) and not _within(proof.event_at, at, EAGER)


def moved(before: Groups, after: Groups) -> bool:
    """True when an instance has come into service or has ended between two complete reads, in a way that makes an event.

    Standby, detaching and attaching make none. A group that only one of the reads has says nothing.
    """
    pairs = ((group, after.by_name.get(name)) for name, group in before.by_name.items())
    return any(now is not None and _moved(then, now) for then, now in pairs)


def _moved(before: Group, after: Group) -> bool:
    then = {instance.id: instance for instance in before.instances}
    now = {instance.id: instance for instance in after.instances}
    came = any(one.serves and (key not in then or then[key].comes) for key, one in now.items())
    ended = any(one.serves and (key not in now or now[key].terminates) for key, one in then.items())
    return came or ended


def _within(since: float | None, at: float, span: float) -> bool:
    return since is not None and at - since < span
