"""The sections of hafleet.yaml that describe a backend: its sources, stickiness, checks and TLS.

Durations are seconds, sizes plain ints. Every text that reaches haproxy.cfg has a type that admits only what needs no
quoting there, except ``check.body`` and ``balance``, which may hold spaces: ``check.body`` belongs between quotes.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from hafleet.core.proxy_settings import Mode
from hafleet.core.texts import (
    Balance,
    BodyText,
    CaFile,
    CheckUri,
    CookieName,
    Domain,
    GroupName,
    HookName,
    HostHeader,
    HostName,
    Name,
    Sample,
    Statuses,
    TagText,
)
from hafleet.core.values import (
    Address,
    Count,
    Drain,
    Duration,
    Flag,
    Model,
    Port,
    Refusal,
    Share,
    Size,
    Span,
    parse_whole,
    shown,
)


def parse_ports(value: object) -> int | tuple[int, ...]:
    """One port, or a list of different ports. Raises Refusal."""
    many = isinstance(value, list | tuple)
    ports = tuple(parse_whole(each) for each in (value if isinstance(value, list | tuple) else [value]))
    for port in ports:
        if not 1 <= port <= 65535:
            raise Refusal(f"{shown(port)} is not a port", "write 1 to 65535")
    if not ports or len(set(ports)) != len(ports):
        raise Refusal("the list of ports is empty or names a port twice", "write each port once")
    return ports if many else ports[0]


Ports = Annotated[
    Port | tuple[Port, ...],
    BeforeValidator(parse_ports),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 1, "maximum": 65535}},
            ]
        }
    ),
]


class Source(Model):
    """Where members of a backend come from: exactly one of asg, asg_tag and static."""

    asg: GroupName | None = None
    """Name of an Auto Scaling group."""
    asg_tag: dict[TagText, TagText] | None = Field(default=None, min_length=1)
    """Tag and value; every Auto Scaling group that carries it feeds the backend. Of several, a group carries all."""
    static: tuple[Address, ...] | None = Field(default=None, min_length=1)
    """IP addresses of servers outside Auto Scaling."""
    weight: Share | None = None
    """Share of the backend's traffic next to its other sources, whatever their number of servers."""
    port: Port | None = None
    """Port of these servers, instead of the backend's."""
    terminate_hook: HookName | None = None
    """Lifecycle hook of these groups that the fleet completes once every node has drained the terminating instance."""


class Stick(Model):
    """A stick table of the backend, replicated through the peers."""

    on: Sample = "src"
    """What identifies a client: src, or a sample expression such as req.cook(session) or ssl_fc_session_id."""
    type: Literal["ip", "ipv6", "string", "integer", "binary"] | None = None
    """Type of the table's key. Unset: ip for src, else string."""
    size: Size = 200 * 1024
    """Entries the table holds; k, m and g are powers of 1024."""
    expire: Span = 1800.0
    """An entry lives this long after its last use."""


class Cookie(Model):
    """Stickiness by a cookie that HAProxy sets; its value is the server's name. http only."""

    name: CookieName
    """The cookie's name."""
    secure: Flag = False
    """Sent over TLS only."""
    httponly: Flag = True
    """Hidden from scripts."""
    max_idle: Span | None = None
    """Unused longer than this, the cookie is ignored."""
    max_life: Span | None = None
    """Older than this, the cookie is ignored."""


class Check(Model):
    """Health check of each server: HTTP when path is set, else TCP."""

    path: CheckUri | None = None
    """URI to get."""
    host: HostHeader | None = None
    """Host header to send."""
    expect: Statuses | None = None
    """Status that means healthy, such as "200" or "200-299". Unset: 200-399."""
    body: BodyText | None = None
    """Text that the body must hold, besides the status."""
    interval: Span = 2.0
    """Time between checks."""
    fast: Span | None = None
    """Time between checks while a server changes state. Unset: a tenth of interval, at least 100 ms."""
    down: Span | None = None
    """Time between checks of a server that is down, and before the first check of a new one. Unset: as fast."""
    timeout: Span | None = None
    """Wait for an answer. Unset: as long as interval."""
    rise: Count = 2
    """Good checks in a row that bring a server up."""
    fall: Count = 3
    """Bad checks in a row that take it down."""
    port: Port | None = None
    """Port to check, instead of the server's."""
    tls: Flag = False
    """Checks over TLS."""


class ServerTls(Model):
    """TLS towards the servers."""

    verify: Flag = True
    """Checks the servers' certificates against ca."""
    ca: CaFile = "@system-ca"
    """PEM file of the authorities, or @system-ca for the host's."""
    sni: HostName | None = None
    """Server name to ask for, and to expect in the certificate."""


class Backend(Model):
    """A pool of servers, its balancing and its checks."""

    name: Name
    """Its name in HAProxy, in logs and in metrics."""
    domains: tuple[Domain, ...] = ()
    """Host names (http) or TLS server names (tcp) that lead here; *.suffix takes every name below."""
    mode: Mode | None = None
    """Unset: tcp if only tcp frontends can reach it, else http."""
    port: Ports = 80
    """Port of the servers; with a list, each instance is one server per port."""
    family: Literal["ipv4", "ipv6"] = "ipv4"
    """Which address of an instance is used."""
    balance: Balance = "roundrobin"
    """roundrobin, leastconn, first, random, source, uri, hdr(NAME) or url_param NAME."""
    sources: tuple[Source, ...] = Field(min_length=1)
    """Where its servers come from."""
    capacity_weights: Flag = False
    """Takes the Auto Scaling group's WeightedCapacity as the server's weight."""
    stick: Stick | None = None
    """Stickiness by a replicated table."""
    cookie: Cookie | None = None
    """Stickiness by a cookie."""
    check: Check = Check()
    """Health check of its servers."""
    tls: ServerTls | None = None
    """Speaks TLS to its servers."""
    slow_start: Duration | None = None
    """Time over which a server that came up grows to its full share."""
    drain: Drain = 300.0
    """Time a leaving server keeps its connections (ELB's deregistration delay). At most 48h, as long as AWS waits."""
    zone_affinity: Literal["none", "prefer"] = "none"
    """prefer: servers of other zones serve only when this node's zone has none."""
    maxconn: Count | None = None
    """Most concurrent connections per server; more wait in the queue."""
    send_proxy: Flag = False
    """Sends the PROXY protocol to the servers."""

    @property
    def ports(self) -> tuple[int, ...]:
        """All ports of this backend, sorted; one server per instance and port."""
        return tuple(sorted(self.port)) if isinstance(self.port, tuple) else (self.port,)
