"""Many registrars over one Route 53, on a clock that jumps to whoever is due next: a quarter of an hour takes seconds."""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, cast

from hafleet.adapters.route53 import Route53Dns
from hafleet.core.dns.report import DnsReport
from hafleet.core.model import Group
from hafleet.core.settings import Settings
from hafleet.lab import dns_shapes
from hafleet.lab.dns_answers import Client, Zone, answer
from hafleet.ports import Dns
from tests.fakes.dns import NAME, Actor, Stage, edge, iid, node

if TYPE_CHECKING:
    from mypy_boto3_route53 import Route53Client

_LEAST = 0.05  # seconds between two passes of one node


@dataclass
class Crowd:
    """Nodes of one fleet. Each pass comes when the one before asked for it.

    Args:
        stage: Route 53, the nodes' disks and the clock.
        settings: of every node.
        client: what reaches Route 53; None: directly, in process.
    """

    stage: Stage
    settings: Settings
    client: "Route53Client | None" = None
    actors: dict[int, Actor] = field(default_factory=dict)
    reports: dict[int, DnsReport] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)  # lifecycle states, as the own group lists them
    passes: int = 0
    _due: list[tuple[float, int]] = field(default_factory=list)
    _group: Group | None = None

    def launch(self, numbers: Iterable[int]) -> None:
        """These nodes serve from now on, and their agents start."""
        for number in numbers:
            self.stage.ec2.known[iid(number)] = "running"
            self.states[number] = "InService"
            self.actors[number] = self.stage.registrar(number, self.settings, self._port())
            heapq.heappush(self._due, (self.stage.clock.at, number))
        self._regroup()

    def leave(self, numbers: Iterable[int]) -> None:
        """The group retires these: their agents take them out in order."""
        for number in numbers:
            self.states[number] = "Terminating:Wait"
            self.actors[number].leave()
            heapq.heappush(self._due, (self.stage.clock.at, number))
        self._regroup()

    def die(self, numbers: Iterable[int]) -> None:
        """The machines of these are gone, without a word."""
        for number in numbers:
            del self.states[number], self.actors[number]
            self.stage.ec2.known[iid(number)] = "terminated"
        self._regroup()

    def run(self, until: Callable[[], bool], most: float, what: str) -> float:
        """Let the time go on until this holds; the seconds it took.

        Raises:
            AssertionError: it did not hold within ``most`` seconds.
        """
        clock = self.stage.clock
        began = clock.at
        while not until():
            assert clock.at - began < most, f"not within {most:g} s: {what}; {Counter(self._words())}"
            self._next()
        return clock.at - began

    def wait(self, seconds: float) -> None:
        """Let so much time go on."""
        until = self.stage.clock.at + seconds
        while self._due[0][0] < until:
            self._next()
        self.stage.clock.at = max(self.stage.clock.at, until)

    def settled(self) -> bool:
        """True when every node that stays is registered and waits for nothing."""
        return all(
            (report := self.reports.get(number)) is not None and report.registered and not report.waiting
            for number, actor in self.actors.items()
            if not actor.leaving
        )

    def _next(self) -> None:
        at, number = heapq.heappop(self._due)
        self.stage.clock.at = max(self.stage.clock.at, at)
        actor = self.actors.get(number)
        if actor is None:
            return
        actor.group = self._group
        report = actor.once()
        self.passes += 1
        self.reports[number] = report
        if not any(other == number for _, other in self._due):
            heapq.heappush(self._due, (self.stage.clock.at + max(_LEAST, report.next_at), number))

    def _regroup(self) -> None:
        self._group = edge(self.states)

    def _port(self) -> Dns:
        assert self.settings.dns is not None
        client = self.client or cast("Route53Client", self.stage.client)
        return Route53Dns(self.settings.dns, lambda: client, self.stage.clock)

    def _words(self) -> list[str]:
        return [r.problems[0] if r.problems else r.waiting or str(r.registered) for r in self.reports.values()]


def served_zone(stage: Stage) -> Zone:
    """The zone as Route 53's name servers know it now."""
    (shape,) = stage.engine.zones()
    return dns_shapes.zone(shape)


def draws(zone: Zone, times: int, seed: int) -> Counter[str]:
    """The addresses that so many questions are answered, all health checks being green."""
    chance = random.Random(seed)
    found: Counter[str] = Counter()
    for _ in range(times):
        reply = answer((zone,), (NAME, "A"), Client(), lambda _check: True, chance)
        found[reply.found[0].values[0]] += 1
    return found


def public(number: int) -> str:
    """The address that a node publishes."""
    return str(node(number).public)


def chi_squared(seen: Mapping[str, int], expected: Iterable[str]) -> float:
    """Pearson's sum over these addresses, all equally likely. Raises AssertionError when another one was seen."""
    names = set(expected)
    assert set(seen) <= names, f"answered, but not expected: {sorted(set(seen) - names)[:5]}"
    even = sum(seen.values()) / len(names)
    return sum((seen.get(name, 0) - even) ** 2 / even for name in names)


def chi_squared_limit(degrees: int, p: float = 0.001) -> float:
    """What an even draw exceeds with this chance only (Wilson and Hilferty's approximation)."""
    ninth = 2 / (9 * degrees)
    return float(degrees * (1 - ninth + NormalDist().inv_cdf(1 - p) * ninth**0.5) ** 3)
