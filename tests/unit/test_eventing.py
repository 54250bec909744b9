"""Around the event queue: when a node's queue goes, who reaps, and whose events count. On doubles of what is called over HTTP."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any, cast

import pytest

from hafleet.adapters.asg import AsgMembership
from hafleet.adapters.aws import Account
from hafleet.adapters.clock import SystemClock
from hafleet.adapters.queue import OwnQueue
from hafleet.adapters.wakeup import Wakeups
from hafleet.core.events import Heard, Scope
from hafleet.core.later_settings import Events
from hafleet.core.life import LifeReport, LifeSituation
from hafleet.core.model import Node
from hafleet.core.settings import Aws, Settings
from hafleet.errors import MetadataUnavailable, SourceUnavailable
from hafleet.eventing import REAP_EVERY, Around, Ears, Leaving, QueueEnd, ReapedQueue, leads, scope_of

A, B, C = (f"i-{number:017x}" for number in (1, 2, 3))
NODE = Node(A, IPv4Address("10.0.0.1"), "eu-west-1a", "eu-west-1", "edge")
SITUATION = LifeSituation(at=1.0, node=NODE, state="InService", ready=True, leaving=False, sessions=0)


class Listed(AsgMembership):
    """What the last read listed."""

    def __init__(self, found: Mapping[str, tuple[str, bool]]) -> None:
        super().__init__(Account(Aws(region="eu-west-1")))
        self.found = found

    def listed(self) -> Mapping[str, tuple[str, bool]]:
        return self.found


class Who:
    """Who this node is; None while IMDS is silent."""

    def __init__(self, node: Node | None = NODE) -> None:
        self.node = node

    def identity(self) -> Node:
        if self.node is None:
            raise MetadataUnavailable("it does not answer")
        return self.node


class Later(SystemClock):
    """A clock that a test moves."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def around(found: Mapping[str, tuple[str, bool]], node: Node | None = NODE) -> Around:
    clock = Later()
    return Around(Account(Aws(region="eu-west-1")), Listed(found), Who(node), Wakeups(clock), clock)


class Own(OwnQueue):
    """A queue that counts what is done to it."""

    def __init__(self, refuses: bool = False) -> None:
        self.opened = 0
        self.left = 0
        self.reaped = 0
        self._refuses = refuses

    def url(self) -> str:
        return "" if self.left else "https://sqs/123456789012/q"

    def open(self) -> None:
        self.opened += 1

    def leave(self) -> None:
        self.left += 1
        if self._refuses:
            raise SourceUnavailable("no")

    def reap(self, states: object, at: float) -> tuple[str, ...]:
        self.reaped += 1
        if self._refuses:
            raise SourceUnavailable("no")
        return (B,)


class Keeper:
    """The hooks' side: tells one report after the other."""

    def __init__(self, *reports: LifeReport) -> None:
        self.reports = list(reports)

    def run(self, situation: LifeSituation) -> LifeReport:
        return self.reports.pop(0)


# --- leaving ----------------------------------------------------------------------------------------------------------

WAITS = LifeReport(at=1.0, state="Terminating:Wait", waiting="connections to end")


@pytest.mark.parametrize(
    ("report", "left"),
    [
        (LifeReport(at=1.0, state="Pending:Wait"), 0),
        (LifeReport(at=1.0, state="Pending:Wait", result="CONTINUE"), 0),
        (LifeReport(at=1.0, state="Warmed:Pending:Wait", result="CONTINUE"), 0),
        (LifeReport(at=1.0, state="InService"), 0),
        (WAITS, 0),
        (replace(WAITS, result="CONTINUE"), 1),
        (replace(WAITS, state="Warmed:Terminating:Wait", result="CONTINUE"), 1),
        (LifeReport(at=1.0, state="Terminating"), 0),
        (LifeReport(at=1.0, state="Terminating:Proceed"), 1),  # an agent that starts when the last word was said
        (LifeReport(at=1.0, state="Pending:Wait", result="ABANDON"), 1),
    ],
)
def test_the_queue_goes_with_the_nodes_last_word(report: LifeReport, left: int) -> None:
    own, told = Own(), list[Heard]()
    leaving = Leaving(Keeper(report, report), QueueEnd(own, told.append))
    assert leaving.run(SITUATION) is report
    assert leaving.run(SITUATION) is report
    assert (own.left, own.opened > 0, told) == (left, not left, [])


