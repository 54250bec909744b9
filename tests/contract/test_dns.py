"""What the DNS port does, on the strict Route 53 in process as over HTTP."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from hafleet.adapters.aws import Account
from hafleet.adapters.route53 import Route53Dns
from hafleet.core.dns.model import Alias, Batch, Change, Check, CheckConfig, Place, Record
from hafleet.core.settings import Aws
from hafleet.errors import (
    AwsThrottled,
    ChangeRefused,
    CheckInUse,
    CheckTaken,
    HafleetError,
    SourceUnavailable,
    ZoneBusy,
)
from hafleet.lab.route53_engine import Engine
from hafleet.lab.route53_limits import Bucket
from tests.contract.dns_stages import NAME, ZONE, InProcess, OverHttp, Stage, VirtualClock, make_zone, port, served

HTTP = CheckConfig("HTTP", "198.51.100.7", 8405, "/health", NAME, interval=10)
CHECKS = [
    HTTP,
    CheckConfig("HTTPS", "2001:db8::7", 443, "/health", NAME, interval=10, threshold=1, sni=True, latency=True),
    CheckConfig("HTTPS", "198.51.100.7", 443, "/", inverted=True, disabled=True, threshold=10),
    CheckConfig("TCP", "198.51.100.7", 8405, interval=10),
    CheckConfig("HTTP_STR_MATCH", "198.51.100.7", 80, "/x?y=%20", NAME, "I am well & <alive>", threshold=2),
    CheckConfig("HTTPS_STR_MATCH", "198.51.100.7", 443, "/", NAME, "ok", sni=True, regions=("eu-west-1", "sa-east-1", "us-east-1")),
    CheckConfig("CLOUDWATCH_METRIC", alarm="edge i-0a/cpu", alarm_region="eu-west-1", insufficient="Unhealthy"),
]  # fmt: skip


@pytest.fixture(params=["process", "http"])
def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    if request.param == "process":
        yield InProcess()
        return
    clock = VirtualClock()
    engine = Engine(clock.wall)
    with served(engine) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield OverHttp(clock, engine, Account(Aws(region="eu-west-1")))


@pytest.fixture
def dns(stage: Stage) -> Route53Dns:
    return port(stage)


def leaf(node: str, address: str = "198.51.100.7", weight: int = 100, **more: Any) -> Record:
    kind = "AAAA" if ":" in address else "A"
    return replace(Record(NAME, kind, node, ttl=30, values=(address,), weight=weight), **more)


def create(*records: Record) -> Batch:
    return tuple(Change("CREATE", record) for record in records)


def delete(*records: Record) -> Batch:
    return tuple(Change("DELETE", record) for record in records)


def settled(stage: Stage, dns: Route53Dns, batch: Batch) -> str:
    """Apply a batch and wait until the zone takes the next one."""
    change = dns.change(batch)
    stage.clock.wait(threading.Event(), stage.engine.limits.processing)
    return change


# --- the zone -------------------------------------------------------------------------------------------------------


def test_the_zone_is_found_by_its_name_and_asked_for_once(stage: Stage) -> None:
    make_zone(stage.client, "example.tes")
    make_zone(stage.client, "a.example.test")
    dns = port(stage)
    assert [dns.zone_id() for _ in range(3)] == [stage.zone_id] * 3
    assert stage.engine.calls["ListHostedZonesByName"] == 1


def test_the_private_zone_of_the_same_name_is_another(stage: Stage) -> None:
    vpc: Any = {"VPCRegion": "eu-west-1", "VPCId": "vpc-1"}
    inner = make_zone(stage.client, ZONE, VPC=vpc)
    assert port(stage).zone_id() == stage.zone_id
    assert port(stage, private=True).zone_id() == inner != stage.zone_id


def test_a_zone_that_is_not_there_says_so(stage: Stage) -> None:
    with pytest.raises(HafleetError, match=r"dns.zone: there is no public zone example.org in this account; create it"):
        port(stage, zone="example.org").zone_id()


def test_a_zone_of_the_other_kind_is_named(stage: Stage) -> None:
    with pytest.raises(
        HafleetError, match=rf"\({stage.zone_id}\) is public, and a private .* set dns.private to false"
    ):
        port(stage, private=True).zone_id()


def test_two_zones_of_one_name_are_both_named(stage: Stage) -> None:
    other = make_zone(stage.client, ZONE, HostedZoneConfig={"Comment": "another", "PrivateZone": False})
    with pytest.raises(HafleetError, match="there are 2 public zones") as told:
        port(stage).zone_id()
    assert stage.zone_id in str(told.value) and other in str(told.value) and "zone_id" in str(told.value)


def test_a_zone_id_is_seen_to_hold_the_name(stage: Stage) -> None:
    assert port(stage, zone=None, zone_id=stage.zone_id).zone_id() == stage.zone_id
    other = make_zone(stage.client, "example.org")
    with pytest.raises(HafleetError, match=rf"lb.example.test does not lie in zone {other}, which is example.org"):
        port(stage, zone=None, zone_id=other).zone_id()


def test_a_zone_id_that_is_none_says_what_to_look_at(stage: Stage) -> None:
    with pytest.raises(SourceUnavailable, match=r"NoSuchHostedZone: .*; check dns.zone_id"):
        port(stage, zone=None, zone_id="Z0NOTHERE").zone_id()


# --- records --------------------------------------------------------------------------------------------------------


def test_what_is_created_is_read_as_it_was_written(stage: Stage, dns: Route53Dns) -> None:
    check = dns.create_check("r1", HTTP).id
    four, six = leaf("i-0a", check=check), leaf("i-0a", "2001:db8::7")
    settled(stage, dns, create(four, six))
    assert dns.tree(NAME) == (four, six)
    assert dns.record(NAME, "A", "i-0a") == four
    assert dns.record(NAME, "AAAA", "i-0a") == six


@pytest.mark.parametrize(
    "records",
    [
        [Record(NAME, "A", "i-0a", 30, ("198.51.100.7",), multivalue=True)],
        [Record(NAME, "A", "i-0a", 0, ("198.51.100.7",), weight=0)],
        [Record(NAME, "A", "", 60, ("198.51.100.7", "198.51.100.8"))],
        [
            Record(f"a.{NAME}", "A", "i-0a", 30, ("198.51.100.7",), weight=255),
            Record(NAME, "A", "eu-west-1", alias=Alias(f"a.{NAME}", ""), region="eu-west-1"),
        ],
        [
            Record(f"*.{NAME}", "A", "i-0a", 30, ("198.51.100.7",), weight=1),
            Record(NAME, "A", "primary", alias=Alias(f"*.{NAME}", ""), failover="PRIMARY"),
            Record(NAME, "A", "secondary", alias=Alias(f"*.{NAME}", ""), failover="SECONDARY"),
        ],
        [
            Record(f"a.{NAME}", "A", "i-0a", 30, ("198.51.100.7",), weight=1),
            Record(NAME, "A", "*", alias=Alias(f"a.{NAME}", ""), place=Place()),
            Record(NAME, "A", "de", alias=Alias(f"a.{NAME}", "", evaluate=False), place=Place(country="DE")),
            Record(NAME, "A", "eu", alias=Alias(f"a.{NAME}", ""), place=Place(continent="EU")),
            Record(NAME, "A", "us-ca", alias=Alias(f"a.{NAME}", ""), place=Place(country="US", subdivision="CA")),
        ],
    ],
    ids=["multivalue", "weight 0", "simple", "latency", "failover", "geolocation"],
)
def test_every_policy_comes_back_and_goes(stage: Stage, dns: Route53Dns, records: list[Record]) -> None:
    def placed(record: Record) -> Record:
        alias = record.alias
        return record if alias is None else replace(record, alias=replace(alias, zone_id=dns.zone_id()))

    batch = create(*(placed(record) for record in records))
    settled(stage, dns, batch)
    read = dns.tree(NAME)
    assert {record.key: record for record in read} == {c.record.key: c.record for c in batch}
    settled(stage, dns, delete(*sorted(read, key=lambda record: record.alias is None)))
    assert dns.tree(NAME) == ()


def test_a_record_that_is_not_there_is_none(stage: Stage, dns: Route53Dns) -> None:
    assert dns.record(NAME, "A", "i-0a") is None
    settled(stage, dns, create(leaf("i-0b")))
    assert dns.record(NAME, "A", "i-0a") is None  # the listing goes on with the next one
    assert dns.record(NAME, "AAAA", "i-0b") is None
    assert dns.record(f"x.{NAME}", "A", "i-0b") is None


def test_only_what_lies_at_the_name_and_below_it_is_listed(stage: Stage, dns: Route53Dns) -> None:
    inside = [
        leaf("i-0a"),
        leaf("i-0b", name=f"a.{NAME}"),
        leaf("i-0c", name=f"-b.a.{NAME}"),
        leaf("i-0d", name=f"*.{NAME}"),
    ]
    names = ("lb-2.example.test", "x.lb-2.example.test", "lb2.example.test", "l.example.test", "zlb.example.test")
    outside = [leaf("i-0e", name=name) for name in names]
    settled(stage, dns, create(*inside, *outside))
    assert {record.set_id for record in dns.tree(NAME)} == {"i-0a", "i-0b", "i-0c", "i-0d"}
    assert {record.set_id for record in dns.tree(ZONE)} >= {"i-0a", "i-0e"}


def test_a_tree_of_many_pages_is_whole_and_costs_a_call_per_page(stage: Stage, dns: Route53Dns) -> None:
    shards = [f"shard-{number:02}.{NAME}" for number in range(7)]
    for shard in shards:
        settled(stage, dns, create(*(leaf(f"i-{number:08x}", name=shard) for number in range(100))))
    settled(stage, dns, create(leaf("i-0a", name="zz.example.test")))
    before = stage.engine.calls["ListResourceRecordSets"]
    found = dns.tree(NAME)
    assert len({record.key for record in found}) == 700
    assert stage.engine.calls["ListResourceRecordSets"] - before == 3


def test_what_hafleet_has_no_words_for_survives(stage: Stage, dns: Route53Dns) -> None:
    foreign: Any = {
        "Name": NAME, "Type": "TXT", "SetIdentifier": "theirs", "TTL": 60, "GeoProximityLocation": {"AWSRegion": "eu-west-1", "Bias": 5},
        "ResourceRecords": [{"Value": '"a \\"text\\""'}],
    }  # fmt: skip
    batch: Any = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": foreign}]}
    stage.client.change_resource_record_sets(HostedZoneId=stage.zone_id, ChangeBatch=batch)
    stage.clock.wait(threading.Event(), stage.engine.limits.processing)
    (read,) = dns.tree(NAME)
    assert (read.type, read.set_id, read.weight, read.region) == ("TXT", "theirs", None, "")
    assert "GeoProximityLocation" in read.stored
    settled(stage, dns, (Change("DELETE", read), Change("CREATE", read)))
    assert dns.tree(NAME) == (read,) and dns.tree(NAME)[0].stored == read.stored


# --- changes --------------------------------------------------------------------------------------------------------


def test_a_change_is_pending_and_then_in_force(stage: Stage, dns: Route53Dns) -> None:
    change = dns.change(create(leaf("i-0a")))
    assert change and "/" not in change
    assert not dns.insync(change)
    stage.clock.wait(threading.Event(), stage.engine.limits.insync)
    assert dns.insync(change)


def test_a_change_that_nobody_remembers_is_in_force(dns: Route53Dns) -> None:
    assert dns.insync("C0NOTHERE")


def test_a_batch_is_applied_whole_or_not_at_all(stage: Stage, dns: Route53Dns) -> None:
    settled(stage, dns, create(leaf("i-0a")))
    with pytest.raises(ChangeRefused, match=r"InvalidChangeBatch: .*i-0a.*it already exists") as told:
        dns.change(create(leaf("i-0b"), leaf("i-0a")))
    assert f"ChangeResourceRecordSets in zone {stage.zone_id}" in told.value.where
    assert [record.set_id for record in dns.tree(NAME)] == ["i-0a"]


def test_a_record_that_another_changed_is_not_written_over(stage: Stage, dns: Route53Dns) -> None:
    settled(stage, dns, create(leaf("i-0a")))
    (old,) = dns.tree(NAME)
    settled(stage, port(stage), (Change("DELETE", old), Change("CREATE", replace(old, weight=7))))
    with pytest.raises(ChangeRefused, match="do not match the current values"):
        dns.change((Change("DELETE", old), Change("CREATE", replace(old, weight=9))))
    assert [record.weight for record in dns.tree(NAME)] == [7]


def test_a_changed_record_is_built_from_its_fields(stage: Stage, dns: Route53Dns) -> None:
    settled(stage, dns, create(leaf("i-0a")))
    (old,) = dns.tree(NAME)
    new = replace(old, values=("198.51.100.8",), ttl=30, weight=3)  # still carries what was stored
    settled(stage, dns, (Change("DELETE", old), Change("CREATE", new)))
    assert dns.tree(NAME) == (new,)


def test_a_witness_makes_no_difference_and_is_missed_when_it_is_gone(stage: Stage, dns: Route53Dns) -> None:
    settled(stage, dns, create(leaf("i-0a"), leaf("i-0b")))
    mine, witness = dns.tree(NAME)
    batch = (Change("DELETE", mine), Change("DELETE", witness), Change("CREATE", witness))
    settled(stage, dns, batch)
    assert dns.tree(NAME) == (witness,)
    settled(stage, dns, create(mine))
    settled(stage, dns, delete(witness))
    with pytest.raises(ChangeRefused):
        dns.change(batch)
    assert dns.tree(NAME) == (mine,)


@pytest.mark.parametrize(
    "record",
    [
        leaf("i-0a", check="no-such-check"),
        leaf("i-0a", values=("nonsense",)),
        leaf("i-0a", weight=256),
        leaf("i-0a", name="lb.example.org"),
        leaf("i" * 200),
        leaf("i-0a", name=f"{'a' * 64}.{NAME}"),
        Record(NAME, "A", "", 30, ("198.51.100.7",), weight=5),
    ],
    ids=["check", "address", "weight", "zone", "identifier", "label", "policy"],
)
def test_what_route_53_never_takes_is_refused_for_good(dns: Route53Dns, record: Record) -> None:
    with pytest.raises(ChangeRefused, match="hafleet dns plan"):
        dns.change(create(record))
    assert dns.tree(NAME) == ()


def test_a_zone_that_works_on_another_change_is_busy(stage: Stage, dns: Route53Dns) -> None:
    stage.engine.limits.processing = 1000.0
    dns.change(create(leaf("i-0a")))
    with pytest.raises(ZoneBusy, match=r"PriorRequestNotComplete: .*tried again until the zone is free"):
        dns.change(create(leaf("i-0b")))


# --- health checks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CHECKS, ids=lambda config: config.type)
def test_a_health_check_comes_back_as_it_was_asked_for(dns: Route53Dns, config: CheckConfig) -> None:
    made = dns.create_check("hf1:ab:i-0a", config)
    assert made == Check(made.id, "hf1:ab:i-0a", config)
    assert dns.check(made.id) == made
    assert dns.checks("hf1:ab:") == (made,)


def test_a_calculated_check_holds_its_children(dns: Route53Dns) -> None:
    children = sorted(dns.create_check(f"r{number}", HTTP).id for number in range(3))
    config = CheckConfig("CALCULATED", children=tuple(children), healthy=2)
    made = dns.create_check("sum", replace(config, children=tuple(reversed(children))))
    assert made.config == config
    with pytest.raises(CheckInUse, match="HealthCheckInUse"):
        dns.delete_check(children[0])
    dns.delete_check(made.id)
    dns.delete_check(children[0])


def test_asked_twice_a_check_is_made_once(dns: Route53Dns) -> None:
    assert dns.create_check("r1", HTTP) == dns.create_check("r1", HTTP)
    assert len(dns.checks("")) == 1


def test_a_reference_of_other_settings_or_of_a_deleted_check_is_taken(dns: Route53Dns) -> None:
    made = dns.create_check("r1", HTTP)
    with pytest.raises(CheckTaken, match="HealthCheckAlreadyExists"):
        dns.create_check("r1", replace(HTTP, port=81))
    dns.delete_check(made.id)
    with pytest.raises(CheckTaken):
        dns.create_check("r1", HTTP)


def test_a_check_that_is_gone_is_none_and_may_be_deleted_again(dns: Route53Dns) -> None:
    made = dns.create_check("r1", HTTP)
    dns.delete_check(made.id)
    dns.delete_check(made.id)
    assert dns.check(made.id) is None


@pytest.mark.parametrize(
    "config",
    [replace(HTTP, address="10.0.0.7"), replace(HTTP, interval=20), replace(HTTP, threshold=11), replace(HTTP, type="ICMP")],
    ids=["private", "interval", "threshold", "type"],
)  # fmt: skip
def test_settings_that_no_check_may_have_are_refused_for_good(dns: Route53Dns, config: CheckConfig) -> None:
    with pytest.raises(ChangeRefused):
        dns.create_check("r1", config)
    assert dns.checks("") == ()


def test_an_account_that_is_full_is_not_refused_for_good(stage: Stage, dns: Route53Dns) -> None:
    stage.engine.limits.checks = 1
    dns.create_check("r1", HTTP)
    with pytest.raises(SourceUnavailable, match=r"TooManyHealthChecks: .*ask AWS for more"):
        dns.create_check("r2", HTTP)


def test_checks_of_others_are_not_ours(stage: Stage, dns: Route53Dns) -> None:
    dns.create_check("hf1:ab:i-0a", HTTP)
    dns.create_check("hf1:cd:i-0a", HTTP)
    dns.create_check("terraform-20261121", HTTP)
    assert [check.reference for check in dns.checks("hf1:ab:")] == ["hf1:ab:i-0a"]
    assert len(dns.checks("")) == 3


def test_a_thousand_checks_take_two_pages(stage: Stage, dns: Route53Dns) -> None:
    stage.engine.limits.checks, stage.engine.limits.throttling = 2000, False
    config: Any = {"Type": "HTTP", "IPAddress": "198.51.100.7"}
    for number in range(1001):
        stage.engine.call("CreateHealthCheck", {"CallerReference": f"r{number:04}", "HealthCheckConfig": config})
    assert len({check.reference for check in dns.checks("r")}) == 1001
    assert stage.engine.calls["ListHealthChecks"] == 2


# --- pace -----------------------------------------------------------------------------------------------------------


def test_one_node_alone_is_never_throttled(stage: Stage, dns: Route53Dns) -> None:
    began = stage.clock.now
    checks = [dns.create_check(f"r{number}", HTTP).id for number in range(100)]
    for check in checks:
        dns.delete_check(check)
    assert stage.engine.refusals == {}
    # one token stays in each bucket: 49 checks at once, the others every 2 s; 14 deletes at once, the others every 1/3 s
    assert stage.clock.now - began == pytest.approx(51 / 0.5 + 86 / 3, abs=1)


def test_without_waiting_it_would_be(stage: Stage) -> None:
    stage.engine.limits.requests = Bucket(1000, 1000)
    dns = port(stage, limits={"create_check": {"burst": 1000, "rate": 1000}})
    for number in range(50):
        dns.create_check(f"r{number}", HTTP)
    with pytest.raises(AwsThrottled, match="Throttling: Rate exceeded"):
        dns.create_check("r50", HTTP)


def test_changes_are_paced_by_their_records(stage: Stage, dns: Route53Dns) -> None:
    stage.engine.limits.records = 100_000
    for number in range(16):
        dns.change(create(*(leaf(f"i-{item:08x}", name=f"s{number}.{NAME}") for item in range(100))))
        stage.clock.wait(threading.Event(), stage.engine.limits.processing)
    assert stage.engine.refusals == {}
