"""A pass that nothing but the timer woke may take the groups of the last read: when it does, and when it must not."""

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any, cast

import pytest

from hafleet.core.membership import decide
from hafleet.core.model import Group, Groups, Instance, Memory, Node, Unknown, World
from hafleet.errors import AwsThrottled, MetadataUnavailable, ProxyUnavailable
from hafleet.observing import Observer, Ports
from tests.fakes.worlds import make_settings

NODE = Node("i-0123456789abcdef0", ip_address("10.0.0.1"), "a", "eu-west-1", "edge")


@dataclass
class Stage:
    """What an observer talks to, and what events are worth."""

    now: float = 1000.0
    node: Node = NODE
    numbers: tuple[int, ...] = (1, 2)
    silent: bool = False
    worth: float = 60.0  # seconds; a read that is younger is spared
    reads: int = 0
    doubts: int = 0
    spans: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    wall = monotonic

    def identity(self) -> Node:
        return self.node

    def read(self, names: frozenset[str], tags: object, ipv6: object) -> Groups:
        if self.silent:
            raise AwsThrottled("slow down")
        self.reads += 1
        listed = tuple(Instance(f"i-{n:017x}", "InService", "a", ip_address(f"10.0.1.{n}")) for n in self.numbers)
        return Groups({name: Group(name, len(listed), listed) for name in names}, self.now)

    def spares(self, age: float) -> bool:
        self.spans.append(age)
        return age < self.worth

    def found(self) -> None:
        self.doubts += 1

    def notices(self) -> object:
        raise MetadataUnavailable("not looked at")


class NoProxy:
    """A HAProxy that does not run."""

    def observe(self, maps: object) -> object:
        raise ProxyUnavailable("not here")

    def silent(self, reason: str) -> object:
        raise ProxyUnavailable("not here")

    def installed(self) -> object:
        raise ProxyUnavailable("not here")


def observer(stage: Stage, *, events: bool = True) -> Observer:
    it = cast("Any", stage)
    ports = Ports(it, it, it, cast("Any", NoProxy()), it, it, it, tidings=it if events else None)
    return Observer(make_settings(), ports)


def later(stage: Stage, look: Observer, seconds: float, *, rests: bool = True) -> World:
    stage.now += seconds
    return look.observe(rests=rests)


def test_the_last_read_is_taken_as_what_it_is() -> None:
    stage = Stage()
    look = observer(stage)
    first = later(stage, look, 0.0)
    second = later(stage, look, 10.0)
    assert (stage.reads, stage.spans) == (1, [10.0])
    assert isinstance(second.groups, Groups) and second.groups is first.groups and second.groups.started == 1000.0
    assert isinstance(later(stage, look, 50.0).groups, Groups)  # it is a minute old
    assert (stage.reads, stage.spans) == (2, [10.0, 60.0])


@pytest.mark.parametrize(("events", "rests"), [(True, False), (False, True), (False, False)])
def test_without_events_or_with_a_reason_every_pass_reads(events: bool, rests: bool) -> None:
    stage = Stage()
    look = observer(stage, events=events)
    for _ in range(3):
        later(stage, look, 10.0, rests=rests)
    assert stage.reads == 3


def test_another_question_is_asked() -> None:
    stage = Stage()
    look = observer(stage)
    later(stage, look, 0.0)
    stage.node = replace(NODE, group="other")
    later(stage, look, 10.0)
    assert stage.reads == 2


def test_after_a_failure_it_is_asked_as_soon_as_it_is_due() -> None:
    stage = Stage(worth=0.0)
    look = observer(stage)
    later(stage, look, 0.0)
    stage.silent = True
    assert isinstance(later(stage, look, 10.0).groups, Unknown)
    stage.silent = False
    assert isinstance(later(stage, look, 10.0).groups, Groups)
    assert stage.reads == 2


def test_a_change_that_only_time_has_found_is_told() -> None:
    stage = Stage(worth=5.0)
    look = observer(stage)
    later(stage, look, 0.0)
    later(stage, look, 10.0)
    assert stage.doubts == 0
    stage.numbers = (1, 2, 3)
    later(stage, look, 10.0, rests=False)  # something woke this pass: an event, perhaps
    assert stage.doubts == 0
    stage.numbers = (1, 2)
    later(stage, look, 10.0)
    assert stage.doubts == 1


def test_a_read_taken_again_counts_for_nothing_that_is_missing_and_is_as_old_as_it_is() -> None:
    stage, settings = Stage(), make_settings()
    look = observer(stage)
    memory = decide(settings, later(stage, look, 0.0), Memory()).memory
    again = decide(settings, later(stage, look, 10.0), memory).memory
    assert (again.read_at, again.members, again.missing) == (1000.0, memory.members, {})
    afresh = decide(settings, later(stage, look, 60.0), again).memory
    assert afresh.read_at == 1070.0
