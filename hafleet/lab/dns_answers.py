"""What Route 53 answers to one question: pure, from the record sets in force, what the health checks say, and a draw of chance.

A policy puts the record sets of a name in order of preference; the first one that is healthy and leads to an answer is taken.
An alias with EvaluateTargetHealth leads to an answer only while its target does, so that a dead branch is backed out of,
at any depth. Where nothing healthy leads to an answer, everything counts as healthy (fail-open), group by group.
Sources: Route 53 Developer Guide, "How Route 53 chooses records when health checking is configured" and "How health
checks work in complex configurations"; for what is not said there see the comments.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from hafleet.core.dns.model import Place, Record
from hafleet.lab.dns_regions import by_distance

MULTIVALUE = 8  # records in one multivalue answer, at most
ANYWHERE = Place()  # of a client; of a record it is the default, "*"
HOPS = 16  # CNAMEs followed for one question, at most


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, as far as the answer depends on it."""

    region: str = ""  # nearest AWS region, for latency records
    place: Place = ANYWHERE  # for geolocation records
    private: bool = False  # asks from inside the VPC: a private zone comes before a public one of the same name


@dataclass(frozen=True, slots=True)
class Zone:
    """A hosted zone as its name servers know it: only changes that are INSYNC."""

    id: str
    name: str
    private: bool
    sets: Mapping[tuple[str, str], tuple[Record, ...]]  # by name and type
    names: frozenset[str]  # every name that exists, those between two names too

    @classmethod
    def of(cls, zone_id: str, name: str, records: tuple[Record, ...], *, private: bool = False) -> "Zone":
        """A zone from its record sets."""
        sets: dict[tuple[str, str], tuple[Record, ...]] = {}
        for record in records:
            sets[record.name, record.type] = (*sets.get((record.name, record.type), ()), record)
        names = {name}
        for record in records:
            above = record.name
            while above not in names and above.endswith(f".{name}"):
                names.add(above)
                above = above.partition(".")[2]
        return cls(zone_id, name, private, MappingProxyType(sets), frozenset(names))

    def holds(self, name: str) -> bool:
        """True when the name is the zone's or below it."""
        return name == self.name or name.endswith(f".{self.name}")

    def owner(self, name: str) -> str | None:
        """The name whose records answer: this one, the wildcard that covers it (RFC 4592), or None: no such name."""
        if name in self.names:
            return name
        closest = name
        while closest not in self.names:
            closest = closest.partition(".")[2]
        wildcard = f"*.{closest}"
        return wildcard if wildcard in self.names else None


@dataclass(frozen=True, slots=True)
class Found:
    """One RRset of an answer."""

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer. NOERROR without RRsets means that the name exists, but not with this type or not for this client."""

    code: Literal["NOERROR", "NXDOMAIN", "REFUSED"]
    zone: Zone | None = None
    found: tuple[Found, ...] = ()


def answer(
    zones: tuple[Zone, ...],
    question: tuple[str, str],
    client: Client,
    healthy: Callable[[str], bool],
    chance: random.Random,
) -> Reply:
    """Answer one question.

    Args:
        zones: every hosted zone.
        question: name (lower case, no dot at the end) and type.
        client: who asks.
        healthy: what a health check says, by its id.
        chance: for weights and for the order of addresses.
    """
    name, type_ = question
    zone = _zone(zones, name, client)
    if zone is None:
        return Reply("REFUSED")
    found: list[Found] = []
    while len(found) < HOPS:
        owner = zone.owner(name)
        if owner is None:
            # A CNAME to nowhere still answers with the CNAME, and says that the end of it does not exist.
            return Reply("NXDOMAIN", zone, tuple(found))
        search = _Search(zone, client, healthy, chance)
        if records := search.records(owner, type_):
            found.append(_rrset(name, type_, records, chance))
            break
        records = search.records(owner, "CNAME")
        if not records:
            break
        found.append(_rrset(name, "CNAME", records, chance))
        name = found[-1].values[0].rstrip(".").lower()
        if not zone.holds(name):
            break  # the resolver asks whoever serves that
    return Reply("NOERROR", zone, tuple(found))


def _zone(zones: tuple[Zone, ...], name: str, client: Client) -> Zone | None:
    """The most specific zone; of two with one name that of the client's side of the VPC."""
    fit = [zone for zone in zones if zone.holds(name)]
    return max(fit, key=lambda zone: (len(zone.name), zone.private is client.private), default=None)


