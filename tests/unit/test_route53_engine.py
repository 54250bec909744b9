"""The strict Route 53 in process, through its own client and a clock that the test turns."""

from typing import Any

import pytest
from botocore.exceptions import ClientError, OperationNotPageableError, ParamValidationError

from hafleet.lab import route53_zones
from hafleet.lab.route53_client import EngineClient
from hafleet.lab.route53_engine import ApiError, Engine
from tests.route53_batches import NAME, REFUSED, ZONE, Refused, alias, create, delete, policy, simple, upsert, weighted

CHECK = {"Type": "HTTP", "IPAddress": "127.0.10.4", "Port": 8404, "ResourcePath": "/health", "RequestInterval": 10}


class Stage:
    """An engine without throttles, one zone, and a clock."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0
        self.engine = Engine(lambda: self.now)
        self.engine.limits.set({"throttling": False, "processing": 0})
        self.client = EngineClient(self.engine)
        made = self.client.create_hosted_zone(Name=ZONE, CallerReference="zone")
        self.zone = made["HostedZone"]["Id"].rpartition("/")[2]

    def change(self, changes: list[dict[str, Any]]) -> str:
        """Send a batch; returns the id of the change."""
        answer = self.client.change_resource_record_sets(HostedZoneId=self.zone, ChangeBatch={"Changes": changes})
        return str(answer["ChangeInfo"]["Id"])

    def check(self, reference: str = "check", **other: Any) -> dict[str, Any]:
        """Make a health check."""
        config = {**CHECK, **other}
        made = self.client.create_health_check(CallerReference=reference, HealthCheckConfig=config)["HealthCheck"]
        return dict(made)

    def records(self) -> list[dict[str, Any]]:
        """Every record set but the zone's own."""
        pages = self.client.get_paginator("list_resource_record_sets").paginate(HostedZoneId=self.zone)
        return [s for page in pages for s in page["ResourceRecordSets"] if s["Type"] not in {"SOA", "NS"}]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def refusal(call: Any) -> tuple[str, str, int]:
    """Code, message and status of the error that this call meets."""
    with pytest.raises(ClientError) as caught:
        call()
    answer = caught.value.response
    return answer["Error"]["Code"], answer["Error"]["Message"], answer["ResponseMetadata"]["HTTPStatusCode"]


