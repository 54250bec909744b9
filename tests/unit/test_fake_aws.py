"""The strict fake and the pass together: what each fault of AWS does to a node."""

import pytest

from hafleet.core.membership import decide, question
from hafleet.core.model import Groups, Memory, Unknown, World
from hafleet.errors import SourceUnavailable
from tests.fakes.aws import FakeAws, Fault
from tests.fakes.worlds import NODE, make_settings

SETTINGS = make_settings({"asg": "blue"}, {"asg_tag": {"app": "site"}})


class Node:
    """Passes over a fake."""

    def __init__(self, aws: FakeAws) -> None:
        self.aws = aws
        self.memory = Memory()
        self.at = 1000.0
        self.held: list[str] = []

    def turn(self, *faults: Fault) -> object:
        """One pass; the answer is what it wants."""
        self.aws.faults += faults
        asked = question(SETTINGS, NODE)
        groups: Groups | Unknown
        try:
            groups = self.aws.read(asked.names, asked.tags, asked.ipv6)
        except SourceUnavailable as error:
            groups = Unknown(error.what)
        self.at += 10.0
        decision = decide(SETTINGS, World(self.at, NODE, groups, Unknown(""), Unknown("")), self.memory)
        self.memory = decision.memory
        self.held = [held.rule for held in decision.held]
        return decision.desired


@pytest.fixture
def node() -> Node:
    aws = FakeAws()
    aws.create("blue", 20)
    aws.create("green", 5, {"app": "site"})
    aws.create("edge", 3)
    made = Node(aws)
    made.turn()
    return made


@pytest.mark.parametrize("fault", list(Fault))
def test_no_fault_changes_what_a_node_wants(node: Node, fault: Fault) -> None:
    wanted = node.turn()
    for _ in range(5):
        assert node.turn(fault) == wanted
    assert node.turn() == wanted
    assert node.held == []


def test_what_terminated_does_not_come_back_with_a_stale_answer(node: Node) -> None:
    node.aws.scale("blue", 10)
    node.turn()
    smaller = node.turn()
    answers = [node.turn(Fault.STALE) for _ in range(10)]
    assert len(node.memory.members["site"]) == 15
    assert answers[-1] != smaller  # the drains have ended meanwhile
    assert node.turn() == answers[-1]


def test_calls_do_not_depend_on_what_changes(node: Node) -> None:
    costs = []
    for count in (20, 200, 3):
        node.aws.scale("blue", count)
        node.aws.calls.clear()
        node.turn()
        costs.append(len(node.aws.calls))
    assert costs == [2, 2, 2]
