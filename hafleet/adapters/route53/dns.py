"""The port of DNS on Route 53."""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hafleet.adapters.route53 import listings
from hafleet.adapters.route53.answers import NoSuchThing, partial, reading, writing
from hafleet.adapters.route53.checks import parse_check, write_config
from hafleet.adapters.route53.listings import ACCOUNT, bare_id
from hafleet.adapters.route53.names import at_or_below
from hafleet.adapters.route53.purse import Purse
from hafleet.adapters.route53.records import write_change
from hafleet.core.dns.model import Batch, Check, CheckConfig, Record
from hafleet.core.dns_settings import Dns
from hafleet.errors import HafleetError
from hafleet.ports import Clock

if TYPE_CHECKING:
    from mypy_boto3_route53 import Route53Client

Raw = Mapping[str, Any]


class Route53Dns:
    """Implements ``ports.Dns``. For one thread.

    Every call waits until the account's token buckets grant it; none is tried again here.

    Args:
        settings: the zone, the name and the limits.
        client: makes the client, at the first call. It must not retry by itself.
        clock: how a wait for tokens is waited.
        stop: ends such a wait early.
    """

    def __init__(
        self,
        settings: Dns,
        client: Callable[[], "Route53Client"],
        clock: Clock,
        stop: threading.Event | None = None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._purse = Purse(settings.limits, clock, stop or threading.Event())
        self._zone_id = ""

    def zone_id(self) -> str:
        """See ``ports.Dns.zone_id``. Raises HafleetError, too, when the name is not of the zone."""
        if not self._zone_id:
            named = self._settings.zone_id
            self._zone_id = self._zone_by_id(named) if named else self._zone_by_name(self._settings.zone or "")
        return self._zone_id

    def tree(self, name: str) -> tuple[Record, ...]:
        """See ``ports.Dns.tree``."""
        return listings.tree(self._read, self.zone_id(), name)

    def record(self, name: str, type_: str, set_id: str) -> Record | None:
        """See ``ports.Dns.record``."""
        return listings.record(self._read, self.zone_id(), (name, type_, set_id))

    def change(self, batch: Batch) -> str:
        """See ``ports.Dns.change``."""
        zone_id, operation = self.zone_id(), "ChangeResourceRecordSets"
        changes: Any = [write_change(change) for change in batch]
        self._purse.pay(operation, tokens=len(batch))
        with writing(operation, f"zone {zone_id}"):
            answer: Raw = self._client().change_resource_record_sets(
                HostedZoneId=zone_id, ChangeBatch={"Changes": changes}
            )
        return bare_id(_inner(answer, "ChangeInfo", operation)["Id"])

    def insync(self, change_id: str) -> bool:
        """See ``ports.Dns.insync``."""
        try:
            answer = self._read("GetChange", lambda client: client.get_change(Id=change_id))
        except NoSuchThing:
            return True
        return bool(_inner(answer, "ChangeInfo", "GetChange").get("Status") == "INSYNC")

    def check(self, check_id: str) -> Check | None:
        """See ``ports.Dns.check``."""
        try:
            answer = self._read("GetHealthCheck", lambda client: client.get_health_check(HealthCheckId=check_id))
        except NoSuchThing:
            return None
        return _check(answer, "GetHealthCheck")

    def checks(self, prefix: str) -> tuple[Check, ...]:
        """See ``ports.Dns.checks``."""
        return listings.checks(self._read, prefix)

    def create_check(self, reference: str, config: CheckConfig) -> Check:
        """See ``ports.Dns.create_check``."""
        operation = "CreateHealthCheck"
        wanted: Any = write_config(config)
        self._purse.pay(operation)
        with writing(operation, ACCOUNT):
            answer: Raw = self._client().create_health_check(CallerReference=reference, HealthCheckConfig=wanted)
        return _check(answer, operation)

    def delete_check(self, check_id: str) -> None:
        """See ``ports.Dns.delete_check``."""
        operation = "DeleteHealthCheck"
        self._purse.pay(operation)
        try:
            with reading(operation, ACCOUNT):
                self._client().delete_health_check(HealthCheckId=check_id)
        except NoSuchThing:  # somebody was faster, or our own answer was lost
            return

    def _zone_by_id(self, id_: str) -> str:
        """The zone of the settings, seen to exist and to hold the name."""
        answer = self._read("GetHostedZone", lambda client: client.get_hosted_zone(Id=id_))
        zone, found, _ = listings.parse_zone(_inner(answer, "HostedZone", "GetHostedZone"))
        if not at_or_below(self._settings.name, zone):
            what = f"{self._settings.name} does not lie in zone {id_}, which is {zone}"
            raise HafleetError(what, where="dns.zone_id", fix="write the id of the name's own zone")
        return found

    def _zone_by_name(self, name: str) -> str:
        """The one zone of this name that is public, or private, as the settings say."""
        found = listings.zones(self._read, name)
        private = self._settings.private
        fitting = [id_ for id_, is_private in found if is_private == private]
        kind, other = ("private", "public") if private else ("public", "private")
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            what = f"there are {len(fitting)} {kind} zones {name}: {', '.join(sorted(fitting))}"
            raise HafleetError(what, where="dns.zone", fix="write dns.zone_id instead")
        if found:
            what = f"zone {name} ({', '.join(sorted(id_ for id_, _ in found))}) is {other}, and a {kind} one is wanted"
            raise HafleetError(what, where="dns.zone", fix=f"set dns.private to {str(not private).lower()}")
        what = f"there is no {kind} zone {name} in this account"
        fix = "create it, or check the name and that this node's role is of the account that owns it"
        raise HafleetError(what, where="dns.zone", fix=fix)

    def _read(self, operation: str, call: Callable[["Route53Client"], Raw]) -> Raw:
        """One reading call, when the account grants it."""
        self._purse.pay(operation)
        place = f"zone {self._zone_id}" if self._zone_id and operation == listings.LIST_RECORDS else ACCOUNT
        with reading(operation, place):
            return call(self._client())


def _inner(answer: Raw, key: str, operation: str) -> Raw:
    """The part of an answer that holds it all."""
    inner = answer.get(key)
    if not isinstance(inner, Mapping):
        raise partial(operation, ACCOUNT, f"it has no {key}")
    return inner


def _check(answer: Raw, operation: str) -> Check:
    try:
        return parse_check(_inner(answer, "HealthCheck", operation))
    except (KeyError, TypeError, ValueError) as error:
        what = f"the health check is odd: {type(error).__name__} {error}"
        raise partial(operation, ACCOUNT, what) from error
