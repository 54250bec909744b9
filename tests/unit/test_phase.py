"""The tables of the phase: every row, and what must never be reached from where."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import product
from typing import get_args

import pytest

from hafleet.core import phase
from hafleet.core.model import Claim, Group, Groups, Instance, Memory, Phase, Unknown

AWS, OPERATOR = phase.AWS, phase.OPERATOR
STAYS: dict[str, Claim] = {}
ASIDE, OUT = {AWS: Claim("x", 5.0)}, {AWS: Claim("x", 5.0, final=True)}


def stands(states: Sequence[str], at: float = 10.0) -> Claim | None:
    """The group's claim after these states, one per pass."""
    leaving = STAYS
    for number, state in enumerate(states):
        leaving = dict(phase.heard(leaving, state, at + number))
    return leaving.get(AWS)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("Pending", "comes"),
        ("Pending:Wait", "comes"),
        ("InService", "serves"),
        ("Terminating", "ends"),
        ("Terminating:Proceed", "ends"),
        ("Terminated", "ends"),
        ("EnteringStandby", "aside"),
        ("Standby", "aside"),
        ("Detaching", "aside"),
        ("Detached", "aside"),
        ("Warmed:Pending:Wait", "warm"),
        ("Warmed:Running", "warm"),
        ("Warmed:Terminating:Wait", "ends"),
        ("Warmed:Terminated", "ends"),
        ("Quarantined", "none"),
        ("ReplacingRootVolume", "none"),
        ("SomethingNew", "none"),
        ("", "none"),
    ],
)
def test_what_a_lifecycle_state_says(state: str, said: str) -> None:
    assert phase.evidence(state) == said


@pytest.mark.parametrize(
    ("states", "claim"),
    [
        (["InService"], None),
        (["Pending:Wait", "InService"], None),
        (["Standby"], Claim("Auto Scaling says Standby", 10.0)),
        (["EnteringStandby", "Standby"], Claim("Auto Scaling says EnteringStandby", 10.0)),
        (["Standby", "InService"], None),
        (["Standby", "Pending:Wait"], None),
        (["Terminating:Wait"], Claim("Auto Scaling says Terminating:Wait", 10.0, final=True)),
        (["Terminating:Wait", "InService"], Claim("Auto Scaling says Terminating:Wait", 10.0, final=True)),
        (["Terminating:Wait", "Standby"], Claim("Auto Scaling says Terminating:Wait", 10.0, final=True)),
        (["Standby", "Terminating:Wait"], Claim("Auto Scaling says Terminating:Wait", 10.0, final=True)),
        (["Terminating:Proceed", "Warmed:Pending"], Claim("Auto Scaling says Warmed:Pending", 10.0)),
        (["Terminating:Proceed", "Warmed:Pending", "Pending:Wait"], None),
        (["Terminating:Proceed", "Pending:Wait"], None),  # a stopped instance of a warm pool saw nothing in between
        (["Standby", "SomethingNew"], Claim("Auto Scaling says Standby", 10.0)),
    ],
)
def test_the_group_s_claim(states: Sequence[str], claim: Claim | None) -> None:
    assert stands(states) == claim


def test_the_group_s_word_leaves_the_operator_s_claim_alone() -> None:
    own = {OPERATOR: Claim("works on it", 1.0)}
    both = phase.heard(own, "Standby", 9.0)
    assert both.keys() == {AWS, OPERATOR}
    assert phase.heard(both, "InService", 10.0) == own
    assert phase.heard(own, "InService", 10.0) is own


def test_control_only_a_new_start_ends_a_final_claim() -> None:
    ended = {said for said in get_args(phase.Evidence) if phase.CLAIMS.get(("out", said), "out") != "out"}
    assert ended == {"warm", "comes"}


def test_every_phase_and_signal_has_its_row() -> None:
    assert set(phase.PHASES) == set(product(get_args(Phase), get_args(phase.Signal)))
    assert {before for (before, signal), after in phase.PHASES.items() if after == "leaving"} == set(get_args(Phase))
    assert all((after == "leaving") == (signal == "leave") for (_, signal), after in phase.PHASES.items())


@pytest.mark.parametrize(
    ("before", "leaving", "serves", "after"),
    [
        ("joining", STAYS, False, "joining"),
        ("joining", STAYS, True, "serving"),
        ("serving", STAYS, False, "serving"),  # once announced, a bad moment of HAProxy takes nobody out
        ("serving", ASIDE, True, "leaving"),
        ("leaving", ASIDE, True, "leaving"),
        ("leaving", STAYS, True, "joining"),
        ("joining", OUT, True, "leaving"),
    ],
)
def test_a_step(before: Phase, leaving: dict[str, Claim], serves: bool, after: Phase) -> None:
    assert phase.step(Memory(phase=before, leaving=leaving), serves=serves) == after


def test_the_operator_s_drain_lasts_until_ready_and_keeps_its_time() -> None:
    first = phase.drained(Memory(phase="serving"), "works on it", 7.0)
    assert (first.phase, first.leaving) == ("leaving", {OPERATOR: Claim("works on it", 7.0)})
    again = phase.drained(first, "still works on it", 9.0)
    assert again.leaving == {OPERATOR: Claim("still works on it", 7.0)}
    back = phase.readied(again)
    assert (back.phase, back.leaving) == ("joining", {})
    assert phase.readied(Memory(phase="serving")) == Memory(phase="serving")


def test_ready_does_not_overrule_the_group() -> None:
    both = phase.drained(Memory(phase="leaving", leaving=OUT), "works on it", 7.0)
    assert (phase.readied(both).phase, phase.readied(both).leaving) == ("leaving", OUT)


def test_the_operator_is_obeyed_though_the_disk_refused_the_rest() -> None:
    unsaved = Memory(phase="serving", leaving={**OUT, OPERATOR: Claim("long ago", 1.0)}, reload_failures=3)
    assert phase.obeyed(unsaved, Memory()).leaving == OUT
    kept = replace(phase.drained(Memory(), "works on it", 7.0), frozen="a rollback")
    after = phase.obeyed(unsaved, kept)
    assert after == replace(unsaved, frozen="a rollback", leaving={**OUT, **kept.leaving})


def instance(name: str, state: str = "InService") -> Instance:
    return Instance(name, state, "a", IPv4Address("10.0.0.1"))


def test_the_last_node_of_a_group_is_held_and_what_is_not_known_is_not() -> None:
    alone = Group("edge", 2, (instance("i-1"), instance("i-2", "Pending:Wait")))
    held = phase.last_node("i-1", alone)
    assert held and (held.rule, held.subject) == ("last_node", "i-1") and "edge" in held.reason
    pair = replace(alone, instances=(instance("i-1"), instance("i-2")))
    assert phase.last_node("i-1", pair) is None
    assert phase.last_node("i-1", Unknown("AWS is away")) is None
    assert phase.last_node("i-1", None) is None


def test_the_own_group_is_none_unknown_or_found() -> None:
    group = Group("edge", 0, ())
    groups = Groups({"edge": group}, 1.0)
    assert phase.own_group("", groups) is None
    assert phase.own_group("edge", groups) is group
    assert phase.own_group("edge", Unknown("AWS is away")) == Unknown("AWS is away")
    assert phase.own_group("other", groups) == Unknown("AWS knows no group other")
