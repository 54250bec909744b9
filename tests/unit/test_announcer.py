import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from hafleet.adapters.clock import SystemClock
from hafleet.announcer import Announcer
from hafleet.core.dns.model import Situation
from hafleet.core.dns.report import DnsReport
from hafleet.core.model import Node

NODE = Node("i-0aaaaaaaaaaaaaaaa", IPv4Address("10.0.0.1"), "eu-west-1a", "eu-west-1")
SITUATION = Situation(at=1.0, node=NODE, serves=True, leaving=False, red_since=0.0, group=None)
LONG = 3600.0
LIMIT = 10.0  # the longest that a test waits


class Told:
    """Notes every situation that it is run with; hangs or breaks on demand."""

    def __init__(self, next_at: float = LONG, hangs: threading.Event | None = None, breaks: bool = False) -> None:
        self.seen: list[Situation] = []
        self._next_at = next_at
        self._hangs = hangs
        self._breaks = breaks
        self._ran = threading.Semaphore(0)

    def run(self, situation: Situation) -> DnsReport:
        self.seen.append(situation)
        self._ran.release()
        if self._breaks:
            raise ZeroDivisionError("of all things")
        if self._hangs is not None:
            self._hangs.wait(LIMIT)
        return DnsReport(at=situation.at, registered=True, next_at=self._next_at)

    def ran(self) -> None:
        """Wait for one more run."""
        assert self._ran.acquire(timeout=LIMIT)


def reported(announcer: Announcer, told: Told, situation: Situation = SITUATION) -> DnsReport:
    until = threading.Event()
    for _ in range(1000):
        found = announcer.announce(told, situation)
        if found is not None:
            return found
        until.wait(0.01)
    raise AssertionError("nothing was reported")


@pytest.fixture
def announcer() -> Iterator[Announcer]:
    made = Announcer(SystemClock())
    yield made
    made.stop()


def test_it_runs_at_once_and_tells_of_it_later(announcer: Announcer) -> None:
    told = Told()
    assert announcer.announce(told, SITUATION) is None
    told.ran()
    assert reported(announcer, told).registered
    assert told.seen[0].node == NODE
    assert told.seen[0].at > SITUATION.at  # the time of the run, not of the pass


def test_only_news_brings_a_run_before_its_time(announcer: Announcer) -> None:
    told = Told()
    announcer.announce(told, SITUATION)
    told.ran()
    reported(announcer, told, replace(SITUATION, at=2.0))
    announcer.announce(told, replace(SITUATION, leaving=True, at=3.0))
    told.ran()
    assert [situation.leaving for situation in told.seen] == [False, True]


def test_it_runs_again_when_it_is_due(announcer: Announcer) -> None:
    told = Told(next_at=0.01)
    announcer.announce(told, SITUATION)
    told.ran()
    told.ran()
    told.ran()


def test_new_settings_are_taken_up(announcer: Announcer) -> None:
    old, new = Told(), Told()
    announcer.announce(old, SITUATION)
    old.ran()
    announcer.announce(new, SITUATION)
    new.ran()
    assert len(old.seen) == 1


def test_without_dns_nothing_starts(announcer: Announcer) -> None:
    before = threading.active_count()
    assert announcer.announce(None, SITUATION) is None
    assert announcer.announce(Told(), None) is None
    assert threading.active_count() == before


def test_settings_that_lose_their_dns_section_end_the_runs_and_the_report(announcer: Announcer) -> None:
    told = Told(next_at=0.01)
    reported(announcer, told)
    assert announcer.announce(None, SITUATION) is None
    ran = len(told.seen)
    threading.Event().wait(0.1)
    assert len(told.seen) <= ran + 1  # one may have been under way


def test_a_system_without_a_thread_to_give_is_asked_again(announcer: Announcer) -> None:
    told, usual = Told(), threading.stack_size()
    threading.stack_size(1 << 46)  # more than any address space has, so that no thread can start
    try:
        with pytest.raises(RuntimeError, match="start new thread"):
            announcer.announce(told, SITUATION)
    finally:
        threading.stack_size(usual)
    assert told.seen == []
    assert reported(announcer, told).registered


def test_a_route_53_that_hangs_holds_nobody_up() -> None:
    hangs = threading.Event()
    announcer = Announcer(SystemClock())
    told = Told(hangs=hangs)
    announcer.announce(told, SITUATION)
    told.ran()
    assert announcer.announce(told, replace(SITUATION, leaving=True)) is None  # returns, though the run has not
    hangs.set()
    announcer.stop()


def test_a_fault_of_our_own_is_reported_and_does_not_end_the_loop(announcer: Announcer) -> None:
    told = Told(breaks=True)
    report = reported(announcer, told)
    assert not report.registered
    assert "ZeroDivisionError: of all things" in report.problems[0]
    announcer.announce(told, replace(SITUATION, leaving=True))
    told.ran()
    told.ran()
