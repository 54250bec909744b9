"""Health checks as the local Route 53 keeps them: what it takes, what it fills in, and whose reference was whose.

Rules: botocore's texts on HealthCheckConfig, CreateHealthCheck, UpdateHealthCheck and DeleteHealthCheck.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from hafleet.lab.route53_limits import Limits
from hafleet.lab.route53_words import ApiError, Shape, copied, probed
from hafleet.lab.route53_zones import page_size

MOST_LISTED, LISTED = 1000, 100  # health checks per page: at most, and when the caller says nothing
_COMMON = frozenset({"Type", "Inverted", "Disabled"})
_ENDPOINT = _COMMON | {
    "IPAddress", "Port", "FullyQualifiedDomainName", "RequestInterval", "FailureThreshold", "MeasureLatency", "EnableSNI",
    "Regions",
}  # fmt: skip
_HTTP = _ENDPOINT | {"ResourcePath"}
_FIELDS = {
    "TCP": _ENDPOINT,
    "HTTP": _HTTP,
    "HTTPS": _HTTP,
    "HTTP_STR_MATCH": _HTTP | {"SearchString"},
    "HTTPS_STR_MATCH": _HTTP | {"SearchString"},
    "CALCULATED": _COMMON | {"HealthThreshold", "ChildHealthChecks"},
    "CLOUDWATCH_METRIC": _COMMON | {"AlarmIdentifier", "InsufficientDataHealthStatus"},
}
_RESETS = {
    "FullyQualifiedDomainName": "FullyQualifiedDomainName",
    "Regions": "Regions",
    "ResourcePath": "ResourcePath",
    "ChildHealthChecks": "ChildHealthChecks",
}
Alarms = Callable[[str, str], Shape | None]  # (region, name) -> CloudWatchAlarmConfiguration; None: no such alarm


def _any_alarm(_region: str, _name: str) -> Shape | None:
    """Every alarm exists: until something that evaluates alarms takes its place."""
    return {
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "LessThanThreshold",
        "Period": 60,
        "MetricName": "Healthy",
        "Namespace": "hafleet",
        "Statistic": "Minimum",
        "Dimensions": [],
    }


@dataclass(slots=True)
class Checks:
    """Every health check of the account."""

    limits: Limits
    all: dict[str, Shape] = field(default_factory=dict)  # id -> HealthCheck, by id
    alarms: Alarms = _any_alarm
    version: int = 0  # another number whenever a check has changed
    _deleted: dict[str, float] = field(default_factory=dict)  # reference -> when its check was deleted
    _made: int = 0

    def find(self, identifier: str) -> Shape:
        """The check of this id. Raises ApiError: NoSuchHealthCheck."""
        try:
            return self.all[identifier]
        except KeyError:
            raise ApiError("NoSuchHealthCheck", f"A health check with id {identifier} does not exist.", 404) from None

    def create(self, now: float, params: Shape) -> Shape:
        """CreateHealthCheck: the same reference and settings again give the same check."""
        reference, config = params["CallerReference"], self._complete(params["HealthCheckConfig"])
        same = next((check for check in self.all.values() if check["CallerReference"] == reference), None)
        if same is None and now - self._deleted.get(reference, -self.limits.references) < self.limits.references:
            raise _taken(f"The caller reference {reference} was that of a health check since deleted.")
        if same is not None and same["HealthCheckConfig"] != config:
            raise _taken(f"A health check with caller reference {reference} exists with other settings.")
        if same is None:
            if len(self.all) >= self.limits.checks:
                raise ApiError(
                    "TooManyHealthChecks", f"This account may have {self.limits.checks} active health checks."
                )
            self._made += 1
            same = {
                "Id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"check {self._made}")),
                "CallerReference": reference,
                "HealthCheckConfig": config,
                "HealthCheckVersion": 1,
                **self._alarm_of(config),
            }
            self.all[same["Id"]] = same
            self.version += 1
        return {"HealthCheck": copied(same), "Location": f"/2013-04-01/healthcheck/{same['Id']}"}

    def update(self, params: Shape) -> Shape:
        """UpdateHealthCheck, with HealthCheckVersion as compare-and-swap; fields that it lacks cannot change."""
        check = self.find(params["HealthCheckId"])
        version = params.get("HealthCheckVersion")
        if version is not None and version != check["HealthCheckVersion"]:
            raise ApiError(
                "HealthCheckVersionMismatch",
                f"The health check has version {check['HealthCheckVersion']}, not {version}.",
                409,
            )
        before = check["HealthCheckConfig"]
        keep = {"HealthCheckId", "HealthCheckVersion", "ResetElements"}
        change = {name: value for name, value in params.items() if name not in keep and value is not None}
        if ("IPAddress" in change) and ("IPAddress" not in before):
            raise _invalid("An IP address cannot be added to a health check that was made without one")
        after = {**before, **change}
        for element in params.get("ResetElements") or ():
            after.pop(_RESETS[element], None)
        if after.get("HealthThreshold") is not None and "ChildHealthChecks" not in after:
            after["ChildHealthChecks"] = []
        config = self._complete(after)
        check.update({"HealthCheckConfig": config, "HealthCheckVersion": check["HealthCheckVersion"] + 1})
        check.update(self._alarm_of(config))
        self.version += 1
        return {"HealthCheck": copied(check)}

    def delete(self, now: float, params: Shape) -> Shape:
        """DeleteHealthCheck; records that use the check do not keep it, a calculated check above it does."""
        check = self.find(params["HealthCheckId"])
        parents = [i for i, c in self.all.items() if check["Id"] in c["HealthCheckConfig"].get("ChildHealthChecks", ())]
        if parents:
            raise ApiError("HealthCheckInUse", f"The health check is a child of {', '.join(sorted(parents))}.")
        del self.all[check["Id"]]
        self._deleted[check["CallerReference"]] = now
        self.version += 1
        return {}

    def list(self, params: Shape) -> Shape:
        """ListHealthChecks: by id, without a filter."""
        size = page_size({"MaxItems": params.get("MaxItems") or LISTED}, MOST_LISTED)
        marker = params.get("Marker") or ""
        ids = [identifier for identifier in sorted(self.all) if identifier >= marker]
        answer: Shape = {"HealthChecks": [copied(self.all[identifier]) for identifier in ids[:size]]}
        answer |= {"Marker": marker, "IsTruncated": len(ids) > size, "MaxItems": str(size)}
        return {**answer, "NextMarker": ids[size]} if len(ids) > size else answer

    def _alarm_of(self, config: Shape) -> Shape:
        if config["Type"] != "CLOUDWATCH_METRIC":
            return {}
        alarm = config["AlarmIdentifier"]
        found = self.alarms(alarm["Region"], alarm["Name"])
        if found is None:
            raise _invalid(f"The alarm {alarm['Name']} was not found in {alarm['Region']}")
        return {"CloudWatchAlarmConfiguration": found}

    def _complete(self, asked: Shape) -> Shape:
        """The settings with the defaults of their type filled in. Raises ApiError: InvalidInput."""
        config = {name: value for name, value in copied(asked).items() if value is not None}
        kind = config["Type"]
        if kind not in _FIELDS:
            raise _invalid(f"Health checks of type {kind} are not part of the local Route 53")
        strange = sorted(config.keys() - _FIELDS[kind] - _silent(config))
        if strange:
            raise _invalid(f"{', '.join(strange)} cannot be set on a health check of type {kind}")
        config = {name: value for name, value in config.items() if name in _FIELDS[kind]}
        config.setdefault("Inverted", False)
        config.setdefault("Disabled", False)
        if kind == "CALCULATED":
            self._demand_children(config)
        elif kind == "CLOUDWATCH_METRIC":
            _demand(config, "AlarmIdentifier", "InsufficientDataHealthStatus")
        else:
            _complete_endpoint(config)
        return config

    def _demand_children(self, config: Shape) -> None:
        _demand(config, "HealthThreshold", "ChildHealthChecks")
        for child in config["ChildHealthChecks"]:
            if child not in self.all:
                raise _invalid(f"The child health check {child} does not exist")
            if self.all[child]["HealthCheckConfig"]["Type"] == "CALCULATED":
                raise _invalid(f"The child {child} is a calculated health check, which cannot be a child")
        if len(set(config["ChildHealthChecks"])) < len(config["ChildHealthChecks"]):
            raise _invalid("A child health check is named twice")


def _silent(config: Shape) -> frozenset[str]:
    """Members that may come with a type they mean nothing to: what they would be by default."""
    return frozenset(name for name in ("EnableSNI", "MeasureLatency") if config.get(name) is False)


def _complete_endpoint(config: Shape) -> None:
    kind = config["Type"]
    if "IPAddress" in config:
        config["IPAddress"] = probed(config["IPAddress"])
    elif not config.get("FullyQualifiedDomainName"):
        raise _invalid("IPAddress or FullyQualifiedDomainName is needed")
    if kind == "TCP":
        _demand(config, "Port")
    if kind.endswith("_STR_MATCH") and not config.get("SearchString"):
        raise _invalid(f"SearchString is needed for a health check of type {kind}")
    if config.setdefault("RequestInterval", 30) not in {10, 30}:
        raise _invalid(f"RequestInterval is {config['RequestInterval']}; it is 10 or 30")
    config.setdefault("Port", 443 if kind.startswith("HTTPS") else 80)
    config.setdefault("FailureThreshold", 3)
    config.setdefault("MeasureLatency", False)
    config.setdefault("EnableSNI", kind.startswith("HTTPS"))
    if config["EnableSNI"] and not kind.startswith("HTTPS"):
        raise _invalid(f"EnableSNI cannot be set on a health check of type {kind}")
    if "Regions" in config and len(set(config["Regions"])) < len(config["Regions"]):
        raise _invalid("A region is named twice")


def _demand(config: Shape, *names: str) -> None:
    for name in names:
        if config.get(name) is None:
            raise _invalid(f"{name} is needed for a health check of type {config['Type']}")


def _invalid(text: str) -> ApiError:
    return ApiError("InvalidInput", f"Invalid parameter : {text}")


def _taken(text: str) -> ApiError:
    return ApiError("HealthCheckAlreadyExists", text, 409)
