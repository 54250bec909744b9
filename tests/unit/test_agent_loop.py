"""The agent's loop goes on: without a watch, with a log that breaks, with parts that cannot be built."""

import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from hafleet.adapters.clock import SystemClock
from hafleet.adapters.lock import NodeLocks
from hafleet.adapters.wakeup import Wakeups
from hafleet.agent import Agent, Assembly
from hafleet.core.report import Report
from hafleet.core.settings import Settings
from hafleet.errors import HafleetError, StoreError
from hafleet.ports import Watch
from tests.fakes.worlds import make_settings


class Blind:
    """Parts of a pass that fail at once: the loop is what is looked at."""

    def observe(self, *, rests: bool) -> object:
        raise HafleetError("nothing to see")


class NoHistory:
    """Keeps nothing."""


@dataclass
class Supervisor:
    """Notes what it is told."""

    watchdog: float = 0.0
    told: list[str] = field(default_factory=list)

    def tell(self, *lines: str) -> None:
        self.told += lines

    def feed(self) -> None:
        """No watchdog was set."""


class Watching:
    """A watch."""

    def stop(self) -> None:
        """Nothing runs."""


@dataclass
class Workshop:
    """Hands out parts; each list holds what the next calls meet: None is good, an exception is raised."""

    settings: Settings
    assembling: list[Exception | None] = field(default_factory=list)
    watching: list[Exception | None] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    watches: int = 0
    assemblies: int = 0

    def digest(self) -> str:
        return self.digests.pop(0) if self.digests else "one"

    def assemble(self) -> Assembly:
        _meet(self.assembling)
        self.assemblies += 1
        digest = "one" if self.assemblies == 1 else "two"
        return Assembly(self.settings, digest, cast("Any", Blind()), cast("Any", NoHistory()), ())

    def watch(self, paths: tuple[Path, ...]) -> Watch:
        _meet(self.watching)
        self.watches += 1
        return Watching()


def _meet(faults: list[Exception | None]) -> None:
    fault = faults.pop(0) if faults else None
    if fault is not None:
        raise fault


@pytest.fixture
def workshop() -> Workshop:
    return Workshop(make_settings(passes={"interval": "10ms"}))


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def run(workshop: Workshop, tmp_path: Path, passes: int, broken: list[Exception | None]) -> tuple[list[Report], str]:
    """So many passes; reports that could be published, and what the supervisor heard."""
    reports: list[Report] = []

    def publish(report: Report) -> None:
        _meet(broken)
        reports.append(report)

    clock, supervisor = SystemClock(), Supervisor()
    Agent(workshop, clock, Wakeups(clock), supervisor, publish).run(NodeLocks(tmp_path), passes)
    return reports, "\n".join(supervisor.told)


def test_without_a_watch_the_timer_goes_on_and_each_pass_tries_anew(workshop: Workshop, tmp_path: Path) -> None:
    none_left = StoreError("files cannot be watched: No space left on device")
    workshop.watching = [none_left, none_left, None]
    reports, _ = run(workshop, tmp_path, 4, [])
    assert (len(reports), workshop.watches) == (4, 1)


def test_a_report_that_cannot_be_told_stops_no_pass(workshop: Workshop, tmp_path: Path) -> None:
    reports, told = run(workshop, tmp_path, 3, [OSError(28, "No space\nleft")])
    assert len(reports) == 2
    assert "STATUS=pass 1 done; its report could not be published: OSError [Errno 28] No space left\n" in told


def test_parts_that_cannot_be_built_are_tried_again_though_the_file_is_the_same(
    workshop: Workshop, tmp_path: Path
) -> None:
    workshop.assembling = [None, FileNotFoundError("a package that is being replaced"), None]
    workshop.digests = ["two"] * 4
    reports, _ = run(workshop, tmp_path, 3, [])
    assert (len(reports), workshop.assemblies) == (3, 2)


def test_the_first_assembly_must_succeed(workshop: Workshop, tmp_path: Path) -> None:
    workshop.assembling = [FileNotFoundError("no template")]
    with pytest.raises(FileNotFoundError):
        run(workshop, tmp_path, 1, [])


# --- the leading edge -------------------------------------------------------------------------------------------------


class Scripted(SystemClock):
    """Time that passes only where somebody waits; ``script``: what wakes during each wait, and after how long."""

    def __init__(self, script: list[tuple[float, str]]) -> None:
        self.now = 1000.0
        self.script = script
        self.wakeups: Wakeups | None = None

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set() and self.script and self.script[0][0] <= seconds:
            after, reason = self.script.pop(0)
            self.now += after
            assert self.wakeups is not None
            self.wakeups.wake(reason)
            return True
        if not event.is_set():
            self.now += seconds
            if self.script:
                self.script[0] = (self.script[0][0] - seconds, self.script[0][1])
        return event.is_set()


def slept(script: list[tuple[float, str]], since_last: float = 10.0) -> tuple[float, tuple[str, ...]]:
    """Seconds that the loop sleeps from now on, and why it then runs a pass; the last one ended ``since_last`` before."""
    clock = Scripted(script)
    clock.wakeups = wakeups = Wakeups(clock)
    settings = make_settings(passes={"interval": "1h", "settle_min": "100ms", "settle_max": "1s"})
    agent = Agent(Workshop(settings), clock, wakeups, Supervisor(), lambda _: None)
    agent._woken = clock.now - since_last
    reasons = agent._sleep(settings)
    return round(clock.now - 1000.0, 3), reasons


def test_the_first_reason_after_a_quiet_time_is_acted_on_at_once() -> None:
    assert slept([(2.0, "event: site came"), (0.01, "event: site left")]) == (2.0, ("event: site came",))


def test_what_follows_is_one_pass_later() -> None:
    came, left = "event: site came", "event: site left"
    assert slept([(0.2, came), (0.05, left), (0.3, came)], since_last=0.1) == (0.9, (came, left))


def test_a_storm_is_a_pass_now_and_then() -> None:
    """Control: at a quiet time of 100 ms alone, events 120 ms apart would be a pass each."""
    storm = [(0.12, "event: site came")] * 100
    assert slept(storm, since_last=0.0) == (1.0, ("event: site came",))
    assert len(storm) == 92


def test_files_settle_even_after_a_quiet_time() -> None:
    assert slept([(2.0, "file hafleet.yaml"), (0.05, "file haproxy.cfg.j2")]) == (
        2.15,
        ("file hafleet.yaml", "file haproxy.cfg.j2"),
    )
