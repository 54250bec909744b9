"""How a node obeys the fleet's orders: which servers get no new sessions, and whether the node leaves DNS with its zone.

No order without force takes the last server of a backend out of rotation, nor the last zone with nodes out of DNS. Where orders
together would, the oldest are obeyed and the newest is held: every node comes to the same end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hafleet.core import phase
from hafleet.core.model import Group, Groups, Held, Member, Memory, Node, Worker
from hafleet.core.orders import Order, Verb, read, standing
from hafleet.core.settings import Settings
from hafleet.core.sources import gather


@dataclass(frozen=True, slots=True)
class Obeyed:
    """What becomes of some orders: by name of server (or by zone) the order that counts, and those that are held."""

    orders: Mapping[str, Order] = field(default_factory=dict)
    held: tuple[tuple[Order, Held], ...] = ()

    def verb(self, name: str) -> Verb | None:
        """What is ordered for this server; None for nothing."""
        return self.orders[name].verb if name in self.orders else None


def hear(memory: Memory, groups: Groups | None, own: str, at: float) -> tuple[Memory, tuple[Held, ...]]:
    """The memory with the orders that stand, and tags that are no orders, as held: what they were before stays.

    Args:
        memory: its orders are those of the last pass.
        groups: a usable read; None without one, and then only time ends orders.
        own: name of the fleet's own group.
        at: wall clock seconds.
    """
    group = groups.by_name.get(own) if groups and own else None
    if group is None:
        left = standing(memory.orders, at)
        return (memory if left == memory.orders else replace(memory, orders=left)), ()
    told = read(group.tags, memory.orders, at)
    held = tuple(Held("order", key, f"{why}; what was ordered before stays") for key, why in sorted(told.odd.items()))
    return replace(memory, orders=told.orders), held


def servers(backend: str, members: Sequence[Member], orders: Sequence[Order], worker: Worker | None) -> Obeyed:
    """What is ordered for the servers of one backend.

    Args:
        backend: its name.
        members: its servers.
        orders: those that stand, the oldest first.
        worker: tells which servers are up; None: all count as up.
    """
    named = [(order, {m.name for m in members if concerns(order, backend, m)}) for order in orders]
    if not any(targets for _, targets in named):
        return Obeyed()
    able = {m.name for m in members if not m.draining and m.weight > 0}
    left = {name for name in able if _up(worker, backend, name)} or able
    obeyed: dict[str, Order] = {}
    held: list[tuple[Order, Held]] = []
    for order, targets in named:
        if left & targets and left <= targets and not order.force:
            why = f"{order.sentence}; no other server of {backend} would take traffic"
            held.append((order, Held("last_server", f"{backend}/{order.server or order.zone}", why)))
            continue
        left -= targets
        for name in targets:
            obeyed[name] = order if name not in obeyed or order.verb == "maint" else obeyed[name]
    return Obeyed(obeyed, tuple(held))


def nodes(group: Group, orders: Sequence[Order]) -> Obeyed:
    """The zones whose nodes leave DNS, by name."""
    left = {instance.zone for instance in group.instances if instance.serves}
    obeyed: dict[str, Order] = {}
    held: list[tuple[Order, Held]] = []
    for order in orders:
        if not order.zone or order.backend:
            continue
        if left <= {order.zone} and not order.force:
            why = f"{order.sentence}; no node of another zone would be left in DNS"
            held.append((order, Held("last_zone", order.zone, why)))
            continue
        left -= {order.zone}
        obeyed[order.zone] = order
    return Obeyed(obeyed, tuple(held))


def leave_zone(memory: Memory, groups: Groups | None, node: Node) -> tuple[Memory, tuple[Held, ...]]:
    """The memory with the claim of an order for this node's zone. Without a read a claim stays while its order stands."""
    group = groups.by_name.get(node.group) if groups else None
    mine = [order for order in memory.orders if order.zone == node.zone and not order.backend]
    if group is None and mine:
        return memory, ()
    found = nodes(group, memory.orders) if group else Obeyed()
    order = found.orders.get(node.zone)
    leaving = phase.zoned(memory.leaving, order.sentence if order else "", order.at if order else 0.0)
    return replace(memory, leaving=leaving), tuple(held for about, held in found.held if about in mine)


def refused(settings: Settings, groups: Groups, own: Group, orders: Sequence[Order], new: Order) -> tuple[Held, ...]:
    """What of a new order would be held, as far as AWS alone tells: reasons to refuse it without force."""
    all_orders = (*(order for order in orders if order.key != new.key), new)
    found = [held for about, held in nodes(own, all_orders).held if about == new]
    for backend in settings.backends:
        members = tuple(gather(backend, groups, {}, {}).members.values())
        found += [held for about, held in servers(backend.name, members, all_orders, None).held if about == new]
    return tuple(found)


def concerns(order: Order, backend: str, member: Member) -> bool:
    """True when the order is about this server."""
    if order.backend not in {"", backend}:
        return False
    return order.server in {member.instance, member.name} if order.server else order.zone == member.zone


def _up(worker: Worker | None, backend: str, name: str) -> bool:
    """True when the server is up, whatever its weight; by AWS's word alone while no worker is seen."""
    server = worker.servers.get((backend, name)) if worker else None
    return worker is None or (server is not None and server.up and not server.maint)