def test_a_queue_that_cannot_be_left_is_told_once_and_keeps_nothing_back() -> None:
    own, told = Own(refuses=True), list[Heard]()
    report = replace(WAITS, result="CONTINUE")
    leaving = Leaving(Keeper(report, report), QueueEnd(own, told.append))
    assert [leaving.run(SITUATION), leaving.run(SITUATION)] == [report, report]
    assert [(found.kind, "until it is reaped" in found.text) for found in told] == [("fault", True)]


def test_a_queue_that_cannot_be_left_at_first_is_tried_once_more() -> None:
    own, told = Own(refuses=True), list[Heard]()
    end = QueueEnd(own, told.append)
    end.farewell()
    end.farewell()
    assert (own.left, len(told)) == (2, 1)


def test_the_queue_is_left_once_whoever_says_so_first() -> None:
    own = Own()
    end = QueueEnd(own, list[Heard]().append)
    end.farewell()  # of the hooks' side, before it completes
    Leaving(Keeper(replace(WAITS, result="CONTINUE")), end).run(SITUATION)
    assert own.left == 1


# --- reaping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({A: ("edge", True), B: ("edge", True)}, True),
        ({B: ("edge", True)}, False),
        ({A: ("edge", False), B: ("edge", True)}, False),
        ({A: ("edge", True), "i-00000000": ("site", True)}, True),
        ({"i-00000000": ("edge", False), A: ("edge", True)}, True),
        ({}, False),
    ],
)
def test_the_first_in_service_leads(found: dict[str, tuple[str, bool]], expected: bool) -> None:
    assert leads(around(found)) is expected


def test_the_leader_looks_now_and_then_and_the_others_never() -> None:
    for found, looks in (({A: ("edge", True)}, 2), ({A: ("edge", False), B: ("edge", True)}, 0)):
        here, own, told = around(found), Own(), list[Heard]()
        queue = ReapedQueue(own, here, told.append)
        clock = cast("Later", here.clock)
        for clock.now in (0.0, REAP_EVERY - 1, REAP_EVERY, REAP_EVERY + 1, 2 * REAP_EVERY, 2 * REAP_EVERY + 1):
            assert queue.url() == own.url()
        assert own.reaped == looks
        assert told == [Heard("aside", f"removed the queue of {B}, which is dead")] * looks


def test_a_look_that_fails_keeps_no_events_back() -> None:
    here, own, told = around({A: ("edge", True)}), Own(refuses=True), list[Heard]()
    queue = ReapedQueue(own, here, told.append)
    cast("Later", here.clock).now = REAP_EVERY
    assert queue.url() == own.url()
    assert [found.kind for found in told] == ["fault"]


def test_a_node_that_left_reaps_nothing() -> None:
    here, own = around({A: ("edge", True)}), Own()
    queue = ReapedQueue(own, here, list[Heard]().append)
    own.leave()
    cast("Later", here.clock).now = REAP_EVERY
    assert (queue.url(), own.reaped) == ("", 0)


# --- whose events count -----------------------------------------------------------------------------------------------


def settings(**source: Any) -> Settings:
    raw: dict[str, Any] = {
        "fleet": "edge",
        "frontends": [{"name": "web", "bind": ":80", "default_backend": "site"}],
        "backends": [{"name": "site", "port": 80, "sources": [source]}],
    }
    return Settings.model_validate(raw)


def test_the_groups_of_the_settings_and_the_nodes_own() -> None:
    here = around({B: ("site", True)})
    assert scope_of(settings(asg="site"), here) == Scope("", frozenset({"site", "edge"}), frozenset({A, B}))


def test_groups_found_by_tag_may_have_any_name() -> None:
    assert scope_of(settings(asg_tag={"hafleet:backend": "site"}), around({})).groups is None


def test_while_nobody_knows_who_this_node_is_anybodys_events_count() -> None:
    assert scope_of(settings(asg="site"), around({}, node=None)) == Scope()


# --- nobody pays who hears nothing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [None, {"queue": "none"}])
def test_without_a_queue_nothing_runs(events: dict[str, str] | None) -> None:
    wanted = settings(asg="site").model_copy(update={"events": Events.model_validate(events) if events else None})
    ears = Ears(list[Heard]().append)
    assert ears.listen(wanted, around({})) is None
    assert ears._listener is None
    ears.stop()


def test_an_agent_without_events_does_not_load_what_it_does_not_need() -> None:
    code = "import sys, hafleet.daemon; print(sorted(n for n in sys.modules if n.startswith('hafleet.')))"
    loaded = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True).stdout
    assert "'hafleet.compose'" in loaded
    assert "'hafleet.eventing'" not in loaded and "'hafleet.adapters.queue" not in loaded
