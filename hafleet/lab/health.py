"""Route 53's health checkers: sixteen of them, two per region, each with its own address and its own opinion.

Every checker probes every endpoint each RequestInterval, all at different moments; FailureThreshold probes in a row change its
opinion; an endpoint is healthy while more than 18 % of its checkers say so, and a new one until there is data. On top
of that come Inverted and Disabled, calculated checks over others, and checks that follow an alarm's metric.
One event loop in one thread holds a heap of what is due: 250 checks are 4,000 opinions, but no 4,000 threads.
"""

import asyncio
import contextlib
import hashlib
import heapq
import itertools
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hafleet.core.dns.model import CheckConfig
from hafleet.lab.dns_regions import CHECKER_REGIONS
from hafleet.lab.health_probes import Outcome, probe
from hafleet.lab.loops import LoopThread

ENOUGH = 0.18  # of the checkers; more than this share must call an endpoint healthy
PER_REGION = 2
PROBED = frozenset({"HTTP", "HTTPS", "HTTP_STR_MATCH", "HTTPS_STR_MATCH", "TCP"})

AlarmState = Literal["ok", "alarm", "insufficient"]


@dataclass(frozen=True, slots=True)
class Checker:
    """One of the places that probe."""

    number: int
    region: str
    source: str  # address it connects from; "": any

    def offset(self, check_id: str) -> float:
        """Where in the interval this checker probes that check, 0 to 1: spread evenly, and the same on every run."""
        digest = hashlib.sha256(f"{self.number} {check_id}".encode()).digest()
        return int.from_bytes(digest[:4]) / 2**32


@dataclass(slots=True)
class Opinion:
    """What one checker thinks of one endpoint."""

    healthy: bool = True  # until there is data
    against: int = 0  # probes in a row that said the opposite
    text: str = ""  # of the last probe; "": there was none
    failure: str = ""  # of the last probe that failed
    at: float = 0.0  # wall clock of the last probe
    failed_at: float = 0.0  # wall clock of the last probe that failed

    def hear(self, outcome: Outcome, threshold: int, at: float) -> bool:
        """Take in a probe; True when the opinion changed."""
        self.text, self.at = outcome.text, at
        if not outcome.good:
            self.failure, self.failed_at = outcome.text, at
        self.against = self.against + 1 if outcome.good is not self.healthy else 0
        if self.against < threshold:
            return False
        self.healthy, self.against = outcome.good, 0
        return True


@dataclass(slots=True)
class Watched:
    """A health check and the opinions of its checkers."""

    config: CheckConfig
    opinions: dict[Checker, Opinion] = field(default_factory=dict)
    known: bool = True  # last status of an alarm that had data; healthy before there was any


@dataclass(frozen=True, slots=True)
class Observation:
    """One checker's line of GetHealthCheckStatus and of GetHealthCheckLastFailureReason."""

    region: str
    address: str
    text: str
    at: float  # wall clock; 0 before the first probe
    failure: str
    failed_at: float


