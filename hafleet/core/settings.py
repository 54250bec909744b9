"""The settings as typed, frozen values: hafleet.yaml after it passed. One class per section, one docstring per field group.

Durations are seconds, percentages are fractions (0.15), sizes are plain ints. ``hafleet.config`` builds these from YAML and
turns every refusal into a ``Problem`` with its line.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def parse_duration(value: Any) -> Any:
    """``"300ms"``, ``"30s"``, ``"5m"`` or a number of seconds -> seconds as float."""
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)", value)
        if not found:
            raise ValueError(f"{value!r} is not a duration; write a number and us, ms, s, m, h or d, such as 30s")
        return float(found[1]) * _UNITS[found[2]]
    if isinstance(value, bool):
        raise ValueError("a duration is a number of seconds or a text such as 30s")
    return value


def parse_percent(value: Any) -> Any:
    """``"15%"`` or a fraction 0..1 -> fraction."""
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)%", value)
        if not found:
            raise ValueError(f"{value!r} is not a percentage; write it as 15%")
        return float(found[1]) / 100
    return value


def parse_size(value: Any) -> Any:
    """``"200k"`` or a plain count -> int (k, m and g are powers of 1024, as in HAProxy)."""
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+)([kmg]?)", value)
        if not found:
            raise ValueError(f"{value!r} is not a size; write a number, with k, m or g if you like")
        return int(found[1]) * _SIZES[found[2]]
    return value


Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
Percent = Annotated[float, BeforeValidator(parse_percent), Field(ge=0, le=1)]
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_.:-]{0,62}\Z")]  # safe as an HAProxy proxy or section name
Address = IPv4Address | IPv6Address


class Model(BaseModel):
    """Base of all settings: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=False)


class Aws(Model):
    """How AWS is called. Endpoints and credentials come from the environment or the instance role, as for any AWS tool."""

    region: str | None = None  # None: read from IMDS placement/region
    connect_timeout: Duration = 5.0
    read_timeout: Duration = 10.0
    max_attempts: int = Field(default=3, ge=1, le=20)


class Static(Model):
    """A node described by hand, for hosts without IMDS."""

    id: Annotated[str, Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9-]{0,62}\Z")]
    private_ip: Address
    public_ip: Address | None = None
    zone: str = ""
    region: str = ""
    asg: str = ""


class NodeSource(Model):
    """Who this node is: from IMDS, or by hand under ``static``."""

    source: Literal["imds", "static"] = "imds"
    static: Static | None = None


class PeersTls(Model):
    """TLS between peers, with ``verify required`` on both sides."""

    cert: str  # PEM with certificate and key
    ca: str


class Peers(Model):
    """The stick-table replication mesh, from this node's own Auto Scaling group."""

    port: Port = 10000
    tls: PeersTls | None = None
    settle: Duration = 5.0  # a changed peers list must stand this long before it costs a reload


class Haproxy(Model):
    """Where HAProxy is and how it is kept."""

    binary: str = "haproxy"
    config: str = "/etc/haproxy/haproxy.cfg"
    maps_dir: str = "/etc/haproxy/maps"
    templates_dir: str | None = None  # user's templates; those missing there come from the shipped ones
    runtime_socket: str = "/run/haproxy/admin.sock"
    master_socket: str = "/run/haproxy-master.sock"
    server_state: str = "/var/lib/hafleet/server-state"
    maxconn: int | None = Field(default=None, ge=10)
    threads: int | None = Field(default=None, ge=1, le=256)
    hard_stop_after: Duration = 300.0  # an old worker's longest life
    close_spread_time: Duration = 5.0
    max_reloads: int = Field(default=5, ge=1)  # mworker-max-reloads
    stats: str = "127.0.0.1:8404"  # stats page and Prometheus exporter; loopback only
    health: str = ":8403"  # monitor-uri listener; the endpoint that DNS health checks probe
    health_uri: str = "/hafleet-health"
    timeout_connect: Duration = 5.0
    timeout_client: Duration = 60.0
    timeout_server: Duration = 60.0
    timeout_queue: Duration = 30.0
    timeout_http_request: Duration = 10.0
    timeout_http_keep_alive: Duration = 60.0
    timeout_tunnel: Duration = 3600.0


class Tls(Model):
    """TLS termination on a bind."""

    cert: str  # PEM file or folder of PEM files, as HAProxy's crt
    alpn: str = "h2,http/1.1"


class Route(Model):
    """One path rule of an HTTP frontend, tried before the Host map. Longest prefix wins."""

    host: str | None = None  # exact or *.suffix; None: any host
    path: Annotated[str, Field(pattern=r"\A/[^\s]*\Z")]
    backend: str


class Frontend(Model):
    """A listener and how it chooses a backend."""

    name: Name
    bind: str  # ":80", "10.0.0.1:443", "[::]:443"
    mode: Literal["http", "tcp"] = "http"
    route_by: Literal["host", "sni", "none"] | None = None  # default: host for http, none for tcp
    default_backend: str | None = None
    routes: tuple[Route, ...] = ()
    tls: Tls | None = None
    accept_proxy: bool = False
    forwarded_for: bool = True


class Source(Model):
    """Where members of a backend come from: exactly one of ``asg``, ``asg_tag`` and ``static``."""

    asg: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    asg_tag: dict[str, str] | None = None
    static: tuple[Address, ...] | None = None
    weight: int | None = Field(default=None, ge=0, le=1000)  # share of the backend's traffic next to its other sources
    port: Port | None = None  # instead of the backend's


class Stick(Model):
    """A stick table of the backend, replicated through the peers."""

    on: Literal["src"] | str = "src"  # a sample expression; src, or e.g. req.cook(session), ssl_fc_session_id
    type: Literal["ip", "ipv6", "string", "integer", "binary"] | None = None  # default: ip for src, else string
    size: Size = 200 * 1024
    expire: Duration = 1800.0


