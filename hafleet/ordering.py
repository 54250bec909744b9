"""``hafleet server ...`` and ``hafleet zone ...``: give the whole fleet an order, or take one back.

The order is written where every node reads it (``core.orders``); nothing is done to this node directly. What an order would leave
without a server, or without a node in DNS, is refused here, and held by every node again in its own passes.
"""

import getpass
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from hafleet.adapters.orders import GroupOrders
from hafleet.compose import Parts
from hafleet.core import obeying, orders
from hafleet.core.model import Group, Groups, Held, Node
from hafleet.core.orders import Order, Told
from hafleet.core.sources import INSTANCE_ID, gather, question
from hafleet.core.values import Refusal
from hafleet.errors import HafleetError, SourceUnavailable


@dataclass(frozen=True, slots=True)
class Given:
    """What came of an order."""

    lines: tuple[str, ...] = ()
    held: tuple[Held, ...] = ()  # why it was refused; nothing was written then


@dataclass(frozen=True, slots=True)
class _Fleet:
    """What AWS tells of the fleet now."""

    node: Node
    groups: Groups
    own: Group
    tags: Mapping[str, str]
    told: Told


def give(parts: Parts, order: Order) -> Given:
    """Give this order to the fleet, unless nobody would be left and it does not force.

    Raises:
        HafleetError: there is no such server, zone or backend, or this node is in no Auto Scaling group.
        SourceUnavailable: AWS cannot be read or refuses the tag.
    """
    try:
        order = orders.checked(order)
    except Refusal as error:
        raise HafleetError(f"this cannot be ordered: {error.what}", where=order.subject, fix=error.fix) from error
    fleet = _look(parts, order.at)
    _known(parts, fleet, order)
    held = () if order.force else obeying.refused(parts.settings, fleet.groups, fleet.own, fleet.told.orders, order)
    if held:
        return Given(held=held)
    port = GroupOrders(parts.account)
    port.withdraw(fleet.own.name, _over(fleet, order.at) - {order.key})
    port.give(fleet.own.name, order)
    return Given((f"ordered: {order.sentence}", _wake(parts)))


def take_back(parts: Parts, order: Order) -> Given:
    """Take back the order of this key, whoever gave it. Raises as ``give``."""
    fleet = _look(parts, order.at)
    stood = fleet.tags.get(order.key)
    GroupOrders(parts.account).withdraw(fleet.own.name, _over(fleet, order.at) | ({order.key} & fleet.tags.keys()))
    if stood is None:
        return Given((f"nothing was ordered for {order.subject}",))
    try:
        told = orders.parse(order.key, stood).sentence
    except Refusal:
        told = f"an order that nobody could read: {stood[:100]!r}"
    others = [f"still ordered: {other.sentence}" for other in fleet.told.orders if _overlaps(other, order)]
    return Given((f"taken back: {told}", *others, _wake(parts)))


def listed(parts: Parts, at: float) -> tuple[Order, ...]:
    """The orders that stand now. Raises as ``give``."""
    return _look(parts, at).told.orders


def whoami() -> str:
    """Who gives the order: user and host."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _look(parts: Parts, at: float) -> _Fleet:
    node = parts.ports.metadata.identity()
    if not node.group:
        fix = "run it on a node of the fleet, or write node.static.asg"
        raise HafleetError("this node is in no Auto Scaling group, and a fleet's orders are tags of it", fix=fix)
    ask = question(parts.settings, node)
    groups = parts.ports.membership.read(ask.names, ask.tags, ask.ipv6)
    own = groups.by_name.get(node.group)
    if own is None:
        raise SourceUnavailable(f"AWS knows no group {node.group}", fix="check aws.region and the account")
    return _Fleet(node, groups, own, own.tags, orders.read(own.tags, (), at))


def _known(parts: Parts, fleet: _Fleet, order: Order) -> None:
    """Raises HafleetError for an order about nobody: a typing error would wait for ever."""
    names = [backend.name for backend in parts.settings.backends]
    if order.backend and order.backend not in names:
        raise HafleetError(f"there is no backend {order.backend}", fix=f"one of {', '.join(names)}")
    members = {
        backend.name: tuple(gather(backend, fleet.groups, {}, {}).members.values())
        for backend in parts.settings.backends
    }
    if any(obeying.concerns(order, name, member) for name, found in members.items() for member in found):
        return
    if order.server:
        some = sorted(member.name for member in members[order.backend])[:5]
        fix = f"in service there: {', '.join(some) or 'nobody'}"
        raise HafleetError(f"backend {order.backend} has no server {order.server} in service", fix=fix)
    zones = {member.zone for found in members.values() for member in found} | {i.zone for i in fleet.own.instances}
    if order.zone not in zones or order.backend:
        fix = f"zones of this fleet: {', '.join(sorted(zones - {''})) or 'none'}"
        raise HafleetError(f"nobody of {order.backend or 'this fleet'} is in zone {order.zone}", fix=fix)


def _over(fleet: _Fleet, at: float) -> set[str]:
    """Keys of orders that are over, by time or because nobody has listed their instance for days: a group holds 50 tags."""
    stand = {order.key for order in fleet.told.orders if not _void(fleet, order, at)} | fleet.told.odd.keys()
    return {key for key in fleet.tags if key.startswith((orders.SERVER, orders.ZONE))} - stand


def _void(fleet: _Fleet, order: Order, at: float) -> bool:
    """True for an old order about an instance that no group lists. A young one may only be missing from an answer."""
    instance = INSTANCE_ID.match(order.server)
    ids = {i.id for group in fleet.groups.by_name.values() for i in group.instances}
    return instance is not None and instance[0] not in ids and at - order.at > orders.LONGEST


def _overlaps(other: Order, order: Order) -> bool:
    """True for another order that may touch what this one was about."""
    return other.key != order.key and (not other.backend or not order.backend or other.backend == order.backend)


def _wake(parts: Parts) -> str:
    """Have this node's agent look now; the others look by their timers."""
    pid = parts.locks.agent_pid()
    if pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGHUP)
    events = parts.settings.events
    seldom = events.interval if events and events.queue != "none" else 0.0  # an order makes no event
    return f"every node obeys at its next read, within {max(seldom, parts.settings.passes.interval):g} s or so"
