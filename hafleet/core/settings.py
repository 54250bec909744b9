"""The settings as typed, frozen values: hafleet.yaml after it passed.

One class per section, one description under each field. Durations are seconds, percentages are fractions (0.15), sizes
are plain ints. ``hafleet.config`` builds these from YAML and turns every refusal into a ``Problem`` with its line. The
rules that concern several fields at once are in ``checks``.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Literal

from pydantic import Field, model_validator

from hafleet.core.backend_settings import Backend, Check, Cookie, ServerTls, Source, Stick
from hafleet.core.dns_settings import Dns, DnsHealth, DnsTree
from hafleet.core.later_settings import Eip, Events, Lifecycle, LifecycleDrain, Signals
from hafleet.core.proxy_settings import Frontend, Haproxy, Mode, Route, RouteBy, Tls
from hafleet.core.routing import modes_of, route_of
from hafleet.core.texts import FilePath, FleetName, GroupName, NodeId, Place
from hafleet.core.values import (
    Address,
    Bind,
    Count,
    Duration,
    Model,
    Number,
    Percent,
    Port,
    Span,
    Whole,
    parse_duration,
    parse_percent,
    parse_size,
)

__all__ = [
    "Aws",
    "Backend",
    "Check",
    "Cookie",
    "Dns",
    "DnsHealth",
    "DnsTree",
    "Eip",
    "Events",
    "Frontend",
    "Haproxy",
    "Lifecycle",
    "LifecycleDrain",
    "Mode",
    "Model",
    "NodeSource",
    "Passes",
    "Peers",
    "PeersTls",
    "Route",
    "RouteBy",
    "Safety",
    "ServerTls",
    "Settings",
    "Signals",
    "Source",
    "Static",
    "Status",
    "Stick",
    "Tls",
    "parse_duration",
    "parse_percent",
    "parse_size",
]


class Aws(Model):
    """How AWS is called. Endpoints and credentials come from the environment or the instance role, as always."""

    region: Place | None = None
    """Region of the groups. Unset: this node's own, from IMDS."""
    connect_timeout: Span = 5.0
    """Wait for a connection to AWS."""
    read_timeout: Span = 10.0
    """Wait for an answer of AWS."""
    max_attempts: Whole = Field(default=3, ge=1, le=20)
    """Attempts per call, the first included."""


class Static(Model):
    """A node described by hand, for hosts without IMDS."""

    id: NodeId
    """What names this node among its peers."""
    private_ip: Address
    """Address that its peers reach."""
    public_ip: Address | None = None
    """Address that clients reach, where it differs."""
    zone: Place = ""
    """Availability zone, such as eu-west-1a."""
    region: Place = ""
    """Region, such as eu-west-1."""
    asg: GroupName = ""
    """The node's own Auto Scaling group, whose instances are its peers."""


class NodeSource(Model):
    """Who this node is: from IMDS, or by hand under static."""

    source: Literal["imds", "static"] = "imds"
    """imds, or static (taken by itself when static is written)."""
    static: Static | None = None
    """The node, described by hand."""

    @model_validator(mode="before")
    @classmethod
    def _static_is_meant(cls, data: object) -> object:
        """``node: {static: ...}`` alone means what it says."""
        if isinstance(data, dict) and data.get("static") is not None:
            return {"source": "static", **data}
        return data


class PeersTls(Model):
    """TLS between peers; both sides must show a certificate of the same authority."""

    cert: FilePath
    """PEM file with this node's certificate and key."""
    ca: FilePath
    """PEM file of the authority."""


class Peers(Model):
    """The stick-table replication mesh, from this node's own Auto Scaling group."""

    port: Port = 10000
    """Port of the peers protocol on every node."""
    tls: PeersTls | None = None
    """Encrypts and authenticates; without it anyone who reaches the port can read the tables."""
    settle: Duration = 5.0
    """A changed list of peers must stand this long before it costs a reload."""


class Safety(Model):
    """The figures of the guard, which holds unsafe steps back."""

    max_removal: Percent = 0.15
    """Share of a backend that may leave per pass without evidence; one server always may."""
    confirm_reads: Whole = Field(default=2, ge=1, le=100)
    """Complete reads in a row that must miss a server before it may leave."""
    confirm_time: Duration = 3.0
    """The first and the last of these reads are at least this far apart."""
    ceiling: Number = Field(default=10.0, gt=1)
    """A membership this many times the last one is held."""
    hold_max: Duration = 3600.0
    """Members missing from a half-empty answer are held this long."""
    reload_min_interval: Duration = 10.0
    """Least time between two reloads."""
    cold_start_quiet: Duration = 10.0
    """No reload this soon after HAProxy's cold start: its stick tables are not learned yet."""
    max_old_workers: Count = 5
    """With this many old workers alive no reload starts, except to remove servers."""


class Passes(Model):
    """When a pass runs."""

    interval: Span = 10.0
    """Time between passes while nothing wakes the agent."""
    jitter: Percent = 0.1
    """Random part of interval, so that a fleet does not act in step."""
    settle_min: Duration = 0.1
    """Quiet time after the last changed file before the pass starts ..."""
    settle_max: Duration = 1.0
    """... but never longer than this after the first. Other reasons start a pass at once, or this long after the last one."""


class Status(Model):
    """The listener of /metrics and the status page."""

    listen: Bind = "127.0.0.1:8405"
    """Address and port of the agent's own listener."""


class Settings(Model):
    """The whole of hafleet.yaml."""

    fleet: FleetName
    """Names everything that belongs to this fleet."""
    aws: Aws = Aws()
    """How AWS is called."""
    node: NodeSource = NodeSource()
    """Who this node is."""
    peers: Peers = Peers()
    """Stick-table replication between the nodes."""
    haproxy: Haproxy = Haproxy()
    """Where HAProxy is and how it is kept."""
    frontends: tuple[Frontend, ...] = Field(min_length=1)
    """Listeners."""
    backends: tuple[Backend, ...] = Field(min_length=1)
    """Pools of servers."""
    dns: Dns | None = None
    """Registration in Route 53."""
    signals: Signals | None = None
    """Thresholds of the node's own signals."""
    lifecycle: Lifecycle | None = None
    """Joining and leaving with lifecycle hooks."""
    eip: Eip | None = None
    """An Elastic IP for each node, from a pool."""
    events: Events | None = None
    """Faster wake-ups."""
    safety: Safety = Safety()
    """Figures of the guard."""
    passes: Passes = Passes()
    """When a pass runs."""
    status: Status = Status()
    """The agent's own listener."""
    state_dir: FilePath = "/var/lib/hafleet"
    """Folder of the agent's memory between passes."""

    @cached_property
    def modes(self) -> Mapping[str, Mode]:
        """The mode of every backend, by name: its own, else tcp if only tcp frontends can reach it, else http."""
        return modes_of(self.frontends, self.backends)

    def backend_mode(self, name: str) -> Mode:
        """The mode of one backend. Raises KeyError for a name that is no backend's."""
        return self.modes[name]

    def frontend_route(self, frontend: Frontend) -> RouteBy:
        """Which name chooses among the backends' domains at this frontend."""
        return route_of(frontend)
