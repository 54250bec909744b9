"""Rules about the node's record in Route 53: its zone, its name, its addresses and what resolvers make of it."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from hafleet.core.checks.finding import Finding, Path
from hafleet.core.dns_settings import Dns
from hafleet.core.settings import Settings
from hafleet.core.values import parse_endpoint

_LONGEST_TTL = 60  # seconds; what AWS asks for where records have health checks

_NAME: Path = ("dns", "name")
_ZONE: tuple[Path, ...] = (("dns", "zone"), ("dns", "zone_id"))
_STATIC: Path = ("node", "static")


def zone(settings: Settings) -> Iterator[Finding]:
    """The record lies in one zone, named once. A zone's own name is fine: A and AAAA records may stand there."""
    dns = settings.dns
    if dns is None:
        return
    if dns.zone is None and dns.zone_id is None:
        yield Finding(("dns",), "dns names no hosted zone", "add zone, or zone_id", also=_ZONE)
    elif dns.zone is not None and dns.zone_id is not None:
        yield Finding(("dns", "zone_id"), "dns names its hosted zone twice", "keep zone, or zone_id", also=_ZONE)
    elif dns.zone_id is not None and dns.private:
        what = "dns.private chooses between two zones of one name, but zone_id names one already"
        yield Finding(("dns", "private"), what, "remove one of them", fatal=False, also=_ZONE)
    if dns.zone is not None and dns.name != dns.zone and not dns.name.endswith(f".{dns.zone}"):
        what = f"the record {dns.name!r} is not inside the zone {dns.zone!r}"
        yield Finding(_NAME, what, f"write a name that ends with .{dns.zone}", also=_ZONE)


def policy(settings: Settings) -> Iterator[Finding]:
    """Multivalue records stand alone: Route 53 promises nothing about aliases to them."""
    dns = settings.dns
    if dns is None or dns.policy != "multivalue":
        return
    here, also = ("dns", "policy"), (("dns", "tree"),)
    if any(kind is not None for kind in (dns.tree.latency, dns.tree.geolocation, dns.tree.failover)):
        what = "multivalue records cannot stand below alias records"
        yield Finding(here, what, "use policy: weighted, or remove dns.tree", also=also)
    elif dns.tree.shards > 1:
        yield Finding(
            here, "multivalue records cannot stand in shards", "use policy: weighted, or shards: 1", also=also
        )
    if "weight" in dns.model_fields_set:
        what = "multivalue records have no weight"
        yield Finding(("dns", "weight"), what, "remove it, or use policy: weighted", fatal=False, also=(here,))


def answers(settings: Settings) -> Iterator[Finding]:
    """What resolvers keep, and whom they are told."""
    dns = settings.dns
    if dns is None:
        return
    if dns.ttl > _LONGEST_TTL:
        what = f"resolvers answer a dead node for up to {dns.ttl}s after its health check noticed"
        yield Finding(("dns", "ttl"), what, f"write at most {_LONGEST_TTL}", fatal=False)
    if dns.weight == 0 and dns.policy == "weighted":
        what = "a node of weight 0 is answered only while every node with a weight is unhealthy"
        yield Finding(("dns", "weight"), what, "keep it for a stand-by, or write 1 to 255", fatal=False)


def families(settings: Settings) -> Iterator[Finding]:
    """Each family is written once, and something listens there."""
    dns = settings.dns
    if dns is None:
        return
    here: Path = ("dns", "families")
    if len(set(dns.families)) < len(dns.families):
        yield Finding(here, "a family stands twice in dns.families", "write each once")
    six = any(isinstance(parse_endpoint(each.bind).address, IPv6Address) for each in settings.frontends)
    if "ipv6" in dns.families and not six:
        what = "dns publishes an IPv6 address, but no frontend listens there"
        fix = 'bind one to "[::]:PORT", which takes IPv4 too, or remove ipv6'
        yield Finding(here, what, fix, fatal=False, also=(("frontends", "*", "bind"),))


def node(settings: Settings) -> Iterator[Finding]:
    """A node described by hand has what its record needs."""
    dns, static = settings.dns, settings.node.static
    if dns is None or static is None:
        return
    for family in dict.fromkeys(dns.families):
        if published(settings, family) is None:
            yield Finding(("dns", "families"), *_without_address(dns, family), also=(_STATIC, ("dns", "address")))


def published(settings: Settings, family: str) -> IPv4Address | IPv6Address | None:
    """The address that a node described by hand publishes; None when it has none, or is not described by hand."""
    dns, static = settings.dns, settings.node.static
    if dns is None or static is None:
        return None
    if family == "ipv6":
        return next((ip for ip in (static.public_ip, static.private_ip) if isinstance(ip, IPv6Address)), None)
    ip = static.public_ip if dns.address == "public" else static.private_ip
    return ip if isinstance(ip, IPv4Address) else None


def _without_address(dns: Dns, family: str) -> tuple[str, str]:
    """What and fix for a node that has no address of this family to publish."""
    if family == "ipv6":
        return "node.static has no IPv6 address to publish", "add it as public_ip, or remove ipv6 from dns.families"
    if dns.address == "public":
        return "node.static has no public IPv4 address to publish", "add public_ip, or write dns.address: private"
    return "node.static has no private IPv4 address to publish", "use families: [ipv6], or dns.address: public"


RULES = (zone, policy, answers, families, node)
