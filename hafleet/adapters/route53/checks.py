"""Health checks: from boto3's answers to ``Check``, and back. Each type has its own fields; those of others are not looked at."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from hafleet.core.dns.model import Check, CheckConfig

Raw = Mapping[str, Any]

CALCULATED, ALARM = "CALCULATED", "CLOUDWATCH_METRIC"
_PROBED = frozenset({"HTTP", "HTTPS", "HTTP_STR_MATCH", "HTTPS_STR_MATCH", "TCP"})
_ASKS = _PROBED - {"TCP"}  # those that ask for a path
_SEARCHES = frozenset({"HTTP_STR_MATCH", "HTTPS_STR_MATCH"})
_TLS = frozenset({"HTTPS", "HTTPS_STR_MATCH"})


def parse_check(raw: Raw) -> Check:
    """One health check as Route 53 tells it, its defaults written out.

    Raises:
        KeyError, TypeError, ValueError: it is not what Route 53 sends.
    """
    return Check(str(raw["Id"]), str(raw["CallerReference"]), _parse_config(raw["HealthCheckConfig"]))


def _parse_config(raw: Raw) -> CheckConfig:
    type_ = str(raw["Type"])
    mine: Raw = {key: value for key, value in raw.items() if key in _fields(type_)}
    address = mine.get("IPAddress")
    alarm = mine.get("AlarmIdentifier") or {}
    return CheckConfig(
        type=type_,
        address=ip_address(address).compressed if address else "",
        port=int(mine.get("Port", 0)),
        path=str(mine.get("ResourcePath", "")),
        host=str(mine.get("FullyQualifiedDomainName", "")),
        search=str(mine.get("SearchString", "")),
        interval=int(mine.get("RequestInterval", 30)),
        threshold=int(mine.get("FailureThreshold", 3)),
        regions=tuple(sorted(str(region) for region in mine.get("Regions") or ())),
        sni=bool(mine.get("EnableSNI", type_ in _TLS)),
        latency=bool(mine.get("MeasureLatency", False)),
        inverted=bool(raw.get("Inverted", False)),
        disabled=bool(raw.get("Disabled", False)),
        children=tuple(sorted(str(child) for child in mine.get("ChildHealthChecks") or ())),
        healthy=int(mine.get("HealthThreshold", 0)),
        alarm=str(alarm.get("Name", "")),
        alarm_region=str(alarm.get("Region", "")),
        insufficient=str(mine.get("InsufficientDataHealthStatus", "")),
    )


def write_config(config: CheckConfig) -> dict[str, Any]:
    """The HealthCheckConfig of a CreateHealthCheck."""
    alarm = {"Region": config.alarm_region, "Name": config.alarm}
    every: dict[str, Any] = {
        "IPAddress": config.address or None,
        "Port": config.port or None,
        "ResourcePath": config.path or None,
        "FullyQualifiedDomainName": config.host or None,
        "SearchString": config.search or None,
        "RequestInterval": config.interval,
        "FailureThreshold": config.threshold,
        "MeasureLatency": config.latency,
        "EnableSNI": config.sni,
        "Regions": list(config.regions) or None,
        "ChildHealthChecks": list(config.children),
        "HealthThreshold": config.healthy,
        "AlarmIdentifier": alarm,
        "InsufficientDataHealthStatus": config.insufficient or None,
    }
    fields = _fields(config.type)
    mine = {key: value for key, value in every.items() if key in fields and value is not None}
    return {"Type": config.type, **mine, "Inverted": config.inverted, "Disabled": config.disabled}


def _fields(type_: str) -> frozenset[str]:
    """What a check of this type has, besides Type, Inverted and Disabled."""
    if type_ == CALCULATED:
        return frozenset({"ChildHealthChecks", "HealthThreshold"})
    if type_ == ALARM:
        return frozenset({"AlarmIdentifier", "InsufficientDataHealthStatus"})
    if type_ not in _PROBED:  # of somebody else
        return frozenset()
    found = {"IPAddress", "Port", "FullyQualifiedDomainName", "RequestInterval", "FailureThreshold", "MeasureLatency"}
    found |= {"Regions"}
    found |= {"ResourcePath"} if type_ in _ASKS else set()
    found |= {"SearchString"} if type_ in _SEARCHES else set()
    found |= {"EnableSNI"} if type_ in _TLS else set()
    return frozenset(found)
