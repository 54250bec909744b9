"""The DNS side's own loop, in a thread of its own: a Route 53 that hangs, throttles or refuses never delays a pass.

The pass tells it what it saw of the node; it tells the pass's report what it did. Nothing else goes between the two.
"""

import threading
import traceback
from dataclasses import replace
from typing import Protocol

from hafleet.core.dns.model import Situation
from hafleet.core.dns.report import DnsReport
from hafleet.ports import Clock

_AFTER_FAULT = 30.0  # seconds until the next try after a fault of our own
_IDLE = 3600.0  # seconds; a wait without a reason to end sooner
_LONGEST_STOP = 2.0  # seconds that a stop waits for a call to Route 53 that hangs


class Registration(Protocol):
    """The DNS pass of one node, for one set of settings."""

    def run(self, situation: Situation) -> DnsReport:
        """One pass; its report says when the next one is due."""
        ...


_Told = tuple[Registration, Situation]


class Announcer:
    """Runs the DNS pass when it is due, and at once when the node's situation changes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._told: _Told | None = None
        self._report: DnsReport | None = None
        self._thread: threading.Thread | None = None
        self._stops = threading.Event()

    def announce(self, registration: Registration | None, situation: Situation | None) -> DnsReport | None:
        """Tell what the last pass saw, and hear what was last reported. Never waits for Route 53.

        The first call with both starts the thread. Settings that lost their dns section leave the record as it is.

        Args:
            registration: the DNS side for the settings in use; None for settings without a dns section.
            situation: what the pass saw; None while nobody knows which node this is.
        """
        with self._lock:
            before = self._told
            self._told = None if registration is None or situation is None else (registration, situation)
            if registration is None:
                self._report = None
            news = self._told is not None and (before is None or _differs(before, self._told))
            report = self._report
        if news and self._thread is None:
            self._thread = threading.Thread(target=self._loop, daemon=True, name="dns")
            self._thread.start()
        elif news:
            self._bell.set()
        return report

    def stop(self) -> None:
        """End the loop. A call to Route 53 that hangs is left behind: whatever it did, the next start sees it."""
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

    def _once(self, registration: Registration, situation: Situation) -> float:
        """One DNS pass, which cannot end the loop; the seconds to the next."""
        now = self._clock.wall()
        try:
            report = registration.run(replace(situation, at=now))
        except Exception:  # a fault of our own is reported with its trace, and the next pass looks afresh
            fault = f"internal error in DNS, please report it: {traceback.format_exc()}"
            report = DnsReport(at=now, registered=False, problems=(fault,), next_at=_AFTER_FAULT)
        with self._lock:
            self._report = report
        return report.next_at


def _differs(one: _Told, other: _Told) -> bool:
    """True when more than the time of the two differs."""
    return one[0] is not other[0] or replace(one[1], at=other[1].at) != other[1]
