"""What this node's registration should be, from the settings and what the last pass told. Pure."""

from dataclasses import dataclass, replace

from hafleet.core.dns.checks import Author, red_time, wanted_checks
from hafleet.core.dns.layout import Blocked, make_layout, own_group
from hafleet.core.dns.model import RecordType, Situation
from hafleet.core.dns.plan import Want
from hafleet.core.dns_settings import Dns
from hafleet.core.model import Group, Instance, Node
from hafleet.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Timing:
    """What a decision needs besides: times (wall clock) and chance."""

    left_at: float = 0.0  # when this node was first told to leave; 0 while it is not
    join_at: float = 0.0  # this node's turn to join
    nonce: str = ""


def make_want(settings: Settings, dns: Dns, situation: Situation, zone_id: str, timing: Timing) -> Want | Blocked:
    """What is wanted now; Blocked when the settings give this node no place."""
    node = situation.node
    layout = make_layout(dns, node, zone_id)
    if isinstance(layout, Blocked):
        return layout
    found = addresses(dns, node)
    group = leaf_group(dns, situation)
    live = frozenset(i.id for i in group if i.serves)
    return Want(
        author=Author(settings.fleet, node.id, node.region),
        layout=layout,
        addresses={type_: address for type_, address in found.items() if type_ in layout.types},
        checks={type_: wanted_checks(settings, node, type_, found[type_]) for type_ in layout.types if type_ in found},
        ttl=dns.ttl,
        weight=dns.weight,
        multivalue=dns.policy == "multivalue",
        leaving=situation.leaving,
        serves=situation.serves,
        leave_at=_leave_at(dns, situation, timing),
        join_at=timing.join_at,
        settle=dns.settle,
        live=live,
        members=live | frozenset(i.id for i in group if i.comes),
        leads=bool(live) and min(live) == node.id,
        nonce=timing.nonce,
    )


def leaf_group(dns: Dns, situation: Situation) -> tuple[Instance, ...]:
    """The instances of the own Auto Scaling group that stand in this node's leaf group; none while they are not known."""
    node, group = situation.node, situation.group
    if not isinstance(group, Group):
        return ()
    own = own_group(dns, node)
    zones = {zone for zone in {i.zone for i in group.instances} if own_group(dns, replace(node, zone=zone)) == own}
    return tuple(i for i in group.instances if i.zone in zones)


def addresses(dns: Dns, node: Node) -> dict[RecordType, str]:
    """The address of each record type, as far as the node has one."""
    found: dict[RecordType, str] = {}
    ipv4 = node.public if dns.address == "public" else node.address
    if ipv4 is not None and ipv4.version == 4:
        found["A"] = str(ipv4)
    if node.ipv6 is not None:
        found["AAAA"] = str(node.ipv6)
    return found


def _leave_at(dns: Dns, situation: Situation, timing: Timing) -> float:
    """When a leaving node's record may go: once Route 53 has had the time to find it red.

    A proxy that never turns red (it may be dead) holds nobody longer than ``settle`` beyond that.
    """
    wait = red_time(dns.health)
    if not situation.leaving or not wait:
        return 0.0
    if situation.red_since:
        return min(situation.red_since, situation.at) + wait
    return min(timing.left_at, situation.at) + wait + dns.settle
