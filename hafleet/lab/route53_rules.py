"""What Route 53 demands of one record set by itself, whatever else is in the zone.

The texts are AWS's where they are known from public reports (research notes of the issue); the others are in its manner.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from hafleet.lab.route53_words import ApiError, Shape, bare, canonical, shown

# member of ResourceRecordSet -> how texts call the policy
POLICIES = {
    "Weight": "weighted",
    "Region": "latency",
    "Failover": "failover",
    "GeoLocation": "geolocation",
    "MultiValueAnswer": "multivalue answer",
    "CidrRoutingConfig": "CIDR",
    "GeoProximityLocation": "geoproximity",
}
_POLICY_LIST = (
    "Weight, Region, Failover, GeoLocation, MultiValueAnswer, CidrRoutingConfig, or GeoProximityLocation"  # AWS's order
)
_BODY_LIST = "AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId"


def stored(record: Shape) -> Shape:
    """The record set as Route 53 keeps and returns it."""
    kept = {name: value for name, value in record.items() if value is not None}
    kept["Name"] = shown(canonical(record["Name"]))
    if "AliasTarget" in kept:
        alias = kept["AliasTarget"]
        kept["AliasTarget"] = {
            "HostedZoneId": bare(alias["HostedZoneId"]),
            "DNSName": shown(canonical(alias["DNSName"])),
            "EvaluateTargetHealth": bool(alias["EvaluateTargetHealth"]),
        }
    return kept


def comparable(record: Shape) -> Shape:
    """What two record sets are the same by: values without their order, IPv6 addresses without their spelling."""
    values = [_plain_value(record["Type"], item["Value"]) for item in record.get("ResourceRecords") or ()]
    return {**record, "ResourceRecords": sorted(values)}


def policy_of(record: Shape) -> str:
    """The member that makes the routing policy; "" for a simple record set."""
    return next((name for name in POLICIES if record.get(name) is not None), "")


def demand_form(action: str, record: Shape) -> None:
    """Refuse a change whose members do not go together.

    Raises:
        ApiError: InvalidInput, at the first fault.
    """
    where = (
        f"in Change with [Action={action}, Name={shown(canonical(record['Name']))}, Type={record['Type']}, "
        f"SetIdentifier={record.get('SetIdentifier') or 'null'}]"
    )
    for fault in _form_faults(action, record):
        raise ApiError("InvalidInput", f"Invalid request: {fault} {where}")


def _form_faults(action: str, record: Shape) -> Iterator[str]:
    alias, values = record.get("AliasTarget"), record.get("ResourceRecords")
    plain = record.get("TTL") is not None, bool(values)
    bodies = (alias is not None) + all(plain) + (record.get("TrafficPolicyInstanceId") is not None)
    if bodies == 0 or (alias is None and any(plain) and not all(plain)):
        yield f"Expected exactly one of [{_BODY_LIST}], but found none"
    if bodies > 1 or (alias is not None and any(plain)):
        yield f"Expected exactly one of [{_BODY_LIST}], but found more than one"
    policies = [name for name in POLICIES if record.get(name) is not None]
    if not record.get("SetIdentifier"):
        if policies or record.get("HealthCheckId"):
            yield "Missing field 'SetIdentifier'"
    elif len(policies) != 1:
        found = "more than one" if policies else "none"
        yield f"Expected exactly one of [{_POLICY_LIST}], but found {found}"
    if action != "DELETE":
        yield from _policy_faults(record, alias, values or [])


def _policy_faults(record: Shape, alias: Shape | None, values: list[Any]) -> Iterator[str]:
    if record.get("MultiValueAnswer") is not None:
        if not record["MultiValueAnswer"]:
            yield "MultiValueAnswer must be true or absent"
        if alias is not None:
            yield "MultiValueAnswer cannot be combined with AliasTarget"
        if record["Type"] in {"CNAME", "NS", "SOA"}:
            yield f"MultiValueAnswer cannot be used with type {record['Type']}"
        if len(values) > 1:
            yield "MultiValueAnswer allows exactly one value in ResourceRecords"
    evaluates = alias is not None and alias["EvaluateTargetHealth"]
    if record.get("Failover") == "PRIMARY" and not record.get("HealthCheckId") and not evaluates:
        yield "A PRIMARY failover resource record set needs HealthCheckId, or an AliasTarget with EvaluateTargetHealth true"
    if alias is not None and record["Type"] in {"NS", "SOA"}:
        yield f"AliasTarget cannot be used with type {record['Type']}"
    place = record.get("GeoLocation")
    if place is not None and ("ContinentCode" in place) == ("CountryCode" in place):
        yield "Expected exactly one of [ContinentCode, or CountryCode] in GeoLocation"


def value_faults(record: Shape) -> Iterator[str]:
    """What is wrong with the values, as messages of a change batch."""
    kind = record["Type"]
    values = [item["Value"] for item in record.get("ResourceRecords") or ()]
    for value in values:
        fault = _value_fault(kind, value)
        if fault:
            yield f"Invalid Resource Record: 'FATAL problem: {fault} encountered with '{value}''"
    plain = [_plain_value(kind, value) for value in values]
    for value in sorted({value for value in plain if plain.count(value) > 1}):
        yield f"Duplicate Resource Record: '{value}'"
    if kind in {"CNAME", "SOA"} and len(values) > 1:
        yield f"RRSet of type {kind} with DNS name {record['Name']} may only have 1 value, found {len(values)}"


def _value_fault(kind: str, value: str) -> str:
    parts = value.split()
    if kind == "A" and not _is_address(IPv4Address, value):
        return "ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address)"
    if kind == "AAAA" and not _is_address(IPv6Address, value):
        return "AAAARRDATAIllegalIPv6Address (Value is not a valid IPv6 address)"
    if kind in {"CNAME", "NS", "PTR"} and (len(parts) != 1 or not value.strip(".")):
        return "DomainLabelEmpty (Domain label is empty)"
    if kind in {"TXT", "SPF"} and not (len(value) >= 2 and value[0] == value[-1] == '"'):
        return "InvalidCharacterString (Value should be enclosed in quotation marks)"
    if kind == "MX" and not (len(parts) == 2 and parts[0].isdigit()):
        return "MXRRDATAIllegalPreference (Value is not a preference and a mail server)"
    if kind == "SRV" and not (len(parts) == 4 and all(part.isdigit() for part in parts[:3])):
        return "SRVRRDATANotFourFields (Value is not priority, weight, port and target)"
    return ""


def _is_address(kind: type[IPv4Address | IPv6Address], value: str) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True


def _plain_value(kind: str, value: str) -> str:
    if kind == "AAAA" and _is_address(IPv6Address, value):
        return str(IPv6Address(value))
    return value
