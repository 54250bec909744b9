"""Hosted zones, their record sets and changes, as the local Route 53 keeps them."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hafleet.lab.route53_changes import Key, Records, ZoneRules, applied, tokens
from hafleet.lab.route53_limits import Limits
from hafleet.lab.route53_words import ApiError, Shape, bare, canonical, copied, reversed_labels, shown

MOST_LISTED = 300  # record sets per page
MOST_ZONES_LISTED = 100
REMEMBERED = 50_000  # changes, before the oldest are forgotten
_SERVERS = tuple(f"ns-{number}.lab.test." for number in (1, 2, 3, 4))


@dataclass(slots=True)
class Zone:
    """One hosted zone. ``records`` is replaced whole by each change, never edited."""

    id: str
    name: str  # canonical
    reference: str
    private: bool
    comment: str = ""
    vpcs: list[Shape] = field(default_factory=list)
    records: Records = field(default_factory=dict)
    busy_until: float = 0.0
    served: deque[tuple[float, Records]] = field(default_factory=deque)  # (INSYNC from, record sets), oldest first
    _order: tuple[Records, list[tuple[tuple[str, str, str], Key]]] | None = None

    def sorted_keys(self) -> list[tuple[tuple[str, str, str], Key]]:
        """Every key with what it sorts by, in the order of ListResourceRecordSets."""
        if self._order is None or self._order[0] is not self.records:
            self._order = (self.records, sorted(((reversed_labels(k[0]), *k[1:]), k) for k in self.records))
        return self._order[1]

    def advance(self, now: float) -> int:
        """Forget what no name server answers by any more; returns how many changes came into force."""
        before = len(self.served)
        while len(self.served) > 1 and self.served[1][0] <= now:
            self.served.popleft()
        return before - len(self.served)

    def shape(self) -> Shape:
        """The zone as the API shows it."""
        config: Shape = {"PrivateZone": self.private}
        if self.comment:
            config["Comment"] = self.comment
        return {
            "Id": f"/hostedzone/{self.id}",
            "Name": shown(self.name),
            "CallerReference": self.reference,
            "Config": config,
            "ResourceRecordSetCount": len(self.records),
        }


class Zones:
    """Every hosted zone of the account and every change of them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changes: OrderedDict[str, tuple[float, float]] = OrderedDict()  # id -> (submitted, INSYNC from)
        self._made = 0
        self.all: dict[str, Zone] = {}
        self.version = 0  # another number whenever what name servers answer by has changed

    def find(self, identifier: str) -> Zone:
        """The zone of this id. Raises ApiError: NoSuchHostedZone."""
        try:
            return self.all[bare(identifier)]
        except KeyError:
            raise ApiError("NoSuchHostedZone", f"No hosted zone found with ID: {bare(identifier)}", 404) from None

    def advance(self, now: float) -> None:
        """Let name servers answer by what is INSYNC now."""
        self.version += sum(zone.advance(now) for zone in self.all.values())

    def create(self, now: float, params: Shape) -> Shape:
        """CreateHostedZone."""
        if any(zone.reference == params["CallerReference"] for zone in self.all.values()):
            raise ApiError(
                "HostedZoneAlreadyExists", "A hosted zone has already been created with this reference.", 409
            )
        name, config, vpc = canonical(params["Name"]), params.get("HostedZoneConfig") or {}, params.get("VPC")
        if not all(0 < len(label) < 64 for label in name.rstrip(".").split(".")):
            raise ApiError("InvalidDomainName", f"{params['Name']} is no domain name")
        if config.get("PrivateZone") and vpc is None:
            raise ApiError("InvalidInput", "When you're creating a private hosted zone, you must specify a VPC")
        self._made += 1
        zone = Zone(
            f"Z{self._made:013d}LAB", name, params["CallerReference"], vpc is not None, config.get("Comment", "")
        )
        if vpc is not None:
            zone.vpcs.append(vpc)
        zone.records = {(name, kind, ""): record for kind, record in _apex(name).items()}
        zone.served.append((now, zone.records))
        self.all[zone.id] = zone
        self.version += 1
        made = {
            "HostedZone": zone.shape(),
            "ChangeInfo": self._note(now, ""),
            "Location": f"/2013-04-01/hostedzone/{zone.id}",
        }
        return {**made, **({"VPC": vpc} if vpc else {}), "DelegationSet": {"NameServers": list(_SERVERS)}}

    def get(self, params: Shape) -> Shape:
        """GetHostedZone."""
        zone = self.find(params["Id"])
        if zone.private:
            return {"HostedZone": zone.shape(), "VPCs": copied(zone.vpcs)}
        return {"HostedZone": zone.shape(), "DelegationSet": {"NameServers": list(_SERVERS)}}

    def delete(self, now: float, params: Shape) -> Shape:
        """DeleteHostedZone."""
        zone = self.find(params["Id"])
        if any(kind not in {"SOA", "NS"} or name != zone.name for name, kind, _ in zone.records):
            raise ApiError(
                "HostedZoneNotEmpty",
                "The specified hosted zone contains non-required resource record sets and so cannot be deleted.",
            )
        del self.all[zone.id]
        self.version += 1
        return {"ChangeInfo": self._note(now, "")}

    def comment(self, params: Shape) -> Shape:
        """UpdateHostedZoneComment."""
        zone = self.find(params["Id"])
        zone.comment = params.get("Comment") or ""
        return {"HostedZone": zone.shape()}

    def associate(self, now: float, params: Shape) -> Shape:
        """AssociateVPCWithHostedZone."""
        zone = self.find(params["HostedZoneId"])
        if not zone.private:
            raise ApiError("PublicZoneVPCAssociation", "You're trying to associate a VPC with a public hosted zone.")
        if params["VPC"] not in zone.vpcs:
            zone.vpcs.append(params["VPC"])
        return {"ChangeInfo": self._note(now, params.get("Comment") or "")}

    def list(self, params: Shape) -> Shape:
        """ListHostedZones."""
        size, ids = page_size(params, MOST_ZONES_LISTED), sorted(self.all)
        start = next((n for n, i in enumerate(ids) if i >= params.get("Marker", "")), len(ids))
        page = ids[start : start + size]
        answer: Shape = {"HostedZones": [self.all[i].shape() for i in page], "MaxItems": str(size)}
        answer |= {"Marker": params.get("Marker", ""), "IsTruncated": len(ids) > start + size}
        return {**answer, "NextMarker": ids[start + size]} if answer["IsTruncated"] else answer

    def list_by_name(self, params: Shape) -> Shape:
        """ListHostedZonesByName: from this name on, in the order of reversed labels; not only zones of this name."""
        size, asked = page_size(params, MOST_ZONES_LISTED), params.get("DNSName")
        if params.get("HostedZoneId") and not asked:
            raise ApiError("InvalidInput", "HostedZoneId needs DNSName")
        places = sorted((reversed_labels(zone.name), zone.id) for zone in self.all.values())
        first = (reversed_labels(canonical(asked)) if asked else "", bare(params.get("HostedZoneId") or ""))
        rest = [self.all[identifier] for name, identifier in places if (name, identifier) >= first]
        answer: Shape = {name: params[name] for name in ("DNSName", "HostedZoneId") if params.get(name)}
        answer |= {
            "HostedZones": [zone.shape() for zone in rest[:size]],
            "MaxItems": str(size),
            "IsTruncated": len(rest) > size,
        }
        if len(rest) > size:
            answer |= {"NextDNSName": shown(rest[size].name), "NextHostedZoneId": rest[size].id}
        return answer

    def list_records(self, params: Shape) -> Shape:
        """ListResourceRecordSets, changes that are PENDING included."""
        zone, size = self.find(params["HostedZoneId"]), page_size(params, MOST_LISTED)
        name, kind, set_id = (params.get(f"StartRecord{part}") for part in ("Name", "Type", "Identifier"))
        if (kind and not name) or (set_id and not kind):
            raise ApiError(
                "InvalidInput", "StartRecordType needs StartRecordName, and StartRecordIdentifier needs both"
            )
        first = (reversed_labels(canonical(name)) if name else "", kind or "", set_id or "")
        keys = zone.sorted_keys()
        start = _first_at_least(keys, first)
        page, after = keys[start : start + size], keys[start + size : start + size + 1]
        answer: Shape = {"ResourceRecordSets": [copied(zone.records[key]) for _, key in page]}
        answer |= {"IsTruncated": bool(after), "MaxItems": str(size)}
        for _, (next_name, next_type, next_id) in after:
            answer |= {"NextRecordName": shown(next_name), "NextRecordType": next_type}
            answer |= {"NextRecordIdentifier": next_id} if next_id else {}
        return answer

    def change(self, now: float, params: Shape, check_exists: Any) -> Shape:
        """ChangeResourceRecordSets."""
        zone, batch = self.find(params["HostedZoneId"]), params["ChangeBatch"]
        if now < zone.busy_until:
            raise ApiError(
                "PriorRequestNotComplete",
                "The request was rejected because Route 53 was still processing a prior request.",
            )
        self._limits.admit_changes(tokens(batch["Changes"]), now)
        rules = ZoneRules(zone.id, zone.name, self._limits.records, self._limits.orphans, check_exists)
        zone.records = applied(rules, zone.records, batch["Changes"])
        zone.busy_until = now + self._limits.processing
        zone.served.append((now + self._limits.insync, zone.records))
        self.version += zone.advance(now)
        return {"ChangeInfo": self._note(now, batch.get("Comment") or "")}

    def get_change(self, now: float, params: Shape) -> Shape:
        """GetChange."""
        identifier = bare(params["Id"])
        if identifier not in self._changes:
            raise ApiError("NoSuchChange", f"Could not find resource with ID: {identifier}", 404)
        return {"ChangeInfo": self._info(identifier, now)}

    def _note(self, now: float, comment: str) -> Shape:
        self._made += 1
        identifier = f"C{self._made:013d}LAB"
        self._changes[identifier] = (now, now + self._limits.insync)
        if len(self._changes) > REMEMBERED:
            self._changes.popitem(last=False)
        info = self._info(identifier, now)
        return {**info, "Comment": comment} if comment else info

    def _info(self, identifier: str, now: float) -> Shape:
        submitted, insync = self._changes[identifier]
        status = "INSYNC" if now >= insync else "PENDING"
        return {"Id": f"/change/{identifier}", "Status": status, "SubmittedAt": datetime.fromtimestamp(submitted, UTC)}


def page_size(params: Shape, most: int) -> int:
    """MaxItems as a number; more than ``most`` gives ``most``. Raises ApiError: InvalidInput."""
    asked = str(params.get("MaxItems") or most)
    if not asked.isdigit() or int(asked) < 1:
        raise ApiError("InvalidInput", f"MaxItems is {asked}; it is a number of 1 or more")
    return min(int(asked), most)


def _first_at_least(keys: list[tuple[tuple[str, str, str], Key]], first: tuple[str, str, str]) -> int:
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if keys[middle][0] < first else (low, middle)
    return low


def _apex(name: str) -> dict[str, Shape]:
    """What every zone begins with."""
    soa = f"{_SERVERS[0]} hostmaster.lab.test. 1 7200 900 1209600 86400"
    servers = [{"Value": server} for server in _SERVERS]
    shape = {"Name": shown(name)}
    return {
        "NS": {**shape, "Type": "NS", "TTL": 172800, "ResourceRecords": servers},
        "SOA": {**shape, "Type": "SOA", "TTL": 900, "ResourceRecords": [{"Value": soa}]},
    }
