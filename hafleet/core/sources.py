"""Who could be in each backend: the sources of the settings, looked up in the groups of one complete read.

Instances come in three kinds: in service with an address (candidates), out of service by AWS's own word (positive evidence),
and odd, where the item cannot be judged (quarantined: it neither enters nor leaves).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from hafleet.core.model import Group, Groups, Instance, IPAddress, Member, Node
from hafleet.core.settings import Backend, Settings, Source

INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")  # what EC2 gives; anything else never reaches a configuration
STATIC_PREFIX = "static-"
PLAIN = 100  # weight of a server where no source has a share

# States besides those of ``Instance.leaves`` that say "not in service" (LifecycleState of the Auto Scaling API). A state
# outside InService, these and ``leaves`` is one we do not know: quarantined, because it proves nothing.
_NOT_IN_SERVICE = ("Pending", "Warmed", "ReplacingRootVolume", "RootVolumeReplaced", "Quarantined")


@dataclass(frozen=True, slots=True)
class Question:
    """What a membership read is asked for; the arguments of ``ports.Membership.read``."""

    names: frozenset[str]
    tags: frozenset[tuple[str, str]]
    ipv6: frozenset[str]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What one complete read says about one backend. Members are unweighted: see ``weights``."""

    members: Mapping[str, Member]  # by name: in service with an address, and static ones
    places: Mapping[str, int]  # group name, or name of a static server -> index of its source
    leaving: Mapping[str, Instance]  # by instance id: AWS says it is not in service
    odd: Mapping[str, str]  # instance id (or a stand-in) -> what is wrong with the item
    stale: frozenset[str]  # ids listed as in service though they were seen to terminate earlier
    groups: tuple[Group, ...]  # groups of the sources
    absent: tuple[str, ...]  # sources that found no group: group names, or key=value of tags


def question(settings: Settings, node: Node | None) -> Question:
    """What to ask AWS for: the groups of every source, and this node's own group for its peers."""
    names: set[str] = set()
    tags: set[tuple[str, str]] = set()
    ipv6: set[str] = set()
    for backend in settings.backends:
        for source in backend.sources:
            asked = {source.asg} if source.asg is not None else set()
            pairs = set((source.asg_tag or {}).items())
            names |= asked
            tags |= pairs
            if backend.family == "ipv6":
                ipv6 |= asked | {f"{key}={value}" for key, value in pairs}
    if node is not None and node.group:
        names.add(node.group)
        if node.address.version == 6:
            ipv6.add(node.group)
    return Question(frozenset(names), frozenset(tags), frozenset(ipv6))


def gather(backend: Backend, groups: Groups, known: Mapping[str, Member], gone: Mapping[str, float]) -> Candidates:
    """Look the backend's sources up in a complete read.

    Args:
        backend: whose sources.
        groups: the read.
        known: members of the last pass by name; an unchanged one is passed on as it is, weight included.
        gone: instances that were seen to terminate; a later answer that shows one in service is stale.
    """
    gathering = _Gathering(backend, known, gone)
    absent: list[str] = []
    for index, member in static_members(backend):
        gathering.static(index, member)
    for index, source in enumerate(backend.sources):
        found = groups_of(source, groups)
        if not found and source.static is None:
            absent.append(label(source))
            gathering.absent(index, source)
        for group in found:
            gathering.group(index, source, group)
    return gathering.result(tuple(absent))


def groups_of(source: Source, groups: Groups) -> tuple[Group, ...]:
    """The groups of one source, in order of name."""
    if source.asg is not None:
        found = groups.by_name.get(source.asg)
        return (found,) if found else ()
    wanted = (source.asg_tag or {}).items()
    if not wanted:
        return ()
    return tuple(
        group
        for _, group in sorted(groups.by_name.items())
        if all(group.tags.get(key) == value for key, value in wanted)
    )


def wants_zero(backend: Backend, found: Candidates) -> bool:
    """True when nothing at all is wanted: every group says 0, none is unknown, and nothing is static."""
    static = any(source.static for source in backend.sources)
    return not static and not found.absent and all(group.desired == 0 for group in found.groups)


