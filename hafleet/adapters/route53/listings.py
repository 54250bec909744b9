"""Complete listings of Route 53: every page, or an error; never a part."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from hafleet.adapters.route53.answers import partial
from hafleet.adapters.route53.checks import parse_check
from hafleet.adapters.route53.names import at_or_below, follows, read_name, write_name
from hafleet.adapters.route53.records import parse_record
from hafleet.core.dns.model import Check, Record

if TYPE_CHECKING:
    from mypy_boto3_route53 import Route53Client

ACCOUNT = "the account"
LIST_RECORDS = "ListResourceRecordSets"
LIST_CHECKS = "ListHealthChecks"
LIST_ZONES = "ListHostedZonesByName"
RECORDS, CHECKS, ZONES = "300", "1000", "100"  # items per page at most; as text, which is the API's own type

T = TypeVar("T")
Raw = Mapping[str, Any]
Ask = Callable[
    [str, Callable[["Route53Client"], Raw]], Raw
]  # operation, the call -> its answer; raises SourceUnavailable


@dataclass(frozen=True, slots=True)
class _Listing:
    """How one operation pages."""

    operation: str
    place: str  # what is listed, for messages
    items: str  # key of the items in an answer
    following: Mapping[str, str]  # key in an answer -> key in the question for the next page; the first is always there


def tree(ask: Ask, zone_id: str, top: str) -> tuple[Record, ...]:
    """Every record set at this name and below it. Raises SourceUnavailable."""
    listing = _Listing(
        LIST_RECORDS,
        f"zone {zone_id}",
        "ResourceRecordSets",
        {
            "NextRecordName": "StartRecordName",
            "NextRecordType": "StartRecordType",
            "NextRecordIdentifier": "StartRecordIdentifier",
        },
    )

    def page(question: Raw) -> Raw:
        return ask(
            LIST_RECORDS,
            lambda client: client.list_resource_record_sets(HostedZoneId=zone_id, MaxItems=RECORDS, **question),
        )

    found: dict[tuple[str, str, str], Record] = {}
    for raw in _items(listing, page, {"StartRecordName": write_name(top)}):
        each = _parsed(parse_record, raw, listing)
        if follows(each.name, top):
            break
        if at_or_below(each.name, top):
            if each.key in found:
                raise partial(LIST_RECORDS, listing.place, f"{' '.join(each.key).rstrip()} is listed twice")
            found[each.key] = each
    return tuple(found.values())


def record(ask: Ask, zone_id: str, key: tuple[str, str, str]) -> Record | None:
    """The record set of this name, type and set identifier. Raises SourceUnavailable."""
    name, type_, set_id = key
    start: Raw = {"StartRecordName": write_name(name), "StartRecordType": type_}
    start = {**start, "StartRecordIdentifier": set_id} if set_id else start
    answer = ask(
        LIST_RECORDS, lambda client: client.list_resource_record_sets(HostedZoneId=zone_id, MaxItems="1", **start)
    )
    listing = _Listing(LIST_RECORDS, f"zone {zone_id}", "ResourceRecordSets", {})
    found = (_parsed(parse_record, raw, listing) for raw in _listed(listing, answer))
    return next((each for each in found if each.key == key), None)


def checks(ask: Ask, prefix: str) -> tuple[Check, ...]:
    """Every health check whose CallerReference starts with this. Raises SourceUnavailable."""
    listing = _Listing(LIST_CHECKS, ACCOUNT, "HealthChecks", {"NextMarker": "Marker"})

    def page(question: Raw) -> Raw:
        return ask(LIST_CHECKS, lambda client: client.list_health_checks(MaxItems=CHECKS, **question))

    found: dict[str, Check] = {}
    for raw in _items(listing, page, {}):
        if str(raw.get("CallerReference", prefix)).startswith(prefix):  # one without any is odd, and refused below
            each = _parsed(parse_check, raw, listing)
            if each.id in found:
                raise partial(LIST_CHECKS, ACCOUNT, f"health check {each.id} is listed twice")
            found[each.id] = each
    return tuple(found.values())


def zones(ask: Ask, name: str) -> tuple[tuple[str, bool], ...]:
    """Id of every hosted zone of this name, and whether it is private. Raises SourceUnavailable."""
    following = {"NextDNSName": "DNSName", "NextHostedZoneId": "HostedZoneId"}
    listing = _Listing(LIST_ZONES, ACCOUNT, "HostedZones", following)

    def page(question: Raw) -> Raw:
        return ask(LIST_ZONES, lambda client: client.list_hosted_zones_by_name(MaxItems=ZONES, **question))

    found: dict[str, bool] = {}
    for raw in _items(listing, page, {"DNSName": write_name(name)}):
        zone, id_, private = _parsed(parse_zone, raw, listing)
        if zone != name:
            break
        found[id_] = private
    return tuple(found.items())


def parse_zone(raw: Raw) -> tuple[str, str, bool]:
    """Name and id of a hosted zone, and whether it is private. Raises KeyError, TypeError."""
    return read_name(raw["Name"]), bare_id(raw["Id"]), bool((raw.get("Config") or {}).get("PrivateZone"))


def bare_id(raw: str) -> str:
    """``/hostedzone/Z08ABC``, ``/change/C08ABC`` or the id itself -> the id."""
    return raw.rpartition("/")[2]


def _items(listing: _Listing, page: Callable[[Raw], Raw], start: Raw) -> Iterator[Raw]:
    """The items of all pages."""
    question = start
    while True:
        answer = page(question)
        yield from _listed(listing, answer)
        if not answer.get("IsTruncated"):
            return
        following = {asked: answer[told] for told, asked in listing.following.items() if answer.get(told)}
        if next(iter(listing.following.values())) not in following or following == question:
            raise partial(listing.operation, listing.place, "it does not tell where the next page begins")
        question = following


def _listed(listing: _Listing, answer: Raw) -> list[Raw]:
    """The items of one page."""
    items = answer.get(listing.items)
    if not isinstance(items, list):
        raise partial(listing.operation, listing.place, f"it has no {listing.items}")
    if not all(isinstance(item, Mapping) for item in items):
        raise partial(listing.operation, listing.place, "an item is odd: it has no fields")
    return items


def _parsed(parse: Callable[[Raw], T], raw: Raw, listing: _Listing) -> T:
    """One item. An odd one is an error of the whole: what it is cannot be told, nor what it hides."""
    try:
        return parse(raw)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"an item is odd: {type(error).__name__} {error}"
        raise partial(listing.operation, listing.place, what) from error