class TestBatches:
    @pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
    def test_it_is_refused_and_nothing_of_it_applied(self, stage: Stage, case: Refused) -> None:
        case = case.filled(stage.zone, stage.check()["Id"])
        if case.before:
            stage.change(create(*case.before))
        before = stage.records()
        good = create(simple(f"innocent.{ZONE}", "1.2.3.4"))
        code, text, _ = refusal(lambda: stage.change(good + case.batch))
        expected = case.text.replace("$ZONE", stage.zone)
        assert (code, expected in text) == (case.code, True), text
        assert stage.records() == before

    def test_every_fault_of_a_batch_is_told_in_brackets(self, stage: Stage) -> None:
        code, text, status = refusal(lambda: stage.change(delete(weighted("i-a")) + create(simple(NAME, "x"))))
        assert (code, status) == ("InvalidChangeBatch", 400)
        assert text.startswith("[Tried to delete resource record set [name=")
        assert "but it was not found, Invalid Resource Record: 'FATAL problem:" in text
        assert text.endswith("]")

    def test_delete_and_create_in_one_batch_swap_a_record(self, stage: Stage) -> None:
        stage.change(create(weighted("i-a")))
        stage.change(delete(weighted("i-a")) + create(weighted("i-a", "127.0.10.9", Weight=7)))
        assert [(s["Weight"], s["ResourceRecords"][0]["Value"]) for s in stage.records()] == [(7, "127.0.10.9")]
        assert refusal(lambda: stage.change(delete(weighted("i-a"))))[0] == "InvalidChangeBatch"

    def test_a_swap_by_the_same_record_proves_that_it_is_still_there(self, stage: Stage) -> None:
        stage.change(create(weighted("i-a"), weighted("i-b")))
        witness = delete(weighted("i-b")) + create(weighted("i-b"))
        stage.change(delete(weighted("i-a")) + witness)
        assert [s["SetIdentifier"] for s in stage.records()] == ["i-b"]
        stage.change(create(weighted("i-c")) + delete(weighted("i-b")))
        assert "it was not found" in refusal(lambda: stage.change(delete(weighted("i-c")) + witness))[1]

    def test_deleting_one_set_identifier_leaves_other_names_alone(self, stage: Stage) -> None:
        other = {**weighted("i-a"), "Name": f"other.{ZONE}"}
        stage.change(create(weighted("i-a"), other))
        stage.change(delete(weighted("i-a")))
        assert [s["Name"] for s in stage.records()] == [f"other.{ZONE}."]

    def test_upsert_makes_and_replaces(self, stage: Stage) -> None:
        stage.change(upsert(weighted("i-a")))
        stage.change(upsert(weighted("i-a", TTL=60)))
        assert [s["TTL"] for s in stage.records()] == [60]
        stage.change(create(weighted("i-b", TTL=60)))
        stage.change(upsert(weighted("i-a", TTL=5), weighted("i-b", TTL=5)))
        assert [s["TTL"] for s in stage.records()] == [5, 5]

    def test_the_order_of_values_and_the_spelling_of_names_and_ipv6_do_not_matter_to_a_delete(
        self, stage: Stage
    ) -> None:
        six = simple(f"six.{ZONE}", "2001:db8::1", Type="AAAA")
        stage.change(create(simple(NAME, "1.2.3.4", "1.2.3.5"), six))
        stage.change(delete(simple(f"{NAME.upper()}.", "1.2.3.5", "1.2.3.4")))
        stage.change(delete({**six, "ResourceRecords": [{"Value": "2001:DB8:0::1"}]}))
        assert stage.records() == []

    def test_an_alias_may_follow_its_target_in_one_batch_and_may_point_at_aws(self, stage: Stage) -> None:
        stage.change(create(simple(f"x.{ZONE}", "1.2.3.4"), alias(NAME, f"X.{ZONE}.", stage.zone)))
        stage.change(create(alias(f"elb.{ZONE}", "a.eu-west-1.elb.amazonaws.com", "Z32O12XQLNTSW2")))
        assert [s["AliasTarget"]["DNSName"] for s in stage.records() if "AliasTarget" in s] == [
            "a.eu-west-1.elb.amazonaws.com.",
            f"x.{ZONE}.",
        ]

    def test_the_target_of_an_alias_may_go_unless_orphans_are_refused(self, stage: Stage) -> None:
        target, pointer = simple(f"x.{ZONE}", "1.2.3.4"), alias(NAME, f"x.{ZONE}", stage.zone)
        stage.change(create(target, pointer))
        stage.engine.limits.set({"orphans": False})
        assert f"but the alias {NAME}. still targets it" in refusal(lambda: stage.change(delete(target)))[1]
        stage.change(delete(pointer, target))
        stage.engine.limits.set({"orphans": True})
        stage.change(create(target, pointer))
        stage.change(delete(target))
        assert [s["Name"] for s in stage.records()] == [f"{NAME}."]

    def test_a_primary_alias_needs_no_check_when_it_evaluates(self, stage: Stage) -> None:
        pair = alias(NAME, f"x.{ZONE}", stage.zone, SetIdentifier="p", Failover="PRIMARY")
        stage.change(create(simple(f"x.{ZONE}", "1.2.3.4"), pair, policy("s", Failover="SECONDARY")))
        assert len(stage.records()) == 3
        blind = {**pair, "AliasTarget": {**pair["AliasTarget"], "EvaluateTargetHealth": False}}
        assert refusal(lambda: stage.change(delete(pair) + create(blind)))[0] == "InvalidInput"

    def test_the_zone_keeps_its_own_records_and_its_size(self, stage: Stage) -> None:
        own = stage.client.list_resource_record_sets(HostedZoneId=stage.zone)["ResourceRecordSets"]
        assert "exactly one SOA" in refusal(lambda: stage.change(delete(*(s for s in own if s["Type"] == "SOA"))))[1]
        assert "at least one NS" in refusal(lambda: stage.change(delete(*(s for s in own if s["Type"] == "NS"))))[1]
        stage.engine.limits.set({"records": 3})
        stage.change(create(weighted("i-a")))
        assert "limit of 3 exceeded" in refusal(lambda: stage.change(create(weighted("i-b"))))[1]

    def test_the_client_refuses_what_boto3_would(self, stage: Stage) -> None:
        with pytest.raises(ParamValidationError, match="Missing required parameter"):
            stage.client.change_resource_record_sets(HostedZoneId=stage.zone)
        with pytest.raises(ParamValidationError, match="valid min length: 3"):
            stage.check(Regions=["eu-west-1", "us-east-1"])