def label(source: Source) -> str:
    """How messages name a source of groups."""
    return source.asg or ",".join(f"{key}={value}" for key, value in (source.asg_tag or {}).items())


def static_members(backend: Backend) -> Iterator[tuple[int, Member]]:
    """The static servers of the settings with the index of their source, unweighted."""
    for index, source in enumerate(backend.sources):
        for address in source.static or ():
            shown = str(address)
            base = STATIC_PREFIX + shown.replace(":", "-")
            for port in _ports(backend, source):
                name = f"{base}-{port}" if len(backend.ports) > 1 else base
                yield index, Member(name, shown, address, port, "")


def _ports(backend: Backend, source: Source) -> tuple[int, ...]:
    return (source.port,) if source.port is not None else backend.ports


class _Gathering:
    """Fills in one backend's candidates, first source first: what an earlier source has, a later one does not get."""

    def __init__(self, backend: Backend, known: Mapping[str, Member], gone: Mapping[str, float]) -> None:
        self._backend = backend
        self._known = known
        self._gone = gone
        self._seen: set[str] = set()
        self._members: dict[str, Member] = {}
        self._places: dict[str, int] = {}
        self._leaving: dict[str, Instance] = {}
        self._odd: dict[str, str] = {}
        self._stale: set[str] = set()
        self._groups: dict[str, Group] = {}

    def static(self, index: int, member: Member) -> None:
        """One static server."""
        known = self._known.get(member.name)
        same = known is not None and replace(known, weight=member.weight, draining=False, order=None) == member
        self._members.setdefault(member.name, known if known is not None and same else member)
        self._places.setdefault(member.name, index)

    def absent(self, index: int, source: Source) -> None:
        """A group that AWS does not know: members of it that are held still have a source, and follow its weight."""
        if source.asg is not None:
            self._places.setdefault(source.asg, index)

    def group(self, index: int, source: Source, group: Group) -> None:
        """Every instance of one group."""
        if group.name in self._groups:
            return
        self._groups[group.name] = group
        self._places[group.name] = index
        ports = _ports(self._backend, source)
        several = len(self._backend.ports) > 1
        for instance in group.instances:
            if instance.id in self._seen:
                continue
            self._seen.add(instance.id)
            address = self._address(group, instance)
            if address is None:
                continue
            for port in ports:
                place = (address, port, instance.zone, group.name, instance.capacity)
                self._put(f"{instance.id}-{port}" if several else instance.id, instance.id, place)

    def _address(self, group: Group, instance: Instance) -> IPAddress | None:
        """The address of an instance that may serve; the others are filed by what is with them."""
        if not INSTANCE_ID.fullmatch(instance.id):
            shown = repr(instance.id[:40])
            self._odd[shown] = f"an item of group {group.name} has the id {shown}, which is not an instance id"
        elif instance.serves:
            if instance.id in self._gone:
                self._stale.add(instance.id)
            elif instance.address is None:
                self._odd[instance.id] = f"InService in group {group.name}, but AWS gives no usable address for it"
            else:
                return instance.address
        elif instance.leaves or instance.state.startswith(_NOT_IN_SERVICE):
            self._leaving[instance.id] = instance
        else:
            self._odd[instance.id] = f"group {group.name} gives it the unknown state {instance.state[:40]!r}"
        return None

    def _put(self, name: str, instance: str, place: tuple[IPAddress, int, str, str, int]) -> None:
        """Add a member: the known object itself when nothing of it changed, for 10,000 new ones cost milliseconds.

        ``place``: address, port, zone, group, capacity.
        """
        known = self._known.get(name)
        if known is not None and (known.address, known.port, known.zone, known.group, known.capacity) == place:
            self._members[name] = known
        else:
            address, port, zone, group, capacity = place
            weight = known.weight if known else PLAIN
            self._members[name] = Member(name, instance, address, port, zone, weight, False, group, capacity)

    def result(self, absent: tuple[str, ...]) -> Candidates:
        """What was found."""
        return Candidates(
            members=MappingProxyType(self._members),
            places=MappingProxyType(self._places),
            leaving=MappingProxyType(self._leaving),
            odd=MappingProxyType(self._odd),
            stale=frozenset(self._stale),
            groups=tuple(self._groups.values()),
            absent=absent,
        )
