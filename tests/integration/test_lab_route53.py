"""The lab's Route 53 over HTTP, with the real boto3: every kind of refused batch, paging, checks, faults and control paths."""

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from hafleet.lab.cloud import Cloud
from hafleet.lab.fleet import Lab
from hafleet.lab.processes import wait_until
from tests.route53_batches import NAME, REFUSED, ZONE, Refused, create, delete, simple, weighted

if TYPE_CHECKING:
    from mypy_boto3_route53.client import Route53Client

NUMBER = itertools.count(1)
LIMITS = {"throttling": False, "processing": 0, "insync": 0.2, "checks": 1000}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Lab(agents=False) as lab:
        lab.cloud.control("POST", "route53", LIMITS)
        yield lab.cloud


@pytest.fixture
def zone(cloud: Cloud) -> Iterator[str]:
    yield cloud.create_zone(ZONE)
    cloud.heal()
    cloud.control("POST", "route53", LIMITS)


def change(cloud: Cloud, zone: str, changes: list[dict[str, Any]]) -> str:
    batch: Any = {"Changes": changes}
    return cloud.route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)["ChangeInfo"]["Id"]


def make_check(client: "Route53Client", **other: Any) -> dict[str, Any]:
    config: Any = {"Type": "HTTP", "IPAddress": "127.0.10.4", "Port": 8404, "ResourcePath": "/health", **other}
    return dict(
        client.create_health_check(CallerReference=f"test {next(NUMBER)}", HealthCheckConfig=config)["HealthCheck"]
    )


def records(cloud: Cloud, zone: str, size: int = 300) -> list[tuple[str, str]]:
    """Name and set identifier of all but the zone's own records."""
    pages = cloud.route53.get_paginator("list_resource_record_sets").paginate(
        HostedZoneId=zone, PaginationConfig={"PageSize": size}
    )
    sets = [found for page in pages for found in page["ResourceRecordSets"]]
    return [(found["Name"], found.get("SetIdentifier", "")) for found in sets if found["Type"] not in {"SOA", "NS"}]


def refusal(call: Callable[[], object]) -> tuple[str, str, int]:
    """Code, message and status of the error that this call meets."""
    with pytest.raises(ClientError) as caught:
        call()
    answer = caught.value.response
    return answer["Error"]["Code"], answer["Error"]["Message"], answer["ResponseMetadata"]["HTTPStatusCode"]


class TestBatches:
    @pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
    def test_it_is_refused_and_nothing_of_it_applied(self, cloud: Cloud, zone: str, case: Refused) -> None:
        case = case.filled(zone, make_check(cloud.route53)["Id"])
        if case.before:
            change(cloud, zone, create(*case.before))
        before = records(cloud, zone)
        good = create(simple(f"innocent.{ZONE}", "1.2.3.4"))
        code, text, _ = refusal(lambda: change(cloud, zone, good + case.batch))
        assert (code, case.text.replace("$ZONE", zone) in text) == (case.code, True), text
        assert records(cloud, zone) == before

    def test_a_change_becomes_insync(self, cloud: Cloud, zone: str) -> None:
        cloud.control("POST", "route53", {"insync": 4})  # it must be seen before
        made = change(cloud, zone, create(weighted("i-a")))
        cloud.control("POST", "route53", LIMITS)
        assert cloud.route53.get_change(Id=made)["ChangeInfo"]["Status"] == "PENDING"
        wait_until(lambda: cloud.route53.get_change(Id=made)["ChangeInfo"]["Status"] == "INSYNC", 60, "INSYNC")
        code, _, status = refusal(lambda: cloud.route53.get_change(Id="C1"))
        assert (code, status) == ("NoSuchChange", 404)

    def test_what_is_listed_deletes_what_is_there(self, cloud: Cloud, zone: str) -> None:
        made = make_check(cloud.route53)
        leaf = weighted("i-a", HealthCheckId=made["Id"])
        place = simple(f"*.{ZONE}", "1.2.3.4", SetIdentifier="eu", GeoLocation={"ContinentCode": "EU"})
        change(cloud, zone, create(leaf, place))
        found: list[Any] = cloud.route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        assert [item for item in found if item["Name"] == f"{NAME}."] == [{**leaf, "Name": f"{NAME}."}]
        change(cloud, zone, delete(*(item for item in found if item["Type"] == "A")))
        assert records(cloud, zone) == []


