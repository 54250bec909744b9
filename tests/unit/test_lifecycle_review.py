"""What a review of the lifecycle found: each test failed before its fault was mended."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from hafleet.core import phase
from hafleet.core.cfgtext import finish, parse
from hafleet.core.dns.report import DnsReport
from hafleet.core.later_settings import Lifecycle
from hafleet.core.life import LifeMemory, LifeSituation, remembered
from hafleet.core.life_acts import Act, AskReplacement, Complete, Rest, Rules, Scene, next_act
from hafleet.core.membership import Decision
from hafleet.core.model import (
    Claim,
    Desired,
    Group,
    Groups,
    Hook,
    Installed,
    Instance,
    Memory,
    Node,
    Notices,
    Unknown,
    Worker,
    World,
)
from hafleet.core.situation import life, settle

NODE = Node("i-00000000000000aaa", IPv4Address("10.9.0.1"), "a", "eu-west-1", "edge")
TEXT = finish("backend site\n", source="s", author="a")
AT = 1_000_000.0
RULES = Rules(Lifecycle.model_validate({"join_timeout": 600, "unhealthy_after": "5m"}))
BORN = Hook("born", "launch", 300.0)
ORDERED = Claim("kim ordered drain of zone a", AT - 3600)
RUNS = Worker((3, 2, 26), 1, 2, 50.0, 20.0, parse(TEXT).structure, {}, {}, 0)
MUTE = Unknown("no socket")


def world(state: str, seen: Worker | Unknown = RUNS, **changes: Any) -> World:
    instances = (Instance(NODE.id, state, "a", NODE.address), Instance("i-00000000000000bbb", "InService", "b", None))
    groups = Groups({"edge": Group("edge", 2, instances)}, 1.0)
    return replace(World(AT, NODE, groups, seen, Installed(TEXT, {})), **changes)


def decision(**remembered: Any) -> Decision:
    return Decision(Desired(NODE, {}, ()), Memory(node=NODE, **remembered), ())


def act(told: LifeSituation | None, waited: float = 0.0) -> Act:
    """What is done by a node that was told the same for so many seconds."""
    assert told
    memory = remembered(LifeMemory(), told, AT - waited)
    memory = replace(memory, beats={BORN.name: AT})
    return next_act(Scene(AT, told, remembered(memory, told, AT), RULES, (BORN,), AT))


# --- a node that joins where people keep it out ---------------------------------------------------------------------


@pytest.mark.parametrize("source", [phase.ZONE, phase.OPERATOR])
def test_a_node_that_joins_a_drained_zone_is_launched_and_not_given_up(source: str) -> None:
    decided = decision(phase="leaving", leaving={source: ORDERED})
    told = life(world("Pending:Wait"), decided, None, registers=True)
    assert act(told) == Complete("born", "CONTINUE", "it is kept out of service: kim ordered drain of zone a")


@pytest.mark.parametrize(
    ("seen", "leaving"),
    [
        (MUTE, {phase.ZONE: ORDERED}),  # its HAProxy does not run
        (RUNS, {phase.ZONE: ORDERED, phase.SPOT: Claim("EC2 takes it back", AT)}),
        (RUNS, {phase.IMDS: Claim("IMDS says Warmed:Stopped", AT)}),
    ],
)
def test_control_others_that_leave_in_their_launch_wait(seen: Worker | Unknown, leaving: dict[str, Claim]) -> None:
    told = life(world("Pending:Wait", seen), decision(phase="leaving", leaving=leaving), None, registers=True)
    assert act(told) == Rest(100.0, "HAProxy to serve")


# --- a node that asks to be replaced --------------------------------------------------------------------------------


def test_a_node_that_cannot_see_its_group_does_not_ask_to_be_replaced() -> None:
    """It may be the last one: unknown is no evidence that others serve."""
    before = life(world("InService", MUTE), decision(phase="serving"), None, registers=False)
    assert isinstance(act(before, waited=600.0), AskReplacement)  # control
    assert before
    for groups in (Unknown("AWS is away"), Groups({}, 1.0)):
        blind = life(world("InService", MUTE, groups=groups), decision(phase="serving"), None, registers=False)
        assert blind and blind.alone
        assert act(replace(blind, state="InService"), waited=600.0) == Rest(600.0)


# --- a clock that went back ------------------------------------------------------------------------------------------


def test_a_clock_that_went_back_does_not_hide_that_the_record_is_gone() -> None:
    """The claim was made before the clock was set back by a year: what DNS tells later is told after it."""
    year = 365 * 86400.0
    seen = world("Terminating:Wait", notices=Notices("Terminated"))
    claims = {phase.AWS: Claim("x", AT + year, final=True), phase.IMDS: Claim("y", AT + year, final=True)}
    settled = settle(seen, decision(phase="leaving", leaving=claims))
    assert {claim.since for claim in settled.leaving.values()} == {AT}
    later = replace(seen, at=AT + 10)
    told = life(later, Decision(Desired(NODE, {}, ()), settled), DnsReport(AT + 5, registered=False), registers=True)
    assert told and told.record == "gone"


# --- a standby that ends while IMDS is silent -------------------------------------------------------------------------

ASIDE = {phase.AWS: Claim("Auto Scaling says Standby", AT - 60), phase.IMDS: Claim("IMDS says Standby", AT - 60)}
SILENT = Unknown("IMDS does not answer")


@pytest.mark.parametrize(
    ("state", "notices", "before", "left"),
    [
        ("InService", SILENT, ASIDE, set()),
        ("Standby", SILENT, ASIDE, {phase.AWS, phase.IMDS}),
        ("InService", Notices("Standby"), ASIDE, {phase.IMDS}),  # it answers, and decides for itself
        ("InService", SILENT, {phase.IMDS: ASIDE[phase.IMDS]}, {phase.IMDS}),  # the group never said the same
        ("InService", SILENT, {phase.AWS: ASIDE[phase.AWS]}, set()),
        (
            "InService",
            SILENT,
            {**ASIDE, phase.IMDS: Claim("IMDS says Terminated", AT - 60, final=True)},
            {phase.IMDS},
        ),
    ],
)
def test_a_standby_ends_by_the_group_s_word_while_imds_is_silent(
    state: str, notices: Notices | Unknown, before: dict[str, Claim], left: set[str]
) -> None:
    settled = settle(world(state, notices=notices), decision(phase="leaving", leaving=before))
    assert settled.leaving.keys() == left
    assert settled.phase == ("leaving" if left else "joining")
