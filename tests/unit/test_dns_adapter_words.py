"""Route 53's spelling of names, record sets and health checks, and hafleet's."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafleet.adapters.route53.checks import parse_check, write_config
from hafleet.adapters.route53.names import at_or_below, follows, read_name, write_name
from hafleet.adapters.route53.records import parse_record, write_change
from hafleet.core.dns.model import Alias, Change, CheckConfig, Place, Record

# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("lb.example.com.", "lb.example.com"),
        ("LB.Example.com", "lb.example.com"),
        ("\\052.lb.example.com.", "*.lb.example.com"),
        ("a\\100b.example.com.", "a@b.example.com"),
        ("\\101.example.com.", "a.example.com"),
        ("a\\056b.example.com.", "a\\056b.example.com"),  # one label with a dot in it
        ("a\\134b.example.com.", "a\\134b.example.com"),
        ("a\\040b\\303\\274.example.com.", "a\\040b\\303\\274.example.com"),
    ],
)
def test_names_as_route_53_writes_them(theirs: str, ours: str) -> None:
    assert read_name(theirs) == ours
    assert read_name(write_name(ours)) == ours


def test_names_as_they_are_sent() -> None:
    assert write_name("*.lb-2_x.example.com") == "*.lb-2_x.example.com."
    assert write_name("a@b.example.com") == "a\\100b.example.com."
    assert write_name("a\\056b.example.com") == "a\\056b.example.com."


@given(st.text("abz019-_*@#\\.", min_size=1, max_size=20))
def test_a_name_survives_the_way_there_and_back(text: str) -> None:
    known = read_name(write_name(text))
    assert read_name(write_name(known)) == known


LABELS = st.lists(st.sampled_from(["a", "lb", "lb-2", "lb2", "l", "*", "-", "z", "_x", "0", "lb_"]), max_size=3)


@given(names=st.lists(LABELS, max_size=30), dots=st.booleans())
def test_a_listing_that_stops_where_told_has_seen_all_below_the_name(names: list[list[str]], dots: bool) -> None:
    """Whichever of the two orders the API's text allows: with the dots compared as characters, or label by label."""

    def order(name: str) -> Any:
        labels = name.split(".")[::-1]
        return ".".join(labels) + "." if dots else labels

    top = "lb.example.com"
    every = sorted({".".join([*labels, "example.com"]) for labels in names} | {top}, key=order)
    seen = []
    for name in every[every.index(top) :]:
        if follows(name, top):
            break
        seen.append(name)
    assert {name for name in every if at_or_below(name, top)} <= set(seen)


def test_a_longer_name_ends_a_listing() -> None:
    assert follows("lb2.example.com", "lb.example.com")
    assert follows("example.org", "lb.example.com")
    assert not follows("lb-2.example.com", "lb.example.com")
    assert not follows("x.lb.example.com", "lb.example.com")
    assert not follows("lb.example.com", "lb.example.com")
    assert not at_or_below("xlb.example.com", "lb.example.com")


# --- records --------------------------------------------------------------------------------------------------------

LEAF: dict[str, Any] = {
    "Name": "lb.example.com.",
    "Type": "AAAA",
    "SetIdentifier": "i-0a",
    "Weight": 0,
    "TTL": 30,
    "ResourceRecords": [{"Value": "2001:0db8:0000:0000:0000:0000:0000:0007"}],
    "HealthCheckId": "c1",
}


def test_a_leaf_is_read_and_kept_as_it_was_told() -> None:
    record = parse_record(LEAF)
    assert record == Record("lb.example.com", "AAAA", "i-0a", 30, ("2001:db8::7",), weight=0, check="c1")
    assert json.loads(record.stored) == LEAF
    assert write_change(Change("DELETE", record)) == {"Action": "DELETE", "ResourceRecordSet": LEAF}
    assert write_change(Change("CREATE", record)) == {"Action": "CREATE", "ResourceRecordSet": LEAF}


