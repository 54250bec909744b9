"""The event queue of an agent: which one, whose events count, who reaps, and its end with the node's.

Built only where the settings have ``events``; nobody else carries the tables of SQS and SNS in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hafleet.adapters.asg import AsgMembership, Ec2Instances
from hafleet.adapters.aws import Account
from hafleet.adapters.queue import FixedQueue, Hearing, NoTally, OwnQueue, Prover, QueueListener
from hafleet.core.events import Heard, Scope
from hafleet.core.life import LifeReport, LifeSituation, parting
from hafleet.core.settings import Settings
from hafleet.core.sources import question
from hafleet.errors import HafleetError
from hafleet.ports import Clock, NodeMetadata, Tally, Wakeups

REAP_EVERY = 900.0  # seconds between two looks for the queues of dead nodes; apart enough to be two proofs

_TRIES = 2  # to take the own queue away; no more, for Auto Scaling is kept waiting meanwhile

Tell = Callable[[Heard], None]


@dataclass(frozen=True, slots=True)
class Around:
    """What surrounds the queue."""

    account: Account
    membership: AsgMembership
    metadata: NodeMetadata
    wakeups: Wakeups
    clock: Clock


class Hooks(Protocol):
    """The hooks' side of this node."""

    def run(self, situation: LifeSituation) -> LifeReport:
        """One run."""
        ...


class QueueEnd:
    """The end of the node's own queue. ``farewell`` is called before the node's last word to Auto Scaling.

    After that word the instance may be gone at any moment, and an agent that is killed there would leave the queue behind.
    """

    def __init__(self, queue: OwnQueue, tell: Tell) -> None:
        self._queue = queue
        self._tell = tell
        self._left = False

    def farewell(self) -> None:
        """Take the queue away, once. What cannot be removed is reaped by another node, and keeps nothing back."""
        if self._left:
            return
        self._left = True
        for tries in range(1, _TRIES + 1):
            try:
                self._queue.leave()
                return
            except HafleetError as error:
                if tries == _TRIES:
                    self._tell(Heard("fault", f"the queue stays until it is reaped: {error}"))

    def put_off(self) -> None:
        """The node stays for now: it may have its queue."""
        self._queue.open()


class Leaving:
    """The hooks' side of a node that has a queue. An agent that starts in the node's last moments makes none anew."""

    def __init__(self, hooks: Hooks, end: QueueEnd) -> None:
        self._hooks = hooks
        self._end = end

    def run(self, situation: LifeSituation) -> LifeReport:
        """One run."""
        report = self._hooks.run(situation)
        if parting(report.state, report.result):
            self._end.farewell()
        else:
            self._end.put_off()
        return report


class ReapedQueue:
    """The node's own queue, which besides looks for the queues of dead nodes while this node leads its group."""

    def __init__(self, own: OwnQueue, around: Around, tell: Tell) -> None:
        self._own = own
        self._around = around
        self._tell = tell
        self._instances = Ec2Instances(around.account)
        self._due = around.clock.monotonic() + REAP_EVERY

    def url(self) -> str:
        """See ``Queue.url``."""
        url = self._own.url()
        if url and self._around.clock.monotonic() >= self._due:
            self._due = self._around.clock.monotonic() + REAP_EVERY
            self._reap()
        return url

    def lost(self) -> None:
        """See ``Queue.lost``."""
        self._own.lost()

    def _reap(self) -> None:
        """One look. A failure is told, and never keeps events back."""
        try:
            if not leads(self._around):
                return
            for node in self._own.reap(self._instances.states, self._around.clock.wall()):
                self._tell(Heard("aside", f"removed the queue of {node}, which is dead"))
        except HafleetError as error:
            self._tell(Heard("fault", f"the queues of dead nodes stay: {error}"))


def leads(around: Around) -> bool:
    """True for the first node in service of its group, by id. Two leaders at once do no harm: removing twice is removing."""
    node = around.metadata.identity()
    serving = [key for key, (group, serves) in around.membership.listed().items() if serves and group == node.group]
    return bool(serving) and min(serving) == node.id


def scope_of(settings: Settings, around: Around) -> Scope:
    """Whose events count: those of the groups that the settings name (anybody's where they are found by tag), and of instances
    that the last read listed.
    """
    try:
        node = around.metadata.identity()
    except HafleetError:
        return Scope()
    asked = question(settings, node)
    known = frozenset(around.membership.listed()) | {node.id}
    return Scope(groups=None if asked.tags else asked.names, instances=known)


class Ears:
    """The listener of one process, which follows the settings. ``prover``: of the queue that is heard; None while none is."""

    def __init__(self, tell: Tell, tally: Tally | None = None) -> None:
        self._tell = tell
        self._tally = tally or NoTally()
        self._listener: QueueListener | None = None
        self.prover: Prover | None = None

    def listen(self, settings: Settings, around: Around) -> OwnQueue | None:
        """Hear the queue of these settings from now on, instead of the one before; the node's own queue, if it is one.

        With a lifecycle section that is held until it is opened.
        """
        self.stop()
        events = settings.events
        if events is None or events.queue == "none":
            return None
        own, which = None, events.queue
        self.prover = Prover(events.interval, around.clock, self._tally)
        hearing = Hearing(around.wakeups, lambda: scope_of(settings, around), self._tell, self.prover)
        if which == "auto":
            own = OwnQueue(around.account, settings.fleet, lambda: around.metadata.identity().id, self._missing)
            if settings.lifecycle is not None:
                own.hold()  # until the hooks' side knows that this node is not about to be gone
            queue: FixedQueue | ReapedQueue = ReapedQueue(own, around, self._tell)
        else:
            queue = FixedQueue(which)
        self._listener = QueueListener(around.account, queue, hearing, around.clock)
        return own

    def stop(self) -> None:
        """Hear nothing any more. The queue stays: an agent that starts again finds what it missed."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = self.prover = None

    def _missing(self, what: str) -> None:
        self._tell(Heard("fault", what))
