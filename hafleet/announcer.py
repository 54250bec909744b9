"""What runs beside the passes, each in a thread of its own: the DNS side, the node's lifecycle hooks, those of servers.

A Route 53 or an Auto Scaling that hangs, throttles or refuses never delays a pass. The pass tells a side what it saw of the node;
the side tells the pass's report what it did. Nothing else goes between the two.
"""

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, Self, TypeVar

from hafleet.core.dns.model import Situation
from hafleet.core.dns.report import DnsReport
from hafleet.core.endings import EndingReport, EndingSituation
from hafleet.core.life import LifeReport, LifeSituation
from hafleet.ports import Clock

_AFTER_FAULT = 30.0  # seconds until the next try after a fault of our own
_IDLE = 3600.0  # seconds; a wait without a reason to end sooner
_LONGEST_STOP = 2.0  # seconds that a stop waits for a call to AWS that hangs


class Due(Protocol):
    """A report that says when the next run is due."""

    @property
    def next_at(self) -> float:
        """Seconds from now."""
        ...


S = TypeVar("S")  # what the side is told
R = TypeVar("R", bound=Due)  # what it reports
S_contra = TypeVar("S_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Side(Protocol[S_contra, R_co]):
    """One kind of work on one node, for one set of settings."""

    def run(self, situation: S_contra) -> R_co:
        """One run; its report says when the next one is due."""
        ...


@dataclass(frozen=True, slots=True)
class Words(Generic[S, R]):
    """What a loop has to know of what it carries."""

    name: str  # of the thread, and in a fault of our own
    at: Callable[[S, float], S]  # a situation as of this wall clock
    broken: Callable[[float, str], R]  # the report of a run that a fault of our own broke off: wall clock, fault


class Beside(Generic[S, R]):
    """Runs a side when it is due, and at once when the node's situation changes."""

    def __init__(self, clock: Clock, words: Words[S, R]) -> None:
        self._clock = clock
        self._words = words
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._told: tuple[Side[S, R], S] | None = None
        self._report: R | None = None
        self._thread: threading.Thread | None = None
        self._stops = threading.Event()

    def announce(self, side: Side[S, R] | None, situation: S | None) -> R | None:
        """Tell what the last pass saw, and hear what was last reported. Never waits for AWS.

        The first call with both starts the thread. Settings that lost their section leave everything as it is.

        Args:
            side: the side for the settings in use; None for settings without its section.
            situation: what the pass saw; None while nobody knows which node this is.
        """
        with self._lock:
            before = self._told
            self._told = None if side is None or situation is None else (side, situation)
            if side is None:
                self._report = None
            told, report = self._told, self._report
        news = told is not None and (before is None or self._differs(before, told))
        if told is not None and self._thread is None:
            thread = threading.Thread(target=self._loop, daemon=True, name=self._words.name)
            thread.start()  # where the system has no thread to give, the next pass tries again
            self._thread = thread
        elif news:
            self._bell.set()
        return report

    def stop(self) -> None:
        """End the loop. A call to AWS that hangs is left behind: whatever it did, the next start sees it."""
        self._stops.set()
        self._bell.set()
        if self._thread is not None:
            self._thread.join(_LONGEST_STOP)

    def _loop(self) -> None:
        while not self._stops.is_set():
            with self._lock:
                told = self._told
            wait = _IDLE if told is None else self._once(*told)
            self._clock.wait(self._bell, wait)
            self._bell.clear()

    def _once(self, side: Side[S, R], situation: S) -> float:
        """One run, which cannot end the loop; the seconds to the next."""
        now = self._clock.wall()
        try:
            report = side.run(self._words.at(situation, now))
        except Exception:  # a fault of our own is reported with its trace, and the next run looks afresh
            fault = f"internal error in {self._words.name}, please report it: {traceback.format_exc()}"
            report = self._words.broken(now, fault)
        with self._lock:
            self._report = report
        return report.next_at

    def _differs(self, one: tuple[Side[S, R], S], other: tuple[Side[S, R], S]) -> bool:
        """True when more than the time of the two differs."""
        return one[0] is not other[0] or self._words.at(one[1], 0.0) != self._words.at(other[1], 0.0)


class Announcer(Beside[Situation, DnsReport]):
    """The DNS side's loop."""

    def __init__(self, clock: Clock) -> None:
        def broken(at: float, fault: str) -> DnsReport:
            return DnsReport(at=at, registered=False, problems=(fault,), next_at=_AFTER_FAULT)

        super().__init__(clock, Words("DNS", lambda situation, at: replace(situation, at=at), broken))


class Attendant(Beside[LifeSituation, LifeReport]):
    """The lifecycle hooks' loop."""

    def __init__(self, clock: Clock) -> None:
        def broken(at: float, fault: str) -> LifeReport:
            return LifeReport(at=at, problems=(fault,), next_at=_AFTER_FAULT)

        super().__init__(clock, Words("lifecycle", lambda situation, at: replace(situation, at=at), broken))


class Usher(Beside[EndingSituation, EndingReport]):
    """The loop of servers' hooks."""

    def __init__(self, clock: Clock) -> None:
        def broken(at: float, fault: str) -> EndingReport:
            return EndingReport(at=at, problems=(fault,), next_at=_AFTER_FAULT)

        super().__init__(clock, Words("servers' hooks", lambda situation, at: replace(situation, at=at), broken))


@dataclass(frozen=True, slots=True)
class Sides:
    """Everything that runs beside the passes of an agent."""

    dns: Announcer
    life: Attendant
    servers: Usher

    @classmethod
    def of(cls, clock: Clock) -> Self:
        """All, by this clock; none runs before it is told something."""
        return cls(Announcer(clock), Attendant(clock), Usher(clock))

    def stop(self) -> None:
        """End all."""
        self.servers.stop()
        self.life.stop()
        self.dns.stop()
