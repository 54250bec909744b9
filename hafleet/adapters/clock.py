"""The real clock."""

import threading
import time


class SystemClock:
    """Implements ``ports.Clock``. Waits on the event, never in ``time.sleep``, so that a stop is heard at once."""

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """True when the event was set in time."""
        return event.wait(seconds)
