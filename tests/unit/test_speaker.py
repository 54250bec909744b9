"""The servers' side against an AWS that refuses, forgets and hangs up, and against its own death at every call."""

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from hafleet.core.endings import DRAINED, Ending, EndingReport, EndingSituation
from hafleet.core.model import Node
from hafleet.errors import AwsThrottled, HafleetError, HookGone
from hafleet.speaking import Speaker, SpeakerPorts

A, B = "i-0000000000000000a", "i-0000000000000000b"  # nodes
ONE, TWO = "i-00000000000000001", "i-00000000000000002"  # servers
NODE = Node(A, IPv4Address("10.9.0.1"), "a", "eu-west-1", "edge")
NOBODY = HookGone("No active Lifecycle Action found", where="autoscaling")


class Killed(BaseException):
    """The process died here."""


@dataclass
class Stage:
    """AWS, the clock and chance in one: what happened, and what is to go wrong."""

    journal: list[str] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)
    tagged: dict[str, str] = field(default_factory=dict)
    completed: list[str] = field(default_factory=list)
    faults: dict[str, HafleetError] = field(default_factory=dict)
    kill: str = ""  # die before, or after, a call: "before tag", "after complete"
    now: float = 1000.0
    step: float = 0.0  # what the wall clock is off

    def _do(self, what: str) -> None:
        word = what.split(maxsplit=1)[0]
        if self.kill == f"before {word}":
            raise Killed
        self.journal.append(what)
        if fault := self.faults.get(word):
            raise fault

    def _done(self, word: str) -> None:
        if self.kill == f"after {word}":
            raise Killed

    # AWS
    def complete(self, group: str, hook: str, instance: str, result: str) -> None:
        self._do(f"complete {group} {hook} {instance} {result}")
        if instance in self.completed:
            raise NOBODY
        self.completed.append(instance)
        self._done("complete")

    def tags(self, instances: frozenset[str], key: str) -> dict[str, str]:
        self._do(f"tags {' '.join(sorted(instances))}")
        assert key == DRAINED
        return {node: value for node, value in self.tagged.items() if node in instances}

    def tag(self, instance: str, key: str, value: str) -> None:
        self._do(f"tag {instance} {value}".rstrip())
        assert key == DRAINED
        self.tagged[instance] = value
        self._done("tag")

    # clock, chance
    def wall(self) -> float:
        return self.now + self.step

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: Any, seconds: float) -> bool:
        raise AssertionError("the servers' side waits for nothing by itself")

    def uniform(self, a: float, b: float) -> float:
        return b

    # driving
    def speaker(self) -> Speaker:
        """A new process."""
        return Speaker(SpeakerPorts(self, self, self, self, self.woken.append))

    def run(self, speaker: Speaker, told: EndingSituation, after: float = 0.0) -> EndingReport:
        """One run, so many seconds later."""
        self.now += after
        self.journal.clear()
        return speaker.run(replace(told, at=self.wall()))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def told(*instances: str, nodes: tuple[str, ...] = (A, B), node: str = A, **changes: Any) -> EndingSituation:
    found = (replace(Ending(name, "app", ("drain-lb",), waits=True, drained=True), **changes) for name in instances)
    return EndingSituation(0.0, replace(NODE, id=node), nodes, tuple(found))


def test_from_the_drain_to_the_end(stage: Stage) -> None:
    speaker = stage.speaker()
    report = stage.run(speaker, told(ONE, drained=False))
    assert stage.journal == [f"tags {A}"]  # what an earlier process may have left
    assert [row.waiting for row in report.rows] == ["this node to drain it"]
    report = stage.run(speaker, told(ONE), 1.0)
    assert stage.journal == [f"tag {A} 00000001", f"tags {B}"]
    assert ([row.waiting for row in report.rows], report.next_at) == ([f"{B} to drain it"], 2.0)
    stage.tagged[B] = "00000001"
    assert stage.run(speaker, told(ONE), 1.0).next_at == 1.0
    assert stage.journal == []
    report = stage.run(speaker, told(ONE), 1.0)
    assert stage.journal == [f"tags {B}", f"complete app drain-lb {ONE} CONTINUE"]
    assert [row.waiting for row in report.rows] == ["Auto Scaling to go on"]
    assert [deed.what for deed in report.done] == [
        f"completed hook drain-lb of app for {ONE}: every node has drained it"
    ]
    assert stage.woken == ["server hook"]
    report = stage.run(speaker, told(), 1.0)
    assert stage.journal == [f"tag {A}"]  # nothing is told any more
    assert (report.rows, report.problems, len(report.done)) == ((), (), 1)
    assert stage.run(speaker, told(), 600.0).problems == ()
    assert stage.journal == []


def test_one_that_does_not_speak_tells_and_asks_nobody(stage: Stage) -> None:
    speaker = stage.speaker()
    report = stage.run(speaker, told(ONE, node=B))
    assert stage.journal == [f"tag {B} 00000001"]
    assert [row.waiting for row in report.rows] == [f"{A} to speak for the fleet"]
    assert stage.run(speaker, told(ONE, node=B), report.next_at).next_at == 60.0
    assert stage.journal == []


