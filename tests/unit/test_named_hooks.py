"""Of the hooks of a node's group, those that the settings name are its own; the others are somebody else's."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from hafleet.core.later_settings import Lifecycle
from hafleet.core.life import LifeMemory, LifeSituation, beaten, ended, remembered
from hafleet.core.life_acts import Act, Beat, Complete, Rest, Rules, Scene, next_act
from hafleet.core.model import Hook, Node

NODE = Node("i-00000000000000aaa", IPv4Address("10.9.0.1"), "a", "eu-west-1", "edge")
AT = 1_000_000.0
OURS, THEIRS = Hook("drain-lb", "terminate", 300.0), Hook("backup", "terminate", 60.0)
DRAINED = LifeSituation(AT, NODE, "Terminating:Wait", ready=False, leaving=True, sessions=0)
OTHERS = Rest(60.0, "a hook of others to end Terminating:Wait")


def act(there: tuple[Hook, ...], done: tuple[str, ...] = (), *, sessions: int = 0, **lifecycle: Any) -> Act:
    """What a leaving node does that is drained (or has sessions), with these hooks and settings."""
    rules = Rules(Lifecycle.model_validate({"drain": {"quiet": 0, "max": 900}, **lifecycle}))
    told = replace(DRAINED, sessions=sessions)
    memory = remembered(LifeMemory(), told, AT)
    for hook in done:
        memory = ended(memory, hook, AT)
    return next_act(Scene(AT, told, memory, rules, there, AT))


@pytest.mark.parametrize(
    ("named", "done", "expected"),
    [
        (None, (), "backup"),  # the first by name, as the port lists them
        (["drain-lb"], (), "drain-lb"),
        (["backup", "drain-lb"], ("backup",), "drain-lb"),
    ],
)
def test_it_completes_what_is_named_and_everything_where_nothing_is(
    named: list[str] | None, done: tuple[str, ...], expected: str
) -> None:
    assert act((THEIRS, OURS), done, hooks=named) == Complete(expected, "CONTINUE", "drained")


@pytest.mark.parametrize("hooks", [(THEIRS,), ()])
def test_without_its_own_hook_it_waits_for_the_others(hooks: tuple[Hook, ...]) -> None:
    assert act(hooks, hooks=["drain-lb"]) == OTHERS


def test_the_hook_of_somebody_else_gets_no_heartbeat_either() -> None:
    busy = act((THEIRS, OURS), sessions=1, hooks=["drain-lb"])
    assert busy == Beat("drain-lb")
    told = replace(DRAINED, sessions=1)
    memory = beaten(remembered(LifeMemory(), told, AT - 90.0), "drain-lb", AT)
    rules = Rules(Lifecycle.model_validate({"hooks": ["drain-lb"]}))
    rest = next_act(Scene(AT, told, memory, rules, (THEIRS, OURS), AT))
    assert rest == Rest(100.0, "1 connections and 0 old workers to end")
    every = next_act(Scene(AT, told, memory, Rules(Lifecycle()), (THEIRS, OURS), AT))
    assert every == Beat("backup")
