"""From Route 53's own shapes, as botocore writes them, to the words of the lab's name server and health checkers."""

import ipaddress
import re
from typing import Any

from hafleet.core.dns.model import Alias, CheckConfig, Place, Record
from hafleet.lab.dns_answers import Zone

_OCTAL = re.compile(r"\\([0-7]{3})")


def plain_name(name: str) -> str:
    """Lower case, no dot at the end, no octal escapes."""
    return _OCTAL.sub(lambda escape: chr(int(escape[1], 8)), name).rstrip(".").lower()


def zone(shape: dict[str, Any]) -> Zone:
    """A HostedZone and its ResourceRecordSets."""
    hosted = shape["HostedZone"]
    records = tuple(map(record, shape["ResourceRecordSets"]))
    private = bool((hosted.get("Config") or {}).get("PrivateZone"))
    return Zone.of(hosted["Id"].rpartition("/")[2], plain_name(hosted["Name"]), records, private=private)


def record(shape: dict[str, Any]) -> Record:
    """A ResourceRecordSet."""
    target = shape.get("AliasTarget")
    return Record(
        name=plain_name(shape["Name"]),
        type=shape["Type"],
        set_id=shape.get("SetIdentifier", ""),
        ttl=shape.get("TTL"),
        values=tuple(item["Value"] for item in shape.get("ResourceRecords", ())),
        alias=target
        and Alias(
            plain_name(target["DNSName"]), target["HostedZoneId"].rpartition("/")[2], target["EvaluateTargetHealth"]
        ),
        weight=shape.get("Weight"),
        multivalue=shape.get("MultiValueAnswer", False),
        region=shape.get("Region", ""),
        place=_place(shape.get("GeoLocation")),
        failover=shape.get("Failover", ""),
        check=shape.get("HealthCheckId", ""),
    )


def _place(shape: dict[str, str] | None) -> Place | None:
    if not shape:
        return None
    country = shape.get("CountryCode", "")
    return Place(shape.get("ContinentCode", ""), "" if country == "*" else country, shape.get("SubdivisionCode", ""))


def config(shape: dict[str, Any]) -> CheckConfig:
    """The HealthCheckConfig of a HealthCheck, with Route 53's defaults."""
    kind = shape["Type"]
    address = shape.get("IPAddress", "")
    alarm = shape.get("AlarmIdentifier") or {}
    return CheckConfig(
        type=kind,
        address=str(ipaddress.ip_address(address)) if address else "",
        port=int(shape.get("Port") or (443 if kind.startswith("HTTPS") else 80)),
        path=shape.get("ResourcePath") or "/",
        host=shape.get("FullyQualifiedDomainName", ""),
        search=shape.get("SearchString", ""),
        interval=int(shape.get("RequestInterval") or 30),
        threshold=int(shape.get("FailureThreshold") or 3),
        regions=tuple(sorted(shape.get("Regions") or ())),
        sni=bool(shape.get("EnableSNI", kind.startswith("HTTPS"))),
        inverted=bool(shape.get("Inverted")),
        disabled=bool(shape.get("Disabled")),
        children=tuple(sorted(shape.get("ChildHealthChecks") or ())),
        healthy=int(shape.get("HealthThreshold") or 0),
        alarm=alarm.get("Name", ""),
        alarm_region=alarm.get("Region", ""),
        insufficient=shape.get("InsufficientDataHealthStatus", ""),
    )
