"""Route 53's data plane in the lab, end to end: boto3 writes, real health checkers probe real servers, DNS answers."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest

from hafleet.lab.cloud import DNS_PORT, Cloud
from hafleet.lab.fleet import Lab
from hafleet.lab.processes import wait_until
from hafleet.lab.servers import PORT, tell

SPEED = 30  # a 10 s interval takes a third of a second


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(agents=False) as lab:
        lab.cloud.control("POST", "physics", {"boot": 0.1, "terminating": 0.2, "dead": 0.2, "quarantine": 0})
        lab.cloud.control("POST", "route53", {"insync": 0.3, "throttling": False})
        lab.cloud.control("POST", "checkers", {"speed": SPEED})
        lab.group("app", 3)
        lab.wait_until(lambda: len(lab.members("app")) == 3, 60, "three servers")
        for machine in lab.members("app"):
            lab.wait_until(lambda address=machine.address: answers_http(address), 60, machine.id)  # type: ignore[misc]
        yield lab


@pytest.fixture
def cloud(lab: Lab) -> Iterator[Cloud]:
    yield lab.cloud
    for machine in lab.members("app"):
        tell(machine.address, "/_app/health/200")


@pytest.fixture
def zone(lab: Lab, request: pytest.FixtureRequest) -> str:
    """An empty zone of its own for each test; returns its id."""
    made = lab.cloud.create_zone(domain(request))
    wait_until(lambda: bool(ask(lab.cloud, domain(request), "SOA").answer), 60, "the zone")
    return made


def answers_http(address: str) -> bool:
    try:
        return tell(address, "/healthz") == "ok\n"
    except OSError:
        return False


def domain(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name.replace('_', '-')[:50].strip('-')}.test"


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"lb.{domain(request)}"


def ask(cloud: Cloud, name: str, type_: str = "A", source: str | None = None) -> dns.message.Message:
    host = cloud.dns.partition(":")[0]
    query = dns.message.make_query(name, type_)
    return dns.query.udp(query, host, port=DNS_PORT, timeout=20, source=source)


def answers(cloud: Cloud, name: str, times: int = 30) -> set[str]:
    """Every address that comes up in so many questions."""
    return {item.to_text() for _ in range(times) for rrset in ask(cloud, name).answer for item in rrset}


def change(cloud: Cloud, zone: str, *records: dict[str, Any], action: str = "CREATE") -> None:
    changes = [{"Action": action, "ResourceRecordSet": record} for record in records]
    made = cloud.route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})  # type: ignore[typeddict-item]
    insync = lambda: cloud.route53.get_change(Id=made["ChangeInfo"]["Id"])["ChangeInfo"]["Status"] == "INSYNC"  # noqa: E731
    wait_until(insync, 60, "INSYNC")


def check(cloud: Cloud, address: str, **more: Any) -> str:
    """A health check that the checkers know; returns its id."""
    config = {"Type": "HTTP", "IPAddress": address, "Port": PORT, "ResourcePath": "/healthz", "RequestInterval": 10}
    return made_check(cloud, {**config, "FailureThreshold": 2, **more})


def made_check(cloud: Cloud, config: Any) -> str:
    reference = f"test {time.monotonic_ns()}"
    made = cloud.route53.create_health_check(CallerReference=reference, HealthCheckConfig=config)["HealthCheck"]["Id"]
    wait_until(lambda: made in cloud.control("GET", "checkers")["checks"], 60, "the check to be seen")
    return made


def leaf(name: str, address: str, check_id: str = "", **more: Any) -> dict[str, Any]:
    checked = {"HealthCheckId": check_id} if check_id else {}
    record = {"Name": name, "Type": "A", "TTL": 5, "ResourceRecords": [{"Value": address}]}
    return {**record, "SetIdentifier": address, "Weight": 10, **checked, **more}


def verdict(cloud: Cloud, check_id: str) -> bool:
    return bool(cloud.control("GET", "checkers")["checks"][check_id]["healthy"])


def statuses(cloud: Cloud, check_id: str) -> set[str]:
    """What the checkers saw last, as Route 53 tells it."""
    told = cloud.route53.get_health_check_status(HealthCheckId=check_id)["HealthCheckObservations"]
    return {seen["StatusReport"]["Status"] for seen in told}


def seen(cloud: Cloud, check_id: str) -> list[str]:
    """What each checker saw last."""
    return list(cloud.control("GET", "checkers")["checks"][check_id]["seen"])


class TestAnswers:
    def test_a_record_is_answered_from_insync_on_and_not_before(self, cloud: Cloud, zone: str, name: str) -> None:
        cloud.control("POST", "route53", {"insync": 5})
        changes = [{"Action": "CREATE", "ResourceRecordSet": leaf(name, "192.0.2.1")}]
        made = cloud.route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})  # type: ignore[typeddict-item]
        early = ask(cloud, name)
        assert made["ChangeInfo"]["Status"] == "PENDING"
        assert early.rcode() == dns.rcode.NXDOMAIN
        wait_until(lambda: answers(cloud, name, 1) == {"192.0.2.1"}, 60, "the answer")
        cloud.control("POST", "route53", {"insync": 0.3})

    def test_a_zone_answers_for_its_apex_and_refuses_others(self, cloud: Cloud, zone: str, name: str) -> None:
        apex = name.partition(".")[2]
        assert len(ask(cloud, apex, "NS").answer[0]) == 4
        assert ask(cloud, "example.net").rcode() == dns.rcode.REFUSED
        assert [rrset.rdtype.name for rrset in ask(cloud, name).authority] == ["SOA"]

    def test_who_asks_is_told_apart_by_address(self, lab: Lab, cloud: Cloud, zone: str, name: str) -> None:
        regions = {"eu-west-1": "192.0.2.1", "us-east-1": "192.0.2.2"}
        change(
            cloud,
            zone,
            *(
                {
                    "Name": name,
                    "Type": "A",
                    "TTL": 5,
                    "SetIdentifier": region,
                    "Region": region,
                    "ResourceRecords": [{"Value": address}],
                }
                for region, address in regions.items()
            ),
        )
        europe, america = lab.network.client(0), lab.network.client(1)
        clients = {f"{europe}/32": {"region": "eu-west-2"}, f"{america}/32": {"region": "us-west-2", "place": "NA/US"}}
        told = cloud.control("POST", "dns", {"clients": clients})
        assert told["clients"][f"{america}/32"]["place"] == {"continent": "NA", "country": "US", "subdivision": ""}
        wait_until(lambda: bool(answers(cloud, name, 1)), 60, "the answer")
        assert ask(cloud, name, source=europe).answer[0][0].to_text() == "192.0.2.1"
        assert ask(cloud, name, source=america).answer[0][0].to_text() == "192.0.2.2"

    def test_what_the_control_paths_cannot_read_is_refused(self, cloud: Cloud) -> None:
        for path, wrong in (
            ("dns", {"speed": 1}),
            ("dns", {"clients": {"here": {}}}),
            ("checkers", {"speed": 0}),
            ("checkers", {"alarms": {"name": "ok"}}),
            ("checkers", {"alarms": {"eu-west-1/name": "fine"}}),
            ("checkers", {"faster": 1}),
        ):
            with pytest.raises(ValueError, match=r"\w"):
                cloud.control("POST", path, wrong)


class TestHealth:
    def test_an_ill_node_leaves_the_answers_and_comes_back(self, lab: Lab, cloud: Cloud, zone: str, name: str) -> None:
        machines = lab.members("app")
        ids = {machine.address: check(cloud, machine.address) for machine in machines}
        change(cloud, zone, *(leaf(name, address, check_id) for address, check_id in ids.items()))
        everyone = set(ids)
        wait_until(lambda: answers(cloud, name) == everyone, 60, "all to be answered")
        ill = machines[0].address
        tell(ill, "/_app/health/503")
        wait_until(lambda: answers(cloud, name) == everyone - {ill}, 60, "the ill one to leave")
        wait_until(
            lambda: statuses(cloud, ids[ill]) == {"Failure: HTTP Status Code 503"}, 60, "the last checker to see it"
        )
        told = cloud.route53.get_health_check_status(HealthCheckId=ids[ill])["HealthCheckObservations"]
        assert len(told) == 16
        assert len({seen["IPAddress"] for seen in told}) == 16
        tell(ill, "/_app/health/200")
        wait_until(lambda: answers(cloud, name) == everyone, 60, "it to be answered again")
        last = cloud.route53.get_health_check_last_failure_reason(HealthCheckId=ids[ill])["HealthCheckObservations"]
        assert {seen["StatusReport"]["Status"] for seen in last} == {"Failure: HTTP Status Code 503"}

    def test_the_last_one_is_answered_though_it_is_ill(self, lab: Lab, cloud: Cloud, zone: str, name: str) -> None:
        address = lab.members("app")[0].address
        check_id = check(cloud, address)
        change(cloud, zone, leaf(name, address, check_id))
        tell(address, "/_app/health/503")
        wait_until(lambda: not verdict(cloud, check_id), 60, "it to be ill")
        assert answers(cloud, name, 5) == {address}

    def test_a_dead_branch_of_a_tree_is_backed_out_of(self, lab: Lab, cloud: Cloud, zone: str, name: str) -> None:
        one, two, _ = (machine.address for machine in lab.members("app"))
        checks = {address: check(cloud, address) for address in (one, two)}
        to = {"HostedZoneId": zone, "EvaluateTargetHealth": True}
        change(
            cloud,
            zone,
            leaf(f"a.{name}", one, checks[one]),
            leaf(f"b.{name}", two, checks[two]),
            *(
                {
                    "Name": name,
                    "Type": "A",
                    "SetIdentifier": role.lower(),
                    "Failover": role,
                    "AliasTarget": {**to, "DNSName": f"{letter}.{name}"},
                }
                for letter, role in (("a", "PRIMARY"), ("b", "SECONDARY"))
            ),
        )
        wait_until(lambda: answers(cloud, name) == {one}, 60, "the primary")
        tell(one, "/_app/health/503")
        wait_until(lambda: answers(cloud, name) == {two}, 60, "the secondary")
        tell(two, "/_app/health/503")
        wait_until(lambda: answers(cloud, name) == {one}, 60, "the primary, with all of them ill")

    def test_a_deleted_check_is_probed_no_more(self, lab: Lab, cloud: Cloud) -> None:
        check_id = check(cloud, lab.members("app")[0].address)
        cloud.route53.delete_health_check(HealthCheckId=check_id)
        wait_until(lambda: check_id not in cloud.control("GET", "checkers")["checks"], 60, "it to be gone")

    def test_disabled_and_inverted_is_down_and_an_edit_is_followed(self, lab: Lab, cloud: Cloud) -> None:
        check_id = check(cloud, lab.members("app")[0].address)
        wait_until(lambda: verdict(cloud, check_id), 60, "it to be well")
        cloud.route53.update_health_check(HealthCheckId=check_id, Disabled=True, Inverted=True)
        wait_until(lambda: not verdict(cloud, check_id), 60, "it to be down")

    def test_a_dead_node_is_seen_dead_by_nearly_every_checker(self, lab: Lab, cloud: Cloud) -> None:
        machine = lab.members("app")[2]
        check_id = check(cloud, machine.address)
        wait_until(lambda: "Success" in " ".join(seen(cloud, check_id)), 60, "probes")
        lab.crash(machine.id)
        wait_until(lambda: not verdict(cloud, check_id), 60, "it to be ill")
        assert Counter("refused" in line for line in seen(cloud, check_id))[True] >= 14
        lab.revive(machine.id)
        wait_until(lambda: verdict(cloud, check_id), 60, "it to be well")

    def test_an_alarm_check_follows_what_its_metric_says(self, cloud: Cloud) -> None:
        check_id = made_check(
            cloud,
            {
                "Type": "CLOUDWATCH_METRIC",
                "AlarmIdentifier": {"Region": "eu-west-1", "Name": "node"},
                "InsufficientDataHealthStatus": "Unhealthy",
            },
        )
        for state, healthy in (("ok", True), ("insufficient", False), ("ok", True), ("alarm", False)):
            cloud.control("POST", "checkers", {"alarms": {"eu-west-1/node": state}})
            assert verdict(cloud, check_id) is healthy
