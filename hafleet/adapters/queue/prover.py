"""Keeps the proof that events come, between the thread that hears them and the one that runs passes."""

import threading
from collections.abc import Callable

from hafleet.core import proof
from hafleet.core.events import Heard
from hafleet.ports import Clock, Tally


class NoTally:
    """Implements ``ports.Tally`` where nobody counts."""

    def message(self, kind: str, lag: float | None) -> None:
        """See ``ports.Tally.message``."""

    def poll(self, *, failing: bool, proven: bool) -> None:
        """See ``ports.Tally.poll``."""


class Prover:
    """Implements ``ports.Tidings``. For any thread.

    Args:
        interval: seconds between two reads of the groups while events are proven to come.
        clock: by which pulses are late.
        tally: told of everything that this is told.
    """

    def __init__(self, interval: float, clock: Clock, tally: Tally) -> None:
        self._interval = interval
        self._clock = clock
        self._tally = tally
        self._lock = threading.Lock()
        self._proof = proof.Proof()

    def heard(self, found: Heard, lag: float | None) -> None:
        """One message, judged."""
        if found.kind == "pulse":
            self._change(proof.pulsed)
        elif found.kind == "wake":
            self._change(proof.told)
        self._tally.message(found.kind, lag)

    def polled(self, *, failing: bool) -> None:
        """One poll of the queue, done or failed."""
        with self._lock:
            self._proof = proof.polled(self._proof, failing=failing)
            proven = proof.proven(self._proof, self._clock.monotonic())
        self._tally.poll(failing=failing, proven=proven)

    def spares(self, age: float) -> bool:
        """See ``ports.Tidings.spares``."""
        with self._lock:
            return proof.spares(self._proof, self._clock.monotonic(), age, self._interval)

    def found(self) -> None:
        """See ``ports.Tidings.found``."""
        self._change(proof.found)

    def _change(self, step: Callable[[proof.Proof, float], proof.Proof]) -> None:
        with self._lock:
            self._proof = step(self._proof, self._clock.monotonic())
