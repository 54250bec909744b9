"""Prometheus metrics of the agent, and their listener. HAProxy's own metrics come from HAProxy's own exporter."""

import math
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, start_http_server

from hafleet import __version__
from hafleet.core.model import Phase
from hafleet.core.report import Report
from hafleet.errors import HafleetError
from hafleet.web.connection_metrics import ConnectionMetrics
from hafleet.web.event_metrics import EventMetrics


class Metrics:
    """All of hafleet's metrics on a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that nobody asks for
        self.registry = CollectorRegistry()
        r = self.registry
        Gauge("hafleet_info", "Version of the agent.", ["version"], registry=r).labels(__version__).set(1)
        self._passes = Counter("hafleet_passes", "Passes run.", ["outcome"], registry=r)
        self._seconds = Histogram(
            "hafleet_pass_seconds", "Time of a pass.", registry=r, buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
        )
        self._last = Gauge("hafleet_last_pass_timestamp_seconds", "Wall clock of the last pass.", registry=r)
        self._membership = Gauge(
            "hafleet_membership_timestamp_seconds", "Wall clock of the last complete membership read.", registry=r
        )
        self._ages = Gauge(
            "hafleet_membership_age_seconds",
            "Seconds since the last complete membership read; +Inf before the first.",
            registry=r,
        )
        self._commands = Counter("hafleet_runtime_commands", "Runtime API commands answered well.", registry=r)
        self._reloads = Counter("hafleet_reloads", "Reloads proven by the stamp.", registry=r)
        self._writes = Counter("hafleet_config_writes", "Times haproxy.cfg was replaced.", registry=r)
        self._errors = Gauge("hafleet_errors", "Faults met in the last pass.", registry=r)
        self._held = Gauge("hafleet_held_steps", "Steps the guard holds back now, by rule.", ["rule"], registry=r)
        self._frozen = Gauge("hafleet_frozen", "1 while a rollback froze the node.", registry=r)
        self._phase = Gauge("hafleet_phase", "1 for the phase this node is in.", ["phase"], registry=r)
        self._red = Gauge("hafleet_health_red", "1 while the health endpoint answers 503.", registry=r)
        self._members = Gauge(
            "hafleet_backend_members", "Wanted servers, draining ones included.", ["backend"], registry=r
        )
        self._draining = Gauge("hafleet_backend_draining", "Servers that drain.", ["backend"], registry=r)
        self._up = Gauge("hafleet_backend_up", "Servers up and in rotation.", ["backend"], registry=r)
        self._parked = Gauge("hafleet_backend_parked", "Removed servers waiting in maint.", ["backend"], registry=r)
        self._haproxy = Gauge("hafleet_haproxy_up", "1 when HAProxy answered in the last pass.", registry=r)
        self._connections = ConnectionMetrics(r)
        self._registered = Gauge("hafleet_dns_registered", "1 while every record of this node stands.", registry=r)
        self._dns_problems = Gauge("hafleet_dns_problems", "Faults of the last DNS pass.", registry=r)
        self._leads = Gauge("hafleet_dns_leader", "1 while this node writes what the fleet shares.", registry=r)
        self._waits = Gauge("hafleet_hook_waits", "1 while this instance waits in a lifecycle hook.", registry=r)
        self._life_problems = Gauge("hafleet_hook_problems", "Faults of the last run of the hooks' side.", registry=r)
        self._ending = Gauge("hafleet_servers_ending", "Servers that end through a hook of the settings.", registry=r)
        self._ending_problems = Gauge("hafleet_server_hook_problems", "Faults of the servers' side.", registry=r)
        self._orders = Gauge("hafleet_orders", "Orders of operators for the fleet that stand.", registry=r)
        self._noticed = Gauge("hafleet_notices", "What EC2 announces for this instance, counted.", registry=r)
        self._calls = Counter("hafleet_aws_calls", "AWS API calls.", ["operation", "outcome"], registry=r)
        self._call_seconds = Counter(
            "hafleet_aws_call_seconds", "Seconds spent in AWS calls.", ["operation"], registry=r
        )
        self.events = EventMetrics(r)

    def called(self, operation: str, seconds: float, outcome: str) -> None:
        """Count one AWS call."""
        self._calls.labels(operation, outcome).inc()
        self._call_seconds.labels(operation).inc(seconds)

    def record(self, report: Report) -> None:
        """Take over what a pass reports."""
        self._passes.labels("error" if report.errors else "held" if report.held else "ok").inc()
        self._seconds.observe(report.duration)
        self._last.set(report.at)
        self._membership.set(report.membership_at)
        self._ages.set(max(0.0, report.at - report.membership_at) if report.membership_at else math.inf)
        self._commands.inc(report.commands)
        self._reloads.inc(bool(report.reloaded))
        self._writes.inc(report.wrote)
        self._errors.set(len(report.errors))
        self._frozen.set(bool(report.frozen))
        if report.phase is not None:  # a pass that broke off tells nothing of it
            for phase in get_args(Phase):
                self._phase.labels(phase).set(phase == report.phase)
            self._red.set(report.red_since > 0)
        if report.dns is not None:
            self._registered.set(report.dns.registered)
            self._dns_problems.set(len(report.dns.problems))
            self._leads.set(report.dns.leads)
        if report.life is not None:
            self._waits.set(report.life.state.endswith(":Wait"))
            self._life_problems.set(len(report.life.problems))
        if report.endings is not None:
            self._ending.set(len(report.endings.rows))
            self._ending_problems.set(len(report.endings.problems))
        self._noticed.set(len(report.notices))
        self._orders.set(len(report.orders))
        self._held.clear()
        for held in (*report.held, *(report.dns.held if report.dns else ())):
            self._held.labels(held.rule).inc()
        for gauge in (self._members, self._draining, self._up, self._parked):
            gauge.clear()  # a backend that is gone from the settings must not linger
        for row in report.backends:
            self._members.labels(row.name).set(row.members)
            self._draining.labels(row.name).set(row.draining)
            self._up.labels(row.name).set(row.up)
            self._parked.labels(row.name).set(row.parked)
        self._haproxy.set(report.proxy is not None)
        self._connections.record(report)

    def listen(self, address: str) -> None:
        """Serve ``/metrics`` on ``host:port`` from a thread of its own.

        Raises:
            HafleetError: the address cannot be bound.
        """
        host, _, port = address.rpartition(":")
        try:
            start_http_server(int(port), addr=host.strip("[]"), registry=self.registry)
        except OSError as error:
            raise HafleetError(
                f"cannot listen: {error.strerror}", where=f"status.listen {address}", fix="choose a free address"
            ) from error
