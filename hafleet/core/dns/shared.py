"""Alias records: what leads from the clients' name down to the own group. Every node would write the same.

A joining node makes what its own record needs; which of several that join at once does it, is decided by their ids. The leader
puts right what is missing or differs, and sets the weights of the shards.
"""

from hafleet.core.dns.layout import Blocked
from hafleet.core.dns.model import Batch, Record, RecordType
from hafleet.core.dns.plan import Seen, Want, create, swap
from hafleet.core.dns.shards import counts, deal, leaves_by_shard, weights


def policy(record: Record) -> str:
    """The routing policy of a record set, as one word of AWS's."""
    if record.weight is not None:
        return "weighted"
    if record.multivalue:
        return "multivalue"
    if record.region:
        return "latency"
    if record.place is not None:
        return "geolocation"
    if record.failover:
        return "failover"
    return "another policy" if record.set_id else "simple"


def conflict(want: Want, seen: Seen, type_: RecordType) -> Blocked | None:
    """A record set of somebody else at a name that this node needs, which Route 53 would not let ours stand beside."""
    leaf = "multivalue" if want.multivalue else "weighted"
    needed = dict.fromkeys(want.layout.leaves, leaf)
    if want.layout.shards > 1:
        needed[want.layout.top] = "weighted"
    needed |= {alias.name: policy(alias) for alias in want.layout.aliases(type_)}
    for name, wanted in needed.items():
        for record in seen.records:
            if record.name != name or (record.type not in (type_, "CNAME")):
                continue
            if record.type == "CNAME" or policy(record) != wanted:
                found = "CNAME" if record.type == "CNAME" else f"{policy(record)} {type_}"
                what = f"a {found} record stands at {name}, where {wanted} {type_} records of this fleet should stand"
                fix = "one name and type carries one routing policy: delete that record, or choose another dns.name"
                return Blocked(what, name, fix)
    return next(
        (_foreign(want, r) for a in want.layout.aliases(type_) for r in seen.records if _stranger(want, r, a)), None
    )


def joining(want: Want, seen: Seen) -> tuple[str, ...]:
    """Members of the own group without any record of theirs, this node among them; sorted."""
    have = {record.set_id for record in seen.records if record.name in want.layout.leaves}
    return tuple(sorted((want.members - have) | {want.node}))


def own_shard(want: Want, seen: Seen) -> int | None:
    """The shard of this node: where it stands already, else the one it is dealt; None when all are full."""
    for number, name in enumerate(want.layout.leaves):
        if any(record.name == name for record in seen.own(want.node)):
            return number
    return deal(counts(want.layout, seen.records), joining(want, seen)).get(want.node)


def aliases_with(want: Want, seen: Seen, leaf: Record, shard: int) -> Batch:
    """The aliases to be made in one batch with a new leaf: those that are missing and are this node's to make.

    Of nodes that join at once, the first by id makes the path, and the first of each shard its alias.
    """
    others = joining(want, seen)
    dealt = deal(counts(want.layout, seen.records), others)
    fellows = [node for node in others if dealt.get(node) == shard]
    batch: Batch = ()
    if want.layout.shards > 1 and want.node == min(fellows, default=want.node):
        batch += _missing_shard(want, seen, leaf, shard)
    if want.node == others[0]:
        batch += _missing_path(want, seen, _type(leaf))
    return batch


def repairs(want: Want, seen: Seen, type_: RecordType) -> Batch:
    """What to put right among the aliases: all of it for the leader, what is missing above its own leaf for any other node."""
    leaf = seen.leaf(want, type_)
    if not want.leads:
        if leaf is None:
            return ()
        shard = want.layout.leaves.index(leaf.name)
        batch = _missing_shard(want, seen, leaf, shard) if want.layout.shards > 1 else ()
        return (*batch, *_missing_path(want, seen, type_))
    shards = leaves_by_shard(want.layout, seen.records, type_)
    if not any(shards):
        return ()
    batch = ()
    if want.layout.shards > 1:
        for number, weight in enumerate(weights(shards, want.live)):
            if shards[number] or _found(seen, want.layout.shard_alias(number, type_, 0)):
                batch += _put(seen, want.layout.shard_alias(number, type_, weight))
    for alias in want.layout.aliases(type_):
        batch += _put(seen, alias)
    return batch


def _missing_shard(want: Want, seen: Seen, leaf: Record, shard: int) -> Batch:
    """The alias of one shard, if there is none, with this leaf counted as live."""
    records = (*(r for r in seen.records if r.key != leaf.key), leaf)
    by_shard = leaves_by_shard(want.layout, records, _type(leaf))
    weight = max(1, weights(by_shard, want.live | {want.node})[shard])
    alias = want.layout.shard_alias(shard, _type(leaf), weight)
    return () if _found(seen, alias) else (create(alias),)


def _missing_path(want: Want, seen: Seen, type_: RecordType) -> Batch:
    return tuple(create(alias) for alias in want.layout.aliases(type_) if not _found(seen, alias))


def _put(seen: Seen, alias: Record) -> Batch:
    """What makes this alias stand as it should."""
    old = _found(seen, alias)
    if old is None:
        return (create(alias),)
    return () if old == alias else swap(old, alias)


def _found(seen: Seen, record: Record) -> Record | None:
    return next((r for r in seen.records if r.key == record.key), None)


def _stranger(want: Want, record: Record, alias: Record) -> bool:
    """True for a record set that has our alias's key and leads out of our names."""
    if record.key != alias.key:
        return False
    return record.alias is None or not f".{record.alias.target}".endswith(f".{want.layout.root}")


def _foreign(want: Want, record: Record) -> Blocked:
    what = f"the record {record.name} {record.type} [{record.set_id}] is not this fleet's: it leads out of {want.layout.root}"
    return Blocked(what, record.name, "delete it, or choose another dns.name")


def _type(leaf: Record) -> RecordType:
    return "AAAA" if leaf.type == "AAAA" else "A"