class TestPaging:
    def test_312_record_sets_come_once_each_though_a_name_straddles_pages(self, cloud: Cloud, zone: str) -> None:
        for host in "abcd":
            change(cloud, zone, create(*({**weighted(f"i-{n:03d}"), "Name": f"{host}.{ZONE}"} for n in range(78))))
        for size in (300, 50):
            found = records(cloud, zone, size)
            assert len(found) == len(set(found)) == 312
        page = cloud.route53.list_resource_record_sets(HostedZoneId=zone, StartRecordName=f"c.{ZONE}")
        assert len(page["ResourceRecordSets"]) == 156

    def test_zones_by_name(self, cloud: Cloud) -> None:
        public, private = cloud.create_zone("both.test"), cloud.create_zone("both.test", private=True)
        found = cloud.route53.list_hosted_zones_by_name(DNSName="both.test", MaxItems="2")["HostedZones"]
        assert {item["Id"]: item["Config"]["PrivateZone"] for item in found} == {
            f"/hostedzone/{public}": False,
            f"/hostedzone/{private}": True,
        }
        assert cloud.route53.get_hosted_zone(Id=private)["VPCs"][0]["VPCRegion"] == "eu-west-1"


class TestChecks:
    def test_a_reference_makes_one_check(self, cloud: Cloud) -> None:
        client = cloud.route53
        config: Any = {"Type": "TCP", "IPAddress": "127.0.10.4", "Port": 80}
        first = client.create_health_check(CallerReference="one", HealthCheckConfig=config)["HealthCheck"]
        assert client.create_health_check(CallerReference="one", HealthCheckConfig=config)["HealthCheck"] == first
        other: Any = {**config, "Port": 81}
        code, _, status = refusal(lambda: client.create_health_check(CallerReference="one", HealthCheckConfig=other))
        assert (code, status) == ("HealthCheckAlreadyExists", 409)
        client.delete_health_check(HealthCheckId=first["Id"])
        assert refusal(lambda: client.delete_health_check(HealthCheckId=first["Id"]))[0] == "NoSuchHealthCheck"
        assert refusal(lambda: client.create_health_check(CallerReference="one", HealthCheckConfig=config))[2] == 409

    def test_children_of_a_calculated_check_come_back_as_they_went(self, cloud: Cloud) -> None:
        client = cloud.route53
        child = make_check(client, Regions=["eu-west-1", "us-east-1", "us-west-1"], Inverted=True)
        config: Any = {"Type": "CALCULATED", "HealthThreshold": 1, "ChildHealthChecks": [child["Id"]]}
        made = client.create_health_check(CallerReference="parent", HealthCheckConfig=config)["HealthCheck"]
        assert client.get_health_check(HealthCheckId=made["Id"])["HealthCheck"] == made
        assert made["HealthCheckConfig"]["ChildHealthChecks"] == [child["Id"]]
        assert refusal(lambda: client.delete_health_check(HealthCheckId=child["Id"]))[0] == "HealthCheckInUse"
        listed = client.list_health_checks(MaxItems="1000")["HealthChecks"]
        assert next(check for check in listed if check["Id"] == child["Id"]) == child

    def test_an_update_by_version(self, cloud: Cloud) -> None:
        client = cloud.route53
        made = make_check(client)
        after = client.update_health_check(HealthCheckId=made["Id"], HealthCheckVersion=1, Inverted=True)["HealthCheck"]
        assert (after["HealthCheckVersion"], after["HealthCheckConfig"]["Inverted"]) == (2, True)
        code, _, status = refusal(lambda: client.update_health_check(HealthCheckId=made["Id"], HealthCheckVersion=1))
        assert (code, status) == ("HealthCheckVersionMismatch", 409)

    def test_a_private_address_is_refused(self, cloud: Cloud) -> None:
        code, text, _ = refusal(lambda: make_check(cloud.route53, IPAddress="10.0.0.1"))
        assert (code, "10.0.0.1 is in a private" in text) == ("InvalidInput", True)

    def test_tags_limits_and_ranges(self, cloud: Cloud) -> None:
        client, made = cloud.route53, make_check(cloud.route53)
        client.change_tags_for_resource(
            ResourceType="healthcheck", ResourceId=made["Id"], AddTags=[{"Key": "Name", "Value": "a & b"}]
        )
        sets = client.list_tags_for_resources(ResourceType="healthcheck", ResourceIds=[made["Id"]])["ResourceTagSets"]
        assert sets[0]["Tags"] == [{"Key": "Name", "Value": "a & b"}]
        assert client.get_account_limit(Type="MAX_HEALTH_CHECKS_BY_OWNER")["Limit"]["Value"] == 1000
        assert client.get_checker_ip_ranges()["CheckerIpRanges"] == ["127.0.0.0/8"]