@pytest.mark.parametrize(("call", "node"), [("tags", A), ("complete", A), ("tag", B)])
def test_a_refusal_is_reported_and_tried_again_ever_more_seldom(stage: Stage, call: str, node: str) -> None:
    speaker = stage.speaker()
    waiting = told(ONE, node=node)
    stage.tagged[B] = "00000001"
    stage.faults = {call: AwsThrottled("slow down")}
    waits = []
    for _ in range(7):
        report = stage.run(speaker, waiting)
        assert (report.problems, stage.journal[-1].split()[0]) == (("slow down",), call)
        waits.append(report.next_at)
        early = stage.run(speaker, waiting, report.next_at / 2)  # the situation changed: AWS is left alone all the same
        assert (stage.journal, early.next_at, early.problems) == ([], report.next_at / 2, report.problems)
        stage.now += report.next_at / 2
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    stage.faults = {}
    assert stage.run(speaker, waiting).problems == ()
    assert stage.tagged[node] == "00000001"
    assert stage.completed == ([ONE] if node == A else [])
    stage.faults = {"tag": AwsThrottled("slow down")}
    assert stage.run(speaker, told(node=node), 100.0).next_at == 1.0


def test_a_tag_that_is_refused_keeps_no_word_back(stage: Stage) -> None:
    stage.faults = {"tag": AwsThrottled("not today")}
    stage.tagged[B] = "00000001"
    report = stage.run(stage.speaker(), told(ONE))
    assert stage.completed == [ONE]
    assert report.problems == ("not today",)


def test_a_hook_that_is_gone_ends_the_matter(stage: Stage) -> None:
    stage.faults = {"complete": NOBODY}
    speaker = stage.speaker()
    report = stage.run(speaker, told(ONE, nodes=(A,)))
    assert report.problems == ()
    assert [deed.what for deed in report.done] == [
        f"nothing waits in hook drain-lb for {ONE} any more: No active Lifecycle Action found"
    ]
    for _ in range(10):
        stage.run(speaker, told(ONE, nodes=(A,)), 61.0)  # a hook of others still holds it
        assert stage.journal == []


def test_what_auto_scaling_did_not_follow_is_said_again_after_a_minute(stage: Stage) -> None:
    speaker = stage.speaker()
    alone = told(ONE, nodes=(A,))
    stage.run(speaker, alone)
    assert stage.run(speaker, alone, 59.0).problems == ()
    assert stage.journal == []
    stage.run(speaker, alone, 1.0)
    assert stage.journal == [f"complete app drain-lb {ONE} CONTINUE"]


def test_an_instance_that_comes_back_and_ends_anew_is_completed_anew(stage: Stage) -> None:
    speaker = stage.speaker()
    alone = told(ONE, nodes=(A,))
    stage.run(speaker, alone)
    stage.completed.clear()
    stage.run(speaker, told(nodes=(A,)), 1.0)
    stage.run(speaker, alone, 1.0)
    assert stage.completed == [ONE]


def test_a_drain_that_has_just_ended_is_looked_at_again_once(stage: Stage) -> None:
    speaker = stage.speaker()
    parting = told(ONE, drained=False, parting=True)
    for _ in range(5):
        stage.run(speaker, parting, 1.0)
    assert stage.woken == ["drained"]
    stage.run(speaker, told(ONE, TWO, drained=False, parting=True), 1.0)
    assert stage.woken == ["drained", "drained"]


def test_a_clock_that_steps_hides_no_deed(stage: Stage) -> None:
    speaker = stage.speaker()
    before = stage.run(speaker, told(ONE, nodes=(A,))).done[-1].at
    stage.step = -3600.0
    after = stage.run(speaker, told(ONE, TWO, nodes=(A,)), 1.0).done[-1].at
    assert after == before + 1.0


MOMENTS = ["", "before tag", "after tag", "before tags", "before complete", "after complete"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_process_that_is_killed_at_any_call_leaves_it_to_the_next(stage: Stage, moment: str) -> None:
    stage.tagged[B] = "00000001"
    stage.kill = moment
    if moment:
        with pytest.raises(Killed):
            stage.run(stage.speaker(), told(ONE))
    stage.kill = ""
    speaker = stage.speaker()
    report = stage.run(speaker, told(ONE))
    assert (stage.completed, report.problems, stage.tagged[A]) == ([ONE], (), "00000001")
    stage.run(stage.speaker(), told())  # and a third one finds what the second has left
    assert stage.tagged[A] == ""


def test_more_hooks_than_any_fleet_has_are_a_fault_that_is_told(stage: Stage) -> None:
    hooks = tuple(f"h{number:04}" for number in range(1001))
    report = stage.run(stage.speaker(), told(ONE, nodes=(A,), hooks=hooks))
    assert report.problems == ("servers' hooks: the hooks do not come to an end; report it, with this log",)
