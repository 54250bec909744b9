"""Rules about the health check of the node's record: what Route 53 takes, and what would not mean what it seems to."""

import re
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_network

from hafleet.core.checks.dns import published
from hafleet.core.checks.finding import Finding, Path
from hafleet.core.dns_settings import DnsEndpoint
from hafleet.core.settings import Settings
from hafleet.core.values import Endpoint, parse_endpoint

_FEWEST_REGIONS = 3  # of checkers; botocore's HealthCheckRegionList
_LONGEST_ALARM = 255
_INSTANCE_ID = 19  # characters of an EC2 instance id

# Loopback is not among them: Route 53 refuses it, too, but nobody means it, and the lab's internet lies there.
_NOT_PROBED = tuple(
    map(
        ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
            *("100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10"),
        ),
    )
)
_HERE: Path = ("dns", "health", "endpoint")
_BIND: Path = ("haproxy", "health")


def endpoint_of(settings: Settings) -> DnsEndpoint | None:
    """The endpoint check in force: the one that is written, or the default where no kind is; None when there is none."""
    if settings.dns is None:
        return None
    health = settings.dns.health
    if health.endpoint is not None:
        return health.endpoint
    return DnsEndpoint() if health.alarm is None and health.calculated is None else None


def kinds(settings: Settings) -> Iterator[Finding]:
    """One kind of health check, or a calculated one over exactly the others that are written."""
    if settings.dns is None:
        return
    health, here = settings.dns.health, ("dns", "health")
    written = [kind for kind in ("endpoint", "alarm") if getattr(health, kind) is not None]
    total: Path = (*here, "calculated")
    if health.calculated is None:
        if len(written) > 1:
            fix = "keep one of them, or add calculated to sum them up"
            yield Finding(here, "dns.health has endpoint and alarm", fix, also=(here,))
        return
    children, least = health.calculated.children, health.calculated.healthy
    if len(set(children)) < len(children):
        yield Finding((*total, "children"), "a child stands twice in calculated.children", "write each once")
    for child in dict.fromkeys(children):
        if child not in written:
            what = f"calculated counts {child}, but dns.health.{child} is not written"
            yield Finding((*total, "children"), what, f"add dns.health.{child}, or remove the child", also=(here,))
    for kind in written:
        if kind not in children:
            what = f"dns.health.{kind} is written, but calculated does not count it"
            yield Finding((*here, kind), what, "add it to calculated.children, or remove it", also=(total,))
    if least > len(children):
        what = f"{least} of {len(children)} children can never be healthy, so the node would never be answered"
        yield Finding((*total, "healthy"), what, f"write at most {len(children)}", also=((*total, "children"),))


def fields(settings: Settings) -> Iterator[Finding]:
    """The parts of an endpoint check fit its protocol and Route 53's limits."""
    probe = endpoint_of(settings)
    if probe is None:
        return
    protocol: Path = (*_HERE, "protocol")
    for field in ("path", "host", "search"):
        if probe.protocol == "tcp" and getattr(probe, field) is not None:
            what = f"a tcp check has no {field}"
            yield Finding((*_HERE, field), what, "remove it, or use protocol: http", also=(protocol,))
    if probe.protocol != "https" and probe.sni and "sni" in probe.model_fields_set:
        yield Finding((*_HERE, "sni"), "sni needs https", "remove it, or use protocol: https", also=(protocol,))
    if probe.protocol == "https" and probe.sni and probe.host is None:
        what = "there is no host to send in the TLS handshake, so the node must answer handshakes without a name"
        fix = "add host, or write sni: false where that is meant"
        yield Finding(_HERE, what, fix, fatal=False, also=(protocol, (*_HERE, "host"), (*_HERE, "sni")))
    yield from _regions(probe)
    yield from _switches(probe)


def _regions(probe: DnsEndpoint) -> Iterator[Finding]:
    here = (*_HERE, "regions")
    if len(set(probe.regions)) < len(probe.regions):
        yield Finding(here, "a region of checkers stands twice", "write each once")
    elif 0 < len(probe.regions) < _FEWEST_REGIONS:
        what = f"{len(probe.regions)} of Route 53's regions is too few for a health check"
        yield Finding(here, what, f"write {_FEWEST_REGIONS} or more, or none for all")


def _switches(probe: DnsEndpoint) -> Iterator[Finding]:
    if probe.disabled:
        always = "unhealthy" if probe.inverted else "healthy"
        what = f"a disabled check counts as {always} always, whatever the node does"
        yield Finding((*_HERE, "disabled"), what, "remove it once that is over", fatal=False)
    elif probe.inverted:
        what = "an inverted check takes the node out of DNS while its health listener answers well"
        yield Finding((*_HERE, "inverted"), what, "remove it unless that is meant", fatal=False)