def test_a_delete_sends_what_was_stored_whatever_the_fields_say() -> None:
    record = parse_record(LEAF)
    changed = Record(record.name, record.type, record.set_id, 60, ("2001:db8::8",), weight=9, stored=record.stored)
    assert write_change(Change("DELETE", changed))["ResourceRecordSet"] == LEAF
    built = write_change(Change("CREATE", changed))["ResourceRecordSet"]
    assert (built["TTL"], built["Weight"], built["ResourceRecords"]) == (60, 9, [{"Value": "2001:db8::8"}])
    assert "HealthCheckId" not in built


def test_a_record_that_was_never_read_is_deleted_by_its_fields() -> None:
    record = Record("lb.example.com", "A", "i-0a", 30, ("198.51.100.7",), weight=1)
    sent = write_change(Change("DELETE", record))["ResourceRecordSet"]
    assert parse_record(sent) == record


@pytest.mark.parametrize(
    ("record", "sent"),
    [
        (
            Record("a.b", "A", "eu-west-1", alias=Alias("x.a.b", "Z1"), region="eu-west-1"),
            {
                "SetIdentifier": "eu-west-1",
                "Region": "eu-west-1",
                "AliasTarget": {"HostedZoneId": "Z1", "DNSName": "x.a.b.", "EvaluateTargetHealth": True},
            },
        ),
        (
            Record("a.b", "A", "*", alias=Alias("x.a.b", "Z1", evaluate=False), place=Place()),
            {
                "SetIdentifier": "*",
                "GeoLocation": {"CountryCode": "*"},
                "AliasTarget": {"HostedZoneId": "Z1", "DNSName": "x.a.b.", "EvaluateTargetHealth": False},
            },
        ),
        (
            Record("a.b", "A", "p", 0, ("198.51.100.7",), failover="PRIMARY", check="c"),
            {
                "SetIdentifier": "p",
                "TTL": 0,
                "ResourceRecords": [{"Value": "198.51.100.7"}],
                "Failover": "PRIMARY",
                "HealthCheckId": "c",
            },
        ),
        (
            Record("a.b", "A", "m", 5, ("198.51.100.7",), multivalue=True, place=None),
            {
                "SetIdentifier": "m",
                "TTL": 5,
                "ResourceRecords": [{"Value": "198.51.100.7"}],
                "MultiValueAnswer": True,
            },
        ),
        (
            Record("a.b", "A", "g", 5, ("198.51.100.7",), place=Place("", "US", "CA")),
            {
                "SetIdentifier": "g",
                "TTL": 5,
                "ResourceRecords": [{"Value": "198.51.100.7"}],
                "GeoLocation": {"CountryCode": "US", "SubdivisionCode": "CA"},
            },
        ),
    ],
    ids=["latency", "default place", "failover", "multivalue", "place"],
)
def test_each_policy_sends_its_own_fields_only(record: Record, sent: dict[str, Any]) -> None:
    wanted = {"Name": "a.b.", "Type": "A", **sent}
    assert write_change(Change("CREATE", record)) == {"Action": "CREATE", "ResourceRecordSet": wanted}
    assert parse_record(wanted) == record


TEXT = st.text("abc123", max_size=5)


@given(
    st.builds(
        Record,
        name=st.sampled_from(["a.b", "*.a.b", "a@c.b"]),
        type=st.just("A"),
        set_id=TEXT,
        ttl=st.none() | st.integers(0, 100),
        values=st.lists(st.ip_addresses(v=4).map(str), max_size=3).map(tuple),
        alias=st.none() | st.builds(Alias, st.sampled_from(["x.a.b", "*.a.b"]), TEXT, st.booleans()),
        weight=st.none() | st.integers(0, 255),
        multivalue=st.booleans(),
        region=TEXT,
        place=st.none() | st.builds(Place, TEXT, TEXT, TEXT),
        failover=st.sampled_from(["", "PRIMARY", "SECONDARY"]),
        check=TEXT,
    )
)
def test_every_record_survives_the_way_there_and_back(record: Record) -> None:
    assert parse_record(write_change(Change("CREATE", record))["ResourceRecordSet"]) == record


