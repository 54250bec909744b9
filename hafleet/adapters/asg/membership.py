"""The membership port on AWS.

A steady pass costs one call per 100 groups asked for by name and one per tag key: the addresses of instances are known from
earlier passes, for a primary private address does not change while the instance lives.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hafleet.adapters import aws
from hafleet.adapters.asg import listings
from hafleet.adapters.asg.answers import Addresses, RawGroup, parse_addresses
from hafleet.core.model import Group, Groups, Instance
from hafleet.core.sources import INSTANCE_ID
from hafleet.errors import SourceUnavailable

_FOLLOWED = 3000.0  # seconds an instance that left its group's list is looked up; EC2 shows terminated ones for an hour
_GROUP_FOR = 300.0  # seconds for which this node's own group is believed
_ENDED = frozenset({"shutting-down", "terminated"})


@dataclass(frozen=True, slots=True)
class _Vanished:
    """An instance that its group no longer lists."""

    group: str
    instance: Instance
    since: float  # monotonic
    ended: bool = False  # EC2 says that it is terminated
    unheard: bool = False  # EC2 does not know it: no use asking again


_Listed = Mapping[str, tuple[RawGroup, Instance]]


class AsgMembership:
    """Implements ``ports.Membership``. For one thread, but for ``listed``."""

    def __init__(self, account: aws.Account) -> None:
        self._account = account
        self._addresses: dict[str, Addresses] = {}
        self._listed: _Listed = {}  # of the last complete read
        self._vanished: dict[str, _Vanished] = {}
        self._tagged: frozenset[str] = frozenset()  # groups that the last read found by tag alone
        self._own: tuple[str, str, float] | None = None  # instance id, its group, monotonic time of the answer

    def clock_skew(self) -> float | None:
        """Seconds this host's clock is ahead of AWS; None before the first answer."""
        return self._account.skew

    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        """See ``ports.Membership.read``."""
        started = time.monotonic()
        if not names and not tags:  # nothing is asked of AWS: neither region nor credentials are needed
            return Groups({}, started)
        clients = self._connect()
        raw = listings.groups_by_tag(clients, tags) | listings.groups_by_name(clients, names)
        self._nothing_lost_by_tag(clients, names, tags, raw)
        listed = {i.id: (g, i) for g in raw.values() for i in g.instances if INSTANCE_ID.fullmatch(i.id)}
        followed = self._follow(listed, started)
        six = {group.name for group in raw.values() if _wants_ipv6(group, ipv6)}
        addresses = {key: value for key, value in self._addresses.items() if key in listed}
        followed, addresses = self._look_up(clients, listed, followed, addresses, six)
        # Nothing is remembered before the whole read has succeeded.
        self._listed, self._vanished, self._addresses = listed, followed, addresses
        self._tagged = frozenset(n for n, g in raw.items() if n not in names and tags & set(g.tags.items()))
        groups = {name: self._finished(group, six=name in six) for name, group in sorted(raw.items())}
        return Groups(groups, started)

    def own_group(self, instance_id: str) -> str:
        """The Auto Scaling group of an instance; "" when it is in none. An answer is believed for five minutes.

        Raises:
            SourceUnavailable: AWS does not answer, and never did.
        """
        now = time.monotonic()
        known = self._own if self._own is not None and self._own[0] == instance_id else None
        if known is not None and now - known[2] < _GROUP_FOR:
            return known[1]
        try:
            group = listings.own_group(self._connect(), instance_id)
        except SourceUnavailable:
            if known is None:
                raise
            return known[1]
        self._own = (instance_id, group, now)
        return group

    def listed(self) -> Mapping[str, tuple[str, bool]]:
        """Every instance of the last complete read: its group, and whether it is in service. From any thread; asks nobody."""
        return {key: (group.name, instance.serves) for key, (group, instance) in self._listed.items()}

    def _connect(self) -> listings.Clients:
        return listings.Clients(*self._account.scaling())

    def _nothing_lost_by_tag(
        self,
        clients: listings.Clients,
        names: frozenset[str],
        tags: frozenset[tuple[str, str]],
        raw: Mapping[str, RawGroup],
    ) -> None:
        """A group that the last read found by tag and this one does not: if it still carries the tag, a page was lost."""
        lost = self._tagged - raw.keys() - names
        for group in listings.groups_by_name(clients, lost).values():
            if tags & set(group.tags.items()):
                what = f"the listing by tag leaves out group {group.name!r}, which carries the tag"
                raise listings.partial(listings.DESCRIBE_GROUPS, clients.region, what)

    def _follow(self, listed: _Listed, now: float) -> dict[str, _Vanished]:
        """Instances that left their group's list with no state that says why."""
        new = {
            key: _Vanished(group.name, instance, now)
            for key, (group, instance) in self._listed.items()
            if key not in listed and not instance.terminates
        }
        known = {k: v for k, v in self._vanished.items() if k not in listed and now - v.since < _FOLLOWED}
        return new | known

    def _look_up(
        self,
        clients: listings.Clients,
        listed: _Listed,
        followed: Mapping[str, _Vanished],
        addresses: Mapping[str, Addresses],
        six: set[str],
    ) -> tuple[dict[str, _Vanished], dict[str, Addresses]]:
        """Ask EC2 for the addresses that are not known yet, and for what became of vanished instances."""
        unknown = {
            key
            for key, (group, instance) in listed.items()
            if not instance.terminates and addresses.get(key, Addresses()).of(ipv6=group.name in six) is None
        }
        open_ones = {key for key, entry in followed.items() if not entry.ended and not entry.unheard}
        items, unheard = listings.instances(clients, sorted(unknown | open_ones))
        for key in sorted(unknown - items.keys() - unheard):
            if listed[key][1].serves:
                what = f"instance {key} is in service, and the answer leaves it out"
                raise listings.partial(listings.DESCRIBE_INSTANCES, clients.region, what)
        learnt = {key: parse_addresses(items[key]) for key in unknown & items.keys()}
        after = dict(followed)
        for key in open_ones:
            state = (items.get(key, {}).get("State") or {}).get("Name")
            after[key] = replace(followed[key], ended=state in _ENDED, unheard=key in unheard)
        return after, {**addresses, **learnt}

    def _finished(self, group: RawGroup, *, six: bool) -> Group:
        """The group with its instances' addresses, and with those that EC2 has seen to terminate since the last reads."""
        present = tuple(
            replace(i, address=self._addresses.get(i.id, Addresses()).of(ipv6=six)) for i in group.instances
        )
        ended = tuple(
            replace(entry.instance, state="Terminated", address=None)
            for entry in self._vanished.values()
            if entry.ended and entry.group == group.name
        )
        instances = tuple(sorted(present + ended, key=lambda i: i.id)) if ended else present
        return Group(group.name, group.desired, instances, group.tags)


def _wants_ipv6(group: RawGroup, ipv6: frozenset[str]) -> bool:
    return group.name in ipv6 or any(f"{key}={value}" in ipv6 for key, value in group.tags.items())