def addresses(settings: Settings) -> Iterator[Finding]:
    """Route 53's checkers stand outside, so the address they probe is a public one."""
    dns = settings.dns
    if dns is None or endpoint_of(settings) is None:
        return
    fix = "use dns.health.alarm, or publish a public address"
    also: tuple[Path, ...] = (("dns", "address"), ("dns", "families"), ("dns", "health"), ("node", "static"))
    if "ipv4" in dns.families and dns.address == "private":
        yield Finding(("dns", "address"), "Route 53 cannot probe private addresses", fix, also=also)
        return
    for family in dict.fromkeys(dns.families):
        address = published(settings, family)
        if address is not None and any(address in network for network in _NOT_PROBED):
            what = f"Route 53 cannot probe the private address {str(address)!r}"
            yield Finding(("node", "static", "public_ip"), what, fix, also=also)


def listener(settings: Settings) -> Iterator[Finding]:
    """Something that answers health checks listens where Route 53 probes, and it is HAProxy."""
    probe = endpoint_of(settings)
    if settings.dns is None or probe is None:
        return
    health = parse_endpoint(settings.haproxy.health)
    port = probe.port or health.port
    here, also = (*_HERE, "port"), (_BIND, (*_HERE, "port"), (*_HERE, "protocol"))
    if port == health.port:
        yield from _health_listener(settings, probe, health)
        return
    own = {parse_endpoint(settings.status.listen).port: "status.listen", settings.peers.port: "peers.port"}
    own[parse_endpoint(settings.haproxy.stats).port] = "haproxy.stats"
    if port in own:
        what = f"the health check would probe {own[port]}, which does not tell whether HAProxy serves"
        yield Finding(here, what, "remove the port; haproxy.health is probed then", also=also)
    elif port not in {parse_endpoint(each.bind).port for each in settings.frontends}:
        what = f"nothing in this file listens on port {port}, which the health check probes"
        yield Finding(here, what, "remove the port; haproxy.health is probed then", fatal=False, also=also)
    else:
        what = f"the health check probes port {port}, where draining this node does not show"
        fix = "remove the port; haproxy.health is probed then, and answers 503 while the node leaves"
        yield Finding(here, what, fix, fatal=False, also=also)


def _health_listener(settings: Settings, probe: DnsEndpoint, health: Endpoint) -> Iterator[Finding]:
    """The probe goes to ``haproxy.health``: it is reachable there, in its language."""
    also: tuple[Path, ...] = (_BIND, ("dns", "health"), ("dns", "families"))
    if str(health.address) in ("127.0.0.1", "::1"):
        what = f"haproxy.health {settings.haproxy.health!r} cannot be reached from outside, where Route 53 probes it"
        yield Finding(_BIND, what, f'write ":{health.port}", and open it for the checkers', also=also)
    elif settings.dns and "ipv6" in settings.dns.families and not isinstance(health.address, IPv6Address):
        what = f"haproxy.health {settings.haproxy.health!r} takes no IPv6, where Route 53 probes the AAAA record's node"
        yield Finding(_BIND, what, f'write "[::]:{health.port}", which takes IPv4 too', also=also)
    if probe.protocol == "https":
        what = "haproxy.health speaks plain HTTP, so an https check would fail always"
        yield Finding((*_HERE, "protocol"), what, "use protocol: http, or the port of a frontend with TLS", also=also)
    if probe.protocol == "tcp":
        what = "a tcp check does not see the 503 that haproxy.health answers while the node leaves"
        yield Finding((*_HERE, "protocol"), what, "use protocol: http", fatal=False, also=also)
    if probe.protocol != "tcp" and probe.path is not None and probe.path != settings.haproxy.health_uri:
        what = f"haproxy.health answers {settings.haproxy.health_uri!r}, not {probe.path!r}"
        path: Path = (*_HERE, "path")
        yield Finding(path, what, "remove the path", also=(*also, ("haproxy", "health_uri")))


def alarm(settings: Settings) -> Iterator[Finding]:
    """The name of the alarm can be filled in, and is each node's own."""
    found = settings.dns.health.alarm if settings.dns else None
    if found is None:
        return
    here: Path = ("dns", "health", "alarm", "name")
    odd = [text for text in re.findall(r"\{[^{}]*\}?|\}", found.name) if text not in ("{instance}", "{fleet}")]
    if odd:
        yield Finding(here, f"dns.health.alarm.name holds {odd[0]!r}", "only {instance} and {fleet} are filled in")
        return
    if "{instance}" not in found.name:
        what = "every node has the same alarm, so all leave DNS together, or none"
        yield Finding(here, what, "put {instance} into its name", fatal=False)
    static = settings.node.static
    own = static.id if static else "i" * _INSTANCE_ID
    if len(found.name.replace("{instance}", own).replace("{fleet}", settings.fleet)) > _LONGEST_ALARM:
        what = f"dns.health.alarm.name is longer than {_LONGEST_ALARM} characters once it is filled in"
        yield Finding(here, what, "shorten it", also=(("fleet",), ("node", "static", "id")))
    if found.region is None and static is not None and not static.region:
        also: tuple[Path, ...] = (("node", "static"), ("dns", "health", "alarm", "region"))
        yield Finding(("dns", "health", "alarm"), "the alarm's region is not known", "add region", also=also)


RULES = (kinds, fields, addresses, listener, alarm)
