"""The hooks' side against an Auto Scaling that refuses, forgets and hangs up, and a disk that does too."""

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from hafleet.core.later_settings import Lifecycle
from hafleet.core.life import LifeMemory, LifeReport, LifeSituation
from hafleet.core.life_acts import Rules
from hafleet.core.model import Hook, Node
from hafleet.errors import AwsThrottled, HafleetError, HookGone, StateCorrupt, StoreError
from hafleet.lifecycle import HookKeeper, LifePorts

NODE = Node("i-00000000000000aaa", IPv4Address("10.9.0.1"), "a", "eu-west-1", "edge")
JOINS = LifeSituation(1000.0, NODE, "Pending:Wait", ready=False, leaving=False, sessions=0, record="pending")
SERVES = replace(JOINS, ready=True, record="stands")
LEAVES = replace(JOINS, state="Terminating:Wait", leaving=True, record="gone")
NOBODY = HookGone("No active Lifecycle Action found", where="autoscaling")


@dataclass
class Stage:
    """Auto Scaling, the disk, the clock and chance in one: what happened, and what is to go wrong."""

    journal: list[str] = field(default_factory=list)
    woken: int = 0
    listed: tuple[Hook, ...] = (Hook("born", "launch", 300.0), Hook("gone", "terminate", 300.0))
    faults: dict[str, HafleetError] = field(default_factory=dict)
    kept: LifeMemory | None = None
    now: float = 1000.0
    step: float = 0.0  # what the wall clock is off

    def _do(self, what: str) -> None:
        self.journal.append(what)
        if fault := self.faults.get(what.split(maxsplit=1)[0]):
            raise fault

    # hooks
    def hooks(self, group: str) -> tuple[Hook, ...]:
        self._do(f"hooks {group}")
        return self.listed

    def complete(self, group: str, hook: str, instance: str, result: str) -> None:
        self._do(f"complete {hook} {result}")

    def heartbeat(self, group: str, hook: str, instance: str) -> None:
        self._do(f"heartbeat {hook}")

    def set_unhealthy(self, instance: str) -> None:
        self._do(f"unhealthy {instance}")

    def tag(self, instance: str, key: str, value: str) -> None:
        self._do(f"tag {key}={value}")

    # disk
    def load(self, node_id: str) -> LifeMemory:
        if fault := self.faults.get("load"):
            raise fault
        return self.kept or LifeMemory()

    def save(self, memory: LifeMemory) -> None:
        if fault := self.faults.get("save"):
            raise fault
        self.kept = memory

    # clock, chance
    def wall(self) -> float:
        return self.now + self.step

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: Any, seconds: float) -> bool:
        raise AssertionError("the hooks' side waits for nothing by itself")

    def uniform(self, a: float, b: float) -> float:
        return b

    # driving
    def keeper(self, **lifecycle: Any) -> HookKeeper:
        """A new process."""

        def wake(_reason: str) -> None:
            self.woken += 1

        rules = Rules(Lifecycle.model_validate({"join_timeout": 600, **lifecycle}), ttl=30.0)
        return HookKeeper(rules, LifePorts(self, self, self, self, wake))

    def run(self, keeper: HookKeeper, told: LifeSituation, after: float = 0.0) -> LifeReport:
        """One run, so many seconds later."""
        self.now += after
        self.journal.clear()
        return keeper.run(replace(told, at=self.wall()))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_launch_from_the_first_look_to_the_end(stage: Stage) -> None:
    keeper = stage.keeper()
    report = stage.run(keeper, JOINS)
    assert stage.journal == ["hooks edge", "heartbeat born"]
    assert (report.state, report.waiting, report.next_at) == ("Pending:Wait", "HAProxy to serve", 100.0)
    assert stage.run(keeper, JOINS, 99.0).next_at == 1.0
    assert stage.journal == []
    report = stage.run(keeper, SERVES, 0.5)
    assert stage.journal == ["complete born CONTINUE"]
    assert (report.result, report.reason, report.waiting) == ("CONTINUE", "it serves", "Auto Scaling to go on")
    assert [deed.what for deed in report.done] == [
        "heartbeat for hook born (Pending:Wait)",
        "completed hook born (Pending:Wait) with CONTINUE: it serves",
    ]
    assert stage.woken == 2
    report = stage.run(keeper, replace(SERVES, state="InService"), 1.0)
    assert (stage.journal, report.result, report.problems) == ([], "", ())


