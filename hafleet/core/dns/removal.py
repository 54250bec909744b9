"""Taking leaves away: never the last one of a group, never on the strength of what may have changed meanwhile.

Every batch that deletes a leaf also carries a witness: a record set that stays, deleted and created again as it is. Route 53
refuses the whole batch when the witness has gone or changed meanwhile, so two nodes that leave at once cannot each take the other
for the one that stays. Witnesses come first: at no place within the batch is a name without one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hafleet.core.dns.model import Batch, Record
from hafleet.core.dns.plan import create, delete
from hafleet.core.model import Held
from hafleet.core.sources import INSTANCE_ID

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Removal:
    """A batch that takes leaves away, and what is held because it is the last."""

    batch: Batch = ()
    held: tuple[Held, ...] = ()


@dataclass(slots=True)
class _Scene:
    """The record sets of one type while it is decided which of them go."""

    records: tuple[Record, ...]
    live: frozenset[str]
    leaves: dict[Key, Record]  # that go
    lost: frozenset[str]  # ids of checks that are no more
    aliases: dict[Key, Record] = field(default_factory=dict)  # that go with the last leaf below them

    def counts(self, record: Record) -> bool:
        """True for what this fleet wrote. Nodes without an EC2 id take whatever has a health check for one of theirs."""
        if record.alias is not None or is_leaf(record):
            return ours(record)
        return ours(record) and bool(record.check) and not all(is_leaf(leaf) for leaf in self.leaves.values())

    def goes(self, record: Record) -> bool:
        return record.key in self.leaves or record.key in self.aliases

    def staying(self, name: str) -> list[Record]:
        """What stays at a name and answers: leaves, and aliases that lead to a leaf that stays."""
        found = [r for r in self.records if r.name == name and self.counts(r) and not self.goes(r)]
        return [r for r in found if r.alias is None or self.staying(r.alias.target)]

    def alias_to(self, name: str) -> Record | None:
        """The alias of the shard at this name."""
        return next((r for r in self.records if ours(r) and r.alias and r.alias.target == name), None)

    def best(self, records: Iterable[Record]) -> Record:
        """One in service with a weight, else any; the lowest identifier, so that all choose the same.

        One whose check was deleted comes last: Route 53 would not let it be created again.
        """
        return min(
            records,
            key=lambda r: (
                r.check in self.lost,
                r.alias is None and r.set_id not in self.live,
                r.weight == 0,
                r.set_id,
            ),
        )


def remove(
    records: Sequence[Record], gone: Sequence[Record], live: frozenset[str], lost: frozenset[str] = frozenset()
) -> Removal:
    """Take these leaves away.

    Args:
        records: every record set of the tree.
        gone: the leaves to delete, of any names and types, as they were read.
        live: instances in service; they make the better witnesses.
        lost: ids of checks that were looked for and are no more.
    """
    batch: Batch = ()
    held: tuple[Held, ...] = ()
    for type_ in sorted({leaf.type for leaf in gone}):
        going = {leaf.key: leaf for leaf in gone if leaf.type == type_}
        scene = _Scene(tuple(r for r in records if r.type == type_), live, going, lost)
        held += _keep_the_last(scene)
        batch += _batch(scene)
    return Removal(batch, held)


def ours(record: Record) -> bool:
    """True for a record set that hafleet may have written: a node's leaf, or the alias of a shard."""
    if record.type not in {"A", "AAAA"} or (record.weight is None and not record.multivalue):
        return False
    return record.set_id.startswith("shard-") if record.alias else bool(record.set_id)


def is_leaf(record: Record) -> bool:
    """True for what a node of EC2 wrote of itself: a weighted or multivalue record set under an instance id."""
    return ours(record) and record.alias is None and INSTANCE_ID.fullmatch(record.set_id) is not None


def _keep_the_last(scene: _Scene) -> tuple[Held, ...]:
    """Where a name would be left without any leaf: its alias goes too, if others stand beside it; else one leaf stays."""
    held = []
    for name in sorted({leaf.name for leaf in scene.leaves.values()}):
        if scene.staying(name):
            continue
        alias = scene.alias_to(name)
        if alias and any(r.key != alias.key for r in scene.staying(alias.name)):
            scene.aliases[alias.key] = alias
            continue
        kept = scene.best(leaf for leaf in scene.leaves.values() if leaf.name == name)
        del scene.leaves[kept.key]
        why = f"{kept.set_id} is the last record of its group; it stays until another node has joined"
        held.append(Held("last_record", f"{name} {kept.type}", why))
    return tuple(held)


def _batch(scene: _Scene) -> Batch:
    """Witnesses, then aliases, then leaves; every record set once."""
    names = {leaf.name for leaf in scene.leaves.values()} - {a.alias.target for a in scene.aliases.values() if a.alias}
    names |= {alias.name for alias in scene.aliases.values()}
    witnesses = [scene.best(scene.staying(name)) for name in sorted(names)]
    proofs = [change for witness in witnesses for change in (delete(witness), create(witness))]
    return (*proofs, *map(delete, scene.aliases.values()), *map(delete, scene.leaves.values()))
