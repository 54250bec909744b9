"""Health checks: which ones a node wants, and the CallerReference that tells whose they are.

A reference is ``hf1:FLEET:NODE:SLOT:CONFIG:REGION:NONCE``: hashes of the fleet's name and of the settings, the node's id, and a
nonce, since Route 53 refuses the reference of a deleted check for days. Route 53 lists references, but no tags: so they say all
that the reaper needs. At most 64 characters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import get_args

from hafleet.core.dns.model import CheckConfig, RecordType
from hafleet.core.dns_settings import CheckerRegion, DnsAlarm, DnsEndpoint, DnsHealth
from hafleet.core.model import Node
from hafleet.core.settings import Settings
from hafleet.core.values import parse_endpoint

ALL_REGIONS: frozenset[str] = frozenset(get_args(CheckerRegion))  # where Route 53's checkers stand
LONGEST_ID = 22  # characters of a node's id in a reference; EC2's ids have 19
_LETTERS = {"endpoint": "e", "alarm": "a", "calculated": "c"}
_ROLES = {letter: role for role, letter in _LETTERS.items()}
_INSUFFICIENT = {"unhealthy": "Unhealthy", "healthy": "Healthy", "last_known": "LastKnownStatus"}


@dataclass(frozen=True, slots=True)
class WantedCheck:
    """One check of one record. ``children`` are the roles whose ids a calculated check is given."""

    slot: str  # record type and role, such as "A/endpoint"
    config: CheckConfig
    children: tuple[str, ...] = ()  # slots


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes checks: what a reference is made of besides the check."""

    fleet: str
    node: str
    region: str


@dataclass(frozen=True, slots=True)
class Reference:
    """What a reference of our fleet tells."""

    node: str
    slot: str
    region: str  # hash


def fleet_prefix(fleet: str) -> str:
    """What the references of all of a fleet's checks begin with."""
    return f"hf1:{_hash(fleet, 10)}:"


def make_reference(author: Author, slot: str, config: CheckConfig, nonce: str) -> str:
    """The CallerReference of a new check."""
    type_, _, role = slot.partition("/")
    letters = ("6" if type_ == "AAAA" else "4") + _LETTERS[role]
    head = f"{fleet_prefix(author.fleet)}{node_label(author.node)}:{letters}"
    return f"{head}:{digest(config)}:{region_hash(author.region)}:{nonce[:8]}"


def read_reference(reference: str, fleet: str) -> Reference | None:
    """What a reference tells; None for one that this fleet did not write."""
    parts = reference.split(":")
    if not reference.startswith(fleet_prefix(fleet)) or len(parts) != 7:
        return None
    family, role = parts[3][:1], _ROLES.get(parts[3][1:])
    if family not in {"4", "6"} or role is None:
        return None
    return Reference(parts[2], f"{'A' if family == '4' else 'AAAA'}/{role}", parts[5])


def node_label(node: str) -> str:
    """A node's id as a reference holds it: as it is where it fits, else its beginning and a hash."""
    return node if len(node) <= LONGEST_ID else f"{node[: LONGEST_ID - 9]}-{_hash(node, 8)}"


def region_hash(region: str) -> str:
    """A region in four characters: EC2 of one region knows nothing of another's instances."""
    return _hash(region, 4)


def digest(config: CheckConfig) -> str:
    """Eight characters that differ where the settings of a check do."""
    return _hash(repr(normal(config)), 8)


def normal(config: CheckConfig) -> CheckConfig:
    """A config without what does not belong to its type, so that two of them compare. All regions named are none named."""
    if config.type == "CALCULATED":
        return CheckConfig(
            "CALCULATED",
            interval=0,
            threshold=0,
            inverted=config.inverted,
            disabled=config.disabled,
            children=config.children,
            healthy=config.healthy,
        )
    if config.type == "CLOUDWATCH_METRIC":
        return CheckConfig(
            "CLOUDWATCH_METRIC",
            interval=0,
            threshold=0,
            inverted=config.inverted,
            disabled=config.disabled,
            alarm=config.alarm,
            alarm_region=config.alarm_region,
            insufficient=config.insufficient,
        )
    return replace(config, regions=()) if frozenset(config.regions) >= ALL_REGIONS else config


def wanted_checks(settings: Settings, node: Node, type_: RecordType, address: str) -> tuple[WantedCheck, ...]:
    """The checks of one record, children before the calculated one. The last one is the record's.

    Args:
        settings: with a ``dns`` section.
        node: this node.
        type_: of the record.
        address: the record's value, which the checkers probe.
    """
    health = settings.dns.health if settings.dns else DnsHealth()
    endpoint, alarm = health.endpoint, health.alarm
    if not endpoint and not alarm:
        endpoint = DnsEndpoint()
    found: list[WantedCheck] = []
    if endpoint:
        found.append(WantedCheck(f"{type_}/endpoint", _endpoint(settings, endpoint, address)))
    if alarm:
        found.append(WantedCheck(f"{type_}/alarm", _alarm(settings, node, alarm)))
    if health.calculated:
        found = [check for check in found if check.slot.partition("/")[2] in health.calculated.children]
        children = tuple(check.slot for check in found)
        config = CheckConfig("CALCULATED", interval=0, threshold=0, healthy=health.calculated.healthy)
        found.append(WantedCheck(f"{type_}/calculated", config, children))
    return tuple(found)


def with_children(wanted: WantedCheck, ids: Mapping[str, str]) -> CheckConfig:
    """The config of a check, a calculated one with its children's ids (by slot)."""
    return replace(wanted.config, children=tuple(sorted(ids[slot] for slot in wanted.children)))


def red_time(health: DnsHealth) -> float:
    """Seconds for which a node answers red before Route 53 has taken it out by itself; 0 where its answer is not asked."""
    endpoint = health.endpoint
    if endpoint is None and health.alarm is not None:
        return 0.0
    endpoint = endpoint or DnsEndpoint()
    return 0.0 if endpoint.disabled or endpoint.inverted else float(endpoint.interval * endpoint.threshold)


def _endpoint(settings: Settings, endpoint: DnsEndpoint, address: str) -> CheckConfig:
    web = endpoint.protocol != "tcp"
    kind = endpoint.protocol.upper() + ("_STR_MATCH" if web and endpoint.search else "")
    return CheckConfig(
        kind,
        address=address,
        port=endpoint.port or parse_endpoint(settings.haproxy.health).port,
        path=(endpoint.path or settings.haproxy.health_uri) if web else "",
        host=(endpoint.host or "") if web else "",
        search=(endpoint.search or "") if web else "",
        interval=endpoint.interval,
        threshold=endpoint.threshold,
        regions=tuple(sorted(endpoint.regions)),
        sni=endpoint.protocol == "https" and endpoint.sni,
        latency=endpoint.latency,
        inverted=endpoint.inverted,
        disabled=endpoint.disabled,
    )


def _alarm(settings: Settings, node: Node, alarm: DnsAlarm) -> CheckConfig:
    name = alarm.name.replace("{instance}", node.id).replace("{fleet}", settings.fleet)
    return CheckConfig(
        "CLOUDWATCH_METRIC",
        interval=0,
        threshold=0,
        alarm=name,
        alarm_region=alarm.region or node.region,
        insufficient=_INSUFFICIENT[alarm.insufficient],
    )


def _hash(text: str, length: int) -> str:
    return sha256(text.encode()).hexdigest()[:length]