class TestPaging:
    def test_312_record_sets_come_once_each_though_a_name_straddles_pages(self, stage: Stage) -> None:
        for host in ("a", "b", "c", "d"):
            stage.change(create(*({**weighted(f"i-{n:03d}"), "Name": f"{host}.{ZONE}"} for n in range(78))))
        found = [(s["Name"], s["SetIdentifier"]) for s in stage.records()]
        assert len(found) == len(set(found)) == 312
        for size in (1, 7, 100):
            pages = stage.client.get_paginator("list_resource_record_sets").paginate(
                HostedZoneId=stage.zone, PaginationConfig={"PageSize": size}
            )
            assert len([s for page in pages for s in page["ResourceRecordSets"]]) == 314

    def test_a_page_holds_300_at_most_and_names_where_the_next_begins(self, stage: Stage) -> None:
        for host in ("a", "b", "c", "d"):
            stage.change(create(*({**weighted(f"i-{n:03d}"), "Name": f"{host}.{ZONE}"} for n in range(78))))
        page = stage.client.list_resource_record_sets(HostedZoneId=stage.zone, MaxItems="1000")
        assert (len(page["ResourceRecordSets"]), page["MaxItems"], page["IsTruncated"]) == (300, "300", True)
        assert (page["NextRecordName"], page["NextRecordType"], page["NextRecordIdentifier"]) == (
            f"d.{ZONE}.",
            "A",
            "i-064",
        )

    def test_names_are_sorted_by_reversed_labels_and_escaped(self, stage: Stage) -> None:
        hosts = ("b", "a.b", "*.b", "b-c", "z", "a")
        stage.change(create(*(simple(f"{host}.{ZONE}", "1.2.3.4") for host in hosts)))
        names = [s["Name"].removesuffix(f".{ZONE}.") for s in stage.records()]
        assert names == ["a", "b-c", "b", "\\052.b", "a.b", "z"]
        for start in (f"*.b.{ZONE}", f"\\052.B.{ZONE}."):
            page = stage.client.list_resource_record_sets(HostedZoneId=stage.zone, StartRecordName=start, MaxItems="1")
            assert page["ResourceRecordSets"][0]["Name"] == f"\\052.b.{ZONE}."

    def test_a_start_needs_what_stands_before_it(self, stage: Stage) -> None:
        client, zone = stage.client, stage.zone
        assert (
            refusal(lambda: client.list_resource_record_sets(HostedZoneId=zone, StartRecordType="A"))[0]
            == "InvalidInput"
        )
        wrong = {"StartRecordName": NAME, "StartRecordIdentifier": "i"}
        assert refusal(lambda: client.list_resource_record_sets(HostedZoneId=zone, **wrong))[0] == "InvalidInput"
        assert refusal(lambda: client.list_resource_record_sets(HostedZoneId=zone, MaxItems="no"))[0] == "InvalidInput"

    def test_what_is_returned_is_not_what_is_kept(self, stage: Stage) -> None:
        stage.change(create(weighted("i-a")))
        stage.records()[0]["ResourceRecords"][0]["Value"] = "spoilt"
        assert stage.records()[0]["ResourceRecords"] == [{"Value": "127.0.10.4"}]


