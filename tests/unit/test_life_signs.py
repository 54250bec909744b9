"""What IMDS and EC2 say of the node's life, and what the hooks' side is told: rows of (seen, remembered) -> told."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from hafleet.core import phase
from hafleet.core.cfgtext import finish, parse
from hafleet.core.checks import rest
from hafleet.core.dns.model import Record
from hafleet.core.dns.report import DnsReport
from hafleet.core.gate import hold_first_start
from hafleet.core.later_settings import Lifecycle
from hafleet.core.membership import Decision
from hafleet.core.model import (
    Claim,
    Desired,
    Door,
    Group,
    Groups,
    Held,
    Installed,
    Instance,
    Memory,
    Node,
    Notice,
    Notices,
    RunningServer,
    Unknown,
    Worker,
    World,
)
from hafleet.core.report import announced
from hafleet.core.serverstate import learned
from hafleet.core.situation import life, settle, situation
from tests.fakes.worlds import make_settings

NODE = Node("i-00000000000000aaa", IPv4Address("10.9.0.1"), "a", "eu-west-1", "edge")
AT = 1000.0
TEXT = finish("backend site\n", source="s", author="a")
OPERATOR = {phase.OPERATOR: Claim("works on it", 1.0)}
Claims = Mapping[str, Claim]


def after(before: Claims, notices: Notices | Unknown, *, rebalance: bool = False) -> Claims:
    return phase.noticed(before, notices, AT, rebalance=rebalance)


# --- claims ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "claim"),
    [
        ("", None),
        ("InService", None),
        ("SomethingNew", None),
        ("Terminated", Claim("IMDS says Terminated", AT, final=True)),
        ("Warmed:Terminated", Claim("IMDS says Warmed:Terminated", AT, final=True)),
        ("Standby", Claim("IMDS says Standby", AT)),
        ("Detached", Claim("IMDS says Detached", AT)),
        ("Warmed:Stopped", Claim("IMDS says Warmed:Stopped", AT)),
    ],
)
def test_where_imds_says_that_the_instance_goes(target: str, claim: Claim | None) -> None:
    assert after(OPERATOR, Notices(target)) == {**OPERATOR, **({phase.IMDS: claim} if claim else {})}


def test_a_claim_of_imds_ends_when_the_instance_comes_back_and_a_final_one_does_not() -> None:
    assert after(after({}, Notices("Standby")), Notices("InService")) == {}
    gone = after({}, Notices("Terminated"))
    assert after(gone, Notices("InService")) == gone


def test_imds_and_the_group_claim_apart() -> None:
    both = phase.heard(after({}, Notices("Standby")), "Standby", AT)
    assert both.keys() == {phase.AWS, phase.IMDS}
    assert after(both, Notices("InService")).keys() == {phase.AWS}


def test_silence_changes_nothing() -> None:
    stood = after({}, Notices(spot=Notice("stop", AT + 120)))
    assert after(stood, Unknown("401")) is stood


def test_a_spot_notice_claims_and_only_an_end_is_for_good() -> None:
    ends = after({}, Notices(spot=Notice("terminate", AT + 120)))
    assert ends == {phase.SPOT: Claim("EC2 takes this spot instance back: terminate", AT, final=True)}
    assert after(ends, Notices()) == ends
    stops = after({}, Notices(spot=Notice("stop", AT + 120)))
    assert stops == {phase.SPOT: Claim("EC2 takes this spot instance back: stop", AT)}
    later = phase.noticed(stops, Notices(spot=Notice("stop", AT + 120)), AT + 60, rebalance=False)
    assert later == stops  # since when is kept
    assert after(stops, Notices()) == {}


def test_a_recommendation_to_move_is_followed_by_choice() -> None:
    told = Notices(rebalance=AT - 5)
    assert after({}, told) == {}
    moves = after({}, told, rebalance=True)
    assert moves == {phase.REBALANCE: Claim("EC2 recommends to move this spot instance", AT)}
    assert after(moves, told) == {}  # the choice was taken back


# --- a pass ---------------------------------------------------------------------------------------------------------


def worker(sessions: int = 0, **changes: Any) -> Worker:
    server = RunningServer("site", "a", 1, "10.0.0.1", 80, False, False, 100, True, True, sessions)
    made = Worker((3, 2, 26), 1, 2, 50.0, 20.0, parse(TEXT).structure, {("site", "a"): server}, {}, 0)
    return replace(made, **changes)


def world(seen: Worker | Unknown, state: str = "InService", **changes: Any) -> World:
    others = (Instance("i-00000000000000bbb", "InService", "a", None),)
    own = (Instance(NODE.id, state, "a", NODE.address),) if state else ()
    groups = Groups({"edge": Group("edge", 2, (*own, *others))}, 1.0)
    return replace(World(AT, NODE, groups, seen, Installed(TEXT, {})), **changes)


def decision(**remembered: Any) -> Decision:
    return Decision(Desired(NODE, {}, ()), Memory(node=NODE, **remembered), ())


@pytest.mark.parametrize(
    ("section", "knows", "before", "then"),
    [
        (None, False, "joining", "serving"),  # without the section nobody waits for tables
        (Lifecycle(), False, "joining", "joining"),
        (Lifecycle(), True, "joining", "serving"),
        (Lifecycle(), False, "serving", "serving"),
    ],
)
def test_a_node_joins_once_its_tables_are_learned(section: Any, knows: bool, before: Any, then: str) -> None:
    seen = world(worker(learned=knows))
    memory = settle(seen, decision(phase=before), section)
    assert memory.phase == then
    told = situation(seen, decision(phase=before), section)
    assert told and told.serves is (then == "serving")


def test_the_section_says_whether_a_recommendation_counts() -> None:
    seen = world(worker(), notices=Notices(rebalance=5.0))
    assert settle(seen, decision(phase="serving")).phase == "serving"
    assert settle(seen, decision(phase="serving"), Lifecycle()).phase == "serving"
    assert settle(seen, decision(phase="serving"), Lifecycle(rebalance="drain")).phase == "leaving"


def test_what_the_hooks_side_is_told() -> None:
    told = life(world(worker(sessions=3, old_workers=2)), decision(phase="serving"), None, registers=False)
    assert told
    assert (told.at, told.node, told.state) == (AT, NODE, "InService")
    assert (told.ready, told.leaving, told.alone) == (True, False, False)
    assert (told.sessions, told.old_workers, told.record, told.spot_at) == (3, 2, "none", 0.0)


def test_what_it_is_told_while_little_is_known() -> None:
    blind = world(Unknown("no socket"), groups=Unknown("AWS is away"), notices=Unknown("IMDS"))
    told = life(blind, decision(phase="leaving"), None, registers=True)
    assert told
    assert (told.state, told.ready, told.leaving, told.alone) == ("", False, True, True)
    assert (told.sessions, told.old_workers, told.record, told.spot_at) == (None, 0, "pending", 0.0)
    assert life(blind, Decision(Unknown("who?"), Memory(), ()), None, registers=False) is None


def test_the_end_of_a_spot_instance_and_the_last_of_its_group_are_told() -> None:
    groups = Groups({"edge": Group("edge", 1, (Instance(NODE.id, "InService", "a", None),))}, 1.0)
    seen = world(worker(), groups=groups, notices=Notices(spot=Notice("terminate", AT + 120)))
    told = life(seen, decision(phase="serving"), None, registers=False)
    assert told and told.alone and told.spot_at == AT + 120


@pytest.mark.parametrize(
    ("target", "state"),
    [
        ("", ""),
        ("InService", ""),
        ("Terminated", ""),
        ("Warmed:Stopped", "Warmed:Pending:Wait"),
        ("Warmed:Terminated", "Warmed:Terminating:Wait"),
    ],
)
def test_an_instance_that_its_group_does_not_list_may_be_in_the_warm_pool(target: str, state: str) -> None:
    told = life(world(worker(), "", notices=Notices(target)), decision(), None, registers=False)
    assert told and told.state == state
    listed = life(world(worker(), "Pending:Wait", notices=Notices(target)), decision(), None, registers=False)
    assert listed and listed.state == "Pending:Wait"


RECORD = Record("lb.example.com", "A", NODE.id)
GONE = DnsReport(at=AT, registered=False)


@pytest.mark.parametrize(
    ("dns", "leaving", "record"),
    [
        (None, False, "pending"),
        (DnsReport(at=AT, registered=True), False, "stands"),
        (GONE, False, "pending"),
        (None, True, "pending"),
        (GONE, True, "gone"),
        (replace(GONE, at=AT - 50), True, "pending"),  # of before it began to leave
        (replace(GONE, records=(RECORD,)), True, "pending"),
        (replace(GONE, waiting="Route 53 to be in force"), True, "pending"),
        (replace(GONE, problems=("Route 53 is away",)), True, "pending"),
        (replace(GONE, records=(RECORD,), held=(Held("last_record", "x", "y"),)), True, "gone"),
        (replace(GONE, records=(RECORD,), held=(Held("other", "x", "y"),)), True, "pending"),
    ],
)
def test_how_the_node_stands_in_dns(dns: DnsReport | None, leaving: bool, record: str) -> None:
    claims = {phase.AWS: Claim("x", AT - 10)} if leaving else {}
    decided = decision(phase="leaving" if leaving else "serving", leaving=claims)
    told = life(world(worker()), decided, dns, registers=True)
    assert told and told.record == record


# --- the first start ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("door", "alone", "reason"),
    [
        (None, False, ""),
        (Door(0.0), True, ""),
        (Door(0.0), False, "HAProxy starts once a peer has connected, to learn the stick tables; waits 45 s more"),
        (
            Door(1.0, problem="busy"),
            False,
            "HAProxy starts once a peer has connected, to learn the stick tables; waits 44 s more (busy)",
        ),
        (Door(45.0), False, ""),
        (Door(44.0, 0.0), False, "a peer has connected; HAProxy starts in 5 s, when it can teach the stick tables"),
        (Door(46.0, 1.0), False, "a peer has connected; HAProxy starts in 4 s, when it can teach the stick tables"),
        (Door(46.0, 5.0), False, ""),
    ],
)
def test_what_holds_the_first_start(door: Door | None, alone: bool, reason: str) -> None:
    held = hold_first_start(door, 45.0, alone=alone)
    assert (held and held.rule, held and held.reason) == (("peers_first", reason) if reason else (None, None))


@pytest.mark.parametrize(
    ("flags", "knows"),
    [
        ("0x11", False),  # 2.6.12, at its start
        ("0x201d", False),  # learning
        ("0x2213", True),  # learned
        ("0x100001", False),  # 3.0.11 and 3.2.26, at their start
        ("0x20100005", False),  # learning
        ("0x28100001", False),  # the teacher itself knew only a part
        ("0x28300003", True),  # given up after that
        ("0x22100003", True),  # learned
    ],
)
def test_whether_a_worker_has_learned_its_tables(flags: str, knows: bool) -> None:
    head = f"0x5614db6a9280: [21/Nov/2026:07:21:54] id=hafleet disabled=0 flags={flags} resync_timeout=5s task_calls=1"
    peer = "  0x5614db6ac480: id=i-77a(remote,active) addr=127.17.0.5:10000 last_status=CONN last_hdshk=0s"
    assert learned(f"{head}\n{peer}\n        flags=0x0 appctx:0x5614db891d40 st0=6\n\n") is knows
    assert learned("\n")  # no peers section


# --- report ---------------------------------------------------------------------------------------------------------


def test_what_ec2_announces_in_words() -> None:
    reboot = Notice("instance-reboot", 1_800_000_000.0)
    told = Notices("InService", Notice("terminate", 1_700_000_120.0), 1_700_000_000.0, (reboot,))
    assert announced(told) == (
        "spot instance ends: terminate at 2023-11-14T22:15:20Z",
        "maintenance: instance-reboot at 2027-01-15T08:00:00Z",
        "EC2 recommends to move since 2023-11-14T22:13:20Z",
    )
    assert announced(Notices("Terminated")) == ()
    assert announced(Unknown("IMDS")) == ()


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asg", "section", "warned"), [("", {}, True), ("edge", {}, False), ("", None, False)])
def test_a_lifecycle_of_a_node_in_no_group_is_warned_of(asg: str, section: Any, warned: bool) -> None:
    group = {"asg": asg} if asg else {}
    node = {"static": {"id": "n1", "private_ip": "10.0.0.1", **group}}
    found = list(rest.lifecycle(make_settings(node=node, lifecycle=section)))
    assert [(finding.path, finding.fatal) for finding in found] == ([(("lifecycle",), False)] if warned else [])
