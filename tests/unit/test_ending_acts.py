"""What a node does about servers that wait in a hook, as rows of (told, remembered) -> act; and fleets played pass by pass."""

import math
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hafleet.core.ending_acts import (
    EndingMemory,
    ReadOwn,
    ReadTags,
    Release,
    Wait,
    WriteTag,
    heard,
    next_tag,
    next_word,
    rows,
)
from hafleet.core.endings import MOST, Ending, EndingSituation
from hafleet.core.model import Node

A, B, C = (f"i-0000000000000000{letter}" for letter in "abc")  # nodes
ONE, TWO = "i-00000000000000001", "i-00000000000000002"  # servers
NODE = Node(A, IPv4Address("10.9.0.1"), "a", "eu-west-1", "edge")
AT = 5000.0
BOTH = {B: "00000001 00000002", C: "00000001"}


def ending(instance: str = ONE, *, waits: bool = True, drained: bool = True, hooks: tuple[str, ...] = ("h",)) -> Ending:
    return Ending(instance, "app", hooks, waits, drained)


def told(*found: Ending, nodes: tuple[str, ...] = (A, B, C), node: str = A) -> EndingSituation:
    return EndingSituation(AT, replace(NODE, id=node), nodes, found)


def word(situation: EndingSituation, at: float = AT, **kept: Any) -> Any:
    memory = heard(situation, EndingMemory(**kept), at)
    return next_word(situation, memory, at)


# --- the own tag ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "situation", "act"),
    [
        (None, told(), ReadOwn()),  # an earlier process may have left one
        (None, told(ending()), WriteTag("00000001")),
        ("", told(), None),
        ("", told(ending()), WriteTag("00000001")),
        ("00000001", told(ending()), None),
        ("00000001", told(ending(), ending(TWO)), WriteTag("00000001 00000002")),
        ("00000001", told(ending(drained=False)), WriteTag("")),
        ("00000001", told(ending(waits=False)), None),
        ("00000001", told(), WriteTag("")),
        ("00000001", told(ending(), nodes=(A,)), WriteTag("")),  # nobody asks any more
        ("", told(ending(), nodes=(A,)), None),
        ("00000001", told(ending(), nodes=()), WriteTag("")),
        (None, told(ending(), node="by-hand"), None),  # no EC2 instance has no tag
    ],
)
def test_the_tag_follows_what_is_drained(tag: str | None, situation: EndingSituation, act: Any) -> None:
    assert next_tag(situation, EndingMemory(tag=tag)) == act


# --- the word -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("situation", "seconds"),
    [
        (told(), 600.0),
        (told(ending(drained=False)), 600.0),
        (told(ending(waits=False)), 600.0),
        (told(ending(), node=B), 60.0),  # somebody else speaks
        (told(ending(), nodes=()), 60.0),  # nobody knows who
    ],
)
def test_who_has_nothing_to_say_reads_nothing(situation: EndingSituation, seconds: float) -> None:
    assert word(situation) == Wait(seconds)


def test_the_others_are_asked_when_this_node_has_drained_it_and_then_ever_more_seldom() -> None:
    situation = told(ending())
    assert word(situation) == ReadTags()
    memory = heard(situation, EndingMemory(), AT)
    assert memory.since == AT
    looks = [AT]
    for tick in range(1, 121):
        now = AT + tick
        memory = heard(situation, replace(memory, told={B: "00000001"}, told_at=looks[-1]), now)
        act = next_word(situation, memory, now)
        if act == ReadTags():
            looks.append(now)
        else:
            assert act == Wait(looks[-1] + min(10, max(2.0, (now - AT) / 5)) - now)
    gaps = [after - before for before, after in pairwise(looks)]
    assert gaps[:3] == [2.0, 2.0, 2.0]
    assert set(gaps[-5:]) == {10.0}
    assert len(looks) < 25


def test_it_is_released_when_all_the_others_name_it() -> None:
    fresh: dict[str, Any] = {"told": BOTH, "told_at": AT, "since": AT}
    assert word(told(ending()), **fresh) == Release(ONE, "app", "h")
    assert word(told(ending(TWO)), **fresh) == Wait(2.0)  # one of them has not drained that one
    assert word(told(ending(TWO), ending()), **fresh) == Release(ONE, "app", "h")
    assert word(told(ending(TWO), nodes=(A, B)), **fresh) == Release(TWO, "app", "h")


def test_a_node_alone_releases_at_once() -> None:
    alone = told(ending(hooks=("g", "h")), nodes=(A,))
    assert word(alone) == Release(ONE, "app", "g")
    assert word(alone, done={(ONE, "g"): AT}) == Release(ONE, "app", "h")
    assert word(alone, done={(ONE, "g"): AT, (ONE, "h"): AT}) == Wait(60.0)


