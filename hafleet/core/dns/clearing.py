"""What goes when a whole fleet of a region has gone: its nodes' records, the last one too, and the aliases that led only to them.

Reaping leaves the last record of a name, for another node may come. Clearing is for a fleet that will not come back: whoever asks
for it says so. Another region's nodes under the same name keep theirs, with every alias that leads to one of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hafleet.core.dns.checks import Author, node_label, read_reference, region_hash
from hafleet.core.dns.layout import tree_aliases
from hafleet.core.dns.model import Batch, Check, Record
from hafleet.core.dns.plan import delete
from hafleet.core.dns.removal import ours
from hafleet.core.dns_settings import Dns
from hafleet.core.model import Held

_GONE = frozenset({"shutting-down", "terminated"})
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Remains:
    """What a fleet left in Route 53: everything read, and read completely."""

    author: Author  # whose fleet and region; the node does not matter
    dns: Dns
    zone_id: str
    records: tuple[Record, ...]  # the whole tree
    checks: tuple[Check, ...]  # of the fleet

    @property
    def nodes(self) -> Mapping[str, str]:
        """Check id -> its node, for the checks that nodes of this region made."""
        told = {check.id: read_reference(check.reference, self.author.fleet) for check in self.checks}
        here = region_hash(self.author.region)
        return {id_: reference.node for id_, reference in told.items() if reference and reference.region == here}


@dataclass(frozen=True, slots=True)
class Clearing:
    """The batch first, aliases before what they lead to; then, once it is in force, the checks, those with children first."""

    batch: Batch = ()
    checks: tuple[str, ...] = ()
    held: tuple[Held, ...] = ()


def clearing(remains: Remains, states: Mapping[str, str]) -> Clearing:
    """What goes now.

    Args:
        remains: what was read.
        states: EC2's word on all nodes of ``remains``; those that it does not know are absent, and gone.
    """
    nodes = remains.nodes
    alive = {node for node in nodes.values() if states.get(node, "terminated") not in _GONE}
    gone = {id_ for id_, node in nodes.items() if node not in alive}
    leaves = [r for r in remains.records if r.alias is None and ours(r) and r.check in gone and _by(nodes[r.check], r)]
    aliases = _dangling(remains, {leaf.key for leaf in leaves})
    going = {record.key for record in (*leaves, *aliases)}
    used = {record.check for record in remains.records if record.key not in going}
    used |= {child for check in remains.checks if check.id in used for child in check.config.children}
    checks = [check for check in remains.checks if check.id in gone - used]
    checks.sort(key=lambda check: (check.config.type != "CALCULATED", check.id))
    return Clearing(
        tuple(delete(record) for record in (*reversed(aliases), *leaves)),
        tuple(check.id for check in checks),
        tuple(Held("alive", node, f"EC2 calls it {states[node]}: it keeps its record") for node in sorted(alive)),
    )


def _dangling(remains: Remains, going: set[Key]) -> list[Record]:
    """The fleet's aliases that lead nowhere once these records are gone, targets before the aliases that lead to them."""
    written = {(record.name, record.set_id) for record in tree_aliases(remains.dns, remains.zone_id)}
    left = [record for record in remains.records if record.alias and _written(record, written)]
    going, found = set(going), list[Record]()
    while True:
        stay = {(record.name, record.type) for record in remains.records if record.key not in going}
        lost = [record for record in left if record.alias and (record.alias.target, record.type) not in stay]
        if not lost:
            return found
        found += lost
        going |= {record.key for record in lost}
        left = [record for record in left if record not in lost]


def _by(node: str, leaf: Record) -> bool:
    """True for a record that stands under the node's own id, not only borrows its check."""
    return node_label(leaf.set_id) == node


def _written(alias: Record, tree: set[tuple[str, str]]) -> bool:
    """True for an alias that hafleet writes: of the settings' tree, or of a shard."""
    shard = alias.alias is not None and ours(alias) and alias.alias.target == f"{alias.set_id}.{alias.name}"
    return shard or (alias.name, alias.set_id) in tree
