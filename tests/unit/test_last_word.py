"""What a node takes away before its last word to Auto Scaling: in which order, how often, and after a kill in between."""

from dataclasses import replace

import pytest

from hafleet.core.later_settings import Lifecycle
from hafleet.core.life import parting
from hafleet.core.life_acts import Rules
from hafleet.errors import AwsThrottled
from hafleet.lifecycle import HookKeeper, LifePorts
from tests.unit.test_hook_keeper import JOINS, LEAVES, NOBODY, SERVES, Stage


def keeper(stage: Stage) -> HookKeeper:
    """A new process, which says when it takes leave."""
    rules = Rules(Lifecycle.model_validate({"join_timeout": 600, "drain": {"quiet": 0}}))
    ports = LifePorts(stage, stage, stage, stage, lambda _: None, lambda: stage.journal.append("farewell"))
    return HookKeeper(rules, ports)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_leave_is_taken_before_the_last_word(stage: Stage) -> None:
    stage.run(keeper(stage), LEAVES)
    assert stage.journal == ["hooks edge", "farewell", "complete gone CONTINUE"]


def test_an_abandoned_launch_is_a_last_word_and_one_that_succeeds_is_none(stage: Stage) -> None:
    slow = keeper(stage)
    stage.run(slow, JOINS)
    stage.run(slow, JOINS, 600.0)
    assert stage.journal[-2:] == ["farewell", "complete born ABANDON"]
    stage.kept = None
    stage.run(keeper(stage), SERVES)
    assert stage.journal == ["hooks edge", "complete born CONTINUE"]


def test_a_process_that_comes_after_a_kill_takes_leave_again(stage: Stage) -> None:
    stage.faults["complete"] = AwsThrottled("Rate exceeded")
    stage.run(keeper(stage), LEAVES)
    stage.faults.clear()
    stage.run(keeper(stage), replace(LEAVES, sessions=3))
    assert stage.journal == ["hooks edge", "farewell", "complete gone CONTINUE"]


def test_leave_is_taken_where_nothing_waits_any_more(stage: Stage) -> None:
    stage.faults["complete"] = NOBODY
    stage.run(keeper(stage), LEAVES)
    assert stage.journal[:3] == ["hooks edge", "farewell", "complete gone CONTINUE"]


@pytest.mark.parametrize(
    ("state", "result", "expected"),
    [
        ("", "", False),
        ("InService", "", False),
        ("Pending:Wait", "CONTINUE", False),
        ("Pending:Wait", "ABANDON", True),
        ("Pending:Proceed", "", False),
        ("Warmed:Pending:Wait", "CONTINUE", False),
        ("Terminating", "", False),
        ("Terminating:Wait", "", False),
        ("Terminating:Wait", "CONTINUE", True),
        ("Terminating:Proceed", "", True),
        ("Warmed:Terminating:Wait", "CONTINUE", True),
        ("Warmed:Terminating:Proceed", "", True),
    ],
)
def test_when_an_instance_is_about_to_be_gone(state: str, result: str, expected: bool) -> None:
    assert parting(state, result) is expected
