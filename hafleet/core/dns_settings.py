"""The ``dns`` section: this node's registration in Route 53."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from hafleet.core.texts import AlarmName, CheckUri, Domain, GroupLabel, HostName, Location, Region, SearchText, ZoneId
from hafleet.core.values import Flag, Model, Number, Port, Span, Whole, parse_whole

CheckerRegion = Literal[  # botocore's HealthCheckRegion
    "us-east-1",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "sa-east-1",
]


class DnsEndpoint(Model):
    """Route 53 probes the node itself: HAProxy's health listener, unless told otherwise."""

    protocol: Literal["http", "https", "tcp"] = "http"
    """What the checkers speak. They do not validate certificates."""
    port: Port | None = None
    """Port that is probed. Unset: that of haproxy.health."""
    path: CheckUri | None = None
    """Path that is asked for; 2xx and 3xx are healthy. Unset: haproxy.health_uri."""
    host: HostName | None = None
    """Host header, and the name in TLS (SNI)."""
    search: SearchText | None = None
    """Text that the first 5,120 bytes of the answer must hold."""
    interval: Annotated[Literal[10, 30], BeforeValidator(parse_whole)] = 10
    """Seconds between two probes of one checker; 10 costs extra."""
    threshold: Whole = Field(default=3, ge=1, le=10)
    """Probes in a row that change a checker's mind."""
    regions: tuple[CheckerRegion, ...] = ()
    """Regions of the checkers, three at least. Empty: all of them."""
    sni: Flag = True
    """Send the host name in the TLS handshake."""
    latency: Flag = False
    """Measure latency, for CloudWatch; costs extra."""
    inverted: Flag = False
    """Healthy means unhealthy."""
    disabled: Flag = False
    """Do not probe: always healthy, or always unhealthy when inverted too."""


class DnsAlarm(Model):
    """The metric stream of a CloudWatch alarm decides. For nodes that Route 53 cannot reach, as in private subnets."""

    name: AlarmName
    """Name of the alarm; {instance} stands for this node's id, {fleet} for the fleet's name."""
    region: Region | None = None
    """Region of the alarm. Unset: the node's."""
    insufficient: Literal["healthy", "unhealthy", "last_known"] = "unhealthy"
    """What an alarm without data means. A dead node publishes nothing."""


class DnsCalculated(Model):
    """A sum of this node's other checks."""

    children: tuple[Literal["endpoint", "alarm"], ...] = Field(min_length=1)
    """Which of them count."""
    healthy: Whole = Field(default=1, ge=1, le=255)
    """So many of them must be healthy."""


class DnsHealth(Model):
    """The health check of the node's record. Unset: an endpoint check with its defaults."""

    endpoint: DnsEndpoint | None = None
    """Route 53 probes the node."""
    alarm: DnsAlarm | None = None
    """A CloudWatch alarm decides."""
    calculated: DnsCalculated | None = None
    """A sum of the two."""


class DnsBranch(Model):
    """Alias records below another alias: one of the three kinds. A target is a leaf group's name, or another such section."""

    latency: dict[Region, "DnsTarget"] | None = None
    """Region to what is answered there."""
    geolocation: dict[Location, "DnsTarget"] | None = None
    """Place of the client to what it is answered."""
    failover: tuple["DnsTarget", ...] | None = Field(default=None, min_length=2)
    """The first that has a healthy node is answered."""


def _kind(value: object) -> str:
    return "branch" if isinstance(value, dict | DnsBranch) else "group"


DnsTarget = Annotated[Annotated[GroupLabel, Tag("group")] | Annotated[DnsBranch, Tag("branch")], Discriminator(_kind)]


class DnsTree(DnsBranch):
    """Alias records above the leaf groups: at most one of latency, geolocation and failover, and the shards."""

    shards: Whole = Field(default=1, ge=1, le=100)
    """Leaf names per group; each takes 100 nodes."""


class Bucket(Model):
    """A token bucket of Route 53."""

    burst: Number = Field(ge=1)
    """Tokens it holds."""
    rate: Number = Field(gt=0)
    """Tokens that come back per second."""


class DnsLimits(Model):
    """What Route 53 grants this account; lower them where others share it."""

    requests: Bucket = Bucket(burst=50, rate=10)
    """All calls together."""
    create_check: Bucket = Bucket(burst=50, rate=0.5)
    """CreateHealthCheck."""
    delete_check: Bucket = Bucket(burst=15, rate=3)
    """DeleteHealthCheck."""
    changes: Bucket = Bucket(burst=1500, rate=100)
    """Change tokens: a CREATE or a DELETE takes one."""


class DnsReap(Model):
    """Removing what dead nodes left behind. Done by the node in service with the lowest id."""

    interval: Span = 600.0
    """How often it looks."""
    confirm: Span = 120.0
    """EC2 must say twice, so far apart, that an instance is gone."""


class Dns(Model):
    """This node's registration in Route 53."""

    name: Domain
    """Record name that clients ask for."""
    zone: HostName | None = None
    """Name of the hosted zone."""
    zone_id: ZoneId | None = None
    """Id of the hosted zone, instead of its name."""
    private: Flag = False
    """The hosted zone of this name that is private, where there are two."""
    policy: Literal["weighted", "multivalue"] = "weighted"
    """Routing policy of the nodes' records: one address per answer, or up to eight."""
    weight: Whole = Field(default=100, ge=0, le=255)
    """Weight of this node's record."""
    ttl: Whole = Field(default=30, ge=0, le=604800)
    """Seconds that resolvers may keep the answer. One for all nodes of a group."""
    group: GroupLabel | None = None
    """Leaf group of this node, below the alias records; {region} and {zone} stand for the node's."""
    address: Literal["private", "public"] = "public"
    """Which IPv4 address is published."""
    families: tuple[Literal["ipv4", "ipv6"], ...] = Field(default=("ipv4",), min_length=1)
    """ipv4 makes an A record, ipv6 an AAAA record."""
    tree: DnsTree = DnsTree()
    """Alias records above the leaf groups."""
    health: DnsHealth = DnsHealth()
    """Health check of the record."""
    interval: Span = 60.0
    """How often the own record is looked at."""
    settle: Span = 60.0
    """A change of unknown outcome counts as in force after this."""
    reap: DnsReap = DnsReap()
    """Removing what dead nodes left behind."""
    limits: DnsLimits = DnsLimits()
    """What Route 53 grants this account."""
