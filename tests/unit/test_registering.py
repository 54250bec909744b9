"""One DNS pass by hand: how long ``hafleet once`` stays with it. The rest is tested on the lab."""

import pytest

from hafleet import registering
from hafleet.core.dns.model import Situation
from hafleet.core.dns.report import DnsReport
from tests.fakes.dns import node

SITUATION = Situation(1.0, node(1), serves=True, leaving=False, red_since=0.0, group=None)


class Told:
    """A registration whose passes report what they are told to."""

    def __init__(self, *reports: DnsReport) -> None:
        self._reports = list(reports)
        self.passes = 0

    def run(self, _situation: Situation) -> DnsReport:
        self.passes += 1
        return self._reports.pop(0)


def report(waiting: str = "", next_at: float = 0.0, done: str = "", problem: str = "") -> DnsReport:
    lines = tuple(filter(None, (done,))), tuple(filter(None, (problem,)))
    return DnsReport(1.0, not waiting, done=lines[0], problems=lines[1], waiting=waiting, next_at=next_at)


def test_it_goes_on_until_nothing_is_pending_and_tells_all_that_was_done() -> None:
    told = Told(report("the turn", 0.01, "check made"), report("in force", 0.01, "join"), report(next_at=60.0))
    found = registering.through(told, SITUATION)
    assert told.passes == 3
    assert (found.done, found.waiting, found.registered) == (("check made", "join"), "", True)


@pytest.mark.parametrize(
    "last", [report("the health check to turn red", 29.0), report("AWS to answer", 0.01, problem="503")]
)
def test_it_ends_where_the_wait_is_long_or_something_is_wrong(last: DnsReport) -> None:
    told = Told(report("the turn", 0.01, "check made"), last)
    found = registering.through(told, SITUATION)
    assert told.passes == 2
    assert (found.done, found.waiting, found.problems) == (("check made",), last.waiting, last.problems)
