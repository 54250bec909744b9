"""Change batches that Route 53 refuses, one of each kind, for the strict Route 53 in process and over HTTP."""

from dataclasses import dataclass, replace
from typing import Any

ZONE = "example.test"
NAME = f"lb.{ZONE}"
Set = dict[str, Any]


def weighted(set_id: str, address: str = "127.0.10.4", **other: Any) -> Set:
    """A leaf as nodes write it."""
    return {**simple(NAME, address), "SetIdentifier": set_id, "Weight": 100, **other}


def simple(name: str = NAME, *values: str, **other: Any) -> Set:
    """A record set without a policy."""
    return {"Name": name, "Type": "A", "TTL": 30, "ResourceRecords": [{"Value": v} for v in values], **other}


def alias(name: str, target: str, zone: str = "$ZONE", **other: Any) -> Set:
    """An alias that evaluates its target."""
    body = {"HostedZoneId": zone, "DNSName": target, "EvaluateTargetHealth": True}
    return {"Name": name, "Type": "A", "AliasTarget": body, **other}


def policy(set_id: str, **other: Any) -> Set:
    """A record set with a set identifier and whatever policy is given."""
    return {**simple(NAME, "127.0.10.4"), "SetIdentifier": set_id, **other}


def without(record: Set, *names: str) -> Set:
    return {name: value for name, value in record.items() if name not in names}


def create(*records: Set) -> list[dict[str, Any]]:
    return [{"Action": "CREATE", "ResourceRecordSet": record} for record in records]


def delete(*records: Set) -> list[dict[str, Any]]:
    return [{"Action": "DELETE", "ResourceRecordSet": record} for record in records]


def upsert(*records: Set) -> list[dict[str, Any]]:
    return [{"Action": "UPSERT", "ResourceRecordSet": record} for record in records]


@dataclass(frozen=True)
class Refused:
    """A batch that is refused on a zone that holds ``before``."""

    name: str
    batch: list[dict[str, Any]]
    text: str  # part of the message
    before: tuple[Set, ...] = ()
    code: str = "InvalidChangeBatch"

    def filled(self, zone_id: str, check_id: str) -> "Refused":
        """With the ids of a real zone and health check."""
        known = {"$ZONE": zone_id, "$CHECK": check_id}
        return replace(self, batch=_fill(self.batch, known), before=tuple(_fill(list(self.before), known)))


def _fill(value: Any, known: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, known) for item in value]
    return known.get(value, value) if isinstance(value, str) else value


_A, _B = weighted("i-a"), weighted("i-b", "127.0.10.5")
_CHECK = {"HealthCheckId": "$CHECK"}
_CALLED_A = f"[name='{NAME}.', type='A', set identifier='i-a']"
_WRONG = "but the values provided do not match the current values"
_UNKNOWN_CHECK = "01234567-89ab-cdef-0123-456789abcdef"
_NOT_WEIGHTED = "because a non-weighted RRSet with the same name and type already exists"

