"""What to do in a lifecycle hook, as rows of (told, remembered) -> act; and a life played second by second."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from hafleet.core import life_acts
from hafleet.core.later_settings import Lifecycle
from hafleet.core.life import LifeMemory, LifeSituation, beaten, decided, ended, remembered
from hafleet.core.life_acts import Act, AskReplacement, Beat, Complete, ReadHooks, Rest, Rules, Scene, next_act
from hafleet.core.model import Hook, Node

NODE = Node("i-00000000000000aaa", IPv4Address("10.9.0.1"), "a", "eu-west-1", "edge")
AT = 1_000_000.0
BORN, GONE = Hook("born", "launch", 300.0), Hook("gone", "terminate", 300.0)
HOOKS = (BORN, GONE)
RULES = Rules(Lifecycle.model_validate({"join_timeout": 600, "drain": {"quiet": 10, "max": 900}}), ttl=30.0)
TOLD = LifeSituation(AT, NODE, "InService", ready=True, leaving=False, sessions=0, record="stands")


def told(state: str, **changes: Any) -> LifeSituation:
    return replace(TOLD, state=state, **changes)


def scene(situation: LifeSituation, waited: float = 0.0, hooks: tuple[Hook, ...] | None = HOOKS, **kept: Any) -> Scene:
    """A node that has been in this state for so many seconds, its hooks read, its heartbeats sent."""
    fresh = remembered(LifeMemory(), situation, AT - waited)
    fresh = replace(fresh, beats={hook.name: AT for hook in hooks or ()}, **kept)
    return Scene(AT, situation, remembered(fresh, situation, AT), RULES, hooks, AT)


# --- nothing to do --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", ["", "InService", "Pending", "Pending:Proceed", "Terminating", "Standby", "Warmed:Stopped", "SomethingNew"]
)
def test_outside_a_wait_no_hook_is_read_and_none_completed(state: str) -> None:
    assert next_act(scene(told(state), hooks=None)) == Rest(600.0)


def test_hooks_are_read_when_they_are_needed_and_again_after_ten_minutes() -> None:
    waits = told("Pending:Wait", ready=False)
    assert next_act(scene(waits, hooks=None)) == ReadHooks()
    old = scene(waits, waited=599.0)
    assert next_act(replace(old, hooks_at=AT - 600)) == ReadHooks()
    assert not isinstance(next_act(replace(old, hooks_at=AT - 599)), ReadHooks)


def test_a_wait_without_a_hook_of_its_transition_is_somebody_else_s() -> None:
    act = next_act(scene(told("Pending:Wait"), hooks=(GONE,)))
    assert act == Rest(60.0, "a hook of others to end Pending:Wait")


# --- launch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", ["none", "stands"])
def test_a_node_that_serves_and_stands_in_dns_is_launched(record: Any) -> None:
    assert next_act(scene(told("Pending:Wait", record=record))) == Complete("born", "CONTINUE", "it serves")


@pytest.mark.parametrize(
    ("changes", "lacks"),
    [
        ({"ready": False}, "HAProxy to serve"),
        ({"record": "pending"}, "its record in DNS"),
        ({"record": "gone"}, "its record in DNS"),
    ],
)
def test_one_that_does_not_is_waited_for_and_then_abandoned(changes: dict[str, Any], lacks: str) -> None:
    waits = told("Pending:Wait", **changes)
    assert next_act(scene(waits, waited=550.0)) == Rest(50.0, lacks)
    reason = f"not ready within 600 s: it still waits for {lacks}"
    assert next_act(scene(waits, waited=600.0)) == Complete("born", "ABANDON", reason)


def test_what_was_decided_once_stands_for_every_hook() -> None:
    late = Hook("late", "launch", 60.0)
    waits = scene(told("Pending:Wait"), hooks=(BORN, late))
    kept = ended(decided(waits.memory, "ABANDON", "too late"), "born", AT)
    assert next_act(replace(waits, memory=kept)) == Complete("late", "ABANDON", "too late")


def test_a_node_on_its_way_to_the_warm_pool_goes_on_at_once_and_once() -> None:
    warm = scene(told("Warmed:Pending:Wait", ready=False, record="pending"))
    assert next_act(warm) == Complete("born", "CONTINUE", "it goes to the warm pool, without traffic")
    kept = ended(warm.memory, "born", AT - 7200)
    assert next_act(replace(warm, memory=kept)) == Rest(60.0, "Auto Scaling to go on")


def test_a_completed_hook_is_completed_again_only_while_aws_does_not_follow() -> None:
    waits = scene(told("Pending:Wait"))
    for ago, done in ((0.0, True), (59.0, True), (60.0, False), (-5.0, False)):
        act = next_act(replace(waits, memory=ended(waits.memory, "born", AT - ago)))
        assert isinstance(act, Rest) is done, ago


# --- terminate ------------------------------------------------------------------------------------------------------


def leaves(**changes: Any) -> LifeSituation:
    return told("Terminating:Wait", **{"ready": False, "leaving": True, "record": "gone", **changes})


def test_a_drained_node_goes() -> None:
    assert next_act(scene(leaves(), waited=31.0)) == Complete("gone", "CONTINUE", "drained")


def test_a_node_drained_in_the_warm_pool_goes() -> None:
    act = next_act(scene(replace(leaves(), state="Warmed:Terminating:Wait", record="none"), waited=31.0))
    assert act == Complete("gone", "CONTINUE", "drained")


@pytest.mark.parametrize(
    ("changes", "waited", "rest"),
    [
        ({"leaving": False, "record": "stands"}, 100.0, Rest(100.0, "the node to leave")),
        ({"record": "pending"}, 100.0, Rest(100.0, "its record in DNS to go")),
        ({}, 20.0, Rest(10.0, "resolvers to forget it")),
        ({"sessions": None}, 40.0, Rest(100.0, "HAProxy to tell of its connections")),
        ({"sessions": 3}, 40.0, Rest(100.0, "3 connections and 0 old workers to end")),
        ({"old_workers": 1}, 40.0, Rest(100.0, "0 connections and 1 old workers to end")),
    ],
)
def test_what_a_leaving_node_waits_for(changes: dict[str, Any], waited: float, rest: Rest) -> None:
    assert next_act(scene(leaves(**changes), waited=waited)) == rest  # 100 s: the next heartbeat


def test_connections_must_stay_away_for_a_while() -> None:
    just = scene(leaves(), waited=60.0)
    just = replace(just, memory=replace(just.memory, quiet_since=AT - 4))
    assert next_act(just) == Rest(6.0, "new connections to stay away")


@pytest.mark.parametrize("sessions", [7, None])
def test_the_most_a_drain_may_take(sessions: int | None) -> None:
    waits = leaves(sessions=sessions)
    assert isinstance(next_act(scene(waits, waited=899.0)), Rest)
    act = next_act(scene(waits, waited=900.0))
    assert isinstance(act, Complete)
    assert act.result == "CONTINUE"
    assert act.reason.startswith("the drain.max of 900 s is over: it no longer waits for ")
    assert ("7 connections" in act.reason) is (sessions is not None)


def test_a_spot_notice_cuts_the_drain_short() -> None:
    waits = leaves(sessions=7)
    assert isinstance(next_act(scene(replace(waits, spot_at=AT + 11), waited=50.0)), Rest)
    act = next_act(scene(replace(waits, spot_at=AT + 10), waited=50.0))
    reason = "the spot notice is over: it no longer waits for 7 connections and 0 old workers to end"
    assert act == Complete("gone", "CONTINUE", reason, cut=7)
    held = replace(waits, spot_at=AT + 10, old_workers=2, old_sessions=3)
    reason = "the spot notice is over: it no longer waits for 7 connections and 2 old workers with 3 more to end"
    assert next_act(scene(held, waited=50.0)) == Complete("gone", "CONTINUE", reason, cut=10)
    later = scene(replace(waits, spot_at=AT + 5000), waited=900.0)  # a drain is not made longer by it
    assert isinstance(next_act(later), Complete)


# --- heartbeats -----------------------------------------------------------------------------------------------------


def test_a_heartbeat_goes_at_once_and_then_at_a_third_of_the_timeout() -> None:
    waits = scene(told("Pending:Wait", ready=False))
    assert next_act(replace(waits, memory=replace(waits.memory, beats={}))) == Beat("born")
    assert next_act(replace(waits, memory=beaten(waits.memory, "born", AT - 99))) == Rest(1.0, "HAProxy to serve")
    assert next_act(replace(waits, memory=beaten(waits.memory, "born", AT - 100))) == Beat("born")


def test_a_clock_that_went_back_delays_no_heartbeat() -> None:
    waits = scene(told("Pending:Wait", ready=False))
    assert next_act(replace(waits, memory=beaten(waits.memory, "born", AT + 5000))) == Rest(100.0, "HAProxy to serve")


@pytest.mark.parametrize(("timeout", "limit"), [(30.0, 3000.0), (7200.0, 48 * 3600.0)])
def test_aws_honours_no_heartbeat_for_ever(timeout: float, limit: float) -> None:
    patient = replace(RULES, lifecycle=Lifecycle.model_validate({"join_timeout": "60h"}))
    for waited, beats in ((limit - 1, True), (limit, False)):
        waits = scene(told("Pending:Wait", ready=False), waited, hooks=(replace(BORN, timeout=timeout),))
        silent = replace(waits, rules=patient, memory=replace(waits.memory, beats={}))
        assert isinstance(next_act(silent), Beat) is beats, waited


# --- health of one's own --------------------------------------------------------------------------------------------

SICK = replace(RULES, lifecycle=Lifecycle.model_validate({"unhealthy_after": 300}))


def mute(minutes: float, state: str = "InService", **changes: Any) -> Scene:
    return replace(scene(told(state, ready=False, sessions=None, **changes), waited=60 * minutes), rules=SICK)


def test_a_node_whose_haproxy_stays_away_asks_to_be_replaced_and_again_after_as_long() -> None:
    assert next_act(mute(4)) == Rest(60.0, "HAProxy to answer")
    assert next_act(mute(6)) == AskReplacement("HAProxy has not answered for 360 s")
    asked = mute(6)
    asked = replace(asked, memory=replace(asked.memory, unhealthy_at=AT - 10))
    assert next_act(asked) == Rest(290.0, "HAProxy to answer")


@pytest.mark.parametrize(
    "silent",
    [
        replace(mute(60), rules=RULES),  # the settings do not want it
        mute(60, "Standby"),
        mute(60, alone=True),
        mute(60, leaving=True),
        replace(scene(TOLD, waited=3600.0), rules=SICK),  # it answers
    ],
)
def test_others_do_not(silent: Scene) -> None:
    assert next_act(silent) == Rest(600.0)


# --- memory ---------------------------------------------------------------------------------------------------------


def test_another_state_begins_another_wait_and_an_unknown_one_changes_nothing() -> None:
    first = remembered(LifeMemory(), told("Pending:Wait"), AT)
    first = ended(decided(beaten(first, "born", AT), "CONTINUE", "it serves"), "born", AT)
    assert remembered(first, told(""), AT + 5) == first
    second = remembered(first, told("InService"), AT + 9)
    assert (second.state, second.since, second.result) == ("InService", AT + 9, "")
    assert (dict(second.beats), dict(second.done)) == ({}, {})


def test_another_node_s_memory_counts_for_nothing() -> None:
    other = LifeMemory(node="i-other", state="Pending:Wait", since=1.0, result="ABANDON")
    assert remembered(other, told("Pending:Wait"), AT) == LifeMemory(NODE.id, "Pending:Wait", AT)


def test_times_begin_when_a_thing_is_first_seen_and_end_with_it() -> None:
    seen = remembered(LifeMemory(), leaves(), AT)
    assert (seen.left_at, seen.record_gone_at, seen.quiet_since) == (AT, AT, AT)
    later = remembered(seen, leaves(), AT + 5)
    assert (later.left_at, later.record_gone_at, later.quiet_since) == (AT, AT, AT)
    busy = remembered(later, leaves(sessions=1, record="pending"), AT + 6)
    assert (busy.left_at, busy.record_gone_at, busy.quiet_since) == (AT, 0.0, 0.0)
    assert remembered(later, leaves(), AT - 100).left_at == AT - 100  # the clock went back over a restart
    assert remembered(later, TOLD, AT + 7).left_at == 0.0


def test_a_haproxy_that_answers_again_was_never_reported() -> None:
    silent = remembered(LifeMemory(), told("InService", sessions=None), AT)
    assert silent.mute_since == AT
    asked = replace(silent, unhealthy_at=AT)
    assert remembered(asked, told("InService", sessions=None), AT + 1).unhealthy_at == AT
    well = remembered(asked, TOLD, AT + 2)
    assert (well.mute_since, well.unhealthy_at) == (0.0, 0.0)


# --- a whole life ---------------------------------------------------------------------------------------------------


def play(states: Sequence[tuple[float, LifeSituation]]) -> list[tuple[float, Act]]:
    """Second by second through these situations, each for so long; what was done, and when."""
    memory, now = LifeMemory(), AT
    hooks: tuple[Hook, ...] | None = None
    hooks_at = 0.0
    found: list[tuple[float, Act]] = []
    for seconds, situation in states:
        for _ in range(int(seconds)):
            memory = remembered(memory, situation, now)
            act: Act = Rest(0)
            for _ in range(10):
                act = next_act(Scene(now, situation, memory, RULES, hooks, hooks_at))
                if isinstance(act, Rest):
                    break
                found.append((now - AT, act))
                match act:
                    case ReadHooks():
                        hooks, hooks_at = HOOKS, now
                    case Beat(hook):
                        memory = beaten(memory, hook, now)
                    case Complete():
                        memory = ended(decided(memory, act.result, act.reason), act.hook, now)
                    case AskReplacement():
                        memory = replace(memory, unhealthy_at=now)
            assert isinstance(act, Rest)
            assert act.seconds > 0
            now += 1
    return found


def test_a_life_from_its_launch_to_its_end() -> None:
    joins = [(250.0, told("Pending:Wait", ready=False, record="pending")), (5.0, told("Pending:Wait")), (50.0, TOLD)]
    ends = [(120.0, leaves(record="pending", sessions=5)), (60.0, leaves(sessions=5)), (60.0, leaves())]
    assert play([*joins, *ends]) == [
        (0.0, ReadHooks()),
        (0.0, Beat("born")),
        (100.0, Beat("born")),
        (200.0, Beat("born")),
        (250.0, Complete("born", "CONTINUE", "it serves")),
        (305.0, Beat("gone")),
        (405.0, Beat("gone")),
        (495.0, Complete("gone", "CONTINUE", "drained")),
    ]


def test_every_state_that_waits_has_a_transition_that_hooks_can_have() -> None:
    assert set(life_acts.WAITS.values()) == {BORN.transition, GONE.transition}
