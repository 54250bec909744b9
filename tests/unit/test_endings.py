"""What a pass tells of servers that end through a hook, as rows of (seen, remembered) -> told; and the tag that nodes tell it by."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from hafleet.core import endings
from hafleet.core.endings import MOST, Ending, WantedHook, missing, wanted_hooks, written
from hafleet.core.membership import Decision
from hafleet.core.model import (
    Group,
    Groups,
    Held,
    Instance,
    Member,
    Memory,
    Node,
    Peer,
    RunningServer,
    Unknown,
    Worker,
    World,
)
from hafleet.core.settings import Settings

A, B, C = (f"i-0000000000000000{letter}" for letter in "abc")  # nodes
ONE, TWO = "i-00000000000000001", "i-00000000000000002"  # servers
ADDRESS = IPv4Address("10.9.0.1")
NODE = Node(A, ADDRESS, "a", "eu-west-1", "edge")
AT = 1000.0
WAITS = "Terminating:Wait"
BLUE = {"asg": "blue", "terminate_hook": "drain-lb"}


def settings(*sources: dict[str, Any], **sections: Any) -> Settings:
    site = {"name": "site", "sources": list(sources) or [BLUE], "drain": "60s"}
    web = {"name": "web", "bind": ":80", "default_backend": "site"}
    return Settings.model_validate({"fleet": "f", "frontends": [web], "backends": [site], **sections})


def group(name: str, tags: dict[str, str] | None = None, **states: str) -> Group:
    """A group of instances: one=InService."""
    ids = {"one": ONE, "two": TWO, "a": A, "b": B, "c": C}
    found = tuple(Instance(ids[key], state, "a", ADDRESS) for key, state in states.items())
    return Group(name, len(found), found, tags or {})


def worker(*servers: str, backend: str = "site", **changes: Any) -> Worker:
    def server(name: str) -> RunningServer:
        return replace(RunningServer(backend, name, 1, "10.0.0.1", 80, False, False, 0, True, True, 0), **changes)

    return Worker((3, 2, 26), 1, 2, 50.0, 20.0, "", {(backend, name): server(name) for name in servers}, {}, 0)


EDGE = group("edge", a="InService", b="InService")


def world(*groups: Group, seen: Worker | Unknown | None = None, **changes: Any) -> World:
    found = {made.name: made for made in (EDGE, *groups)}
    made = World(AT, NODE, Groups(found, 1.0), seen or worker(), Unknown("not looked at"))
    return replace(made, **changes)


def decision(*names: str, backend: str = "site", **remembered: Any) -> Decision:
    members = {backend: tuple(Member(name, name[:19], ADDRESS, 80, "a") for name in names)}
    memory = Memory(**{"node": NODE, "members": members, **remembered})
    return Decision(Unknown("not looked at"), memory)


def told(seen: World, decided: Decision, wanted: Settings | None = None) -> endings.EndingSituation:
    found = endings.situation(wanted or settings(), seen, decided)
    assert found is not None and (found.at, found.node) == (AT, NODE)
    return found


# --- which instances, which hooks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "waits"),
    [
        ("Terminating", False),
        (WAITS, True),
        ("Terminating:Proceed", None),  # it has been let go
        ("InService", None),
        ("Pending:Wait", None),
        ("Warmed:Terminating:Wait", None),  # it never had traffic
        ("Standby", None),
    ],
)
def test_an_instance_ends_while_it_terminates_and_before_it_goes_on(state: str, waits: bool | None) -> None:
    found = told(world(group("blue", one=state)), decision())
    expected = () if waits is None else (Ending(ONE, "blue", ("drain-lb",), waits, drained=True),)
    assert found.endings == expected


def test_a_group_of_which_no_hook_is_named_is_somebody_else_s() -> None:
    seen = world(group("blue", one=WAITS), group("green", two=WAITS))
    assert told(seen, decision(), settings({"asg": "blue"}, {"asg": "green"})).endings == ()
    assert [e.instance for e in told(seen, decision(), settings(BLUE, {"asg": "green"})).endings] == [ONE]


def test_a_group_found_by_tag_has_the_hook_too_and_two_sources_may_name_two() -> None:
    tagged = {"asg_tag": {"role": "site"}, "terminate_hook": "other"}
    seen = world(group("blue", {"role": "site"}, one=WAITS), group("green", {"role": "site"}, two=WAITS))
    found = told(seen, decision(), settings(BLUE, tagged)).endings
    assert [(e.instance, e.group, e.hooks) for e in found] == [
        (ONE, "blue", ("drain-lb", "other")),
        (TWO, "green", ("other",)),
    ]


@pytest.mark.parametrize(
    ("sources", "named"),
    [(({"asg": "blue"},), False), (({"asg": "blue"}, BLUE), True), (({"static": ["10.0.0.1"]},), False)],
)
def test_without_a_named_hook_there_is_nothing_to_do(sources: tuple[dict[str, Any], ...], named: bool) -> None:
    assert endings.named(settings(*sources)) is named


def test_every_hook_that_is_named_with_the_group_that_should_have_it() -> None:
    groups = Groups({"blue": group("blue"), "edge": EDGE}, 1.0)
    absent = {"asg": "green", "terminate_hook": "drain-lb"}  # said elsewhere
    life = {"lifecycle": {"hooks": ["gone", "born"]}}
    found = wanted_hooks(settings(BLUE, absent, {"asg": "plain"}, **life), groups, "edge")
    site = WantedHook("drain-lb", "blue", "site", 60.0)
    assert found == (WantedHook("gone", "edge"), WantedHook("born", "edge"), site)
    assert wanted_hooks(settings(BLUE, **life), groups, "") == (site,)
    assert wanted_hooks(settings(BLUE, lifecycle={}), groups, "edge") == (site,)


# --- drained --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "decided", "drained", "parting"),
    [
        (worker(), decision(ONE), False, False),  # it drains: it is still a member
        (worker(ONE), decision(ONE), False, False),
        (worker(ONE), decision(), False, True),  # its drain has just ended, and HAProxy has not followed yet
        (worker(ONE, maint=True), decision(), True, False),  # parked until the next reload
        (worker(ONE, maint=True), decision(ONE), False, False),
        (worker(), decision(), True, False),  # a node that came later never had it
        (worker(f"{ONE}-8080"), decision(), False, True),  # one of several ports
        (worker(), decision(f"{ONE}-8080"), False, False),
        (worker(TWO), decision(TWO), True, False),  # another server's matter
        (worker(ONE, backend="other"), decision(), False, True),
        (worker(), decision(ONE, backend="other"), False, False),
        (Unknown("HAProxy does not answer"), decision(), False, False),
    ],
)
def test_drained_is_what_no_backend_has_and_the_worker_shows_nowhere_but_in_maint(
    seen: Worker | Unknown, decided: Decision, drained: bool, parting: bool
) -> None:
    (ending,) = told(world(group("blue", one=WAITS), seen=seen), decided).endings
    assert (ending.drained, ending.parting) == (drained, parting)


# --- who is live ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "live"),
    [
        ("InService", True),
        ("Terminating", True),  # it still has clients
        (WAITS, True),
        ("Terminating:Proceed", False),  # nobody is on it any more
        ("Pending", False),  # nobody is on it yet
        ("Pending:Wait", False),
        ("Standby", False),  # taken aside, perhaps with its agent
        ("Warmed:Stopped", False),
        ("SomethingNew", False),
    ],
)
def test_the_nodes_whose_word_counts(state: str, live: bool) -> None:
    edge = group("edge", a="InService", b=state)
    assert told(world(edge), decision()).nodes == ((A, B) if live else (A,))


def test_a_peer_that_the_group_stopped_to_list_counts_until_the_guard_lets_it_go() -> None:
    peers = (Peer(A, ADDRESS, 10000), Peer(B, ADDRESS, 10000), Peer(C, ADDRESS, 10000))
    assert told(world(), decision(peers=peers)).nodes == (A, B, C)
    assert told(world(), decision(peers=peers, gone={C: AT})).nodes == (A, B)
    standby = group("edge", a="InService", b="InService", c="Standby")
    assert told(world(standby), decision(peers=peers)).nodes == (A, B)


def test_a_node_that_nobody_else_is_beside_speaks_for_itself() -> None:
    lone = replace(NODE, group="")
    found = endings.situation(settings(), world(group("blue", one=WAITS)), decision(node=lone))
    assert found is not None
    assert (found.nodes, found.speaks, found.others, found.value) == ((A,), True, (), "")
    joins = told(world(group("edge", a="Pending:Wait")), decision())
    assert (joins.nodes, joins.speaks) == ((A,), True)


def test_one_that_is_not_of_the_live_ones_does_not_speak() -> None:
    found = told(world(group("edge", a="Pending:Wait", b="InService"), group("blue", one=WAITS)), decision())
    assert (found.nodes, found.speaks, found.others, found.value) == ((B,), False, (B,), ONE[-8:])


@pytest.mark.parametrize("other", [False, True])
def test_the_lowest_id_speaks(other: bool) -> None:
    node = replace(NODE, id=B if other else A)
    found = endings.situation(settings(), replace(world(), node=node), decision(node=node))
    assert found is not None
    assert (found.speaks, found.others) == (not other, (A,) if other else (B,))


def test_what_is_not_known_is_not_told() -> None:
    assert endings.situation(settings(), world(groups=Unknown("AWS hangs")), decision()) is None
    assert endings.situation(settings(), world(), decision(node=None)) is None
    stale = replace(decision(), held=(Held("stale", "membership", "began too early"),))
    assert endings.situation(settings(), world(), stale) is None
    odd = replace(NODE, group="no-such-group")
    found = endings.situation(settings(), world(), decision(node=odd))
    assert found is not None and (found.nodes, found.speaks, found.value) == ((), False, "")


# --- the tag --------------------------------------------------------------------------------------------------------


def test_the_tag_names_what_is_drained_in_order_and_what_fits() -> None:
    ids = [f"i-0{number:016x}" for number in range(40)]
    assert written(reversed(ids[:2])) == "00000000 00000001"
    assert written(ids).split() == [f"{number:08x}" for number in range(MOST)]
    assert len(written(ids)) <= 256 < len(written(ids)) + len(" 0000001c")
    assert written([]) == ""


def test_a_node_without_a_tag_or_without_the_name_in_it_is_missing() -> None:
    tags = {A: "00000001 00000002", B: "00000002"}
    assert missing(ONE, (C, B, A), tags) == (B, C)
    assert missing(TWO, (A, B), tags) == ()
    assert missing(ONE, (), {}) == ()


def test_the_own_tag_names_only_what_is_drained() -> None:
    seen = world(group("blue", one=WAITS, two="Terminating"), seen=worker())
    assert told(seen, decision(ONE)).value == TWO[-8:]
    assert told(seen, decision()).value == f"{ONE[-8:]} {TWO[-8:]}"