class TestZones:
    def test_a_reference_makes_one_zone(self, stage: Stage) -> None:
        code, _, status = refusal(lambda: stage.client.create_hosted_zone(Name="b.test", CallerReference="zone"))
        assert (code, status) == ("HostedZoneAlreadyExists", 409)

    def test_zones_are_listed_by_name_from_a_name_on(self, stage: Stage) -> None:
        for name in ("a.test", "z.test", "sub.example.test"):
            stage.client.create_hosted_zone(Name=name, CallerReference=name)
        page = stage.client.list_hosted_zones_by_name(DNSName=ZONE, MaxItems="2")
        assert [zone["Name"] for zone in page["HostedZones"]] == [f"{ZONE}.", "sub.example.test."]
        assert (page["IsTruncated"], page["NextDNSName"]) == (True, "z.test.")
        rest = stage.client.list_hosted_zones_by_name(DNSName="z.test", HostedZoneId=page["NextHostedZoneId"])
        assert [zone["Name"] for zone in rest["HostedZones"]] == ["z.test."]
        pages = stage.client.get_paginator("list_hosted_zones").paginate(PaginationConfig={"PageSize": 1})
        assert len([zone for page in pages for zone in page["HostedZones"]]) == 4

    def test_two_zones_of_one_name_one_of_them_private(self, stage: Stage) -> None:
        vpc = {"VPCRegion": "eu-west-1", "VPCId": "vpc-1"}
        config = {"PrivateZone": True, "Comment": "inner"}
        stage.client.create_hosted_zone(Name=ZONE, CallerReference="p", VPC=vpc, HostedZoneConfig=config)
        found = stage.client.list_hosted_zones_by_name(DNSName=ZONE)["HostedZones"]
        assert [zone["Config"]["PrivateZone"] for zone in found] == [False, True]
        assert stage.client.get_hosted_zone(Id=found[1]["Id"])["VPCs"] == [vpc]
        assert refusal(lambda: stage.client.associate_vpc_with_hosted_zone(HostedZoneId=stage.zone, VPC=vpc))[0] == (
            "PublicZoneVPCAssociation"
        )

    def test_a_zone_that_cannot_be_is_refused(self, stage: Stage) -> None:
        make = stage.client.create_hosted_zone
        assert refusal(lambda: make(Name="a..test", CallerReference="1"))[0] == "InvalidDomainName"
        private = {"PrivateZone": True}
        assert refusal(lambda: make(Name="p.test", CallerReference="2", HostedZoneConfig=private))[0] == "InvalidInput"
        assert refusal(lambda: stage.client.list_hosted_zones_by_name(HostedZoneId=stage.zone))[0] == "InvalidInput"

    def test_what_belongs_to_a_private_zone(self, stage: Stage) -> None:
        first, second = ({"VPCRegion": "eu-west-1", "VPCId": f"vpc-{number}"} for number in (1, 2))
        zone = stage.client.create_hosted_zone(Name="p.test", CallerReference="p", VPC=first)["HostedZone"]["Id"]
        for _ in range(2):
            stage.client.associate_vpc_with_hosted_zone(HostedZoneId=zone, VPC=second)
        assert stage.client.get_hosted_zone(Id=zone)["VPCs"] == [first, second]
        limit = {"Type": "MAX_VPCS_ASSOCIATED_BY_ZONE"}
        assert stage.client.get_hosted_zone_limit(HostedZoneId=zone, **limit)["Count"] == 2
        assert refusal(lambda: stage.client.get_hosted_zone_limit(HostedZoneId=stage.zone, **limit))[0] == (
            "HostedZoneNotPrivate"
        )
        stage.client.update_hosted_zone_comment(Id=zone, Comment="inner")
        assert stage.client.get_hosted_zone(Id=zone)["HostedZone"]["Config"] == {
            "PrivateZone": True,
            "Comment": "inner",
        }
        assert stage.client.get_dnssec(HostedZoneId=zone)["Status"]["ServeSignature"] == "NOT_SIGNING"

    def test_a_dump_shows_what_is_pending_too(self, stage: Stage) -> None:
        stage.change(create(weighted("i-a")))
        assert [len(view[0]["ResourceRecordSets"]) for view in (stage.engine.zones(), stage.engine.dump())] == [2, 3]

    def test_a_zone_goes_when_it_is_empty(self, stage: Stage) -> None:
        stage.change(create(weighted("i-a")))
        assert refusal(lambda: stage.client.delete_hosted_zone(Id=stage.zone))[0] == "HostedZoneNotEmpty"
        stage.change(delete(weighted("i-a")))
        stage.client.delete_hosted_zone(Id=stage.zone)
        code, _, status = refusal(lambda: stage.client.get_hosted_zone(Id=stage.zone))
        assert (code, status) == ("NoSuchHostedZone", 404)

    def test_limits_are_told(self, stage: Stage) -> None:
        answer = stage.client.get_hosted_zone_limit(HostedZoneId=stage.zone, Type="MAX_RRSETS_BY_ZONE")
        assert (answer["Limit"]["Value"], answer["Count"]) == (10_000, 2)
        answer = stage.client.get_account_limit(Type="MAX_HEALTH_CHECKS_BY_OWNER")
        assert (answer["Limit"]["Value"], answer["Count"]) == (200, 0)
        assert stage.client.get_checker_ip_ranges()["CheckerIpRanges"] == ["127.0.0.0/8"]


