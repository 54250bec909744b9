"""The name server's answers on random alias trees, and on a fleet of 250 nodes in shards."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafleet.core.dns.model import Alias, Record
from hafleet.lab.dns_answers import Client, Zone, answer

Z = "Z1"
Tree = list["Tree"] | int  # branches, or the number of nodes in a leaf group

TREES: st.SearchStrategy[Tree] = st.recursive(
    st.integers(1, 3), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=6
)


def records(tree: Tree, name: str, kinds: random.Random, nodes: Iterator[int]) -> Iterator[Record]:
    """The record sets of a tree, leaves weighted, each level above by a policy of its own."""
    if isinstance(tree, int):
        for number in (next(nodes) for _ in range(tree)):
            yield Record(
                name, "A", f"i-{number}", 30, (f"192.0.2.{number}",), weight=number % 4 + 1, check=f"hc-{number}"
            )
        return
    kind = kinds.choice(["weighted", "latency", "failover"] if len(tree) <= 2 else ["weighted", "latency"])
    for position, branch in enumerate(tree):
        below, alias = f"b{position}.{name}", Alias(f"b{position}.{name}", Z)
        yield {
            "weighted": lambda a=alias, p=position: Record(name, "A", str(p), alias=a, weight=p + 1),
            "latency": lambda a=alias, p=position: Record(
                name, "A", str(p), alias=a, region=("eu-west-1", "us-east-1", "x-1")[p]
            ),
            "failover": lambda a=alias, p=position: Record(
                name, "A", str(p), alias=a, failover=("PRIMARY", "SECONDARY")[p]
            ),
        }[kind]()
        yield from records(branch, below, kinds, nodes)


@given(TREES, st.integers(0, 1000), st.sets(st.integers(0, 20)))
def test_a_healthy_node_is_answered_wherever_there_is_one_and_never_nothing(
    tree: Tree, seed: int, ill: set[int]
) -> None:
    made = tuple(records(tree, "lb.example.test", random.Random(seed), iter(range(100))))
    zone = Zone.of(Z, "example.test", made)
    nodes = {int(record.set_id[2:]) for record in made if record.values}
    chance = random.Random(seed)
    reply = answer((zone,), ("lb.example.test", "A"), Client("eu-west-1"), lambda c: int(c[3:]) not in ill, chance)
    ((found,),) = (reply.found,)
    answered = int(found.values[0].rpartition(".")[2])
    assert len(found.values) == 1
    assert answered in (nodes - ill or nodes)


def fleet(sizes: tuple[int, ...], weights: tuple[int, ...]) -> Zone:
    """Shards of so many nodes, with alias records of these weights."""
    made = []
    for shard, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        name = f"shard-{shard:02}.lb.example.test"
        made.append(Record("lb.example.test", "A", f"shard-{shard:02}", alias=Alias(name, Z), weight=weight))
        made += [
            Record(name, "A", f"i-{shard}-{n}", 2, (f"10.0.{shard}.{n}",), weight=100, check="hc") for n in range(size)
        ]
    return Zone.of(Z, "example.test", tuple(made))


def unevenness(zone: Zone, nodes: int, questions: int = 20_000) -> float:
    """Chi-squared of the answers against an even share for each node."""
    chance = random.Random(5)
    seen = Counter(
        answer((zone,), ("lb.example.test", "A"), Client(), lambda _: True, chance).found[0].values[0]
        for _ in range(questions)
    )
    wanted = questions / nodes
    return sum((count - wanted) ** 2 / wanted for count in seen.values()) + wanted * (nodes - len(seen))


LIMIT = 323.0  # of chi-squared with 249 degrees of freedom; chance exceeds it once in a thousand


@pytest.mark.parametrize(
    ("sizes", "weights", "even"),
    [
        ((50, 50, 50, 50, 50), (1, 1, 1, 1, 1), True),
        ((90, 70, 50, 30, 10), (9, 7, 5, 3, 1), True),
        ((90, 70, 50, 30, 10), (1, 1, 1, 1, 1), False),  # control: weights that do not follow the live nodes
    ],
)
def test_shards_weighted_by_their_nodes_answer_each_node_alike(
    sizes: tuple[int, ...], weights: tuple[int, ...], even: bool
) -> None:
    assert (unevenness(fleet(sizes, weights), 250) < LIMIT) is even
