"""The data plane follows the control plane, and reads it again only when it changed."""

import socket
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.query
import pytest

from hafleet.lab.dns_physics import DnsPhysics
from hafleet.lab.processes import wait_until

HOST = "127.0.0.1"
ZONE = {
    "HostedZone": {"Id": "/hostedzone/Z1", "Name": "example.test."},
    "ResourceRecordSets": [
        {"Name": "lb.example.test.", "Type": "A", "TTL": 5, "ResourceRecords": [{"Value": HOST}]},
        {
            "Name": "ALIAS.example.test.",
            "Type": "A",
            "AliasTarget": {"HostedZoneId": "Z1", "DNSName": "lb.example.test.", "EvaluateTargetHealth": True},
        },
    ],
}


class Plane:
    """A control plane that a test writes by hand."""

    def __init__(self) -> None:
        self.number = 0
        self.reads = 0
        self.made: list[dict[str, Any]] = []

    def version(self) -> int:
        return self.number

    def zones(self) -> tuple[dict[str, Any], ...]:
        self.reads += 1
        return (ZONE,)

    def checks(self) -> tuple[dict[str, Any], ...]:
        return tuple(self.made)


@pytest.fixture
def plane() -> Plane:
    return Plane()


@pytest.fixture
def physics(plane: Plane) -> Iterator[DnsPhysics]:
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    physics = DnsPhysics(plane, HOST, port)
    physics.health.faster(100)
    yield physics
    physics.close()


def test_it_reads_only_what_changed(plane: Plane, physics: DnsPhysics) -> None:
    for _ in range(3):
        physics.tick()
    assert plane.reads == 1
    plane.number = 1
    physics.tick()
    assert plane.reads == 2


def test_it_follows_by_itself_and_answers(plane: Plane, physics: DnsPhysics) -> None:
    physics.follow()
    wait_until(lambda: plane.reads == 1, 10, "the first look")
    wait_until(lambda: len(physics.dns.zones) == 1, 10, "the zone")
    query = dns.message.make_query("alias.example.test", "A")
    answer = dns.query.udp(query, HOST, port=physics.control_dns({})["port"], timeout=5)
    assert answer.answer[0][0].to_text() == HOST


def test_a_check_by_name_is_probed_at_the_names_own_address(plane: Plane, physics: DnsPhysics) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        names = ("alias.example.test", "no.example.test", HOST)
        common = {"Type": "TCP", "Port": port, "RequestInterval": 10, "FailureThreshold": 1}
        plane.made = [{"Id": name, "HealthCheckConfig": {**common, "FullyQualifiedDomainName": name}} for name in names]
        physics.tick()
        wait_until(lambda: not physics.health.healthy("no.example.test"), 20, "the unknown name to be ill")
        wait_until(lambda: len(physics.status("alias.example.test")) == 16, 20, "the name to be probed")
        wait_until(lambda: len(physics.status(HOST)) == 16, 20, "the address to be probed")
        shown = physics.status("alias.example.test")[0]
        assert shown["StatusReport"]["Status"] == "Success: TCP connection established"
        assert physics.last_failures("alias.example.test") == []
        failed = physics.last_failures("no.example.test")
    assert {seen["StatusReport"]["Status"] for seen in failed} == {"Failure: no IPv4 address for no.example.test"}
    assert (physics.health.healthy("alias.example.test"), physics.health.healthy(HOST)) == (True, True)


@pytest.mark.parametrize(
    "change",
    [{"alarms": {"eu-west-1/a": "well"}}, {"alarms": {"a": "ok"}}, {"speed": 0}, {"speed": 1001}, {"sped": 1}],
)
def test_a_wrong_wish_of_the_checkers_is_refused(physics: DnsPhysics, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"speed|alarms|region/name"):
        physics.control_checkers(change)


def test_a_wish_of_the_checkers_is_obeyed_and_shown(physics: DnsPhysics) -> None:
    told = physics.control_checkers({"speed": 5, "alarms": {"eu-west-1/a/b": "alarm"}})
    assert (told["speed"], told["checks"]) == (5, {})
    assert physics.health.alarms == {("eu-west-1", "a/b"): "alarm"}


def test_clients_are_placed_as_told(physics: DnsPhysics) -> None:
    told = physics.control_dns({"default": {"region": "eu-west-1", "place": "EU/DE", "private": True}})
    assert told["default"]["place"] == {"continent": "EU", "country": "DE", "subdivision": ""}
    assert (told["default"]["region"], told["default"]["private"]) == ("eu-west-1", True)
    with pytest.raises(ValueError, match="default, clients"):
        physics.control_dns({"client": {}})