class TestInsync:
    def test_a_change_is_pending_then_insync_and_served_from_then_on(self, stage: Stage) -> None:
        version = stage.engine.version()
        change = stage.change(create(weighted("i-a")))
        assert stage.client.get_change(Id=change)["ChangeInfo"]["Status"] == "PENDING"
        assert (len(served(stage)), len(stage.records()), stage.engine.version()) == (0, 1, version)
        stage.now += 1.9
        assert stage.client.get_change(Id=change)["ChangeInfo"]["Status"] == "PENDING"
        stage.now += 0.1
        assert stage.client.get_change(Id=change.rpartition("/")[2])["ChangeInfo"]["Status"] == "INSYNC"
        assert [s["SetIdentifier"] for s in served(stage)] == ["i-a"]
        assert stage.engine.version() > version

    def test_changes_of_long_ago_are_forgotten(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(route53_zones, "REMEMBERED", 2)
        first = stage.change(create(weighted("i-a")))
        swap = delete(weighted("i-a")) + create(weighted("i-a"))
        _, last = stage.change(swap), stage.change(swap)
        assert refusal(lambda: stage.client.get_change(Id=first))[0] == "NoSuchChange"
        assert stage.client.get_change(Id=last)["ChangeInfo"]["Id"] == last

    def test_the_comment_of_a_batch_comes_back(self, stage: Stage) -> None:
        batch = {"Changes": create(weighted("i-a")), "Comment": "why"}
        made = stage.client.change_resource_record_sets(HostedZoneId=stage.zone, ChangeBatch=batch)
        assert made["ChangeInfo"]["Comment"] == "why"

    def test_an_unknown_change_is_told(self, stage: Stage) -> None:
        code, _, status = refusal(lambda: stage.client.get_change(Id="C1"))
        assert (code, status) == ("NoSuchChange", 404)

    def test_a_zone_takes_one_change_at_a_time(self, stage: Stage) -> None:
        stage.engine.limits.set({"processing": 0.5})
        other = stage.client.create_hosted_zone(Name="b.test", CallerReference="b")["HostedZone"]["Id"]
        stage.change(create(weighted("i-a")))
        code, _, status = refusal(lambda: stage.change(create(weighted("i-b"))))
        assert (code, status) == ("PriorRequestNotComplete", 400)
        batch = {"Changes": create(simple("x.b.test", "1.2.3.4"))}
        assert stage.client.change_resource_record_sets(HostedZoneId=other, ChangeBatch=batch)["ChangeInfo"]
        stage.now += 0.5
        stage.change(create(weighted("i-b")))


def served(stage: Stage) -> list[dict[str, Any]]:
    """What name servers answer by, but for the zone's own records."""
    found = stage.engine.zones()[0]["ResourceRecordSets"]
    return [s for s in found if s["Type"] not in {"SOA", "NS"}]


class TestThrottling:
    def test_the_account_bucket_is_50_and_10_a_second(self, stage: Stage) -> None:
        stage.engine.limits.set({"throttling": True})
        for _ in range(50):
            stage.client.get_hosted_zone_count()
        for _ in range(2):
            assert refusal(stage.client.get_hosted_zone_count) == ("Throttling", "Rate exceeded", 400)
        stage.now += 1
        for _ in range(10):
            stage.client.get_hosted_zone_count()
        assert refusal(stage.client.get_hosted_zone_count)[0] == "Throttling"
        stage.now += 3600
        for _ in range(50):
            stage.client.get_hosted_zone_count()
        assert refusal(stage.client.get_hosted_zone_count)[0] == "Throttling"

    @pytest.mark.parametrize(
        ("operation", "burst", "rate"),
        [("create", 50, 0.5), ("update", 50, 5), ("delete", 15, 3), ("status", 4, 1)],
    )
    def test_an_operation_has_its_own_bucket(self, stage: Stage, operation: str, burst: int, rate: float) -> None:
        ids = [stage.check(f"r{n}", IPAddress=f"127.0.10.{n}")["Id"] for n in range(60)]
        stage.engine.limits.set({"throttling": True, "requests": [1000, 1000]})
        number = iter(range(1000))
        calls = {
            "create": lambda: stage.check(f"n{next(number)}"),
            "update": lambda: stage.client.update_health_check(HealthCheckId=ids[0], Port=8000 + next(number)),
            "delete": lambda: stage.client.delete_health_check(HealthCheckId=ids[next(number)]),
            "status": lambda: stage.client.get_health_check_status(HealthCheckId=ids[0]),
        }
        for _ in range(burst):
            calls[operation]()
        assert refusal(calls[operation])[0] == "Throttling"
        stage.now += 1 / rate
        calls[operation]()
        assert refusal(calls[operation])[0] == "Throttling"
        stage.client.get_hosted_zone_count()

    def test_a_batch_costs_tokens_and_upserts_cost_two(self, stage: Stage) -> None:
        stage.engine.limits.set({"throttling": True, "changes": [10, 1]})
        stage.change(create(*(weighted(f"i-{n}") for n in range(4))))
        assert refusal(lambda: stage.change(upsert(*(weighted(f"i-{n}") for n in range(4)))))[0] == "Throttling"
        stage.change(upsert(*(weighted(f"i-{n}") for n in range(3))))
        assert refusal(lambda: stage.change(delete(weighted("i-3"))))[0] == "Throttling"
        stage.now += 1
        stage.change(delete(weighted("i-3")))

    def test_a_call_that_a_small_bucket_refuses_takes_nothing_from_the_large_one(self, stage: Stage) -> None:
        stage.engine.limits.set({"throttling": True, "requests": [5, 0.001], "GetHealthCheckStatus": [0.5, 0.001]})
        for _ in range(10):
            assert refusal(lambda: stage.client.get_health_check_status(HealthCheckId="x"))[0] == "Throttling"
        stage.client.get_hosted_zone_count()

    def test_figures_are_set_by_name(self, stage: Stage) -> None:
        limits = stage.engine.limits
        limits.set({"insync": "1.5", "checks": 3, "CreateHealthCheck": [1, 2]})
        assert (limits.insync, limits.checks, limits.show()["CreateHealthCheck"]) == (1.5, 3, [1.0, 2.0])
        limits.set(limits.show())
        for wrong in ({"insynk": 1}, {"requests": 5}, {"requests": [1, 2, 3]}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                limits.set(wrong)


class TestChecks:
    def test_the_same_reference_and_settings_give_the_same_check(self, stage: Stage) -> None:
        first = stage.check()
        assert stage.check() == first == stage.check(Inverted=False, FailureThreshold=3)
        code, _, status = refusal(lambda: stage.check(Port=8405))
        assert (code, status) == ("HealthCheckAlreadyExists", 409)
        assert len(stage.engine.checks()) == 1

    def test_the_reference_of_a_deleted_check_is_refused_for_days(self, stage: Stage) -> None:
        first = stage.check()
        stage.client.delete_health_check(HealthCheckId=first["Id"])
        stage.now += 6 * 86400
        assert refusal(stage.check)[0] == "HealthCheckAlreadyExists"
        stage.now += 86400
        assert stage.check()["Id"] != first["Id"]

    def test_what_is_not_said_is_filled_in(self, stage: Stage) -> None:
        config = {"Type": "HTTPS", "IPAddress": "2001:4860::8"}
        made = stage.client.create_health_check(CallerReference="d", HealthCheckConfig=config)["HealthCheck"]
        assert made["HealthCheckConfig"] == {
            "Type": "HTTPS",
            "IPAddress": "2001:4860:0000:0000:0000:0000:0000:0008",
            "Port": 443,
            "RequestInterval": 30,
            "FailureThreshold": 3,
            "MeasureLatency": False,
            "Inverted": False,
            "Disabled": False,
            "EnableSNI": True,
        }

    @pytest.mark.parametrize(
        "address",
        [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "224.0.0.1",
            "0.0.0.0",
            "fd00::1",
            "fe80::1",
            "ff02::1",
            "::1",
        ],
    )
    def test_an_address_that_no_checker_reaches_is_refused(self, stage: Stage, address: str) -> None:
        assert refusal(lambda: stage.check(IPAddress=address))[0] == "InvalidInput"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"RequestInterval": 20},
            {"RequestInterval": 31},
            {"FailureThreshold": 11},
            {"Port": 65536},
            {"SearchString": "ok"},
            {"Type": "HTTP_STR_MATCH"},
            {"Type": "TCP"},
            {"Type": "PING"},
            {"EnableSNI": True},
            {"Regions": ["eu-west-1", "us-east-1", "us-east-1"]},
            {"Regions": ["eu-west-1", "us-east-1", "eu-north-1"]},
            {"IPAddress": "1.2.3"},
            {"ResourcePath": "/" + "x" * 255},
            {"ChildHealthChecks": []},
            {"Type": "CALCULATED"},
            {"Type": "CLOUDWATCH_METRIC"},
            {"Type": "RECOVERY_CONTROL"},
        ],
        ids=str,
    )
    def test_settings_that_do_not_go_together_are_refused(self, stage: Stage, wrong: dict[str, Any]) -> None:
        assert refusal(lambda: stage.check(**wrong))[0] == "InvalidInput"
        assert stage.engine.checks() == ()

    def test_an_endpoint_needs_address_or_name_and_tcp_a_port(self, stage: Stage) -> None:
        for config in ({"Type": "HTTP"}, {"Type": "TCP", "IPAddress": "127.0.10.4"}):
            wrong = {"CallerReference": "x", "HealthCheckConfig": config}
            assert refusal(lambda wrong=wrong: stage.client.create_health_check(**wrong))[0] == "InvalidInput"

    def test_an_update_compares_the_version_and_counts_up(self, stage: Stage) -> None:
        made = stage.check()
        client, identifier = stage.client, made["Id"]
        after = client.update_health_check(HealthCheckId=identifier, HealthCheckVersion=1, FailureThreshold=2)[
            "HealthCheck"
        ]
        assert (after["HealthCheckVersion"], after["HealthCheckConfig"]["FailureThreshold"]) == (2, 2)
        stale = {"HealthCheckId": identifier, "HealthCheckVersion": 1, "FailureThreshold": 5}
        code, _, status = refusal(lambda: client.update_health_check(**stale))
        assert (code, status) == ("HealthCheckVersionMismatch", 409)
        regions = ["eu-west-1", "us-east-1", "us-west-1"]
        client.update_health_check(HealthCheckId=identifier, Regions=regions)
        after = client.update_health_check(HealthCheckId=identifier, ResetElements=["Regions"])["HealthCheck"]
        assert "Regions" not in after["HealthCheckConfig"]

    def test_what_an_update_cannot_change(self, stage: Stage) -> None:
        named = stage.client.create_health_check(
            CallerReference="n", HealthCheckConfig={"Type": "HTTP", "FullyQualifiedDomainName": "x.test"}
        )["HealthCheck"]
        call = stage.client.update_health_check
        assert refusal(lambda: call(HealthCheckId=named["Id"], IPAddress="127.0.10.4"))[0] == "InvalidInput"
        assert refusal(lambda: call(HealthCheckId=named["Id"], SearchString="ok"))[0] == "InvalidInput"
        with pytest.raises(ParamValidationError, match="RequestInterval"):
            call(HealthCheckId=named["Id"], RequestInterval=10)

    def test_a_calculated_check_holds_its_children(self, stage: Stage) -> None:
        child = stage.check()
        config = {"Type": "CALCULATED", "HealthThreshold": 1, "ChildHealthChecks": [child["Id"]]}

        def make(reference: str, **other: Any) -> dict[str, Any]:
            whole = {**config, **other}
            return dict(
                stage.client.create_health_check(CallerReference=reference, HealthCheckConfig=whole)["HealthCheck"]
            )

        parent = make("parent")
        assert parent["HealthCheckConfig"] == {**config, "Inverted": False, "Disabled": False}
        code, _, status = refusal(lambda: stage.client.delete_health_check(HealthCheckId=child["Id"]))
        assert (code, status) == ("HealthCheckInUse", 400)
        for wrong in ([parent["Id"]], ["nobody"], [child["Id"]] * 2, [child["Id"]] * 257):
            assert refusal(lambda wrong=wrong: make("wrong", ChildHealthChecks=wrong))[0] == "InvalidInput"
        stage.client.delete_health_check(HealthCheckId=parent["Id"])
        stage.client.delete_health_check(HealthCheckId=child["Id"])
        assert stage.engine.checks() == ()

    def test_a_calculated_check_has_no_status_of_its_own_and_its_children_can_be_reset(self, stage: Stage) -> None:
        child = stage.check()["Id"]
        config = {"Type": "CALCULATED", "HealthThreshold": 1, "ChildHealthChecks": [child]}
        made = stage.client.create_health_check(CallerReference="p", HealthCheckConfig=config)["HealthCheck"]
        call = {"HealthCheckId": made["Id"]}
        assert refusal(lambda: stage.client.get_health_check_status(**call))[0] == "InvalidInput"
        after = stage.client.update_health_check(**call, ResetElements=["ChildHealthChecks"])["HealthCheck"]
        assert after["HealthCheckConfig"]["ChildHealthChecks"] == []
        stage.client.delete_health_check(HealthCheckId=child)

    def test_an_alarm_check_copies_the_alarm_that_must_exist(self, stage: Stage) -> None:
        def make(reference: str) -> dict[str, Any]:
            alarm = {"Region": "eu-west-1", "Name": "node"}
            config = {
                "Type": "CLOUDWATCH_METRIC",
                "AlarmIdentifier": alarm,
                "InsufficientDataHealthStatus": "Unhealthy",
            }
            return dict(
                stage.client.create_health_check(CallerReference=reference, HealthCheckConfig=config)["HealthCheck"]
            )

        assert make("a")["CloudWatchAlarmConfiguration"]["Period"] == 60
        stage.engine.use_alarms(lambda region, name: None)
        assert "node was not found in eu-west-1" in refusal(lambda: make("b"))[1]

    def test_a_check_goes_though_a_record_uses_it(self, stage: Stage) -> None:
        made = stage.check()
        stage.change(create(weighted("i-a", HealthCheckId=made["Id"])))
        stage.client.delete_health_check(HealthCheckId=made["Id"])
        code, _, status = refusal(lambda: stage.client.get_health_check(HealthCheckId=made["Id"]))
        assert (code, status) == ("NoSuchHealthCheck", 404)
        stage.change(delete(weighted("i-a", HealthCheckId=made["Id"])))

    def test_there_are_200_checks_and_they_are_listed_in_pages(self, stage: Stage) -> None:
        for number in range(200):
            stage.check(f"r{number}")
        assert refusal(lambda: stage.check("more"))[0] == "TooManyHealthChecks"
        assert stage.check("r7")["CallerReference"] == "r7"
        first = stage.client.list_health_checks()
        assert (len(first["HealthChecks"]), first["IsTruncated"]) == (100, True)
        assert stage.client.list_health_checks(MaxItems="1000")["IsTruncated"] is False
        pages = stage.client.get_paginator("list_health_checks").paginate(PaginationConfig={"PageSize": 33})
        assert len({check["Id"] for page in pages for check in page["HealthChecks"]}) == 200

    def test_status_comes_from_whoever_probes(self, stage: Stage) -> None:
        made = stage.check()
        assert stage.client.get_health_check_status(HealthCheckId=made["Id"])["HealthCheckObservations"] == []
        seen = {"Region": "eu-west-1", "IPAddress": "127.0.0.9", "StatusReport": {"Status": "Success"}}
        stage.engine.observe = lambda check_id: [{**seen, "IPAddress": check_id}]
        found = stage.client.get_health_check_status(HealthCheckId=made["Id"])["HealthCheckObservations"]
        assert found == [{**seen, "IPAddress": made["Id"]}]
        reason = stage.client.get_health_check_last_failure_reason(HealthCheckId=made["Id"])
        assert reason["HealthCheckObservations"] == []


