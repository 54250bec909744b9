"""Names and alias records: a pure function of the settings and the node, so that every node writes the same.

Below ``lb.example.com`` the names are:

- a leaf group of the tree: ``GROUP.lb.example.com``; without a tree the leaves stand at ``lb.example.com`` itself
- shards of leaves: ``shard-00.TOP`` and on, where TOP is the name above; at TOP itself, weighted aliases ``shard-00`` and on
- a branch below a branch NAME: ``REGION.latency.NAME``, ``PLACE.geolocation.NAME`` (``*`` is ``default``), ``3.failover.NAME``
  for the third choice
- a failover chain of more than two: its second pair stands at ``chain-2.failover.NAME``, its third at ``chain-3.failover.NAME``

Groups have one label below the root, branches two or more, so that no name can mean two things. All of them lie at or below the
root, which one listing shows whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hafleet.core.dns.model import Alias, Place, Record, RecordType
from hafleet.core.dns_settings import Dns, DnsBranch
from hafleet.core.model import Node

SHARD_LIMIT = 100  # record sets of one name, type and policy that Route 53 takes


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why something of the registration cannot be written now: an error's words, not yet an error."""

    what: str
    where: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one node's records stand, and which alias records lead to them."""

    root: str  # the name that clients ask for
    top: str  # the name of the own leaf group
    shards: int
    zone_id: str
    types: tuple[RecordType, ...]
    path: tuple[
        Record, ...
    ] = ()  # aliases from the own group up to the root, targets before those that name them; type A

    @property
    def leaves(self) -> tuple[str, ...]:
        """The names at which leaves of the own group stand, in the order of the shards."""
        if self.shards == 1:
            return (self.top,)
        return tuple(f"{shard_id(number)}.{self.top}" for number in range(self.shards))

    def aliases(self, type_: RecordType) -> tuple[Record, ...]:
        """The aliases of the path for this type, targets first."""
        return tuple(replace(record, type=type_) for record in self.path)

    def shard_alias(self, number: int, type_: RecordType, weight: int) -> Record:
        """The weighted alias at the top that leads to one shard."""
        name = shard_id(number)
        return Record(self.top, type_, name, alias=Alias(f"{name}.{self.top}", self.zone_id), weight=weight)


def shard_id(number: int) -> str:
    """``shard-07``: the first label of a shard's name, and the SetIdentifier of its alias."""
    return f"shard-{number:02}"


def record_types(dns: Dns) -> tuple[RecordType, ...]:
    """The record types of the chosen address families, A first."""
    types: tuple[tuple[str, RecordType], ...] = (("ipv4", "A"), ("ipv6", "AAAA"))
    return tuple(type_ for family, type_ in types if family in dns.families)


def own_group(dns: Dns, node: Node) -> str:
    """The node's leaf group with its placeholders filled in; "" when it has none."""
    return (dns.group or "").replace("{region}", node.region).replace("{zone}", node.zone)


def has_tree(dns: Dns) -> bool:
    """True when alias levels stand above the leaf groups (shards are none)."""
    return dns.tree.latency is not None or dns.tree.geolocation is not None or dns.tree.failover is not None


def make_layout(dns: Dns, node: Node, zone_id: str) -> Layout | Blocked:
    """The layout of this node's records; Blocked when its group does not stand in the tree."""
    types = record_types(dns)
    if not has_tree(dns):
        return Layout(dns.name, dns.name, dns.tree.shards, zone_id, types)
    group = own_group(dns, node)
    path = tuple(record for record, groups in _branch(dns.tree, dns.name, dns.name, zone_id) if group in groups)
    if not path:
        what = f"the group {group!r} of this node stands nowhere in dns.tree" if group else "this node has no dns.group"
        return Blocked(what, "dns.group", "name one of the groups that the tree leads to")
    return Layout(dns.name, f"{group}.{dns.name}", dns.tree.shards, zone_id, types, path)


def tree_aliases(dns: Dns, zone_id: str) -> tuple[Record, ...]:
    """Every alias record of the tree, targets before those that name them; type A."""
    return tuple(record for record, _ in _branch(dns.tree, dns.name, dns.name, zone_id))


_Level = tuple[Record, frozenset[str]]  # an alias, and the groups that it leads to


def _branch(branch: DnsBranch, name: str, root: str, zone_id: str) -> Iterator[_Level]:
    """The aliases of a branch at this name and of all below it."""

    def alias(at: str, to: str, set_id: str) -> Record:
        return Record(at, "A", set_id, alias=Alias(to, zone_id))

    for region, target in sorted((branch.latency or {}).items()):
        child = _Child(target, f"{region}.latency.{name}", root, zone_id)
        yield from child.levels
        yield replace(alias(name, child.name, region), region=region), child.groups
    for text, target in sorted((branch.geolocation or {}).items()):
        child = _Child(target, f"{_place_label(text)}.geolocation.{name}", root, zone_id)
        yield from child.levels
        yield replace(alias(name, child.name, text), place=parse_place(text)), child.groups
    children = [
        _Child(target, f"{number}.failover.{name}", root, zone_id)
        for number, target in enumerate(branch.failover or (), start=1)
    ]
    for child in children:
        yield from child.levels
    for place in reversed(range(len(children) - 1)):  # the last pair first: the pair before it leads to it
        here = name if not place else f"chain-{place + 1}.failover.{name}"
        last = place == len(children) - 2
        there = children[-1].name if last else f"chain-{place + 2}.failover.{name}"
        below = frozenset().union(*(child.groups for child in children[place + 1 :]))
        first = children[place]
        yield replace(alias(here, first.name, "primary"), failover="PRIMARY"), first.groups
        yield replace(alias(here, there, "secondary"), failover="SECONDARY"), below


class _Child:
    """What an alias leads to: a leaf group, or a branch with a name of its own."""

    def __init__(self, target: str | DnsBranch, branch_name: str, root: str, zone_id: str) -> None:
        if isinstance(target, str):
            self.name = f"{target}.{root}"
            self.levels: tuple[_Level, ...] = ()
            self.groups = frozenset({target})
        else:
            self.name = branch_name
            self.levels = tuple(_branch(target, branch_name, root, zone_id))
            self.groups = frozenset().union(*(groups for _, groups in self.levels))


def parse_place(text: str) -> Place:
    """``*`` (the default), ``continent-EU``, ``DE`` or ``US-CA`` -> a place."""
    if text == "*":
        return Place()
    if text.startswith("continent-"):
        return Place(continent=text.removeprefix("continent-"))
    country, _, subdivision = text.partition("-")
    return Place(country=country, subdivision=subdivision)


def _place_label(text: str) -> str:
    return "default" if text == "*" else text.lower()
