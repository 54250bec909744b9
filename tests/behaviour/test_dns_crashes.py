"""The agent dies after any single call of a join, a change or a leave: the next one finishes, and nothing is left behind."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hafleet.core.dns.model import DnsMemory
from hafleet.errors import SourceUnavailable
from hafleet.lab.route53_engine import Limits
from hafleet.ports import Dns
from tests.fakes.dns import NAME, Actor, Stage, dns_settings, edge, iid

NODE, FELLOW = 2, 1
MOST_CALLS = 12  # of a join or a leave that nothing breaks off


class Crash(BaseException):
    """The process is no more. No ``except Exception`` sees it."""


class Watched:
    """A port that counts calls, looks after each one whether a record hangs on a check that is gone, and fails at one of them."""

    def __init__(
        self, stage: Stage, inner: Dns, at: int | None = None, fail: Callable[[], BaseException] = Crash
    ) -> None:
        self._stage, self._inner, self._at, self._fail = stage, inner, at, fail
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name == "zone_id":
            return self._inner.zone_id

        def call(*args: Any) -> Any:
            self.calls.append(name)
            answer = getattr(self._inner, name)(*args)
            hang = {r.set_id: r.check for r in self._stage.leaves().values() if r.check not in self._stage.checks()}
            assert not hang, f"records on deleted checks after {self.calls}: {hang}"
            if len(self.calls) - 1 == self._at:
                raise self._fail()
            return answer

        return call


HEALTH = {
    "endpoint": {},
    "calculated": {
        "endpoint": {},
        "alarm": {"name": "x-{instance}"},
        "calculated": {"children": ["endpoint", "alarm"]},
    },
}


def stage_with_fellow() -> Stage:
    stage = Stage(limits=Limits(throttling=False))
    stage.engine.use_alarms(lambda region, name: {"EvaluationPeriods": 1, "Threshold": 1.0, "Period": 60})
    stage.register(FELLOW, dns_settings())
    stage.clock.at += 60
    return stage


def actor(stage: Stage, port: Dns | None, **dns: Any) -> Actor:
    found = stage.registrar(NODE, dns_settings(**dns), port)
    found.group = edge([FELLOW, NODE])
    return found


def crash_at(stage: Stage, at: int | None, fail: Callable[[], BaseException], **dns: Any) -> tuple[Actor, Watched]:
    settings = dns_settings(**dns)
    port = Watched(stage, stage.dns(settings), at, fail)
    return actor(stage, port, **dns), port


def driven(one: Actor) -> bool:
    """Run to the end or to the crash; False when it came to the end."""
    try:
        one.settled()
    except Crash:
        return True
    return False


def nothing_left_behind(stage: Stage, here: set[int]) -> None:
    leaves = stage.leaves()
    assert set(leaves) == {iid(number) for number in here}
    used = {record.check for record in leaves.values()}
    used |= {
        child
        for c in stage.engine.checks()
        if c["Id"] in used
        for child in c["HealthCheckConfig"].get("ChildHealthChecks", ())
    }
    assert set(stage.checks()) == used


def unanswered() -> BaseException:
    return SourceUnavailable("Read timeout on endpoint")


@pytest.mark.parametrize("fail", [Crash, unanswered], ids=["crash", "lost answer"])
@pytest.mark.parametrize("health", HEALTH.values(), ids=HEALTH)
@pytest.mark.parametrize("at", range(MOST_CALLS))
def test_a_join_is_finished_after_a_crash_at_any_call(at: int, health: dict[str, Any], fail: Any) -> None:
    stage = stage_with_fellow()
    one, _ = crash_at(stage, at, fail, health=health)
    if driven(one):
        one = actor(stage, None, health=health)
        stage.clock.at += 5
        one.settled()
    assert one.once().registered
    nothing_left_behind(stage, {FELLOW, NODE})


@pytest.mark.parametrize("fail", [Crash, unanswered], ids=["crash", "lost answer"])
@pytest.mark.parametrize("health", HEALTH.values(), ids=HEALTH)
@pytest.mark.parametrize("at", range(MOST_CALLS))
def test_a_leave_is_finished_after_a_crash_at_any_call(at: int, health: dict[str, Any], fail: Any) -> None:
    stage = stage_with_fellow()
    actor(stage, None, health=health).settled()
    one, _ = crash_at(stage, at, fail, health=health)
    one.leave()
    if driven(one):
        red = one.red_since
        one = actor(stage, None, health=health)
        one.leaving, one.red_since = True, red
        one.settled()
    nothing_left_behind(stage, {FELLOW})
    assert stage.stores[iid(NODE)].kept.checks == {}


@pytest.mark.parametrize("at", range(MOST_CALLS))
def test_a_change_of_the_check_is_finished_after_a_crash_at_any_call(at: int) -> None:
    stage = stage_with_fellow()
    actor(stage, None).settled()
    changed: dict[str, Any] = {"health": {"endpoint": {"interval": 30}}}
    one, _ = crash_at(stage, at, Crash, **changed)
    if driven(one):
        one = actor(stage, None, **changed)
        one.settled()
    nothing_left_behind(stage, {FELLOW, NODE})
    (check,) = [c for c in stage.engine.checks() if c["Id"] == stage.leaves()[iid(NODE)].check]
    assert check["HealthCheckConfig"]["RequestInterval"] == 30


@pytest.mark.parametrize("health", HEALTH.values(), ids=HEALTH)
def test_every_call_was_among_those_that_crashed(health: dict[str, Any]) -> None:
    stage = stage_with_fellow()
    one, joined = crash_at(stage, None, Crash, health=health)
    one.settled()
    last, left = crash_at(stage, None, Crash, health=health)
    last.leave()
    last.settled()
    assert {"tree", "create_check", "change", "insync"} <= set(joined.calls)
    assert {"tree", "change", "insync", "delete_check"} <= set(left.calls)
    assert max(len(joined.calls), len(left.calls)) <= MOST_CALLS


@pytest.mark.parametrize("health", HEALTH.values(), ids=HEALTH)
def test_a_lost_disk_leaves_nothing_behind(health: dict[str, Any]) -> None:
    stage = stage_with_fellow()
    actor(stage, None, health=health).settled()
    stage.stores[iid(NODE)].kept = DnsMemory()
    before = stage.checks()
    one = actor(stage, None, health=health)
    one.settled()
    assert stage.checks() == before
    one.leave()
    one.settled()
    nothing_left_behind(stage, {FELLOW})


def test_a_check_that_is_asked_for_without_remembering_it_first_leaks() -> None:
    """Negative control: what the writing ahead is for."""
    stage = stage_with_fellow()
    one, _ = crash_at(stage, 1, Crash)
    assert driven(one)
    store = stage.stores[iid(NODE)]
    store.kept = replace(store.kept, checks={})
    actor(stage, None).settled()
    assert len(stage.checks()) == 3
    assert {r.name for r in stage.leaves().values()} == {NAME}