class Health:
    """The checkers and what they know. Every method may be called from any thread.

    Args:
        sources: first three bytes of the checkers' addresses, such as "127.9.251"; "": the system's choice.
        resolve: address of a name, for checks without an IPAddress; None: there is none.
    """

    def __init__(self, sources: str = "", resolve: Callable[[str], str | None] = lambda _name: None) -> None:
        self.speed = 1.0  # intervals are divided by it; nothing but a test should want that
        self.probes = 0  # so far
        self.alarms: Mapping[tuple[str, str], AlarmState] = {}  # by region and name; absent: insufficient data
        self._resolve = resolve
        self._checkers = tuple(
            Checker(number, region, f"{sources}.{number + 1}" if sources else "")
            for number, region in enumerate(region for region in CHECKER_REGIONS for _ in range(PER_REGION))
        )
        self._watched: dict[str, Watched] = {}
        self._due: list[tuple[float, int, str, Checker, Watched]] = []
        self._order = itertools.count()
        self._underway: set[asyncio.Task[None]] = set()
        self._loop = LoopThread("health")
        self._wake = asyncio.Event()
        self._loop.call(lambda: self._begin(self._serve()))

    def close(self) -> None:
        """End all probing."""
        self._loop.close()

    def watch(self, checks: Mapping[str, CheckConfig]) -> None:
        """These are the health checks from now on. One that was changed keeps its opinions until there are new ones."""
        now = time.monotonic()
        watched = dict(self._watched)
        for gone in watched.keys() - checks.keys():
            del watched[gone]
        fresh = []
        for check_id, config in checks.items():
            old = watched.get(check_id)
            if old is not None and old.config == config:
                continue
            state = self.alarms.get((config.alarm_region, config.alarm), "insufficient")
            known = state == "ok" if state != "insufficient" else (old.known if old else True)
            watched[check_id] = Watched(config, known=known)
            if config.type in PROBED and not config.disabled:
                kept = old.opinions if old else {}
                watched[check_id].opinions = {c: kept.get(c) or Opinion() for c in self._seats(config)}
                fresh.append(check_id)
        self._watched = watched
        entries = [self._entry(now, name, checker) for name in fresh for checker in watched[name].opinions]
        self._loop.call(lambda: self._add(entries))

    def faster(self, speed: float) -> None:
        """Divide the intervals by this; probes that are due later than their new interval come at once."""
        self.speed = speed
        self._loop.call(self._hurry)

    def names(self) -> tuple[str, ...]:
        """Ids of all health checks."""
        return tuple(self._watched)

    def healthy(self, check_id: str) -> bool:
        """What a health check says. One that does not exist is unhealthy: AWS promises nothing about it."""
        watched = self._watched.get(check_id)
        return watched is not None and self._status(watched)

    def tell_alarms(self, states: Mapping[tuple[str, str], AlarmState]) -> None:
        """What the metrics of these alarms say from now on."""
        self.alarms = {**self.alarms, **states}
        for watched in self._watched.values():
            state = self.alarms.get((watched.config.alarm_region, watched.config.alarm), "insufficient")
            if state != "insufficient":
                watched.known = state == "ok"

    def observations(self, check_id: str) -> tuple[Observation, ...]:
        """What every checker saw last; empty for a check that is not probed."""
        watched = self._watched.get(check_id)
        opinions = watched.opinions if watched else {}
        return tuple(
            Observation(c.region, c.source or "127.0.0.1", o.text, o.at, o.failure, o.failed_at)
            for c, o in opinions.items()
        )

    def _status(self, watched: Watched) -> bool:
        config = watched.config
        return (True if config.disabled else self._verdict(watched)) is not config.inverted

    def _verdict(self, watched: Watched) -> bool:
        """Before Inverted and Disabled."""
        config = watched.config
        if config.type == "CALCULATED":
            return sum(self.healthy(child) for child in config.children) >= config.healthy
        if config.type == "CLOUDWATCH_METRIC":
            state = self.alarms.get((config.alarm_region, config.alarm), "insufficient")
            if state == "insufficient" and config.insufficient != "LastKnownStatus":
                return config.insufficient == "Healthy"
            return watched.known
        if not watched.opinions:
            return True
        return sum(opinion.healthy for opinion in watched.opinions.values()) > ENOUGH * len(watched.opinions)

    # --- in the loop ---

    def _seats(self, config: CheckConfig) -> tuple[Checker, ...]:
        return tuple(c for c in self._checkers if not config.regions or c.region in config.regions)

    def _entry(self, now: float, check_id: str, checker: Checker) -> tuple[float, int, str, Checker, Watched]:
        watched = self._watched[check_id]
        first = now + checker.offset(check_id) * watched.config.interval / self.speed
        return (first, next(self._order), check_id, checker, watched)

    def _add(self, entries: list[tuple[float, int, str, Checker, Watched]]) -> None:
        for entry in entries:
            heapq.heappush(self._due, entry)
        self._wake.set()

    def _hurry(self) -> None:
        now = time.monotonic()
        self._due = [
            (min(at, now + checker.offset(name) * watched.config.interval / self.speed), number, name, checker, watched)
            for at, number, name, checker, watched in self._due
        ]
        heapq.heapify(self._due)
        self._wake.set()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._underway.add(task)
        task.add_done_callback(self._underway.discard)

    async def _serve(self) -> None:
        """Start what is due, for ever."""
        while True:
            self._wake.clear()
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                at, _, check_id, checker, watched = heapq.heappop(self._due)
                if self._watched.get(check_id) is watched:
                    self._begin(self._turn(at, check_id, checker, watched))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._due[0][0] - now if self._due else None):
                    await self._wake.wait()

    async def _turn(self, at: float, check_id: str, checker: Checker, watched: Watched) -> None:
        """One probe, and the next one's date. A checker never has two probes of one check under way."""
        config = watched.config
        address = config.address or self._resolve(config.host)
        if address:
            outcome = await probe(check_id, config, address, checker.source)
        else:
            outcome = Outcome(False, f"Failure: no IPv4 address for {config.host}")
        self.probes += 1
        watched.opinions[checker].hear(outcome, config.threshold, time.time())
        again = max(at + config.interval / self.speed, time.monotonic())
        self._add([(again, next(self._order), check_id, checker, watched)])
