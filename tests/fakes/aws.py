"""A strict AWS in memory, behind the membership port: page limits, evidence after the fact, and every way an answer goes wrong."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import ip_address

from hafleet.core.model import Group, Groups, Instance
from hafleet.errors import AwsDenied, AwsThrottled, SourceUnavailable

PAGE = 100


class Fault(Enum):
    """What the next read meets."""

    THROTTLE = "throttle"
    SERVER_ERROR = "5xx"
    HANG = "hang"  # as the adapter sees it: its own timeout
    LOST_PAGE = "page 2 lost"
    DENIED = "denied"
    STALE = "the answer of an earlier moment"
    TENFOLD = "ten times the instances"
    EMPTY = "groups without instances"


_ERRORS: dict[Fault, Callable[[], SourceUnavailable]] = {
    Fault.THROTTLE: lambda: AwsThrottled("Throttling: Rate exceeded"),
    Fault.SERVER_ERROR: lambda: SourceUnavailable("503: no message"),
    Fault.HANG: lambda: SourceUnavailable("Read timeout"),
    Fault.LOST_PAGE: lambda: SourceUnavailable("the answer is not whole"),
    Fault.DENIED: lambda: AwsDenied("AccessDenied: not allowed"),
}


@dataclass
class FakeAws:
    """Implements ``ports.Membership``. Groups by name; instances get ids and addresses that are never used again."""

    groups: dict[str, Group] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)  # one per read, in order
    _ended: dict[str, list[Instance]] = field(default_factory=dict)
    _shown: set[str] = field(default_factory=set)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _past: list[dict[str, Group]] = field(default_factory=list)

    # --- the port -------------------------------------------------------------------------------------------------

    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        """See ``ports.Membership.read``."""
        started = time.monotonic()
        fault = self.faults.pop(0) if self.faults else None
        if names or tags:
            self._count(names, tags)
        if fault in _ERRORS:
            error = _ERRORS[fault]()
            raise error
        found = {
            name: replace(group, instances=tuple(sorted((*group.instances, *self._evidence(name)), key=lambda i: i.id)))
            for name, group in sorted((self._past[0] if fault is Fault.STALE else self.groups).items())
            if name in names or tags & set(group.tags.items())
        }
        self._shown |= {i.id for group in found.values() for i in group.instances}
        if fault is Fault.EMPTY:
            found = {name: replace(group, instances=()) for name, group in found.items()}
        if fault is Fault.TENFOLD:
            found = {name: self._tenfold(group) for name, group in found.items()}
        return Groups(found, started)

    def _count(self, names: frozenset[str], tags: frozenset[tuple[str, str]]) -> None:
        self.calls += ["DescribeAutoScalingGroups"] * -(-len(names) // PAGE)
        for key in {key for key, _ in tags}:
            wanted = {value for name, value in tags if name == key}
            some = sum(group.tags.get(key) in wanted for group in self.groups.values())
            self.calls += ["DescribeAutoScalingGroups"] * max(1, -(-some // PAGE))

    def _evidence(self, name: str) -> list[Instance]:
        """Instances that were seen once and have been terminated since."""
        return [i for i in self._ended.get(name, []) if i.id in self._shown]

    def _tenfold(self, group: Group) -> Group:
        more = [self._new() for _ in range(9 * max(1, len(group.instances)))]
        return replace(group, instances=(*group.instances, *more))

    # --- the stage ------------------------------------------------------------------------------------------------

    def create(self, name: str, count: int = 0, tags: dict[str, str] | None = None) -> None:
        """A group with instances in service."""
        self._remember()
        instances = tuple(sorted((self._new() for _ in range(count)), key=lambda i: i.id))
        self.groups[name] = Group(name, count, instances, tags or {})

    def scale(self, name: str, count: int) -> None:
        """Another desired capacity, obeyed at once."""
        self._remember()
        group = self.groups[name]
        kept, gone = group.instances[:count], group.instances[count:]
        new = [self._new() for _ in range(count - len(kept))]
        self._ended.setdefault(name, []).extend(replace(i, state="Terminated", address=None) for i in gone)
        self.groups[name] = replace(group, desired=count, instances=tuple(sorted((*kept, *new), key=lambda i: i.id)))

    def standby(self, name: str, instance: str) -> None:
        """Put one instance into Standby; the group wants one less."""
        self._remember()
        group = self.groups[name]
        changed = tuple(replace(i, state="Standby") if i.id == instance else i for i in group.instances)
        self.groups[name] = replace(group, desired=group.desired - 1, instances=changed)

    def delete(self, name: str) -> None:
        """The group and its instances are gone."""
        self._remember()
        del self.groups[name]

    def untag(self, name: str, key: str) -> None:
        """Take a tag off a group."""
        self._remember()
        group = self.groups[name]
        self.groups[name] = replace(group, tags={k: v for k, v in group.tags.items() if k != key})

    def _new(self) -> Instance:
        number = next(self._numbers)
        return Instance(f"i-{number:017x}", "InService", "eu-west-1a", ip_address((10 << 24) + number))

    def _remember(self) -> None:
        self._past.insert(0, dict(self.groups))
