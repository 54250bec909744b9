"""Prometheus metrics of the event queue: what it brings, how late, and whether it is relied on."""

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hafleet.core.events import Kind


class EventMetrics:
    """Implements ``ports.Tally``: what the event queue brings."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._messages = Counter(
            "hafleet_event_messages", "Messages of the event queue, by what they were.", ["kind"], registry=registry
        )
        self._polls = Counter("hafleet_event_polls", "Polls of the event queue.", ["outcome"], registry=registry)
        self._lag = Histogram(
            "hafleet_event_lag_seconds",
            "From the sending of a message to SQS to its reading, by this host's clock.",
            registry=registry,
            buckets=(0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
        )
        self._proven = Gauge(
            "hafleet_events_proven", "1 while a pass by the timer relies on events for changes.", registry=registry
        )
        for kind in get_args(Kind):
            self._messages.labels(kind)

    def message(self, kind: str, lag: float | None) -> None:
        """See ``ports.Tally.message``."""
        self._messages.labels(kind).inc()
        if lag is not None:
            self._lag.observe(max(0.0, lag))

    def poll(self, *, failing: bool, proven: bool) -> None:
        """See ``ports.Tally.poll``."""
        self._polls.labels("failed" if failing else "ok").inc()
        self._proven.set(proven)
