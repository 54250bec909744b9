"""Answers of Route 53 that are not whole or not good: an error each time, and never a part or an emptiness."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, NoCredentialsError, ParamValidationError
from botocore.parsers import ResponseParserError

from hafleet.adapters.clock import SystemClock
from hafleet.adapters.route53 import Route53Dns
from hafleet.core.dns.model import Change, CheckConfig, Record
from hafleet.core.dns_settings import Dns
from hafleet.errors import (
    AwsDenied,
    AwsThrottled,
    ChangeRefused,
    CheckInUse,
    CheckTaken,
    HafleetError,
    SourceUnavailable,
    ZoneBusy,
)

if TYPE_CHECKING:
    from mypy_boto3_route53 import Route53Client

NAME = "lb.example.com"
LEAF = Record(NAME, "A", "i-0a", 30, ("198.51.100.7",), weight=1)
CONFIG = CheckConfig("TCP", "198.51.100.7", 80)
Answer = dict[str, Any] | Exception


class Scripted:
    """A client whose answers a test writes: in order, the last one for ever."""

    def __init__(self, **answers: list[Answer]) -> None:
        self.answers = {"get_hosted_zone": [zone()], **answers}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        def call(**question: Any) -> dict[str, Any]:
            self.asked.append((name, question))
            rest = self.answers[name]
            answer = rest.pop(0) if len(rest) > 1 else rest[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def zone(name: str = "example.com.") -> Answer:
    return {"HostedZone": {"Id": "/hostedzone/Z1", "Name": name, "Config": {"PrivateZone": False}}}


def port(client: Scripted, stop: threading.Event | None = None, **more: Any) -> Route53Dns:
    settings = Dns.model_validate({"name": NAME, "zone_id": "Z1", **more})
    return Route53Dns(settings, lambda: cast("Route53Client", client), SystemClock(), stop)


def refused(code: str, message: str = "words", status: int = 400, **more: Any) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return ClientError(answer, "Operation")


def item(set_id: str, name: str = NAME) -> dict[str, Any]:
    values = [{"Value": "198.51.100.7"}]
    return {"Name": f"{name}.", "Type": "A", "SetIdentifier": set_id, "Weight": 1, "TTL": 30, "ResourceRecords": values}


def records(*items: Any, **more: Any) -> Answer:
    return {"ResourceRecordSets": list(items), "IsTruncated": bool(more), **more}


def checks(*items: Any, **more: Any) -> Answer:
    return {"HealthChecks": list(items), "IsTruncated": bool(more), **more}


def check(key: str, reference: str = "r1") -> dict[str, Any]:
    return {"Id": key, "CallerReference": reference, "HealthCheckConfig": {"Type": "TCP", "Port": 80}}


# --- listings that are not whole ------------------------------------------------------------------------------------


NEXT = {"NextRecordName": f"{NAME}.", "NextRecordType": "A", "NextRecordIdentifier": "b"}


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ([{}], "has no ResourceRecordSets"),
        ([{"ResourceRecordSets": None, "IsTruncated": False}], "has no ResourceRecordSets"),
        ([records(item("a"), NextRecordType="A")], "where the next page begins"),
        ([records(item("a"), **NEXT), records(item("b"), **NEXT)], "where the next page begins"),
        ([records(item("a"), **NEXT), records(item("a"))], "lb.example.com A a is listed twice"),
        ([records(item("a"), {"Name": f"{NAME}.", "Type": "A", "TTL": "x"})], "an item is odd: TypeError"),
        ([records("text")], "an item is odd"),
        ([records(item("a"), {"Type": "A"})], "an item is odd: KeyError 'Name'"),
        ([records(item("a"), **NEXT), refused("Throttling", "Rate exceeded")], "Rate exceeded"),
        ([records(item("a"), **NEXT), ConnectTimeoutError(endpoint_url="http://x")], "timeout"),
    ],
)
def test_a_tree_is_whole_or_an_error(pages: list[Answer], words: str) -> None:
    with pytest.raises(SourceUnavailable, match=words):
        port(Scripted(list_resource_record_sets=pages)).tree(NAME)


def test_pages_are_asked_for_as_route_53_told(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Scripted(list_resource_record_sets=[records(item("a"), **NEXT), records(item("b"))])
    assert [record.set_id for record in port(client).tree(NAME)] == ["a", "b"]
    first = {"HostedZoneId": "Z1", "MaxItems": "300", "StartRecordName": f"{NAME}."}
    rest = {"StartRecordType": "A", "StartRecordIdentifier": "b"}
    asked = [question for name, question in client.asked if name == "list_resource_record_sets"]
    assert asked == [first, {**first, **rest}]


def test_no_page_is_asked_for_beyond_the_name() -> None:
    client = Scripted(list_resource_record_sets=[records(item("a"), item("b", "www.example.com"), **NEXT)])
    assert [record.set_id for record in port(client).tree(NAME)] == ["a"]
    assert len(client.asked) == 2  # the zone, one page


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ([{}], "has no HealthChecks"),
        ([{**cast("dict[str, Any]", checks(check("a"))), "IsTruncated": True}], "where the next page begins"),
        ([checks(check("a"), NextMarker="m"), checks(check("b"), NextMarker="m")], "where the next page begins"),
        ([checks(check("a"), NextMarker="m"), checks(check("a"))], "health check a is listed twice"),
        ([checks({"Id": "a"})], "an item is odd: KeyError 'CallerReference'"),
        ([checks(check("a"), "text")], "an item is odd: it has no fields"),
        ([checks({**check("a"), "HealthCheckConfig": {}})], "an item is odd"),
        ([checks(check("a"), NextMarker="m"), refused("ServiceUnavailable", status=503)], "ServiceUnavailable"),
    ],
)
def test_a_listing_of_checks_is_whole_or_an_error(pages: list[Answer], words: str) -> None:
    with pytest.raises(SourceUnavailable, match=words):
        port(Scripted(list_health_checks=pages)).checks("r")


def test_an_odd_check_of_somebody_else_hides_nothing_of_ours() -> None:
    client = Scripted(list_health_checks=[checks({"Id": "x", "CallerReference": "theirs"}, check("a"))])
    assert [each.id for each in port(client).checks("r")] == ["a"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "has no HostedZones"),
        ({"HostedZones": [{"Id": "/hostedzone/Z1"}], "IsTruncated": False}, "an item is odd"),
        ({"HostedZones": [], "IsTruncated": True}, "where the next page begins"),
    ],
)
def test_a_listing_of_zones_is_whole_or_an_error(answer: Answer, words: str) -> None:
    with pytest.raises(SourceUnavailable, match=words):
        port(Scripted(list_hosted_zones_by_name=[answer]), zone="example.com", zone_id=None).zone_id()


@pytest.mark.parametrize("answer", [{}, {"ChangeInfo": None}, {"HostedZone": 5, "HealthCheck": "x"}])
def test_an_answer_without_its_part_is_an_error(answer: dict[str, Any]) -> None:
    names = ("change_resource_record_sets", "get_change", "get_health_check", "create_health_check")
    answers: dict[str, list[Answer]] = {name: [answer] for name in names}
    dns = port(Scripted(**answers))
    for call in (
        lambda: dns.change((Change("CREATE", LEAF),)),
        lambda: dns.insync("C1"),
        lambda: dns.check("c1"),
        lambda: dns.create_check("r1", CONFIG),
        lambda: port(Scripted(get_hosted_zone=[answer])).zone_id(),
    ):
        with pytest.raises(SourceUnavailable, match="the answer is not whole: it has no"):
            call()


def test_an_odd_check_is_an_error() -> None:
    dns = port(Scripted(get_health_check=[{"HealthCheck": {"Id": "c1"}}]))
    with pytest.raises(SourceUnavailable, match="health check is odd: KeyError"):
        dns.check("c1")


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (refused("Throttling", "Rate exceeded"), AwsThrottled, "Throttling: Rate exceeded"),
        (refused("PriorRequestNotComplete"), ZoneBusy, "until the zone is free"),
        (refused("AccessDenied", status=403), AwsDenied, "allow route53:ChangeResourceRecordSets to this node's role"),
        (refused("", "Forbidden", status=403), AwsDenied, "allow route53:ChangeResourceRecordSets"),
        (refused("403", "", status=403), AwsDenied, "allow route53:ChangeResourceRecordSets"),
        (refused("ExpiredToken"), AwsDenied, "renew the credentials"),
        (NoCredentialsError(), AwsDenied, "give the instance a role"),
        (refused("NoSuchHostedZone", status=404), SourceUnavailable, "check dns.zone_id"),
        (refused("InternalFailure", status=500), SourceUnavailable, "tried again"),
        (ConnectTimeoutError(endpoint_url="http://x"), SourceUnavailable, "check the route"),
        (ResponseParserError("no xml"), SourceUnavailable, "no xml"),
        (refused("InvalidChangeBatch", "[a, b]"), ChangeRefused, r"InvalidChangeBatch: \[a, b\]; see what"),
        (refused("InvalidInput"), ChangeRefused, "InvalidInput: words"),
        (refused("NoSuchHealthCheck", status=404), ChangeRefused, "NoSuchHealthCheck"),
        (ParamValidationError(report="too long"), ChangeRefused, "too long"),
        (refused("InvalidChangeBatch", "", messages=["one", "two"]), ChangeRefused, "one.*two"),
        (refused("", "", Messages={"Message": "alone"}), ChangeRefused, "InvalidChangeBatch: .*alone"),
        (refused("InvalidChangeBatch", ""), ChangeRefused, "InvalidChangeBatch: no message"),
    ],
)
def test_what_a_refused_change_becomes(error: Exception, kind: type[HafleetError], words: str) -> None:
    dns = port(Scripted(change_resource_record_sets=[error]))
    with pytest.raises(HafleetError, match=words) as told:
        dns.change((Change("CREATE", LEAF),))
    assert type(told.value) is kind
    assert isinstance(told.value.__cause__, type(error))


def test_a_message_of_many_pages_is_one_line() -> None:
    dns = port(Scripted(change_resource_record_sets=[refused("InvalidChangeBatch", "x\n\x00 y " * 1000)]))
    with pytest.raises(ChangeRefused) as told:
        dns.change((Change("CREATE", LEAF),))
    assert "\n" not in told.value.what and len(told.value.what) <= 300


def test_invalid_input_of_a_read_is_no_refusal() -> None:
    with pytest.raises(SourceUnavailable, match="InvalidInput"):
        port(Scripted(list_resource_record_sets=[refused("InvalidInput")])).tree(NAME)


@pytest.mark.parametrize(
    ("call", "error", "kind"),
    [
        ("create", refused("HealthCheckAlreadyExists", status=409), CheckTaken),
        ("create", refused("InvalidInput"), ChangeRefused),
        ("create", refused("TooManyHealthChecks"), SourceUnavailable),
        ("create", refused("Throttling"), AwsThrottled),
        ("delete", refused("HealthCheckInUse"), CheckInUse),
        ("delete", refused("Throttling"), AwsThrottled),
        ("delete", refused("InvalidInput"), SourceUnavailable),
    ],
)
def test_what_a_refused_check_becomes(call: str, error: Exception, kind: type[HafleetError]) -> None:
    dns = port(Scripted(create_health_check=[error], delete_health_check=[error]))
    calls: dict[str, Callable[[], object]] = {
        "create": lambda: dns.create_check("r1", CONFIG),
        "delete": lambda: dns.delete_check("c1"),
    }
    with pytest.raises(HafleetError) as told:
        calls[call]()
    assert type(told.value) is kind


def test_a_zone_that_was_not_found_is_asked_for_again() -> None:
    client = Scripted(get_hosted_zone=[refused("NoSuchHostedZone", status=404), zone()])
    dns = port(client)
    with pytest.raises(SourceUnavailable):
        dns.zone_id()
    assert dns.zone_id() == "Z1"


# --- waiting --------------------------------------------------------------------------------------------------------


def test_a_stop_ends_a_wait_for_tokens() -> None:
    stop = threading.Event()
    client = Scripted(get_change=[{"ChangeInfo": {"Id": "/change/C1", "Status": "PENDING"}}])
    dns = port(client, stop, limits={"requests": {"burst": 2, "rate": 0.001}})
    assert not dns.insync("C1")
    stop.set()
    with pytest.raises(SourceUnavailable, match="stopped while it waited"):
        dns.insync("C1")
    assert len(client.asked) == 1


def test_no_client_is_made_before_the_first_call() -> None:
    made: list[Scripted] = []

    def make() -> "Route53Client":
        made.append(Scripted(get_change=[{"ChangeInfo": {"Id": "/change/C1", "Status": "INSYNC"}}]))
        return cast("Route53Client", made[-1])

    dns = Route53Dns(Dns.model_validate({"name": NAME, "zone_id": "Z1"}), make, SystemClock())
    assert made == []
    assert dns.insync("C1")
    assert len(made) == 1