def test_it_is_completed_again_by_a_process_that_was_killed_before_it_could_remember(stage: Stage) -> None:
    stage.faults = {"complete": AwsThrottled("slow down")}
    stage.run(stage.keeper(), SERVES)
    stage.faults = {"complete": NOBODY}  # the call had reached AWS all the same
    report = stage.run(stage.keeper(), SERVES)
    assert stage.journal == ["hooks edge", "complete born CONTINUE", "hooks edge"]
    assert report.problems == ()
    assert report.done[-1].what == "nothing waits in hook born any more: No active Lifecycle Action found"
    again = stage.run(stage.keeper(), SERVES)
    assert stage.journal == ["hooks edge"]
    assert again.waiting == "Auto Scaling to go on"


def test_what_was_decided_before_the_kill_stands_after_it(stage: Stage) -> None:
    stage.run(stage.keeper(), JOINS)
    stage.faults = {"complete": AwsThrottled("slow down")}
    stage.run(stage.keeper(), JOINS, 600.0)
    assert stage.journal[-1] == "complete born ABANDON"
    stage.faults = {}
    report = stage.run(stage.keeper(), SERVES, 1.0)  # ready after all, but its end was told already
    assert stage.journal == ["hooks edge", "complete born ABANDON"]
    assert report.result == "ABANDON"


@pytest.mark.parametrize("fault", [None, AwsThrottled("no tags today")])
def test_an_abandoned_launch_is_tagged_by_choice_and_abandoned_whether_that_worked_or_not(
    stage: Stage, fault: HafleetError | None
) -> None:
    keeper = stage.keeper(abandon_tag=True)
    stage.run(keeper, JOINS)
    stage.faults = {"tag": fault} if fault else {}
    report = stage.run(keeper, JOINS, 600.0)
    reason = "not ready within 600 s: it still waits for HAProxy to serve"
    assert stage.journal == ["hooks edge", f"tag hafleet:abandoned={reason}", "complete born ABANDON"]
    assert report.problems == (("no tags today",) if fault else ())


def test_without_that_choice_there_is_no_tag(stage: Stage) -> None:
    keeper = stage.keeper()
    stage.run(keeper, JOINS)
    stage.run(keeper, JOINS, 600.0)
    assert stage.journal == ["hooks edge", "complete born ABANDON"]


@pytest.mark.parametrize("call", ["hooks", "heartbeat"])
def test_a_refusal_is_reported_and_tried_again_ever_more_seldom(stage: Stage, call: str) -> None:
    keeper = stage.keeper()
    stage.faults = {call: AwsThrottled("slow down")}
    waits = []
    for _ in range(7):
        report = stage.run(keeper, JOINS)
        assert (report.problems, report.waiting) == (("slow down",), "AWS to answer")
        waits.append(report.next_at)
        early = stage.run(keeper, JOINS, report.next_at / 2)  # the situation changed: AWS is left alone all the same
        assert (stage.journal, early.next_at) == ([], report.next_at / 2)
        stage.now += report.next_at / 2
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    stage.faults = {}
    assert stage.run(keeper, JOINS).problems == ()
    stage.faults = {"heartbeat": AwsThrottled("slow down")}
    assert stage.run(keeper, JOINS, 100.0).next_at == 1.0


def test_a_complete_that_is_refused_is_tried_for_ever_while_the_instance_waits(stage: Stage) -> None:
    keeper = stage.keeper()
    stage.faults = {"complete": AwsThrottled("slow down")}
    for _ in range(500):
        report = stage.run(keeper, SERVES)
        assert "complete born CONTINUE" in stage.journal
        stage.now += report.next_at
    stage.run(keeper, replace(SERVES, state="InService"))
    assert stage.journal == []