REFUSED = (
    Refused(
        "create what exists",
        create(_A),
        f"[Tried to create resource record set {_CALLED_A} but it already exists]",
        (_A,),
    ),
    Refused(
        "create a set identifier with other values", create(weighted("i-a", "127.0.10.9")), "already exists", (_A,)
    ),
    Refused(
        "delete what is not there",
        delete(_A),
        f"[Tried to delete resource record set {_CALLED_A} but it was not found]",
    ),
    Refused("delete with another address", delete(weighted("i-a", "127.0.10.9")), f"{_CALLED_A} {_WRONG}", (_A,)),
    Refused("delete with another weight", delete({**_A, "Weight": 99}), f"{_CALLED_A} {_WRONG}", (_A,)),
    Refused("delete with another ttl", delete({**_A, "TTL": 31}), _WRONG, (_A,)),
    Refused("delete without its check", delete(_A), _WRONG, ({**_A, **_CHECK},)),
    Refused(
        "delete a set identifier of another name", delete({**_A, "Name": f"x.{ZONE}"}), "but it was not found", (_A,)
    ),
    Refused(
        "cname beside a",
        create({**simple(NAME, "x.example.test"), "Type": "CNAME"}),
        "is not permitted as it conflicts with other records with the same DNS name",
        (_A,),
    ),
    Refused(
        "a beside cname",
        create(_A),
        "is not permitted as it conflicts with other records with the same DNS name",
        ({**simple(NAME, "x.example.test"), "Type": "CNAME"},),
    ),
    Refused(
        "cname at the apex",
        create({**simple(ZONE, "x.example.test"), "Type": "CNAME"}),
        f"is not permitted at apex in zone {ZONE}.",
    ),
    Refused(
        "no ipv4 address", create(simple(NAME, "1.2.3")), "Value is not a valid IPv4 address) encountered with '1.2.3'"
    ),
    Refused("an ipv6 address in a", create(simple(NAME, "::1")), "Value is not a valid IPv4 address"),
    Refused("no ipv6 address", create(simple(NAME, "1.2.3.4", Type="AAAA")), "Value is not a valid IPv6 address"),
    Refused("a value twice", create(simple(NAME, "1.2.3.4", "1.2.3.4")), "Duplicate Resource Record: '1.2.3.4'"),
    Refused("a text without quotes", create(simple(NAME, "plain", Type="TXT")), "enclosed in quotation marks"),
    Refused("an empty target", create(simple(NAME, ".", Type="CNAME")), "Domain label is empty"),
    Refused(
        "two canonical names", create(simple(NAME, "a.test", "b.test", Type="CNAME")), "may only have 1 value, found 2"
    ),
    Refused("a mail server without preference", create(simple(NAME, "mail.test", Type="MX")), "MXRRDATA"),
    Refused("a service without fields", create(simple(NAME, "1 2 x.test", Type="SRV")), "SRVRRDATA"),
    Refused("a label of 64", create(simple(f"{'x' * 64}.{ZONE}", "1.2.3.4")), "more than 63 characters"),
    Refused("an empty label", create(simple(f"a..{ZONE}", "1.2.3.4")), "a label of no or more than 63 characters"),
    Refused("no ttl", create(without(_A, "TTL")), "all of [TTL, and ResourceRecords]", code="InvalidInput"),
    Refused("no values", create(without(_A, "ResourceRecords")), "but found none", code="InvalidInput"),
    Refused("alias with values", create({**_A, **alias(NAME, NAME)}), "but found more than one", code="InvalidInput"),
    Refused("weight without identifier", create(without(_A, "SetIdentifier")), "'SetIdentifier'", code="InvalidInput"),
    Refused(
        "check without identifier", create(simple(NAME, "1.2.3.4", **_CHECK)), "'SetIdentifier'", code="InvalidInput"
    ),
    Refused("identifier without policy", create(without(_A, "Weight")), "but found none in", code="InvalidInput"),
    Refused("two policies", create({**_A, "Region": "eu-west-1"}), "but found more than one in", code="InvalidInput"),
    Refused(
        "weight 256",
        create({**_A, "Weight": 256}),
        "member.resourceRecordSet.weight' failed to satisfy constraint: Member must have value less than or equal to 255",
        code="InvalidInput",
    ),
    Refused("an unknown region", create(policy("r", Region="eu-west-9")), "enum value set", code="InvalidInput"),
    Refused("a set identifier of 129", create(weighted("x" * 129)), "less than or equal to 128", code="InvalidInput"),
    Refused(
        "an unknown check", create({**_A, "HealthCheckId": _UNKNOWN_CHECK}), _UNKNOWN_CHECK, code="NoSuchHealthCheck"
    ),
    Refused(
        "simple beside weighted", create(simple(NAME, "1.2.3.4")), "as other RRSets exist with the same name", (_A,)
    ),
    Refused("weighted beside simple", create(_A), _NOT_WEIGHTED, (simple(NAME, "1.2.3.4"),)),
    Refused("weighted beside latency", create(_A), _NOT_WEIGHTED, (policy("r", Region="eu-west-1"),)),
    Refused("weighted beside multivalue", upsert(_A), _NOT_WEIGHTED, (policy("m", MultiValueAnswer=True),)),
    Refused(
        "another policy under the same identifier",
        upsert(policy("i-a", Region="eu-west-1")),
        "because a non-latency RRSet with the same name and type already exists",
        (_A, _B),
    ),
    Refused(
        "a region twice",
        create(policy("b", Region="eu-west-1")),
        "because another RRSet with the same name, type and Region already exists",
        (policy("a", Region="eu-west-1"),),
    ),
    Refused(
        "a place twice",
        create(policy("b", GeoLocation={"CountryCode": "*"})),
        "type and GeoLocation already exists",
        (policy("a", GeoLocation={"CountryCode": "*"}),),
    ),
    Refused(
        "a place of nowhere", create(policy("a", GeoLocation={})), "ContinentCode, or CountryCode", code="InvalidInput"
    ),
    Refused(
        "a second primary",
        create(policy("b", Failover="PRIMARY", **_CHECK)),
        "type and Failover already exists",
        (policy("a", Failover="PRIMARY", **_CHECK),),
    ),
    Refused("a primary without check", create(policy("a", Failover="PRIMARY")), "PRIMARY", code="InvalidInput"),
    Refused(
        "multivalue with two values",
        create({**simple(NAME, "1.2.3.4", "1.2.3.5"), "SetIdentifier": "m", "MultiValueAnswer": True}),
        "exactly one value",
        code="InvalidInput",
    ),
    Refused(
        "multivalue that is false", create(policy("m", MultiValueAnswer=False)), "true or absent", code="InvalidInput"
    ),
    Refused(
        "multivalue canonical name",
        create({**simple(NAME, "a.test", Type="CNAME"), "SetIdentifier": "m", "MultiValueAnswer": True}),
        "MultiValueAnswer cannot be used with type CNAME",
        code="InvalidInput",
    ),
    Refused(
        "alias of name servers",
        create(alias(NAME, ZONE, Type="NS")),
        "cannot be used with type NS",
        code="InvalidInput",
    ),
    Refused(
        "multivalue alias",
        create({**alias(NAME, f"x.{ZONE}"), "SetIdentifier": "m", "MultiValueAnswer": True}),
        "MultiValueAnswer cannot be combined with AliasTarget",
        (simple(f"x.{ZONE}", "1.2.3.4"),),
        "InvalidInput",
    ),
    Refused("the same change twice", create(_A, _A), f"'CREATE A {NAME}.'"),
    Refused(
        "create and delete again",
        create(_A) + delete(_A),
        "an invalid set of changes for a resource record set 'DELETE A",
    ),
    Refused("delete and upsert", delete(_A) + upsert(_A), f"'UPSERT A {NAME}.'", (_A,)),
    Refused(
        "more than 100 of one name",
        create(weighted("i-new")),
        "because 100 RRSets with the same name and type already exist",
        tuple(weighted(f"i-{number:03d}") for number in range(100)),
    ),
    Refused("another ttl in a weighted group", create({**_B, "TTL": 60}), "must have the same TTL", (_A,)),
    Refused(
        "more than 1000 values",
        create(
            *(simple(f"n{number}.{ZONE}", *(f"10.0.{number}.{last}" for last in range(100))) for number in range(11))
        ),
        "[Number of records limit of 1000 exceeded.]",
    ),
    Refused(
        "more than 500 upserts", upsert(*(weighted(f"i-{number}") for number in range(501))), "limit of 1000 exceeded"
    ),
    Refused(
        "more than 32000 characters",
        create(*(simple(f"n{number}.{ZONE}", f'"{"x" * 253}"', Type="TXT") for number in range(126))),
        "[Number of characters limit of 32000 exceeded.]",
    ),
    Refused(
        "outside the zone",
        create({**_A, "Name": "lb.example.com"}),
        f"lb.example.com. is not permitted in zone {ZONE}.",
    ),
    Refused("a name that only ends alike", create({**_A, "Name": f"lb-{ZONE}"}), "is not permitted in zone"),
    Refused(
        "alias to nothing",
        create(alias(NAME, f"x.{ZONE}")),
        f"an alias that targets x.{ZONE}., type A in zone $ZONE, but that target was not found",
    ),
    Refused(
        "alias to another type",
        create(alias(NAME, f"x.{ZONE}", Type="AAAA")),
        "that target was not found",
        (simple(f"x.{ZONE}", "1.2.3.4"),),
    ),
    Refused(
        "alias before its target",
        create(alias(NAME, f"x.{ZONE}"), simple(f"x.{ZONE}", "1.2.3.4")),
        "that target was not found",
    ),
    Refused(
        "alias before the upsert of its target",
        create(alias(NAME, f"x.{ZONE}")) + upsert(simple(f"x.{ZONE}", "1.2.3.5")),
        "that target was not found",
        (simple(f"x.{ZONE}", "1.2.3.4"),),
    ),
    Refused("alias out of the zone", create(alias(NAME, "x.example.com")), "does not lie within the target zone"),
    Refused("alias to another zone", create(alias(NAME, f"x.{ZONE}", "Z99")), "does not lie within the target zone"),
    Refused("alias to itself", create(alias(NAME, NAME)), "an alias must not target itself"),
    Refused(
        "all name servers gone", delete(simple(ZONE, "$NS", Type="NS", TTL=172800)), "values provided do not match"
    ),
)
