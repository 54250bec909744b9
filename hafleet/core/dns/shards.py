"""Shards: which one a joining node goes to, and how much traffic each gets."""

from collections.abc import Iterable, Sequence
from math import gcd

from hafleet.core.dns.layout import SHARD_LIMIT, Layout
from hafleet.core.dns.model import Record, RecordType
from hafleet.core.dns.removal import ours

MOST = 255  # the largest weight that Route 53 takes


def leaves_by_shard(layout: Layout, records: Iterable[Record], type_: RecordType) -> tuple[tuple[Record, ...], ...]:
    """The leaves of each shard of the own group, in the order of the shards."""
    found: dict[str, list[Record]] = {name: [] for name in layout.leaves}
    for record in records:
        if record.type == type_ and record.name in found and ours(record) and record.alias is None:
            found[record.name].append(record)
    return tuple(tuple(leaves) for leaves in found.values())


def deal(counts: Sequence[int], joining: Sequence[str]) -> dict[str, int]:
    """Deal joining nodes out, one by one in the order of their ids, each to the shard with the fewest leaves.

    All nodes that saw the same leaves deal alike, and the shards fill evenly. A node that finds all shards full is left out.

    Args:
        counts: leaves of each shard.
        joining: ids of the nodes that have no record yet.
    """
    filled = list(counts)
    dealt = {}
    for node in sorted(joining):
        shard = min(range(len(filled)), key=lambda number: (filled[number], number))
        if filled[shard] < SHARD_LIMIT:
            dealt[node] = shard
            filled[shard] += 1
    return dealt


def counts(layout: Layout, records: Sequence[Record]) -> tuple[int, ...]:
    """Leaves of each shard; where a node has records of two types, the fuller type counts."""
    by_type = [[len(leaves) for leaves in leaves_by_shard(layout, records, type_)] for type_ in layout.types]
    return tuple(max(column) for column in zip(*by_type, strict=True))


def weights(shards: Sequence[Sequence[Record]], live: frozenset[str]) -> tuple[int, ...]:
    """The weight of each shard's alias: in proportion to the sum of the weights of its live leaves, as large as may be.

    Large, because leaves may stand beside the aliases while nodes move into shards, or out of them: an alias of weight 1 beside a
    leaf of weight 100 would leave nearly all clients to the last node that moves, or to the first.
    A shard whose live leaves have a weight has at least 1, one without live leaves has 0. While no leaf is live at all, every leaf
    counts: health, not this, then tells who answers.
    """
    sums = [sum(leaf.weight or 0 for leaf in leaves if leaf.set_id in live) for leaves in shards]
    if not any(sums):
        sums = [sum(leaf.weight or 0 for leaf in leaves) for leaves in shards]
    common = gcd(*sums)
    if not common:
        return tuple(0 for _ in shards)
    reduced = [total // common for total in sums]
    most = max(reduced)
    if most > MOST:
        return tuple(max(1, round(total * MOST / most)) if total else 0 for total in reduced)
    return tuple(total * (MOST // most) for total in reduced)
