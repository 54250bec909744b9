"""A strict Route 53 in one object: hosted zones, atomic change batches, health checks, quotas and token buckets.

It speaks botocore's shapes, dictionaries in and out, and raises ``ApiError`` where the service sends an error. It has no
thread and no clock of its own: the caller passes one, real or not, in seconds since the epoch. ``route53_client`` puts a
client in front that is used like boto3's; ``route53_http`` serves it as the API does.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from hafleet.lab import route53_model
from hafleet.lab.route53_checks import Checks
from hafleet.lab.route53_limits import Limits
from hafleet.lab.route53_tags import Tags
from hafleet.lab.route53_words import ApiError, Shape, copied
from hafleet.lab.route53_zones import Zone, Zones

__all__ = ["ApiError", "Engine", "Limits"]

Observe = Callable[[str], list[Shape]]  # health check id -> HealthCheckObservation of each checker
Operation = Callable[[float, Shape], Shape]
# The lab's checkers probe from loopback addresses.
CHECKER_RANGES = ("127.0.0.0/8",)


def _nothing_seen(_check_id: str) -> list[Shape]:
    return []


class Engine:
    """The Route 53 of one account. Safe to use from several threads: each call runs alone.

    Attributes:
        limits: quotas, buckets and times; may be changed at any time.
        calls: calls so far by operation, throttled ones included.
        refusals: errors so far by their code.
        observe: what GetHealthCheckStatus answers by; the checkers set it.
        failures: the same for GetHealthCheckLastFailureReason.
    """

    def __init__(self, clock: Callable[[], float], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.calls: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.observe: Observe = _nothing_seen
        self.failures: Observe = _nothing_seen
        self._clock = clock
        self._lock = threading.RLock()
        self._zones = Zones(self.limits)
        self._checks = Checks(self.limits)
        self._tags = Tags(self._demand_resource)
        self._operations: Mapping[str, Operation] = {**self._zone_operations(), **self._check_operations()}

    def call(self, operation: str, params: Shape) -> Shape:
        """One call of the API, such as ``call("GetChange", {"Id": "C1"})``.

        Raises:
            ApiError: what the service would answer.
        """
        with self._lock:
            self.calls[operation] += 1
            try:
                return self._answer(operation, params)
            except ApiError as error:
                self.refusals[error.code] += 1
                raise

    def version(self) -> int:
        """Another number whenever ``zones`` or ``checks`` would answer otherwise."""
        with self._lock:
            self._zones.advance(self._clock())
            return self._zones.version + self._checks.version

    def zones(self) -> tuple[Shape, ...]:
        """Every zone as name servers see it now: ``HostedZone`` and the ``ResourceRecordSets`` that are INSYNC."""
        with self._lock:
            self._zones.advance(self._clock())
            return tuple(_seen(zone, zone.served[0][1].values()) for zone in self._zones.all.values())

    def dump(self) -> tuple[Shape, ...]:
        """Every zone as the API shows it, PENDING changes included, in the form of ``zones``."""
        with self._lock:
            return tuple(
                _seen(zone, [zone.records[key] for _, key in zone.sorted_keys()]) for zone in self._zones.all.values()
            )

    def checks(self) -> tuple[Shape, ...]:
        """Every HealthCheck, in botocore's shape."""
        with self._lock:
            return tuple(copied(check) for check in self._checks.all.values())

    def use_alarms(self, alarms: Callable[[str, str], Shape | None]) -> None:
        """Let this tell which alarms exist, as (region, name) -> CloudWatchAlarmConfiguration."""
        self._checks.alarms = alarms

    def _answer(self, operation: str, params: Shape) -> Shape:
        now = self._clock()
        self.limits.admit(operation, now)
        if operation not in self._operations:
            raise ApiError("InvalidAction", f"The local Route 53 has no operation {operation}", 501)
        route53_model.check(operation, params)
        return self._operations[operation](now, params)

    def _zone_operations(self) -> dict[str, Operation]:
        zones = self._zones
        return {
            "CreateHostedZone": zones.create,
            "GetHostedZone": lambda _, params: zones.get(params),
            "DeleteHostedZone": zones.delete,
            "ListHostedZones": lambda _, params: zones.list(params),
            "ListHostedZonesByName": lambda _, params: zones.list_by_name(params),
            "GetHostedZoneCount": lambda *_: {"HostedZoneCount": len(zones.all)},
            "UpdateHostedZoneComment": lambda _, params: zones.comment(params),
            "AssociateVPCWithHostedZone": zones.associate,
            "ChangeResourceRecordSets": lambda now, params: zones.change(now, params, self._checks.all.__contains__),
            "ListResourceRecordSets": lambda _, params: zones.list_records(params),
            "GetChange": zones.get_change,
            "GetHostedZoneLimit": self._zone_limit,
            "GetDNSSEC": lambda *_: {"Status": {"ServeSignature": "NOT_SIGNING"}, "KeySigningKeys": []},
        }

    def _check_operations(self) -> dict[str, Operation]:
        checks, tags = self._checks, self._tags
        return {
            "CreateHealthCheck": checks.create,
            "GetHealthCheck": lambda _, params: {"HealthCheck": copied(checks.find(params["HealthCheckId"]))},
            "UpdateHealthCheck": lambda _, params: checks.update(params),
            "DeleteHealthCheck": self._delete_check,
            "ListHealthChecks": lambda _, params: checks.list(params),
            "GetHealthCheckCount": lambda *_: {"HealthCheckCount": len(checks.all)},
            "GetHealthCheckStatus": lambda _, params: self._observations(self.observe, params),
            "GetHealthCheckLastFailureReason": lambda _, params: self._observations(self.failures, params),
            "GetCheckerIpRanges": lambda *_: {"CheckerIpRanges": list(CHECKER_RANGES)},
            "GetAccountLimit": self._account_limit,
            "ChangeTagsForResource": lambda _, params: tags.change(params),
            "ListTagsForResource": lambda _, params: tags.list(params),
            "ListTagsForResources": lambda _, params: tags.list_many(params),
        }

    def _observations(self, source: Observe, params: Shape) -> Shape:
        check = self._checks.find(params["HealthCheckId"])
        if check["HealthCheckConfig"]["Type"] == "CALCULATED":
            raise ApiError("InvalidInput", "Invalid parameter : A calculated health check has no status of its own")
        return {"HealthCheckObservations": source(check["Id"])}

    def _delete_check(self, now: float, params: Shape) -> Shape:
        self._checks.delete(now, params)
        self._tags.forget("healthcheck", params["HealthCheckId"])
        return {}

    def _account_limit(self, _: float, params: Shape) -> Shape:
        kind = params["Type"]
        known = {
            "MAX_HEALTH_CHECKS_BY_OWNER": (self.limits.checks, len(self._checks.all)),
            "MAX_HOSTED_ZONES_BY_OWNER": (500, len(self._zones.all)),
        }
        value, count = known.get(kind, (100, 0))
        return {"Limit": {"Type": kind, "Value": value}, "Count": count}

    def _zone_limit(self, _: float, params: Shape) -> Shape:
        zone, kind = self._zones.find(params["HostedZoneId"]), params["Type"]
        if kind == "MAX_VPCS_ASSOCIATED_BY_ZONE":
            if not zone.private:
                raise ApiError("HostedZoneNotPrivate", "The specified hosted zone is a public hosted zone.")
            return {"Limit": {"Type": kind, "Value": 300}, "Count": len(zone.vpcs)}
        return {"Limit": {"Type": kind, "Value": self.limits.records}, "Count": len(zone.records)}

    def _demand_resource(self, kind: str, identifier: str) -> None:
        if kind == "hostedzone":
            self._zones.find(identifier)
        else:
            self._checks.find(identifier)


def _seen(zone: Zone, records: Iterable[Shape]) -> Shape:
    return {
        "HostedZone": zone.shape(),
        "VPCs": copied(zone.vpcs),
        "ResourceRecordSets": [copied(record) for record in records],
    }
