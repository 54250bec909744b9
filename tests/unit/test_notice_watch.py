"""The watcher of notices: what wakes a pass and what does not, and how often it looks."""

import queue
import random
import threading
from collections.abc import Iterator

import pytest

from hafleet.adapters.notices import NoticeWatch
from hafleet.core.model import Notice, Notices
from hafleet.errors import MetadataUnavailable

SPOT = Notice("terminate", 1000.0)
SILENT = MetadataUnavailable("it does not answer")
LONG = 60.0  # seconds; a bound for waiting, never reached


class Stage:
    """A metadata service, wake-ups and a clock in one: each step is one look."""

    def __init__(self) -> None:
        self.told: Notices | Exception = Notices()
        self.now = 100.0
        self.woken: list[str] = []
        self.pauses: list[float] = []
        self._looked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._go: queue.SimpleQueue[None] = queue.SimpleQueue()

    def notices(self) -> Notices:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told

    def wake(self, reason: str) -> None:
        self.woken.append(reason)

    def take(self) -> tuple[str, ...]:
        taken, self.woken = tuple(self.woken), []
        return taken

    def wall(self) -> float:
        raise NotImplementedError

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.pauses.append(seconds)
        self._looked.put(None)
        while not event.is_set():
            try:
                self._go.get(timeout=0.02)
                return False
            except queue.Empty:
                continue
        return True

    def first(self) -> None:
        """Wait for the look that the watch begins with."""
        self._looked.get(timeout=LONG)

    def look(self, told: Notices | Exception, after: float = 3.0) -> tuple[str, ...]:
        """One more look, by which this is told; what it woke a pass for."""
        self.told = told
        self.now += after
        self._go.put(None)
        self._looked.get(timeout=LONG)
        return self.take()


class _Wakeups:
    """The stage's ``wait`` is the clock's; the wake-ups' own is never asked for."""

    def __init__(self, stage: Stage) -> None:
        self.wake = stage.wake
        self.take = stage.take

    def wait(self, seconds: float) -> bool:
        raise NotImplementedError


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    watch = NoticeWatch(made, _Wakeups(made), made, random.Random(1))
    made.first()
    yield made
    watch.stop()
    assert not watch._thread.is_alive()


def test_nothing_announced_wakes_nobody(stage: Stage) -> None:
    assert stage.take() == ()
    assert [stage.look(Notices()) for _ in range(5)] == [()] * 5


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (Notices(target="Terminated"), "notice: goes to Terminated"),
        (Notices(target="Warmed:Stopped"), "notice: goes to Warmed:Stopped"),
        (Notices(spot=SPOT), "notice: spot terminate"),
        (Notices(target="Terminated", spot=SPOT), "notice: spot terminate"),
        (Notices(rebalance=5.0), "notice: rebalance"),
        (Notices(maintenance=(Notice("system-reboot", 5.0),)), "notice: maintenance"),
    ],
)
def test_a_change_wakes_once_with_its_reason(stage: Stage, told: Notices, reason: str) -> None:
    assert stage.look(told) == (reason,)
    assert stage.look(told, after=1.0) == ()


def test_every_change_wakes(stage: Stage) -> None:
    told = [stage.look(Notices(target=state)) for state in ("InService", "Standby", "Standby", "")]
    assert told == [("notice: goes to InService",), ("notice: goes to Standby",), (), ("notice: goes to no state",)]


def test_a_spot_notice_that_stands_wakes_again_but_not_at_every_look(stage: Stage) -> None:
    told, again = Notices(spot=SPOT), "notice: spot terminate"
    assert [stage.look(told, after=2.5) for _ in range(5)] == [(again,), (), (again,), (), (again,)]
    assert stage.look(Notices()) == ("notice: spot withdrawn",)
    assert stage.look(Notices(), after=60.0) == ()


def test_silence_wakes_nobody_and_changes_nothing_that_was_heard(stage: Stage) -> None:
    stage.look(Notices(target="Terminated"))
    assert stage.look(SILENT) == ()
    assert stage.look(Notices(target="Terminated")) == ()
    assert stage.look(Notices(target="InService")) == ("notice: goes to InService",)


@pytest.mark.parametrize("fault", [SILENT, ZeroDivisionError("a fault of our own")])
def test_no_failure_ends_it(stage: Stage, fault: Exception) -> None:
    for _ in range(20):
        assert stage.look(fault) == ()
    assert stage.look(Notices(spot=SPOT)) == ("notice: spot terminate",)


def test_it_looks_every_two_to_three_seconds_and_not_in_step(stage: Stage) -> None:
    for _ in range(50):
        stage.look(Notices())
    assert all(2.0 <= pause <= 3.0 for pause in stage.pauses)
    assert len(set(stage.pauses)) > 40


def test_it_backs_off_while_imds_is_silent_and_comes_back_at_once(stage: Stage) -> None:
    for _ in range(60):
        stage.look(SILENT)
    silent = stage.pauses[1:]
    assert all(2.0 <= pause <= 30.0 for pause in silent)
    assert max(silent[:1]) <= 6.0
    assert sum(silent[20:]) / len(silent[20:]) > 10.0
    stage.look(Notices())
    assert stage.pauses[-1] <= 3.0
