"""The host: time, metadata, wake-ups, the supervisor and the locks between processes."""

import threading
from contextlib import AbstractContextManager
from typing import Protocol

from hafleet.core.model import Node, Notices


class Chance(Protocol):
    """Where jitter comes from: the part of ``random.Random`` that it needs."""

    def uniform(self, a: float, b: float) -> float:
        """A number between the two."""
        ...


class Clock(Protocol):
    """Time. ``wall`` is for what is kept on disk, ``monotonic`` for what is measured."""

    def wall(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set or the time is over; True when it was set."""
        ...


class NodeMetadata(Protocol):
    """Who this node is."""

    def identity(self) -> Node:
        """This node.

        Raises:
            MetadataUnavailable: IMDS did not answer.
        """
        ...


class NodeNotices(Protocol):
    """What EC2 and Auto Scaling announce for this node, told by IMDS."""

    def notices(self) -> Notices:
        """All of it, read now.

        Raises:
            MetadataUnavailable: IMDS did not answer, or not to everything.
        """
        ...


class Wakeups(Protocol):
    """Reasons to run a pass before its time."""

    def wake(self, reason: str) -> None:
        """Ask for a pass now; from any thread or signal handler."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait for a reason; True when there is one."""
        ...

    def take(self) -> tuple[str, ...]:
        """All reasons since the last take, in order, without repeats."""
        ...


class Tidings(Protocol):
    """What the event queue is worth: whether a change of the groups would have been told by now."""

    def spares(self, age: float) -> bool:
        """True while a pass that nothing but the timer woke can do with a read of this age, in seconds."""
        ...

    def found(self) -> None:
        """A read that was due by time alone shows that instances have come or gone."""
        ...


class Tally(Protocol):
    """Counts what the event queue brings."""

    def message(self, kind: str, lag: float | None) -> None:
        """One message: the kind of its judgement, and the seconds since it was sent, where SQS told when."""
        ...

    def poll(self, *, failing: bool, proven: bool) -> None:
        """One poll, and whether events are relied on now."""
        ...


class Watch(Protocol):
    """A running watch of files."""

    def stop(self) -> None:
        """End it."""
        ...


class PeerWatch(Protocol):
    """Stands in for a HAProxy that does not run yet, at its peers address, until a peer connects."""

    @property
    def problem(self) -> str:
        """Why nobody can be heard (the address cannot be listened on); "" when all is well."""
        ...

    def contacted(self) -> bool:
        """True when a peer has connected, which proves that it lists this node."""
        ...

    def close(self) -> None:
        """End it. When this returns, HAProxy can have the address."""
        ...


class Notifier(Protocol):
    """The service supervisor. ``watchdog`` is the seconds within which it must be fed; 0 when it asks for none."""

    @property
    def watchdog(self) -> float:
        """Seconds between two feeds at most."""
        ...

    def tell(self, *lines: str) -> None:
        """Send assignments such as READY=1."""
        ...

    def feed(self) -> None:
        """Feed the watchdog."""
        ...


class Locks(Protocol):
    """One agent for life, one pass at a time."""

    def agent(self) -> AbstractContextManager[None]:
        """Held for the agent's life. Raises LockHeld at once when another has it."""
        ...

    def one_pass(self) -> AbstractContextManager[None]:
        """Held during a pass. Raises LockHeld when another keeps it for long."""
        ...
