"""The seams between the pass and the world. Each Protocol is what reconcile needs, no more; adapters implement it.

Every read either returns a complete answer or raises a ``SourceUnavailable``/``ProxyUnavailable``/``StoreError`` of ``errors``.
"""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from hafleet.core.dns.model import Batch, Check, CheckConfig, DnsMemory, Record
from hafleet.core.model import Desired, Groups, Installed, Memory, Node, Rendered, Silent, Version, Worker
from hafleet.core.proxyplan import Command


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


class Membership(Protocol):
    """The Auto Scaling groups and their instances."""

    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        """All groups of these names, and all that carry any of these tags, with every instance's address.

        Args:
            names: group names. Those that AWS does not know are absent from the answer.
            tags: (key, value) pairs; a group with any of them is in the answer.
            ipv6: names of groups whose instances are wanted with their IPv6 address; tag-found groups are looked up by
                "key=value" of the tag.

        Raises:
            SourceUnavailable: the read failed, or any page or item of it was missing.
        """
        ...


class NodeMetadata(Protocol):
    """Who this node is."""

    def identity(self) -> Node:
        """This node.

        Raises:
            MetadataUnavailable: IMDS did not answer.
        """
        ...


class Renderer(Protocol):
    """Templates to text."""

    def render(self, desired: Desired, version: Version) -> Rendered:
        """The finished configuration for this HAProxy version.

        Raises:
            TemplateError: with the template's file and line.
        """
        ...


class Proxy(Protocol):
    """The HAProxy of this node and its files."""

    def installed(self) -> Installed:
        """The files on disk. Raises StoreError when they cannot be read."""
        ...

    def version(self) -> Version:
        """The version of the configured binary (used while no worker runs). Raises ProxyUnavailable."""
        ...

    def observe(self, map_names: Sequence[str]) -> Worker:
        """The running worker. Raises ProxyUnavailable."""
        ...

    def silent(self, reason: str) -> Silent:
        """What the master tells of a worker that ``observe`` got no answer from, for this reason.

        Raises:
            ProxyUnavailable: the master does not answer either, or has no worker.
        """
        ...

    def check(self, candidate: Rendered) -> None:
        """Put the candidate beside the live files and prove it: end mark, counts, ``haproxy -c -dW``.

        Raises:
            ConfigRejected: with HAProxy's own words and the line.
            StoreError: the disk refused.
        """
        ...

    def run(self, worker_pid: int, commands: Sequence[Command]) -> None:
        """Send runtime commands to the worker of this pid over one fresh connection, in order.

        Raises:
            UnexpectedReply: a reply is not on the command's whitelist; the rest was not sent.
            ProxyUnavailable: no answer, or another worker answered.
        """
        ...

    def install(self, candidate: Rendered) -> None:
        """Rename the checked candidate over the live files (maps first), fsynced. Raises StoreError."""
        ...

    def reload(self, candidate: Rendered, worker: Worker) -> None:
        """Test binds, install, reload gracefully, and prove by the stamp that it was loaded.

        Raises:
            ConfigRejected: a bind or local address is not available; nothing was touched.
            ReloadFailed: HAProxy refused; the loaded files are back on disk.
        """
        ...


class Dns(Protocol):
    """One hosted zone of Route 53, and the account's health checks. One call each unless said otherwise; no retries inside.

    Every call may raise SourceUnavailable or one of its kinds: AwsDenied, AwsThrottled, ZoneBusy.
    """

    def zone_id(self) -> str:
        """Id of the hosted zone. Asked once per process. Raises HafleetError when there is no such zone, or more than one."""
        ...

    def tree(self, name: str) -> tuple[Record, ...]:
        """Every record set at this name and below it, complete, with changes that are not in force yet; 300 per call."""
        ...

    def record(self, name: str, type_: str, set_id: str) -> Record | None:
        """One record set."""
        ...

    def change(self, batch: Batch) -> str:
        """Apply all of the batch or none; the id of the change.

        Raises:
            ChangeRefused: the batch does not fit what is there (a compare-and-swap that lost), or never can.
        """
        ...

    def insync(self, change_id: str) -> bool:
        """True when every name server of Route 53 answers by this change. A change that Route 53 forgot counts as in force."""
        ...

    def check(self, check_id: str) -> Check | None:
        """One health check."""
        ...

    def checks(self, prefix: str) -> tuple[Check, ...]:
        """Every health check of the account whose CallerReference starts with this; 1,000 per call, whoever they belong to."""
        ...

    def create_check(self, reference: str, config: CheckConfig) -> Check:
        """Make a health check. The same reference and settings again give the same check.

        Raises:
            CheckTaken: the reference was used before.
            ChangeRefused: the settings can never be taken.
        """
        ...

    def delete_check(self, check_id: str) -> None:
        """Delete a health check; one that does not exist is fine. Raises CheckInUse when another check needs it."""
        ...


class Instances(Protocol):
    """EC2's own word on single instances, whatever group they were in."""

    def states(self, ids: frozenset[str]) -> dict[str, str]:
        """Instance id -> EC2 state (``running``, ``terminated``, ...). Ids that EC2 does not know are absent.

        Raises:
            SourceUnavailable: the read failed or was partial.
        """
        ...


class DnsStore(Protocol):
    """The DNS side's memory, on disk."""

    def load(self, node_id: str) -> DnsMemory:
        """The memory of this node; an empty one when there is none yet. Raises StateCorrupt (the file was put aside)."""
        ...

    def save(self, memory: DnsMemory) -> None:
        """Write atomically, with a checksum. Raises StoreError."""
        ...


class Store(Protocol):
    """The memory between passes, on disk."""

    def load(self, node_id: str | None) -> Memory:
        """The memory of this node (None: whoever wrote it, while IMDS is silent); an empty one when there is none yet.

        Raises:
            StateCorrupt: the file is unreadable, of another node or of a later version (it was put aside).
        """
        ...

    def save(self, memory: Memory) -> None:
        """Write atomically, with a checksum. Raises StoreError."""
        ...


class History(Protocol):
    """Earlier configurations, for rollback."""

    def keep(self, rendered: Rendered, structure: str, at: float) -> None:
        """Remember what is now live. Raises StoreError."""
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


class Watch(Protocol):
    """A running watch of files."""

    def stop(self) -> None:
        """End it."""
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