class TestFaults:
    def test_calls_are_counted_and_faults_hit_them(self, cloud: Cloud, zone: str) -> None:
        cloud.control("DELETE", "calls")
        cloud.fault("throttle", service="route53", operation="GetHostedZone", count=1)
        cloud.fault("denied", service="route53", operation="ListHealthChecks", count=1)
        cloud.fault("unreachable", service="route53", operation="GetChange", count=1)
        assert refusal(lambda: cloud.route53.get_hosted_zone(Id=zone)) == ("Throttling", "Rate exceeded", 400)
        assert refusal(cloud.route53.list_health_checks)[::2] == ("AccessDenied", 403)
        with pytest.raises(ConnectionClosedError):
            cloud.route53.get_change(Id="C1")
        cloud.route53.get_hosted_zone(Id=zone)
        cloud.route53.list_health_checks()
        calls = {name: count for name, count in cloud.calls().items() if name.startswith("route53.")}
        assert calls == {"route53.GetHostedZone": 2, "route53.ListHealthChecks": 2, "route53.GetChange": 1}

    def test_a_page_may_be_cut_or_missing(self, cloud: Cloud, zone: str) -> None:
        change(cloud, zone, create(weighted("i-a"), weighted("i-b")))
        listing = {"service": "route53", "operation": "ListResourceRecordSets"}
        fault = cloud.fault("partial_page", size=3, **listing)
        page = cloud.route53.list_resource_record_sets(HostedZoneId=zone)
        assert (len(page["ResourceRecordSets"]), page["IsTruncated"]) == (3, True)
        assert refusal(lambda: records(cloud, zone))[2] == 500
        cloud.heal(fault)
        fault = cloud.fault("empty_page", size=3, **listing)
        assert records(cloud, zone) == [(f"{NAME}.", "i-a")]
        cloud.heal(fault)
        cloud.fault("empty", **listing)
        assert records(cloud, zone) == []

    def test_an_old_answer_comes_again(self, cloud: Cloud, zone: str) -> None:
        assert records(cloud, zone) == []
        change(cloud, zone, create(weighted("i-a")))
        fault = cloud.fault("stale", service="route53", operation="ListResourceRecordSets", age=0)
        assert records(cloud, zone) == []
        cloud.heal(fault)
        assert records(cloud, zone) == [(f"{NAME}.", "i-a")]

    def test_the_buckets_throttle(self, cloud: Cloud, zone: str) -> None:
        cloud.control("POST", "route53", {"throttling": True, "requests": [2, 0.001]})
        cloud.route53.get_hosted_zone(Id=zone)
        cloud.route53.get_hosted_zone(Id=zone)
        assert refusal(lambda: cloud.route53.get_hosted_zone(Id=zone)) == ("Throttling", "Rate exceeded", 400)
        cloud.control("POST", "route53", {"throttling": False, "processing": 60})
        change(cloud, zone, create(weighted("i-a")))
        assert refusal(lambda: change(cloud, zone, create(weighted("i-b"))))[0] == "PriorRequestNotComplete"


class TestControl:
    def test_zones_and_checks_are_dumped(self, cloud: Cloud, zone: str) -> None:
        made = make_check(cloud.route53)
        change(cloud, zone, create(weighted("i-a", HealthCheckId=made["Id"])))
        dump = next(item for item in cloud.control("GET", "zones") if item["HostedZone"]["Id"].endswith(zone))
        assert [item["SetIdentifier"] for item in dump["ResourceRecordSets"] if item["Type"] == "A"] == ["i-a"]
        checks = {check["Id"]: check for check in cloud.control("GET", "checks")}
        assert checks[made["Id"]]["CallerReference"] == made["CallerReference"]

    def test_figures_are_shown_and_wrong_ones_refused(self, cloud: Cloud, zone: str) -> None:
        before = cloud.control("GET", "route53")
        assert (before["limits"]["insync"], before["limits"]["requests"][1] > 0) == (0.2, True)
        with pytest.raises(ValueError, match="insynk"):
            cloud.control("POST", "route53", {"insynk": 1})
        cloud.route53.get_hosted_zone(Id=zone)
        after = cloud.control("GET", "route53")
        assert after["calls"]["GetHostedZone"] == before["calls"].get("GetHostedZone", 0) + 1

    def test_an_operation_that_is_not_there_is_told(self, cloud: Cloud) -> None:
        assert refusal(cloud.route53.list_traffic_policies)[::2] == ("InvalidAction", 501)
