"""The words of DNS: records, health checks, changes, and what the DNS side is told of the node. Frozen values, no behaviour.

Names are lower-case, without the dot at the end and without Route 53's octal escapes; the adapter translates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hafleet.core.model import Group, Node, Unknown

RecordType = Literal["A", "AAAA"]


@dataclass(frozen=True, slots=True)
class Alias:
    """Another record set of the same zone and type that answers instead."""

    target: str
    zone_id: str
    evaluate: bool = True  # EvaluateTargetHealth: the alias is healthy while any target is


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client is; all empty: the default of a geolocation group."""

    continent: str = ""
    country: str = ""
    subdivision: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record set: a leaf (``values`` and ``ttl``) or an alias. At most one routing policy is set."""

    name: str
    type: str  # A or AAAA for ours; foreign ones may be of any type
    set_id: str = ""  # SetIdentifier: the instance id of a leaf's writer
    ttl: int | None = None
    values: tuple[str, ...] = ()
    alias: Alias | None = None
    weight: int | None = None
    multivalue: bool = False
    region: str = ""  # latency
    place: Place | None = None  # geolocation
    failover: str = ""  # PRIMARY or SECONDARY
    check: str = ""  # health check id
    stored: str = field(default="", compare=False)  # JSON as Route 53 returned it; a DELETE must repeat it exactly

    @property
    def key(self) -> tuple[str, str, str]:
        """What Route 53 tells record sets apart by."""
        return (self.name, self.type, self.set_id)


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """A health check as Route 53 stores it. Fields that do not belong to its type are empty."""

    type: str  # HTTP, HTTPS, HTTP_STR_MATCH, HTTPS_STR_MATCH, TCP, CALCULATED, CLOUDWATCH_METRIC
    address: str = ""  # compressed
    port: int = 0
    path: str = ""
    host: str = ""
    search: str = ""
    interval: int = 30
    threshold: int = 3
    regions: tuple[str, ...] = ()  # sorted; empty: all
    sni: bool = False
    latency: bool = False
    inverted: bool = False
    disabled: bool = False
    children: tuple[str, ...] = ()  # ids of a calculated check's children, sorted
    healthy: int = 0  # so many children must be healthy
    alarm: str = ""
    alarm_region: str = ""
    insufficient: str = ""  # Healthy, Unhealthy or LastKnownStatus


@dataclass(frozen=True, slots=True)
class Check:
    """A health check that exists."""

    id: str
    reference: str  # CallerReference
    config: CheckConfig


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a batch. A DELETE carries the record as it was read (``stored``), so that it fails when it changed."""

    action: Literal["CREATE", "DELETE"]
    record: Record


Batch = tuple[Change, ...]  # in order; Route 53 applies all of it or none


@dataclass(frozen=True, slots=True)
class Situation:
    """What the DNS side is told of the node after each pass. Nothing in it is read from Route 53."""

    at: float  # wall clock
    node: Node
    serves: bool  # HAProxy runs what is installed and has servers that answer: may be announced
    leaving: bool  # phase LEAVING: the record must go
    red_since: float  # wall clock since when the proxy answers its health check with 503; 0 while it does not
    group: Group | Unknown | None  # own Auto Scaling group; None when the node is in none
    busy: bool = False  # it leaves, and connections that still have time go over it, as far as anybody knows


@dataclass(frozen=True, slots=True)
class CheckMemo:
    """A health check that this node asked for. Written before the call, so that a crash repeats it instead of leaking one."""

    reference: str
    config: CheckConfig
    id: str = ""  # "" until Route 53 answered


@dataclass(frozen=True, slots=True)
class DnsMemory:
    """What neither Route 53 nor the pass can tell, kept in ``state_dir/dns.json``."""

    node: str = ""  # whose memory this is
    names: tuple[
        str, ...
    ] = ()  # dns.name of these settings, then of earlier ones below which own records may still stand
    checks: Mapping[str, CheckMemo] = field(default_factory=dict)  # by record type and role, such as "A/endpoint"
    old_checks: tuple[str, ...] = ()  # check ids to delete once no record uses them and that is INSYNC
    change: str = ""  # id of the last change that was not INSYNC yet
    changed_at: float = 0.0  # wall clock of the last change of own records; 0 when there was none
    refused: Mapping[str, str] = field(default_factory=dict)  # digest of a batch -> why Route 53 will never take it
    suspects: Mapping[str, float] = field(default_factory=dict)  # instance id -> wall clock of the first proof of death
    orphans: Mapping[str, float] = field(
        default_factory=dict
    )  # check id -> wall clock it was first seen without record
    reaped_at: float = 0.0  # wall clock of the last look for dead nodes' things
