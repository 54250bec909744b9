"""The sections of hafleet.yaml that describe HAProxy itself and its frontends.

Durations are seconds. Every text that reaches haproxy.cfg has a type that admits only what needs no quoting there.
"""

from typing import Literal

from hafleet.core.texts import Alpn, Domain, FilePath, Name, Program, SocketPath, Uri
from hafleet.core.values import Bind, Connections, Count, Duration, Flag, Model, Span, Threads

Mode = Literal["http", "tcp"]
RouteBy = Literal["host", "sni", "none"]


class Haproxy(Model):
    """Where HAProxy is and how it is kept."""

    binary: Program = "haproxy"
    """The program: a name looked up in PATH, or an absolute path."""
    config: FilePath = "/etc/haproxy/haproxy.cfg"
    """The configuration that hafleet writes and HAProxy loads."""
    maps_dir: FilePath = "/etc/haproxy/maps"
    """Folder of the map files (domains and paths to backends)."""
    templates_dir: FilePath | None = None
    """Folder of your own templates. Those missing there come from the shipped ones."""
    runtime_socket: SocketPath = "/run/haproxy/admin.sock"
    """Unix socket of the Runtime API. HAProxy allows 97 characters."""
    master_socket: SocketPath = "/run/haproxy/master.sock"
    """Unix socket of the master CLI."""
    server_state: FilePath = "/var/lib/hafleet/server-state"
    """File that carries health, maintenance and weight of servers over a reload."""
    maxconn: Connections | None = None
    """Most concurrent connections of the process. Unset: HAProxy derives it from the file limit."""
    threads: Threads | None = None
    """Threads of the process. Unset: one per core."""
    hard_stop_after: Span = 300.0
    """Longest life of an old worker after a reload; connections left are cut then."""
    close_spread_time: Duration = 0.0
    """Time over which an old worker closes idle connections by itself, at the cost of some requests. 0: with their next answer."""
    max_reloads: Count = 5
    """Reloads an old worker may survive (mworker-max-reloads)."""
    stats: Bind = "127.0.0.1:8404"
    """Statistics page and Prometheus exporter of HAProxy. Loopback only."""
    health: Bind = ":8403"
    """Listener that DNS health checks probe; HAProxy itself answers."""
    health_uri: Uri = "/hafleet-health"
    """Path that the health listener answers: 200 while the node serves, 503 while it leaves."""
    timeout_connect: Span = 5.0
    """Wait for a connection to a server."""
    timeout_client: Span = 60.0
    """Silence allowed from a client."""
    timeout_server: Span = 60.0
    """Silence allowed from a server."""
    timeout_queue: Span = 30.0
    """Wait for a free slot on a server."""
    timeout_http_request: Span = 10.0
    """Wait for a complete request."""
    timeout_http_keep_alive: Span = 60.0
    """Wait for the next request on a connection."""
    timeout_tunnel: Span = 3600.0
    """Silence allowed on WebSockets and TCP once both sides talk."""


class Tls(Model):
    """TLS termination on a frontend."""

    cert: FilePath
    """PEM file, or folder of PEM files, each with certificate and key."""
    alpn: Alpn = "h2,http/1.1"
    """Protocols offered, the first preferred."""


class Route(Model):
    """One path rule of an HTTP frontend, tried before the Host map. The longest prefix wins."""

    host: Domain | None = None
    """Host name or *.suffix. Unset: any host."""
    path: Uri
    """Beginning of the path."""
    backend: Name
    """Name of the backend that takes the request."""


class Frontend(Model):
    """A listener, and how it chooses a backend."""

    name: Name
    """Its name in HAProxy, in logs and in metrics."""
    bind: Bind
    """Address and port to listen on: ":80", "10.0.0.1:443" or "[::]:443" (which takes IPv4 too)."""
    mode: Mode = "http"
    """http reads requests; tcp passes bytes."""
    route_by: RouteBy | None = None
    """Which name chooses among the backends' domains. Unset: host for http, none for tcp."""
    default_backend: Name | None = None
    """Backend for everything that no route and no domain takes."""
    routes: tuple[Route, ...] = ()
    """Path rules, http only."""
    tls: Tls | None = None
    """Ends TLS here."""
    accept_proxy: Flag = False
    """Expects the PROXY protocol from what stands in front."""
    forwarded_for: Flag = True
    """Adds X-Forwarded-For, http only."""
