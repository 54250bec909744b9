"""A change batch of Route 53, strict and atomic: a pure function from the record sets before to those after, or an error.

Changes are looked at in order, each against what the ones before it left. An UPSERT of what exists behaves as if it were
deleted before all changes (octodns has seen AWS do so), which is why an alias cannot precede the UPSERT of its target.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hafleet.lab.route53_rules import POLICIES, comparable, demand_form, policy_of, stored, value_faults
from hafleet.lab.route53_words import ApiError, Shape, bare, canonical, shown

Key = tuple[str, str, str]  # canonical name, type, SetIdentifier
Records = Mapping[Key, Shape]

MOST_RECORDS, MOST_CHARACTERS = 1000, 32_000  # of one batch; UPSERT counts twice
MOST_SAME_NAME = 100  # record sets of one name and type with a policy; 30 geoproximity ones are not modelled
_AWS_TARGETS = (".amazonaws.com.", ".cloudfront.net.", ".elasticbeanstalk.com.", ".awsglobalaccelerator.com.")
_ALLOWED = (("DELETE",), ("CREATE",), ("UPSERT",), ("DELETE", "CREATE"))  # what one batch may do to one record set


@dataclass(frozen=True, slots=True)
class ZoneRules:
    """What a batch is judged by beside the record sets."""

    id: str
    name: str  # canonical
    most: int  # record sets in the zone
    orphans: bool  # the target of an alias may be deleted
    check_exists: Callable[[str], bool]


def applied(zone: ZoneRules, before: Records, changes: list[Shape]) -> dict[Key, Shape]:
    """The record sets after the batch.

    Raises:
        ApiError: InvalidInput, NoSuchHealthCheck, or InvalidChangeBatch with all messages in brackets; nothing is applied.
    """
    wanted = [(change["Action"], change["ResourceRecordSet"]) for change in changes]
    for action, record in wanted:
        demand_form(action, record)
    _demand_size(wanted)
    for action, record in wanted:
        check = record.get("HealthCheckId")
        if check and action != "DELETE" and not zone.check_exists(check):
            raise ApiError("NoSuchHealthCheck", f"No health check exists with the ID {check}.", 404)
    batch = _Batch(zone, dict(before))
    batch.run([(action, stored(record)) for action, record in wanted])
    if batch.messages:
        raise ApiError("InvalidChangeBatch", f"[{', '.join(batch.messages)}]")
    return batch.records


def tokens(changes: list[Shape]) -> int:
    """Change tokens that the batch costs."""
    return sum(2 if change["Action"] == "UPSERT" else 1 for change in changes)


def key_of(record: Shape) -> Key:
    """What tells the record set from others."""
    return (canonical(record["Name"]), record["Type"], record.get("SetIdentifier") or "")


def _demand_size(wanted: list[tuple[str, Shape]]) -> None:
    records = characters = 0
    for action, record in wanted:
        values = record.get("ResourceRecords") or ()
        factor = 2 if action == "UPSERT" else 1
        records += factor * max(1, len(values))  # an alias counts as one
        characters += factor * sum(len(item["Value"]) for item in values)
    if records > MOST_RECORDS:
        raise ApiError("InvalidChangeBatch", f"[Number of records limit of {MOST_RECORDS} exceeded.]")
    if characters > MOST_CHARACTERS:
        raise ApiError("InvalidChangeBatch", f"[Number of characters limit of {MOST_CHARACTERS} exceeded.]")


@dataclass(slots=True)
class _Batch:
    zone: ZoneRules
    records: dict[Key, Shape]
    messages: list[str] = field(default_factory=list)
    _sets: dict[tuple[str, str], dict[str, Shape]] = field(default_factory=dict)  # (name, type) -> the sets there
    _types: dict[str, set[str]] = field(default_factory=dict)  # name -> types there

    def run(self, wanted: list[tuple[str, Shape]]) -> None:
        for name, kind, set_id in self.records:
            self._types.setdefault(name, set()).add(kind)
            self._sets.setdefault((name, kind), {})[set_id] = self.records[name, kind, set_id]
        done: dict[Key, tuple[str, ...]] = {}
        for action, record in wanted:
            if action == "UPSERT" and key_of(record) in self.records:
                self._drop(key_of(record))
        for action, record in wanted:
            key = key_of(record)
            done[key] = (*done.get(key, ()), action)
            if done[key] not in _ALLOWED:
                self.messages.append(
                    "The request contains an invalid set of changes for a resource record set "
                    f"'{action} {record['Type']} {record['Name']}'"
                )
            elif action == "DELETE":
                self._delete(key, record)
            else:
                self._create(key, record)
        if not self.messages:
            self._settle()

    def _settle(self) -> None:
        """Rules that only the whole batch can break."""
        apex = self.zone.name
        if not self._sets.get((apex, "SOA")):
            self.messages.append("A HostedZone must contain exactly one SOA record.")
        if not self._sets.get((apex, "NS")):
            self.messages.append("A HostedZone must contain at least one NS record for the zone itself.")
        if len(self.records) > self.zone.most:
            self.messages.append(f"Number of resource record sets limit of {self.zone.most} exceeded.")
        if not self.zone.orphans:
            for record in self.records.values():
                alias = record.get("AliasTarget")
                if alias and alias["HostedZoneId"] == self.zone.id and not self._has_target(record):
                    self.messages.append(
                        f"Tried to delete resource record set [name='{alias['DNSName']}', type='{record['Type']}'] "
                        f"but the alias {record['Name']} still targets it"
                    )

    def _delete(self, key: Key, record: Shape) -> None:
        known = self.records.get(key)
        what = f"Tried to delete resource record set {_called(record)} but"
        if known is None:
            self.messages.append(f"{what} it was not found")
        elif comparable(known) != comparable(record):
            self.messages.append(f"{what} the values provided do not match the current values")
        else:
            self._drop(key)

    def _create(self, key: Key, record: Shape) -> None:
        faults = [*self._place_faults(key, record), *value_faults(record)]
        if not faults:
            faults = [*self._neighbour_faults(key, record), *self._alias_faults(record)]
        if faults:
            self.messages.extend(faults)
        else:
            self.records[key] = record
            self._types.setdefault(key[0], set()).add(key[1])
            self._sets.setdefault(key[:2], {})[key[2]] = record

    def _drop(self, key: Key) -> None:
        del self.records[key]
        del self._sets[key[:2]][key[2]]
        if not self._sets[key[:2]]:
            self._types[key[0]].discard(key[1])

    def _place_faults(self, key: Key, record: Shape) -> list[str]:
        name, kind, _ = key
        inside = name == self.zone.name or name.endswith(f".{self.zone.name}")
        if not inside:
            return [f"RRSet with DNS name {record['Name']} is not permitted in zone {self.zone.name}"]
        labels = name.rstrip(".").split(".")
        if len(name) > 255 or not all(0 < len(label) < 64 for label in labels):
            return [
                f"RRSet with DNS name {record['Name']} has a label of no or more than 63 characters, or is too long"
            ]
        if kind == "CNAME" and name == self.zone.name:
            return [f"RRSet of type CNAME with DNS name {name} is not permitted at apex in zone {self.zone.name}"]
        if key in self.records:
            return [f"Tried to create resource record set {_called(record)} but it already exists"]
        return []

    def _neighbour_faults(self, key: Key, record: Shape) -> list[str]:
        name, kind, set_id = key
        types = {found for found in self._types.get(name, ()) if self._sets.get((name, found))}
        if (kind == "CNAME" and types - {"CNAME"}) or (kind != "CNAME" and "CNAME" in types):
            fault = f"RRSet of type {kind} with DNS name {record['Name']} is not permitted as it conflicts with other"
            return [f"{fault} records with the same DNS name in zone {self.zone.name}"]
        others = list(self._sets.get((name, kind), {}).values())
        what = f"RRSet with DNS name {record['Name']}, type {kind}, SetIdentifier {set_id or 'null'} cannot be created"
        policy = policy_of(record)
        if any(policy_of(other) != policy for other in others):
            if not policy:
                return [f"{what} as other RRSets exist with the same name and type."]
            return [f"{what} because a non-{POLICIES[policy]} RRSet with the same name and type already exists"]
        if len(others) >= MOST_SAME_NAME:
            return [f"{what} because {MOST_SAME_NAME} RRSets with the same name and type already exist"]
        unique = policy in {"Region", "Failover", "GeoLocation"}
        if unique and any(other[policy] == record[policy] for other in others):
            return [f"{what} because another RRSet with the same name, type and {policy} already exists"]
        ttl = record.get("TTL")
        if policy == "Weight" and any(None not in (ttl, other.get("TTL")) and other["TTL"] != ttl for other in others):
            return [f"{what} because the RRSets of a weighted group must have the same TTL"]
        return []

    def _alias_faults(self, record: Shape) -> list[str]:
        alias = record.get("AliasTarget")
        if alias is None:
            return []
        target, zone = alias["DNSName"], bare(alias["HostedZoneId"])
        what = f"Tried to create an alias that targets {target}, type {record['Type']} in zone {zone}, but"
        if zone != self.zone.id:
            known = target.endswith(_AWS_TARGETS)
            return [] if known else [f"{what} the alias target name does not lie within the target zone"]
        if not canonical(target).endswith(self.zone.name):
            return [f"{what} the alias target name does not lie within the target zone"]
        if canonical(target) == canonical(record["Name"]):
            return [f"{what} an alias must not target itself"]
        return [] if self._has_target(record) else [f"{what} that target was not found"]

    def _has_target(self, alias: Shape) -> bool:
        return bool(self._sets.get((canonical(alias["AliasTarget"]["DNSName"]), alias["Type"])))


def _called(record: Shape) -> str:
    """The record set as AWS's messages name it."""
    set_id: Any = record.get("SetIdentifier")
    tail = f", set identifier='{set_id}'" if set_id else ""
    return f"[name='{shown(canonical(record['Name']))}', type='{record['Type']}'{tail}]"