def _rrset(name: str, type_: str, records: tuple[Record, ...], chance: random.Random) -> Found:
    values = list(dict.fromkeys(value for record in records for value in record.values))
    chance.shuffle(values)
    return Found(name, type_, min(record.ttl or 0 for record in records), tuple(values))


class _Search:
    """One walk through the record sets of a name and of what they are aliases of."""

    def __init__(self, zone: Zone, client: Client, healthy: Callable[[str], bool], chance: random.Random) -> None:
        self._zone = zone
        self._client = client
        self._healthy = healthy
        self._chance = chance

    def records(self, name: str, type_: str, path: tuple[str, ...] = ()) -> tuple[Record, ...]:
        """The records whose values are the answer; empty when there are none for this client."""
        return self._first_healthy(name, type_, path) or self._fail_open(name, type_, path)

    def _first_healthy(self, name: str, type_: str, path: tuple[str, ...]) -> tuple[Record, ...]:
        group = self._group(name, type_, path)
        if group and group[0].multivalue:
            return self._sample(tuple(record for record in group if self._passes(record)))
        for record in self._in_order(group):
            if not self._passes(record):
                continue
            if record.alias is None:
                return (record,)
            if record.alias.zone_id != self._zone.id:
                continue  # the lab serves no load balancers and no buckets
            # Without EvaluateTargetHealth the alias stays chosen, however dead its target is.
            follow = self._first_healthy if record.alias.evaluate else self.records
            if found := follow(record.alias.target, type_, (*path, name)):
                return found
        return ()

    def _fail_open(self, name: str, type_: str, path: tuple[str, ...]) -> tuple[Record, ...]:
        group = self._group(name, type_, path)
        if group and group[0].multivalue:
            return self._sample(group)
        for record in self._in_order(group):
            if record.alias is None:
                return (record,)
            if record.alias.zone_id == self._zone.id and (
                found := self.records(record.alias.target, type_, (*path, name))
            ):
                return found
        return ()

    def _group(self, name: str, type_: str, path: tuple[str, ...]) -> tuple[Record, ...]:
        return () if name in path else self._zone.sets.get((name, type_), ())

    def _passes(self, record: Record) -> bool:
        """True for a record without a health check, which AWS always holds for healthy."""
        return not record.check or self._healthy(record.check)

    def _sample(self, records: tuple[Record, ...]) -> tuple[Record, ...]:
        return tuple(self._chance.sample(records, min(MULTIVALUE, len(records))))

    def _in_order(self, group: tuple[Record, ...]) -> Iterator[Record]:
        """The group by preference of its policy; what this client never gets is left out."""
        if not group:
            return
        first = group[0]
        if first.weight is not None:
            yield from self._by_weight(group)
        elif first.region:
            yield from by_distance(self._client.region, group)
        elif first.place is not None:
            yield from _by_place(self._client.place, group)
        elif first.failover:
            yield from sorted(group, key=lambda record: record.failover)  # PRIMARY comes before SECONDARY
        else:
            yield from group

    def _by_weight(self, group: tuple[Record, ...]) -> Iterator[Record]:
        """Drawn one after the other without putting back. Weight 0 comes last, and all of it alike.

        Of independent exponential times the one of rate w is first with the chance w / sum: a draw by weight.
        """
        some = [record for record in group if record.weight]
        times = {record.key: self._chance.expovariate(record.weight or 1) for record in some}
        yield from sorted(some, key=lambda record: times[record.key])
        rest = [record for record in group if not record.weight]
        yield from self._chance.sample(rest, len(rest))


def _by_place(client: Place, group: tuple[Record, ...]) -> Iterator[Record]:
    """The smallest place around the client first, the default last."""
    around = [ANYWHERE]
    if client.continent:
        around.append(Place(continent=client.continent))
    if client.country:
        around.append(Place(country=client.country))
    if client.subdivision:
        around.append(Place(country=client.country, subdivision=client.subdivision))
    for place in reversed(around):
        yield from (record for record in group if record.place == place)
