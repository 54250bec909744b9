"""Metrics of what reloads leave behind, and of connections that were cut."""

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from hafleet.core.cuts import Kind
from hafleet.core.report import Report


class ConnectionMetrics:
    """Of one agent, on the registry of its metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._old = Gauge("hafleet_old_workers", "HAProxy workers of earlier loads that still live.", registry=registry)
        self._failed = Gauge(
            "hafleet_failed_reloads", "The master's count of failed reloads since the last good.", registry=registry
        )
        self._held = Gauge(
            "hafleet_old_worker_connections", "Connections of these old workers to servers.", registry=registry
        )
        self._cut = Counter("hafleet_connections_cut", "Connections cut, by what did.", ["by"], registry=registry)
        for kind in get_args(Kind):
            self._cut.labels(kind)  # a rate over it needs a zero to begin with
        self._counted = 0  # number of the last cut

    def record(self, report: Report) -> None:
        """Take over what a pass reports."""
        if report.proxy:
            self._old.set(report.proxy.old_workers)
            self._held.set(report.proxy.old_sessions)
            self._failed.set(report.proxy.failed_reloads)
        for cut in report.cuts:
            if cut.number > self._counted:
                self._cut.labels(cut.kind).inc(cut.connections)
                self._counted = cut.number
