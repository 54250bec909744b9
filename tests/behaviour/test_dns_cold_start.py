"""A whole fleet starts at once under the token buckets that Route 53 has today; and what it costs when nothing happens."""

import heapq
import itertools
from collections.abc import Generator
from typing import Any

import pytest

from hafleet.core.dns.report import DnsReport
from hafleet.lab.route53_engine import Limits
from tests.fakes.dns import NAME, Actor, Stage, dns_settings, edge, iid

LATENCY = 0.04  # seconds of one call


def number_of(instance: str) -> int:
    return int(instance.removeprefix("i-"), 16)


class Fleet:
    """Nodes that run at their own times on one clock, each stopping at every call for as long as a call takes."""

    def __init__(self, count: int, *, limits: Limits | None = None, first: int = 1, **dns: Any) -> None:
        self.stage = Stage(limits=limits or Limits())
        self.stage.limits.checks = 10 * count
        self.settings = dns_settings(zone=None, zone_id=self.stage.zone_id, **dns)
        self.numbers = list(range(first, first + count))
        self.group = edge(self.numbers)
        self.actors = [self.stage.registrar(number, self.settings) for number in self.numbers]
        self.reports: dict[int, DnsReport] = {}
        self._order = itertools.count()
        self._due: list[tuple[float, int, Actor, Generator[str, None, DnsReport] | None]] = []
        for actor in self.actors:
            actor.group = self.group
            self._at(self.stage.clock.at + 0.01 * (actor.number % 7), actor, None)

    def _at(self, when: float, actor: Actor, walk: Generator[str, None, DnsReport] | None) -> None:
        heapq.heappush(self._due, (when, next(self._order), actor, walk))

    def run(self, seconds: float) -> None:
        """Let so many seconds pass."""
        end = self.stage.clock.at + seconds
        while self._due[0][0] <= end:
            when, _, actor, walk = heapq.heappop(self._due)
            self.stage.clock.at = max(self.stage.clock.at, when)
            walk = walk or actor.registrar.walk(actor.situation())
            try:
                next(walk)
                self._at(self.stage.clock.at + LATENCY, actor, walk)
            except StopIteration as stop:
                report = self.reports[actor.number] = stop.value
                self._at(self.stage.clock.at + max(0.05, report.next_at), actor, None)
        self.stage.clock.at = end

    def all_registered(self) -> bool:
        """Every node has said so."""
        return sum(report.registered for report in self.reports.values()) == len(self.numbers)

    def until_registered(self, most: float) -> float:
        """Seconds until all are registered, to the next five."""
        for waited in range(5, int(most) + 1, 5):
            self.run(5)
            if self.all_registered():
                return waited
        raise AssertionError(f"{sum(r.registered for r in self.reports.values())} of {len(self.numbers)} registered")


@pytest.mark.parametrize("shards", [1, 5])
def test_a_hundred_nodes_that_start_at_once_register_with_hardly_a_call_too_many(shards: int) -> None:
    fleet = Fleet(100, tree={"shards": shards})
    waited = fleet.until_registered(200)
    engine = fleet.stage.engine
    assert set(fleet.stage.leaves()) == {iid(number) for number in fleet.numbers}
    assert len(fleet.stage.checks()) == 100
    assert 100 <= waited <= 150  # CreateHealthCheck alone takes 100 s: 50 at once, then one every two seconds
    least = 100 * 5  # the zone, list, create the check, create the record, ask whether it is in force
    assert sum(engine.calls.values()) <= 1.2 * least, engine.calls
    assert engine.refusals.total() <= 4, engine.refusals


def test_a_registered_fleet_makes_at_most_a_call_per_node_and_minute() -> None:
    fleet = Fleet(100)
    fleet.until_registered(200)
    fleet.run(300)
    engine = fleet.stage.engine
    engine.calls.clear()
    minutes = 60
    fleet.run(minutes * 60)
    assert 0.5 * 100 * minutes <= engine.calls.total() <= 100 * minutes, engine.calls
    assert engine.refusals["Throttling"] == 0
    assert fleet.all_registered()


def test_sharded_nodes_stand_evenly_and_the_weights_follow_who_lives() -> None:
    fleet = Fleet(60, tree={"shards": 5})
    fleet.until_registered(200)
    sizes = [sum(r.name == f"shard-0{n}.{NAME}" for r in fleet.stage.leaves().values()) for n in range(5)]
    assert sizes == [12] * 5
    dead = {number for number in fleet.numbers if number % 5 == 0}  # all of them dealt to one and the same shard
    fleet.group = edge([number for number in fleet.numbers if number not in dead])
    for actor in fleet.actors:
        actor.group = fleet.group
    fleet.run(180)
    weights = {key[1]: alias.weight for key, alias in fleet.stage.aliases().items()}
    live = [
        sum(r.name == f"shard-0{n}.{NAME}" and number_of(i) not in dead for i, r in fleet.stage.leaves().items())
        for n in range(5)
    ]
    assert sum(live) == 48
    shares = [(weights[f"shard-0{n}"] or 0) / sum(w or 0 for w in weights.values()) for n in range(5)]
    assert shares == pytest.approx([count / 48 for count in live])
