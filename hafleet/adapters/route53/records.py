"""Record sets: from boto3's answers to ``Record``, and back."""

import json
from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import Any

from hafleet.adapters.route53.names import read_name, write_name
from hafleet.core.dns.model import Alias, Change, Place, Record

Raw = Mapping[str, Any]


def parse_record(raw: Raw) -> Record:
    """One record set as ListResourceRecordSets tells it. What hafleet has no field for survives in ``stored``.

    Raises:
        KeyError, TypeError, ValueError: it is not what Route 53 sends.
    """
    type_ = _text(raw["Type"])
    alias = raw.get("AliasTarget")
    place = raw.get("GeoLocation")
    return Record(
        name=read_name(_text(raw["Name"])),
        type=type_,
        set_id=_text(raw.get("SetIdentifier", "")),
        ttl=_number(raw.get("TTL")),
        values=tuple(_value(type_, _text(item["Value"])) for item in raw.get("ResourceRecords") or ()),
        alias=None if alias is None else _parse_alias(alias),
        weight=_number(raw.get("Weight")),
        multivalue=bool(raw.get("MultiValueAnswer", False)),
        region=_text(raw.get("Region", "")),
        place=None if place is None else _parse_place(place),
        failover=_text(raw.get("Failover", "")),
        check=_text(raw.get("HealthCheckId", "")),
        stored=json.dumps(raw, sort_keys=True, separators=(",", ":")),
    )


def write_change(change: Change) -> dict[str, Any]:
    """One change of a batch.

    A record that is deleted, or made again just as it was read, is sent as Route 53 itself told it; all else is built from the
    fields.
    """
    record = change.record
    if record.stored:
        stored: dict[str, Any] = json.loads(record.stored)
        if change.action == "DELETE" or parse_record(stored) == record:
            return {"Action": change.action, "ResourceRecordSet": stored}
    return {"Action": change.action, "ResourceRecordSet": _write_record(record)}


def _write_record(record: Record) -> dict[str, Any]:
    alias, place = record.alias, record.place
    every: dict[str, Any] = {
        "Name": write_name(record.name),
        "Type": record.type,
        "SetIdentifier": record.set_id or None,
        "Weight": record.weight,
        "MultiValueAnswer": record.multivalue or None,
        "Region": record.region or None,
        "GeoLocation": None if place is None else _write_place(place),
        "Failover": record.failover or None,
        "AliasTarget": None if alias is None else _write_alias(alias),
        "TTL": record.ttl,
        "ResourceRecords": [{"Value": value} for value in record.values] or None,
        "HealthCheckId": record.check or None,
    }
    return {key: value for key, value in every.items() if value is not None}


def _parse_alias(raw: Raw) -> Alias:
    evaluate = bool(raw.get("EvaluateTargetHealth", False))
    return Alias(read_name(_text(raw["DNSName"])), _text(raw["HostedZoneId"]), evaluate)


def _write_alias(alias: Alias) -> dict[str, Any]:
    target = write_name(alias.target)
    return {"HostedZoneId": alias.zone_id, "DNSName": target, "EvaluateTargetHealth": alias.evaluate}


def _parse_place(raw: Raw) -> Place:
    country = _text(raw.get("CountryCode", ""))
    return Place(
        continent=_text(raw.get("ContinentCode", "")),
        country="" if country == "*" else country,
        subdivision=_text(raw.get("SubdivisionCode", "")),
    )


def _write_place(place: Place) -> dict[str, str]:
    named = {"ContinentCode": place.continent, "CountryCode": place.country, "SubdivisionCode": place.subdivision}
    return {key: value for key, value in named.items() if value} or {"CountryCode": "*"}


def _value(type_: str, value: str) -> str:
    """A value; addresses in their shortest form, for Route 53 may spell IPv6 out."""
    return IPv6Address(value).compressed if type_ == "AAAA" else value


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise TypeError(f"{raw!r} is no text")
    return raw


def _number(raw: object) -> int | None:
    if raw is not None and not isinstance(raw, int):
        raise TypeError(f"{raw!r} is no number")
    return raw
