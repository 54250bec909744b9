"""The sections of hafleet.yaml that are read and checked, but not acted on yet: DNS, signals, lifecycle and events."""

from typing import Literal

from pydantic import Field, JsonValue

from hafleet.core.texts import Domain, HostName, NodeId, Queue, ZoneId
from hafleet.core.values import Duration, Model, Percent, Span, Whole


class DnsHealth(Model):
    """The health check of the node's record: one of the three kinds of Route 53."""

    endpoint: dict[str, JsonValue] | None = None
    """Route 53 probes the node."""
    alarm: dict[str, JsonValue] | None = None
    """A CloudWatch alarm decides."""
    calculated: dict[str, JsonValue] | None = None
    """A sum of other checks."""


class DnsTree(Model):
    """Alias records above the leaf group."""

    latency: dict[str, JsonValue] | None = None
    """By latency between regions."""
    failover: tuple[JsonValue, ...] | None = None
    """Primary, secondary and so on."""
    geolocation: dict[str, JsonValue] | None = None
    """By the client's place."""
    shards: Whole = Field(default=1, ge=1, le=100)
    """Leaf groups, beyond 100 nodes."""


class Dns(Model):
    """This node's registration in Route 53."""

    name: Domain
    """Record name that clients ask for."""
    zone: HostName | None = None
    """Name of the hosted zone."""
    zone_id: ZoneId | None = None
    """Id of the hosted zone, instead of its name."""
    weight: Whole = Field(default=100, ge=0, le=255)
    """Weight of this node's record."""
    ttl: Whole = Field(default=30, ge=0, le=604800)
    """Seconds that resolvers may keep the answer."""
    group: NodeId | None = None
    """Leaf group of this node, below the alias records."""
    address: Literal["private", "public"] = "public"
    """Which address is published."""
    tree: DnsTree = DnsTree()
    """Alias records above the leaf group."""
    health: DnsHealth = DnsHealth()
    """Health check of the record."""


class Signals(Model):
    """Thresholds of the node's own signals."""

    cpu: Percent | None = None
    """CPU use of the node."""
    errors_5xx: Percent | None = None
    """Share of responses with status 5xx."""
    connect_errors: Percent | None = None
    """Share of failed connections to servers."""
    p99: Span | None = None
    """99th percentile of the response time."""


class LifecycleDrain(Model):
    """How long a leaving node waits."""

    quiet: Duration = 10.0
    """No connection for this long means drained."""
    max: Duration = 900.0
    """It leaves after this in any case."""


class Lifecycle(Model):
    """This node's own joining and leaving."""

    join_timeout: Span = 900.0
    """A node that is not ready after this gives up its launch."""
    drain: LifecycleDrain = LifecycleDrain()
    """How long a leaving node waits."""


class Events(Model):
    """Faster wake-ups by SQS."""

    queue: Queue = "none"
    """auto, none or a queue's URL."""