class Cookie(Model):
    """Stickiness by a cookie that HAProxy sets: the value is the server's name."""

    name: Annotated[str, Field(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
    secure: bool = False
    httponly: bool = True
    max_idle: Duration | None = None
    max_life: Duration | None = None


class Check(Model):
    """Health check of each server: HTTP when ``path`` is set, else TCP."""

    path: Annotated[str, Field(pattern=r"\A/[^\s]*\Z")] | None = None
    host: Annotated[str, Field(pattern=r"\A[A-Za-z0-9._:\[\]-]{1,255}\Z")] | None = None
    expect: str | None = None  # status such as "200" or "200-299"; default 200-399
    body: str | None = None  # the body must contain this text (then it decides, with the status)
    interval: Duration = 2.0
    fast: Duration | None = None  # between checks while a server changes state; default: interval / 10, at least 100 ms
    timeout: Duration | None = None
    rise: int = Field(default=2, ge=1)
    fall: int = Field(default=3, ge=1)
    port: Port | None = None
    tls: bool = False


class ServerTls(Model):
    """TLS towards the servers."""

    verify: bool = True
    ca: str = "@system-ca"
    sni: str | None = None


class Backend(Model):
    """A pool of servers, its balancing and its checks."""

    name: Name
    domains: tuple[str, ...] = ()
    mode: Literal["http", "tcp"] | None = None  # default: tcp if only tcp frontends can reach it, else http
    port: Port | tuple[Port, ...] = 80
    family: Literal["ipv4", "ipv6"] = "ipv4"
    balance: str = "roundrobin"  # roundrobin, leastconn, first, random, source, uri, hdr(NAME), url_param NAME
    sources: tuple[Source, ...]
    capacity_weights: bool = False  # WeightedCapacity as server weight
    stick: Stick | None = None
    cookie: Cookie | None = None
    check: Check = Check()
    tls: ServerTls | None = None
    slow_start: Duration | None = None
    drain: Duration = 300.0
    zone_affinity: Literal["none", "prefer"] = "none"
    maxconn: int | None = Field(default=None, ge=1)  # per server
    send_proxy: bool = False

    @property
    def ports(self) -> tuple[int, ...]:
        """All ports of this backend, sorted; one server per instance and port."""
        return tuple(sorted(set(self.port))) if isinstance(self.port, tuple) else (self.port,)


class DnsHealth(Model):
    """One of the three kinds of Route 53 health check. Given life by the DNS issue."""

    endpoint: dict[str, Any] | None = None
    alarm: dict[str, Any] | None = None
    calculated: dict[str, Any] | None = None


class DnsTree(Model):
    """Alias levels above the leaf group. Given life by the DNS issue."""

    latency: dict[str, Any] | None = None
    failover: tuple[Any, ...] | None = None
    geolocation: dict[str, Any] | None = None
    shards: int = Field(default=1, ge=1, le=100)


class Dns(Model):
    """This node's registration in Route 53. Given life by the DNS issue."""

    name: str
    zone: str | None = None
    zone_id: str | None = None
    weight: int = Field(default=100, ge=0, le=255)
    ttl: int = Field(default=30, ge=0, le=604800)
    group: str | None = None
    address: Literal["private", "public"] = "public"
    tree: DnsTree = DnsTree()
    health: DnsHealth = DnsHealth()


class Signals(Model):
    """Thresholds of the node's own signals. Given life by the signals issue."""

    cpu: Percent | None = None
    errors_5xx: Percent | None = None
    connect_errors: Percent | None = None
    p99: Duration | None = None


class LifecycleDrain(Model):
    """How long a leaving node waits. Given life by the lifecycle issue."""

    quiet: Duration = 10.0
    max: Duration = 900.0


class Lifecycle(Model):
    """This node's own joining and leaving. Given life by the lifecycle issue."""

    join_timeout: Duration = 900.0
    drain: LifecycleDrain = LifecycleDrain()


class Events(Model):
    """Faster wake-ups by SQS: auto, none or a queue URL. Given life by the lifecycle issue."""

    queue: str = "none"


class Safety(Model):
    """The guard's figures (DESIGN section 7)."""

    max_removal: Percent = 0.15
    confirm_reads: int = Field(default=2, ge=1, le=100)
    ceiling: float = Field(default=10.0, gt=1)  # a membership this many times the last one is held
    hold_max: Duration = 3600.0  # members missing without evidence from a half-empty answer are held this long
    reload_min_interval: Duration = 10.0
    cold_start_quiet: Duration = 10.0  # no reload this soon after HAProxy's cold start
    max_old_workers: int = Field(default=5, ge=1)


class Passes(Model):
    """When a pass runs."""

    interval: Duration = 10.0
    jitter: Percent = 0.1
    settle_min: Duration = 0.1  # quiet time after the last wake-up ...
    settle_max: Duration = 1.0  # ... but never longer than this after the first


class Status(Model):
    """The listener of /metrics and the status page."""

    listen: str = "127.0.0.1:8405"


class Settings(Model):
    """The whole of hafleet.yaml."""

    fleet: Annotated[str, Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")]
    aws: Aws = Aws()
    node: NodeSource = NodeSource()
    peers: Peers = Peers()
    haproxy: Haproxy = Haproxy()
    frontends: tuple[Frontend, ...] = Field(min_length=1)
    backends: tuple[Backend, ...] = Field(min_length=1)
    dns: Dns | None = None
    signals: Signals | None = None
    lifecycle: Lifecycle | None = None
    events: Events | None = None
    safety: Safety = Safety()
    passes: Passes = Passes()
    status: Status = Status()
    state_dir: str = "/var/lib/hafleet"