@pytest.mark.parametrize(
    ("done", "again"),
    [
        (AT - 59.0, False),
        (AT - 60.0, True),
        (math.inf, False),
    ],  # Auto Scaling may be about to follow; nothing waits there
)
def test_a_hook_is_completed_once_and_again_after_a_minute_unless_nothing_waits_in_it(done: float, again: bool) -> None:
    act = word(told(ending(), nodes=(A,)), done={(ONE, "h"): done})
    assert act == (Release(ONE, "app", "h") if again else Wait(60.0))


def test_what_is_over_is_forgotten() -> None:
    kept = EndingMemory("00000001", BOTH, AT - 1, AT - 9, {(ONE, "h"): math.inf, (TWO, "h"): AT - 5})
    after = heard(told(ending(TWO)), kept, AT)
    assert after == EndingMemory("00000001", None, 0.0, 0.0, {(TWO, "h"): AT - 5})
    assert heard(told(ending(TWO), ending()), replace(kept, done={}), AT) == replace(kept, done={})
    assert heard(told(ending(waits=False)), kept, AT).done == {}


# --- what is shown --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("situation", "kept", "waiting"),
    [
        (told(ending(drained=False)), {}, "this node to drain it"),
        (told(ending(waits=False, hooks=("g", "h"))), {}, "Auto Scaling to ask g, h"),
        (told(ending()), {"done": {(ONE, "h"): AT}}, "Auto Scaling to go on"),
        (told(ending(), node=B), {}, f"{A} to speak for the fleet"),
        (told(ending(), nodes=()), {}, "the own group to be known"),
        (told(ending()), {}, f"{B}, {C} to drain it"),
        (told(ending()), {"told": {B: "00000001"}}, f"{C} to drain it"),
        (told(ending()), {"told": BOTH}, "AWS to answer"),
    ],
)
def test_it_is_said_for_what_an_instance_waits(situation: EndingSituation, kept: dict[str, Any], waiting: str) -> None:
    (row,) = rows(situation, EndingMemory(**kept))
    assert (row.instance, row.group, row.waiting) == (ONE, "app", waiting)


# --- a whole fleet --------------------------------------------------------------------------------------------------


class Fleet:
    """Nodes that hear of the world and of each other's tags, in any order."""

    def __init__(self, nodes: Iterable[str], instances: Iterable[str]) -> None:
        self.nodes = tuple(sorted(nodes))
        self.waiting = set(instances)
        self.drained: dict[str, set[str]] = {node: set() for node in self.nodes}
        self.tags: dict[str, str] = {}
        self.memory = {node: EndingMemory() for node in self.nodes}
        self.calls: list[tuple[str, str]] = []
        self.now = AT
        self.alone = False  # control: each takes itself for the only one

    def turn(self, node: str) -> None:
        """One run of one node."""
        found = (ending(name, drained=name in self.drained[node]) for name in sorted(self.waiting))
        situation = told(*found, nodes=(node,) if self.alone else self.nodes, node=node)
        memory = heard(situation, self.memory[node], self.now)
        act = next_tag(situation, memory)
        if isinstance(act, WriteTag):
            self.tags[node] = act.value
        memory = replace(memory, tag=self.tags.get(node, ""))
        while not isinstance(word := next_word(situation, memory, self.now), Wait):
            if isinstance(word, ReadTags):
                memory = replace(memory, told=dict(self.tags), told_at=self.now)
                continue
            assert all(word.instance in self.drained[other] for other in self.nodes), (
                "released before all had drained it"
            )
            self.calls.append((node, word.instance))
            memory = replace(memory, done={**memory.done, (word.instance, word.hook): self.now})
        self.memory[node] = memory


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_in_any_order_each_instance_is_released_once_by_one_node_and_never_too_early(data: st.DataObject) -> None:
    nodes = (A, B, C)
    instances = [f"i-0000000000000{number:04x}" for number in range(data.draw(st.sampled_from([1, 3, MOST + 5])))]
    fleet = Fleet(nodes, instances)
    for _ in range(data.draw(st.integers(0, 30))):
        fleet.now += 1.0
        node = data.draw(st.sampled_from(nodes))
        what = data.draw(st.sampled_from(["drains", "runs", "restarts"]))
        if what == "drains":
            fleet.drained[node].add(data.draw(st.sampled_from(instances)))
        elif what == "restarts":
            fleet.memory[node] = EndingMemory()
        fleet.turn(node)
        fleet.waiting -= {name for _, name in fleet.calls}
    for node in nodes:
        fleet.drained[node] = set(instances)
    for _ in range(10):
        fleet.now += 11.0
        for node in nodes:
            fleet.turn(node)
            fleet.waiting -= {name for _, name in fleet.calls}
    assert sorted(fleet.calls) == [(A, name) for name in sorted(instances)]
    assert set(fleet.tags.values()) <= {""}


def test_control_nodes_that_do_not_ask_each_other_release_too_early() -> None:
    fleet = Fleet((A, B), [ONE])
    fleet.drained[B] = {ONE}
    fleet.turn(B)
    fleet.turn(A)
    assert fleet.calls == []
    fleet.alone = True
    with pytest.raises(AssertionError, match="released before all had drained it"):
        fleet.turn(B)