class TestTags:
    def test_tags_of_checks_and_zones(self, stage: Stage) -> None:
        made, client = stage.check(), stage.client
        where = {"ResourceType": "healthcheck", "ResourceId": made["Id"]}
        client.change_tags_for_resource(**where, AddTags=[{"Key": "Name", "Value": "a"}, {"Key": "x", "Value": "1"}])
        client.change_tags_for_resource(**where, AddTags=[{"Key": "Name", "Value": "b"}], RemoveTagKeys=["x"])
        assert client.list_tags_for_resource(**where)["ResourceTagSet"]["Tags"] == [{"Key": "Name", "Value": "b"}]
        many = client.list_tags_for_resources(ResourceType="hostedzone", ResourceIds=[stage.zone])
        assert many["ResourceTagSets"] == [{"ResourceType": "hostedzone", "ResourceId": stage.zone, "Tags": []}]
        eleven = {"ResourceType": "healthcheck", "ResourceIds": [made["Id"]] * 11}
        assert refusal(lambda: client.list_tags_for_resources(**eleven))[0] == "InvalidInput"
        too_many = [{"Key": str(number), "Value": ""} for number in range(10)]
        for tens in range(4):
            client.change_tags_for_resource(
                **where, AddTags=[{**tag, "Key": f"{tens}{tag['Key']}"} for tag in too_many]
            )
        assert refusal(lambda: client.change_tags_for_resource(**where, AddTags=too_many))[0] == "InvalidInput"
        client.delete_health_check(HealthCheckId=made["Id"])
        assert refusal(lambda: client.list_tags_for_resource(**where))[0] == "NoSuchHealthCheck"


