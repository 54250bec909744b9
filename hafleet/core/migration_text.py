"""A migration as two YAML texts: hafleet.yaml, and the variables of the role hafleet_fleet."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from hafleet.core.checks.finding import Finding
from hafleet.core.migration import Migration, Site
from hafleet.core.oldvars import OldVars, Rule

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})  # YAML 1.1, which Ansible reads


def settings_text(made: Migration, told: Iterable[str]) -> str:
    """hafleet.yaml. ``told`` are lines for its head: what did not come over as it was."""
    return "\n".join([*_head("hafleet.yaml", told), *_settings(made), ""])


def vars_text(made: Migration, told: Iterable[str]) -> str:
    """fleet.yml. What the old file did not say is left to the role's defaults."""
    return "\n".join(["---", *_head("fleet.yml", told), *_vars(made.old), ""])


def told_of(findings: Iterable[Finding], *, ansible: bool) -> tuple[str, ...]:
    """What concerns one of the two files, as lines: ``what; fix``."""
    return tuple(f"{each.what}; {each.fix}" for each in findings if (each.path[:1] in _ANSIBLE) is ansible)


_ANSIBLE = tuple(
    (key,)
    for key in (
        "ami", "instance_type", "subnets", "key_name", "min_size", "max_size", "security_group_rules", "server_type",
        "repository_name", "branch", "availability_zones", "asg_tags",
    )
)  # fmt: skip


def _head(name: str, told: Iterable[str]) -> Iterator[str]:
    yield f"# {name}, written by `hafleet migrate` from the vars file of an older load balancer. It is yours from here on."
    rows = tuple(told)
    if rows:
        yield "#"
        yield "# Not as it was:"
        yield from (f"#   - {row}" for row in rows)


def _settings(made: Migration) -> Iterator[str]:
    old = made.old
    yield f"fleet: {_scalar(old.server_name)}"
    if old.region is not None:
        yield from ("aws:", f"  region: {_scalar(old.region)}")
    yield "haproxy:"
    yield f"  maxconn: {old.haproxy_maxconn}"
    yield "  timeout_connect: 10s"
    yield "  timeout_queue: 60s"
    yield "  timeout_http_keep_alive: 10s"
    yield "  timeout_tunnel: 60s    # WebSockets and quiet TLS connections may want more: the default is 1h"
    yield "frontends:"
    yield "  - name: http_frontend"
    yield '    bind: ":80"'
    yield "    mode: http"
    yield "    route_by: host"
    yield "    forwarded_for: false    # true tells your servers the client's address"
    yield "  - name: https_frontend"
    yield '    bind: ":443"'
    yield "    mode: tcp"
    yield "    route_by: sni"
    yield "backends:"
    for site in made.sites:
        yield from _backend(site, "http", 80)
        yield from _backend(site, "https", 443)
    if made.zone is not None and old.auto_register_domain is not None:
        yield from _dns(old.auto_register_domain, made.zone)
    yield "lifecycle: {}    # the node completes the hooks of its group by itself"


def _backend(site: Site, kind: str, port: int) -> Iterator[str]:
    yield f"  - name: {_scalar(f'{site.name}_{kind}')}"
    yield f"    domains: {_flow(site.domains)}"
    yield f"    mode: {'http' if kind == 'http' else 'tcp'}"
    yield f"    port: {port}"
    if site.family == "ipv6":
        yield "    family: ipv6"
    yield "    balance: leastconn"
    yield f"    sources: [{{static: {_flow([str(address) for address in site.servers])}}}]"
    yield "    stick: {size: 200k, expire: 30m}"
    yield "    check: {timeout: 10s}"


def _dns(name: str, zone: str) -> Iterator[str]:
    yield "dns:"
    yield f"  name: {_scalar(name)}"
    yield f"  zone: {_scalar(zone)}"
    yield "  weight: 1"
    yield "  ttl: 60"
    yield "  health:"
    yield "    # Without this section Route 53 asks the node itself, which turns red as soon as it leaves."
    yield "    endpoint: {protocol: tcp, port: 443, interval: 30, threshold: 2}"


def _vars(old: OldVars) -> Iterator[str]:
    yield "# hafleet_fleet_settings: the whole of hafleet.yaml; docs/migrate.md shows how to hand it over"
    if old.ami is not None:
        yield f"# hafleet_fleet_ami: {old.ami}    # the image of old; without hafleet in it a node never joins"
    singles: tuple[tuple[str, str | int | None], ...] = (
        ("region", old.region),
        ("instance_type", old.instance_type),
        ("key_name", old.key_name),
        ("min", old.min_size),
        ("max", old.max_size),
    )
    for key, value in singles:
        if value is not None:
            yield f"hafleet_fleet_{key}: {_scalar(value)}"
    if old.subnets:
        yield "hafleet_fleet_subnets:"
        yield from (f"  - {_scalar(subnet)}" for subnet in old.subnets)
    rules = [(rule, rule.cidr_ip) for rule in old.security_group_rules if rule.cidr_ip]
    if rules:
        yield "hafleet_fleet_ingress:"
    for rule, network in rules:
        yield from _rule(rule, network)


def _rule(rule: Rule, network: str) -> Iterator[str]:
    yield f"  - proto: {_scalar(rule.proto)}"
    yield f"    from_port: {rule.from_port}"
    yield f"    to_port: {rule.to_port}"
    yield f"    cidr_ip: {_scalar(network)}"


def _flow(texts: Sequence[str]) -> str:
    return f"[{', '.join(_scalar(text) for text in texts)}]"


def _scalar(value: str | int) -> str:
    """A value as YAML: plain where every YAML reads the same text there, else quoted."""
    if isinstance(value, int):
        return str(value)
    return value if _PLAIN.fullmatch(value) and value.lower() not in _WORDS else json.dumps(value)
