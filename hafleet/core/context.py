"""What the templates see: one frozen value, ready to print. ``core.build_context`` makes it.

Every text in it came through a typed setting or is generated, so none holds a blank, quote or line break, except
``check.body`` and ``balance``, which the settings keep harmless. Fields that may be absent are None, so that a template
can say ``{% if backend.stick %}``. docs/templates.md lists these fields for the authors of templates.
"""

from dataclasses import dataclass

from hafleet.core.features import Features
from hafleet.core.model import Node, Version
from hafleet.core.serverlines import ServerContext
from hafleet.core.settings import Mode, RouteBy


@dataclass(frozen=True, slots=True)
class GlobalContext:
    """The process: the ``global`` section."""

    runtime_socket: str
    server_state: str  # path
    maxconn: int | None
    threads: int | None
    hard_stop_after: str  # timers are texts such as 5s
    close_spread_time: str | None
    max_reloads: int


@dataclass(frozen=True, slots=True)
class TimeoutsContext:
    """The timers of the ``defaults`` section, as texts such as 5s."""

    connect: str
    client: str
    server: str
    queue: str
    http_request: str
    http_keep_alive: str
    tunnel: str


@dataclass(frozen=True, slots=True)
class FrontendContext:
    """One listener."""

    name: str
    mode: Mode
    bind: str  # address and all options: ":443 ssl crt /etc/ssl/site.pem alpn h2,http/1.1"
    route_by: RouteBy
    forwarded_for: bool
    default_backend: str | None
    paths: str | None  # path of the map file of its routes; None without routes
    path_depths: tuple[int, ...]  # labels of the routes' wildcard hosts, deepest first


@dataclass(frozen=True, slots=True)
class StickContext:
    """A stick table of a backend."""

    on: str
    type: str  # with its length: "ip", "string len 128"
    size: int
    expire: str


@dataclass(frozen=True, slots=True)
class CookieContext:
    """The cookie of a backend."""

    name: str
    options: str  # after the name: "insert indirect nocache httponly"


@dataclass(frozen=True, slots=True)
class CheckContext:
    """The health check of a backend, less what stands on the server lines."""

    path: str | None  # None: a TCP check
    host: str  # Host header
    expect: str  # HTTP statuses
    body: str | None
    timeout: str | None


@dataclass(frozen=True, slots=True)
class BackendContext:
    """One pool of servers."""

    name: str
    mode: Mode
    balance: str
    hashed: bool  # the algorithm hashes: `hash-type consistent`
    stick: StickContext | None
    cookie: CookieContext | None
    check: CheckContext
    all_backups: bool  # backup servers share the load
    options: tuple[str, ...]  # every option text its servers may have, %N for the name: the `# hafleet:options` lines
    servers: tuple[ServerContext, ...]  # sorted by name
    lines: tuple[str, ...]  # their lines


@dataclass(frozen=True, slots=True)
class PeerContext:
    """One node of the stick-table mesh."""

    name: str
    address: str  # ADDRESS:PORT
    local: bool


@dataclass(frozen=True, slots=True)
class PeersContext:
    """The stick-table mesh; this node is always in it."""

    local: PeerContext
    all: tuple[PeerContext, ...]  # sorted by name
    tls: str | None  # options for bind and server lines: "ssl crt ... ca-file ... verify required"


@dataclass(frozen=True, slots=True)
class MapsContext:
    """Paths of the domain maps, and how deep their wildcards may go."""

    hosts: str
    hosts_wild: str
    sni: str
    sni_wild: str
    depths: tuple[int, ...]  # numbers of labels to look up, deepest first


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a template may use. Its fields are the templates' variables."""

    fleet: str
    node: Node
    version: Version  # of HAProxy
    features: Features
    process: GlobalContext
    timeouts: TimeoutsContext
    frontends: tuple[FrontendContext, ...]
    backends: tuple[BackendContext, ...]
    peers: PeersContext
    maps: MapsContext
    stats: str  # address of the statistics listener
    health: str  # address of the health listener
    health_uri: str