class TestClient:
    def test_calls_and_refusals_are_counted(self, stage: Stage) -> None:
        refusal(lambda: stage.client.get_change(Id="C1"))
        refusal(lambda: stage.client.get_change(Id="C1"))
        assert (stage.engine.calls["GetChange"], stage.engine.refusals["NoSuchChange"]) == (2, 2)

    def test_ids_may_carry_their_path(self, stage: Stage) -> None:
        assert stage.client.get_hosted_zone(Id=f"/hostedzone/{stage.zone}")["HostedZone"]["Name"] == f"{ZONE}."

    def test_it_raises_botocores_own_kinds_and_tells_its_hooks(self, stage: Stage) -> None:
        seen: list[Any] = []
        stage.client.meta.events.register("before-call", lambda model, **_: seen.append(model.name))
        stage.client.meta.events.register("after-call", lambda parsed, **_: seen.append(parsed["Error"]["Code"]))
        with pytest.raises(stage.client.exceptions.NoSuchChange):
            stage.client.get_change(Id="C1")
        assert seen == ["GetChange", "NoSuchChange"]

    def test_what_does_not_exist_is_told(self, stage: Stage) -> None:
        with pytest.raises(AttributeError, match="no_such_thing"):
            stage.client.no_such_thing()
        with pytest.raises(OperationNotPageableError):
            stage.client.get_paginator("get_change")
        assert refusal(stage.client.list_traffic_policies)[0] == "InvalidAction"
        with pytest.raises(ApiError, match="InvalidAction: The local Route 53 has no operation Nothing"):
            stage.engine.call("Nothing", {})
