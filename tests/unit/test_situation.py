"""What a pass tells the DNS side, as rows of (seen, remembered) -> told."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from hafleet.core import phase
from hafleet.core.cfgtext import SWITCH, finish, parse
from hafleet.core.later_settings import Lifecycle
from hafleet.core.membership import Decision
from hafleet.core.model import (
    Claim,
    Desired,
    Group,
    Groups,
    Held,
    Installed,
    Instance,
    Member,
    Memory,
    Node,
    RunningServer,
    Unknown,
    Worker,
    World,
)
from hafleet.core.situation import settle, situation

NODE = Node("i-00000000000000aaa", IPv4Address("10.9.0.1"), "a", "eu-west-1", "edge")
TEXT = finish("backend site\nbackend hafleet_ready\n server ready 127.0.0.1:9 id 1 weight 1\n", source="s", author="a")
AT = 1000.0
CLAIM = {phase.OPERATOR: Claim("works on it", 1.0)}


def server(name: str, key: str = "site", **changes: Any) -> RunningServer:
    return replace(RunningServer(key, name, 1, "10.0.0.1", 80, False, False, 100, True, True, 0), **changes)


def worker(*servers: RunningServer, red: bool = False, **changes: Any) -> Worker:
    found = (*servers, server(SWITCH[1], SWITCH[0], maint=red, checked=False))
    made = Worker((3, 2, 26), 1, 2, 50.0, 20.0, parse(TEXT).structure, {(s.backend, s.name): s for s in found}, {}, 0)
    return replace(made, **changes)


def world(seen: Worker | Unknown, **changes: Any) -> World:
    group = Group("edge", 1, (Instance(NODE.id, "InService", "a", NODE.address),))
    return replace(World(AT, NODE, Groups({"edge": group}, 1.0), seen, Installed(TEXT, {})), **changes)


def decision(*names: str, held: tuple[Held, ...] = (), **remembered: Any) -> Decision:
    members = tuple(Member(name, name, IPv4Address("10.0.0.1"), 80, "a") for name in names)
    memory = Memory(node=NODE, members={"site": members}, **remembered)
    return Decision(Desired(NODE, memory.members, ()), memory, held)


def told(seen: World, decided: Decision) -> tuple[bool, bool, float]:
    found = situation(seen, replace(decided, memory=settle(seen, decided)))
    assert found is not None and found.at == AT and found.node == NODE
    return found.serves, found.leaving, found.red_since


@pytest.mark.parametrize(
    ("seen", "names", "serves"),
    [
        (worker(server("a")), ["a"], True),
        (worker(server("a"), server("b", up=False)), ["a", "b"], True),
        (worker(), [], True),  # no server is wanted
        (worker(), ["a"], False),
        (worker(server("z")), ["a"], False),  # up, but not wanted
        (worker(server("a", up=False)), ["a"], False),
        (worker(server("a", proven=False)), ["a"], False),  # up only because no check has ended yet
        (worker(server("a", maint=True)), ["a"], False),
        (worker(server("a", drain=True)), ["a"], False),
        (worker(server("a", weight=0)), ["a"], False),
        (worker(server("a"), uptime=0.0), ["a"], False),
        (worker(server("a"), stamp="other"), ["a"], False),
        (worker(server("a"), red=True), ["a"], False),
        (Unknown("no socket"), ["a"], False),
    ],
)
def test_when_a_node_serves(seen: Worker | Unknown, names: list[str], serves: bool) -> None:
    assert told(world(seen), decision(*names))[0] is serves


@pytest.mark.parametrize("installed", [Unknown("disk"), Installed(None, {})])
def test_a_node_without_its_file_does_not_serve(installed: Installed | Unknown) -> None:
    assert told(world(worker(), installed=installed), decision())[0] is False


def test_a_node_joins_until_it_serves_and_then_serves_for_good() -> None:
    seen, silent = world(worker()), world(Unknown("no socket"))
    assert settle(silent, decision()).phase == "joining"
    assert settle(seen, decision()).phase == "serving"
    assert settle(silent, decision(phase="serving")).phase == "serving"


@pytest.mark.parametrize(
    ("seen", "before", "leaving", "red_since"),
    [
        (worker(), 0.0, False, 0.0),
        (worker(red=True), 0.0, False, AT),  # a hand on the socket
        (worker(red=True), 700.0, True, 700.0),
        (worker(red=True), 0.0, True, AT),
        (worker(red=True), AT + 5, True, AT),  # the clock went back
        (worker(), 700.0, True, 0.0),  # not turned yet
        (Unknown("no socket"), 700.0, False, 0.0),  # nobody wants it red, and nothing proves that it is
        (Unknown("no socket"), 700.0, True, 700.0),  # it leaves: no answer is as good as red
        (replace(worker(), servers={}), 0.0, False, 0.0),
        (replace(worker(), servers={}), 700.0, True, 700.0),  # it leaves, and can never turn red
    ],
)
def test_since_when_it_is_red(seen: Worker | Unknown, before: float, leaving: bool, red_since: float) -> None:
    decided = decision(phase="serving", leaving=CLAIM if leaving else {}, red_since=before)
    assert told(world(seen), decided)[1:] == (leaving, red_since)


@pytest.mark.parametrize(
    ("seen", "since", "busy"),
    [
        (worker(server("a", sessions=1)), AT - 10, True),
        (worker(server("a")), AT - 10, False),
        (worker(server("a"), old_workers=1), AT - 10, True),
        (Unknown("no socket"), AT - 10, True),  # it may have some
        (worker(server("a", sessions=1)), AT - 900, False),  # drain.max is over
        (worker(server("a", sessions=1)), None, False),  # it does not leave
    ],
)
def test_a_leaving_node_tells_while_connections_go_over_it(
    seen: Worker | Unknown, since: float | None, busy: bool
) -> None:
    claims = {} if since is None else {phase.OPERATOR: Claim("works on it", since)}
    decided = decision(phase="serving" if since is None else "leaving", leaving=claims)
    found = situation(world(seen), decided)
    assert found and found.busy is busy
    short = situation(world(seen), decided, Lifecycle.model_validate({"drain": {"max": "1s"}}))
    assert short and not short.busy


def test_the_own_group_s_word_is_taken_only_from_a_read_that_counts() -> None:
    leaves = Group("edge", 1, (Instance(NODE.id, "Terminating:Wait", "a", None),))
    seen = world(worker(), groups=Groups({"edge": leaves}, 1.0))
    assert settle(seen, decision()).leaving[phase.AWS].final
    late = decision(held=(Held("stale", "membership", "the read began 3 s before"), Held("x", "y", "z")))
    assert settle(seen, late).leaving == {}
    found = situation(seen, late)
    assert found and found.group == Unknown("the read began 3 s before")
    away = replace(seen, groups=Unknown("AWS is away"))
    assert settle(away, decision(leaving=CLAIM)).leaving == CLAIM
    unlisted = replace(seen, groups=Groups({"edge": replace(leaves, instances=())}, 1.0))
    assert settle(unlisted, decision(leaving=CLAIM)).leaving == CLAIM
    assert settle(unlisted, decision()).leaving == {}


def test_a_node_in_no_group_has_none_and_an_unknown_node_is_told_nothing_of() -> None:
    alone = replace(NODE, group="")
    decided = replace(decision(), memory=Memory(node=alone))
    found = situation(world(worker()), decided)
    assert found and found.group is None
    nobody = Decision(Unknown("who?"), Memory(leaving=CLAIM))
    memory = settle(world(worker(), node=Unknown("IMDS")), nobody)
    assert (memory.phase, memory.leaving) == ("leaving", CLAIM)
    assert situation(world(worker()), replace(nobody, memory=memory)) is None
