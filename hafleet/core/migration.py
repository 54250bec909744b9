"""The vars file of old -> what hafleet is to do, and what the operator has to be told about the difference.

The ancestor asked its expressions one after the other, in the order of the mappings; hafleet looks a name up, exactly first, then
by its longest suffix. So a name goes to the first mapping whose expression took it, whoever lists it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from hafleet.core.checks.finding import Finding, Path
from hafleet.core.hostregex import Drift, covered
from hafleet.core.maps import DEEPEST
from hafleet.core.oldvars import LEFT, Mapping, OldVars
from hafleet.core.values import shown

_PROBE = "any-name-at-all"  # stands for every label below a suffix
_DRIFTS: dict[Drift, str] = {
    "dots": "a bare . meant any character",
    "start": "it was open at its start",
    "end": "it was open at its end",
    "depth": "it took one label, or some characters only",
}
_ALWAYS = (
    Finding(
        (),
        "the statistics page on :9999 and its fixed password are gone",
        "HAProxy's page is on 127.0.0.1:8404 of each node, and its metrics, too",
        fatal=False,
    ),
    Finding(
        (),
        "HTTP and HTTPS of a site shared one stick table, and have one each now",
        "a client may meet two servers of a site: let them share their sessions",
        fatal=False,
    ),
)


@dataclass(frozen=True, slots=True)
class Site:
    """One mapping: two backends, NAME_http on port 80 and NAME_https on port 443."""

    name: str
    domains: tuple[str, ...]
    servers: tuple[IPv4Address | IPv6Address, ...]

    @property
    def family(self) -> str:
        """ipv4, or ipv6 where every server has such an address."""
        return "ipv6" if all(address.version == 6 for address in self.servers) else "ipv4"


@dataclass(frozen=True, slots=True)
class Migration:
    """What a vars file comes down to. ``findings`` have paths of that file; a fatal one means that there is nothing to use."""

    old: OldVars
    sites: tuple[Site, ...]
    zone: str | None  # name of the hosted zone; None where the nodes were not registered
    findings: tuple[Finding, ...]


def migrate(old: OldVars) -> Migration:
    """The sites of a vars file, in its order, and everything that does not come over as it was."""
    findings = [*_doubles(old), *_deep(old)]
    sites, moved = _sites(old.lb_mappings)
    told = [*_ALWAYS, *_drifted(old, sites), *moved, *_aside(old)]
    zone = old.auto_register_domain.partition(".")[2] if old.auto_register_domain else None
    if zone == "":
        what = f"{old.auto_register_domain!r} has no part after its first dot, which named the hosted zone"
        findings.append(Finding(("auto_register_domain",), what, "write the whole name, such as lb.example.com"))
    if old.min_size > old.max_size:
        what = f"min_size {old.min_size} is more than max_size {old.max_size}"
        findings.append(Finding(("min_size",), what, "write both; without a line each is 1, as it was"))
    return Migration(old, sites, zone, (*findings, *told))


def left_out(keys: Iterable[str]) -> Iterator[Finding]:
    """Keys of the file that nothing of hafleet takes, each with the reason."""
    for key in keys:
        why, fix = LEFT.get(key, ("hafleet knows no such key", "see docs/migrate.md, or carry it over by hand"))
        yield Finding((key,), f"the key {shown(key)} is not carried over: {why}", fix, fatal=False)


def _doubles(old: OldVars) -> Iterator[Finding]:
    """A name stands for one mapping, and a server stands in a mapping once."""
    seen: dict[str, Path] = {}
    for index, mapping in enumerate(old.lb_mappings):
        here: Path = ("lb_mappings", index)
        if mapping.name in seen:
            what = f"the name {mapping.name!r} is taken by an earlier mapping"
            yield Finding((*here, "name"), what, "give each its own name; one domain may list several names: ^(a|b)$")
        seen.setdefault(mapping.name, here)
        for number, server in enumerate(mapping.servers):
            if server in mapping.servers[:number]:
                what = f"the server {server} stands in mapping {mapping.name!r} twice"
                yield Finding((*here, "servers", number), what, "keep one of them")
        if len({server.version for server in mapping.servers}) > 1:
            what = f"mapping {mapping.name!r} has servers with IPv4 and with IPv6 addresses"
            yield Finding((*here, "servers"), what, "keep to one kind: a backend has one family")


def _deep(old: OldVars) -> Iterator[Finding]:
    """A suffix has no more labels than HAProxy looks up."""
    for index, mapping in enumerate(old.lb_mappings):
        for domain in mapping.names.domains:
            if domain.startswith("*.") and domain.count(".") > DEEPEST:
                what = f"{domain} has more than {DEEPEST} labels after its star"
                yield Finding(
                    ("lb_mappings", index, "domain"), what, "anchor the name with ^, or name a shorter suffix"
                )


def _sites(mappings: tuple[Mapping, ...]) -> tuple[tuple[Site, ...], list[Finding]]:
    """Every mapping with the names that reached it, and a finding for each name that another one took before it."""
    sites: list[Site] = []
    findings: list[Finding] = []
    for index, mapping in enumerate(mappings):
        own: list[str] = []
        for domain in mapping.names.domains:
            owner = _first(mappings[:index], domain)
            if owner is None:
                findings += [_clash(index, mapping, domain, site) for site in sites if domain in site.domains]
                own.append(domain)
                continue
            if not covered(domain, sites[owner].domains):
                sites[owner] = replace(sites[owner], domains=(*sites[owner].domains, domain))
            what = f"{domain} of mapping {mapping.name!r} was taken by mapping {mappings[owner].name!r} before it"
            fix = "it goes there still; move it in the settings if that was never meant"
            findings.append(Finding(("lb_mappings", index, "domain"), what, fix, fatal=False))
        sites.append(Site(mapping.name, tuple(own), mapping.servers))
    for index, site in enumerate(sites):
        if not site.domains:
            what = f"mapping {site.name!r} was never reached: earlier ones take all its names"
            fix = "its backends are left out; write them by hand if you need them"
            findings.append(Finding(("lb_mappings", index), what, fix, fatal=False))
    return tuple(site for site in sites if site.domains), findings


def _clash(index: int, mapping: Mapping, domain: str, other: Site) -> Finding:
    """Two expressions that shared out the names below a suffix, which only one site can have."""
    what = f"mapping {mapping.name!r} comes down to {domain}, and so does mapping {other.name!r}"
    return Finding(("lb_mappings", index, "domain"), what, "list the names of one of them: ^(a|b)\\.example\\.com$")


def _first(earlier: tuple[Mapping, ...], domain: str) -> int | None:
    """The first of these mappings that took a domain."""
    probe = domain.replace("*", _PROBE)
    return next((index for index, mapping in enumerate(earlier) if mapping.took(probe)), None)


def _drifted(old: OldVars, sites: tuple[Site, ...]) -> Iterator[Finding]:
    """Expressions that matched other names, too, than those they came down to."""
    kept = {site.name: site for site in sites}
    for index, mapping in enumerate(old.lb_mappings):
        names = mapping.names
        if names.drifts and mapping.name in kept:
            why = ", ".join(_DRIFTS[drift] for drift in _DRIFTS if drift in names.drifts)
            what = f"the expression of mapping {mapping.name!r} matched other names ({why}); now it is {_few(names.domains)}"
            yield Finding(("lb_mappings", index, "domain"), what, "look through its domains", fatal=False)


def _few(domains: tuple[str, ...]) -> str:
    listed = ", ".join(domains[:4])
    return f"{listed} and {len(domains) - 4} more" if len(domains) > 4 else listed


def _aside(old: OldVars) -> Iterator[Finding]:
    """What was asked for and comes over otherwise."""
    for index, mapping in enumerate(old.lb_mappings):
        if mapping.mode == "http":
            what = f"mode: http of mapping {mapping.name!r} is not carried over: port 443 passes TLS through unread"
            fix = "to end TLS on the node give frontend https_frontend mode: http and tls"
            yield Finding(("lb_mappings", index, "mode"), what, fix, fatal=False)
    for index, rule in enumerate(old.security_group_rules):
        if rule.cidr_ip is None:
            what = f"security_group_rules[{index}] is not carried over: it names no network"
            fix = "write it into hafleet_fleet_ingress, which takes group_name, group_id and ip_prefix, too"
            yield Finding(("security_group_rules", index), what, fix, fatal=False)
    if old.ami is not None:
        what = f"the image {old.ami} is not carried over: it holds no hafleet"
        yield Finding(("ami",), what, "bake one with build-ami.yml and name it in hafleet_fleet_ami", fatal=False)
    if old.auto_register_domain is not None:
        what = "the old Lambda deletes every record of this name that is not of its own group"
        fix = "remove its topic subscription before the first hafleet node starts"
        yield Finding(("auto_register_domain",), what, fix, fatal=False)