@pytest.mark.parametrize(
    "spoilt",
    [
        {"Name": None},
        {"Type": 5},
        {"TTL": "30"},
        {"Weight": 1.5},
        {"SetIdentifier": 7},
        {"ResourceRecords": [{}]},
        {"ResourceRecords": [{"Value": "no address"}]},
        {"AliasTarget": {}},
        {"GeoLocation": {"CountryCode": 5}},
    ],
)
def test_an_odd_record_is_no_record(spoilt: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        parse_record({**LEAF, **spoilt})


# --- health checks --------------------------------------------------------------------------------------------------


def told(config: dict[str, Any]) -> CheckConfig:
    return parse_check({"Id": "c1", "CallerReference": "r1", "HealthCheckConfig": config}).config


def test_the_defaults_of_route_53_are_written_out() -> None:
    assert told({"Type": "TCP", "IPAddress": "198.51.100.7"}) == CheckConfig("TCP", "198.51.100.7")
    assert told({"Type": "HTTPS", "FullyQualifiedDomainName": "a.b"}) == CheckConfig("HTTPS", host="a.b", sni=True)


def test_an_address_is_compressed_and_lists_are_sorted() -> None:
    full = {
        "Type": "TCP",
        "IPAddress": "2001:0db8:0000:0000:0000:0000:0000:0007",
        "Regions": ["us-east-1", "eu-west-1"],
    }
    assert told(full) == CheckConfig("TCP", "2001:db8::7", regions=("eu-west-1", "us-east-1"))
    assert told({"Type": "CALCULATED", "ChildHealthChecks": ["b", "a"], "HealthThreshold": 1}).children == ("a", "b")


def test_fields_of_another_type_are_not_looked_at_and_not_sent() -> None:
    odd = {"Type": "CALCULATED", "HealthThreshold": 2, "RequestInterval": 10, "FailureThreshold": 5, "Port": 80}
    assert told({**odd, "ChildHealthChecks": ["a"]}) == CheckConfig("CALCULATED", children=("a",), healthy=2)
    sent = write_config(CheckConfig("HTTP", "198.51.100.7", 80, "/", sni=True, search="x", alarm="y", healthy=3))
    assert sent.keys() == {
        "Type", "IPAddress", "Port", "ResourcePath", "RequestInterval", "FailureThreshold", "MeasureLatency", "Inverted",
        "Disabled",
    }  # fmt: skip


def test_a_check_of_somebody_else_may_be_of_any_type() -> None:
    assert told({"Type": "RECOVERY_CONTROL", "RoutingControlArn": "arn:x"}) == CheckConfig("RECOVERY_CONTROL")


@given(
    st.builds(
        CheckConfig,
        type=st.sampled_from(["HTTPS_STR_MATCH"]),
        address=st.ip_addresses().map(lambda address: address.compressed),
        port=st.integers(1, 65535),
        path=st.sampled_from(["/", "/health?a=b"]),
        host=TEXT,
        search=TEXT,
        interval=st.sampled_from([10, 30]),
        threshold=st.integers(1, 10),
        regions=st.sampled_from([(), ("eu-west-1", "sa-east-1", "us-east-1")]),
        sni=st.booleans(),
        latency=st.booleans(),
        inverted=st.booleans(),
        disabled=st.booleans(),
    )
)
def test_every_health_check_survives_the_way_there_and_back(config: CheckConfig) -> None:
    assert told(write_config(config)) == config


@pytest.mark.parametrize("raw", [{}, {"Id": "c"}, {"Id": "c", "CallerReference": "r", "HealthCheckConfig": None}])
def test_an_odd_check_is_no_check(raw: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        parse_check(raw)