def test_hooks_that_cannot_be_read_again_are_those_known_before(stage: Stage) -> None:
    """A node that joined long ago leaves while Auto Scaling answers everything but that question."""
    keeper = stage.keeper()
    stage.run(keeper, SERVES)
    stage.faults["hooks"] = AwsThrottled("a bad day")
    report = stage.run(keeper, LEAVES, after=7200.0)
    assert stage.journal == ["hooks edge", "heartbeat gone"] and report.problems == ("a bad day",)
    stage.run(keeper, LEAVES, after=40.0)
    assert stage.journal == ["complete gone CONTINUE"]


def test_a_hook_that_was_deleted_ends_the_matter(stage: Stage) -> None:
    keeper = stage.keeper()
    stage.faults = {"heartbeat": NOBODY}
    stage.listed = (Hook("born", "launch", 300.0),)
    report = stage.run(keeper, JOINS)
    assert stage.journal == ["hooks edge", "heartbeat born", "hooks edge"]
    assert (report.problems, report.waiting) == ((), "Auto Scaling to go on")
    stage.listed = ()
    report = stage.run(keeper, JOINS, 601.0)
    assert stage.journal == ["hooks edge"]
    assert report.waiting == "a hook of others to end Pending:Wait"


def test_a_drain_over_its_limit_says_what_it_cuts(stage: Stage) -> None:
    keeper = stage.keeper(drain={"quiet": 1, "max": 120})
    stage.run(keeper, replace(LEAVES, sessions=4))
    report = stage.run(keeper, replace(LEAVES, sessions=4), 120.0)
    assert stage.journal == ["complete gone CONTINUE"]
    wanted = "the drain.max of 120 s is over: it no longer waits for 4 connections and 0 old workers to end"
    assert report.reason == wanted


def test_a_clock_that_is_set_at_boot_abandons_nobody(stage: Stage) -> None:
    keeper = stage.keeper()
    stage.run(keeper, JOINS)
    stage.step = 5 * 365 * 86400.0
    report = stage.run(keeper, JOINS, 10.0)
    assert (stage.journal, report.result) == ([], "")
    stage.step = -3600.0
    assert stage.run(keeper, JOINS, 10.0).result == ""


def test_a_node_that_cannot_serve_asks_to_be_replaced(stage: Stage) -> None:
    keeper = stage.keeper(unhealthy_after=300)
    sick = replace(JOINS, state="InService", sessions=None)
    stage.run(keeper, sick)
    assert stage.journal == []
    report = stage.run(keeper, sick, 300.0)
    assert stage.journal == [f"unhealthy {NODE.id}"]
    assert report.done[-1].what == "asked Auto Scaling to replace this instance: HAProxy has not answered for 300 s"
    stage.run(keeper, sick, 299.0)
    assert stage.journal == []
    stage.run(keeper, sick, 1.0)
    assert stage.journal == [f"unhealthy {NODE.id}"]


def test_a_disk_that_refuses_stops_nothing(stage: Stage) -> None:
    stage.faults = {"load": StoreError("no permission"), "save": StoreError("disk full")}
    keeper = stage.keeper()
    report = stage.run(keeper, SERVES)
    assert "complete born CONTINUE" in stage.journal
    assert report.problems == ("no permission", "disk full")
    stage.run(keeper, SERVES, 1.0)
    assert stage.journal == []


def test_a_damaged_memory_is_begun_anew(stage: Stage) -> None:
    stage.faults = {"load": StateCorrupt("fails its checksum")}
    report = stage.run(stage.keeper(), JOINS)
    assert report.problems == ("fails its checksum",)
    assert stage.journal == ["hooks edge", "heartbeat born"]
    assert stage.kept is not None
    assert stage.kept.state == "Pending:Wait"


def test_more_hooks_than_any_group_has_are_a_fault_that_is_told(stage: Stage) -> None:
    stage.listed = tuple(Hook(f"h{number:03}", "launch", 300.0) for number in range(101))
    keeper = stage.keeper()
    report = stage.run(keeper, JOINS)
    assert report.problems == ("lifecycle: the hooks do not come to an end; report it, with this log",)
    assert len(report.done) == 20  # the last ones
    report = stage.run(keeper, JOINS, report.next_at)
    assert stage.journal == ["heartbeat h099", "heartbeat h100"]
