"""Watches what is announced for this node, and wakes the pass when it changes."""

import random
import threading

from hafleet.core.model import Notices
from hafleet.ports import Clock, NodeNotices, Wakeups

_EVERY = (2.0, 3.0)  # seconds between two looks: AWS advises 5 for spot notices, and a notice is to be heard within 5
_LONGEST_PAUSE = 30.0  # seconds between two looks while IMDS is silent; it throttles who asks too much
_PRESSING = 5.0  # seconds after which a spot notice that stands wakes the pass again
_LONGEST_STOP = 5.0  # seconds that a stop waits for an IMDS that hangs


class NoticeWatch:
    """Implements ``ports.Watch``. Begins at once, in a thread of its own; nothing but ``stop`` ends it.

    It carries no truth: the pass reads the notices for itself. A silent IMDS wakes nobody, for it tells nothing.

    Args:
        source: where the notices come from.
        wakeups: woken when they differ from what was last heard, and again while a spot notice stands.
        clock: how the time between two looks is waited.
        chance: spreads the looks of a fleet.
    """

    def __init__(self, source: NodeNotices, wakeups: Wakeups, clock: Clock, chance: random.Random) -> None:
        self._source = source
        self._wakeups = wakeups
        self._clock = clock
        self._chance = chance
        self._stops = threading.Event()
        self._heard = Notices()
        self._woken = 0.0  # monotonic
        self._silences = 0  # looks in a row without an answer
        self._thread = threading.Thread(target=self._loop, daemon=True, name="notices")
        self._thread.start()

    def stop(self) -> None:
        """End it. A request that hangs is left behind."""
        self._stops.set()
        self._thread.join(_LONGEST_STOP)

    def _loop(self) -> None:
        while not self._stops.is_set():
            try:
                self._look()
                self._silences = 0
            except Exception:  # IMDS is silent, or the fault is ours: the pass meets it too, and tells it
                self._silences += 1
            self._clock.wait(self._stops, self._pause())

    def _look(self) -> None:
        """One look. Raises MetadataUnavailable."""
        told = self._source.notices()
        now = self._clock.monotonic()
        if told != self._heard:
            self._wake(_news(self._heard, told), now)
        elif told.spot is not None and now - self._woken >= _PRESSING:
            self._wake(f"notice: spot {told.spot.action}", now)
        self._heard = told

    def _wake(self, reason: str, now: float) -> None:
        self._woken = now
        self._wakeups.wake(reason)

    def _pause(self) -> float:
        """Seconds to the next look: full jitter on what doubles with every silence."""
        usual = self._chance.uniform(*_EVERY)
        if not self._silences:
            return usual
        most = min(_LONGEST_PAUSE, _EVERY[1] * 2.0 ** min(self._silences, 10))
        return max(usual, self._chance.uniform(0.0, most))


def _news(before: Notices, now: Notices) -> str:
    """What changed, as a reason for a pass."""
    if now.spot != before.spot:
        return f"notice: spot {now.spot.action}" if now.spot else "notice: spot withdrawn"
    if now.target != before.target:
        return f"notice: goes to {now.target or 'no state'}"
    if now.rebalance != before.rebalance:
        return "notice: rebalance"
    return "notice: maintenance"
