"""Small arithmetic for the bench."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def summary(seconds: list[float], target_ms: float | None = None) -> dict[str, Any]:
    """Median, 95th percentile and extremes of some timings, in milliseconds."""
    ordered = sorted(seconds)
    found: dict[str, Any] = {
        "n": len(ordered),
        "p50_ms": ms(statistics.median(ordered)),
        "p95_ms": ms(ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]),
        "min_ms": ms(ordered[0]),
        "max_ms": ms(ordered[-1]),
    }
    if target_ms is not None:
        found["target_p50_ms"] = target_ms
    return found


def ms(seconds: float) -> float:
    """Milliseconds with two digits."""
    return round(seconds * 1000, 2)


def timed(act: Callable[[], object]) -> float:
    """Seconds of wall clock that it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def cpu(act: Callable[[], object]) -> float:
    """Seconds of this process's CPU that it takes."""
    began = time.process_time()
    act()
    return time.process_time() - began
