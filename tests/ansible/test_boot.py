"""A fleet of booted machines in the local AWS: they join, serve, share what they know, drain and are powered off. In this order.

All that they may do is what ``hafleet iam-policy`` prints: AWS refuses everything else.
"""

import http.client
import json
import re
from collections.abc import Iterable
from functools import partial

import pytest

from hafleet.lab.registered import checks_of
from hafleet.lab.traffic import Traffic
from tests.ansible.cloud import STICK, Booted, Region
from tests.ansible.conftest import lacking
from tests.resources import answers

pytestmark = [
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
    pytest.mark.timeout(3600),  # a whole image is made for the first test
]


def clients(region: Region) -> Traffic:
    """Some that ask DNS for their node, as everybody does, and try nothing twice."""
    return Traffic(region.processes, region.by_name, rate=30, clients=6)


def doctor(node: Booted, *words: str, group: str = "haproxy") -> dict[str, dict[str, str]]:
    """What doctor fails, by what it is about."""
    found = json.loads(node.command("hafleet", "doctor", "--json", *words, group=group))["findings"]
    assert found
    return {finding["about"]: finding for finding in found if finding["state"] == "fail"}


def ask_as(node: Booted, users: Iterable[str]) -> dict[str, str]:
    """User -> the server that answers a request of theirs on this node."""
    return answers(node.address, 80, STICK, users)


def healthy(region: Region) -> dict[str, bool]:
    """Node -> what the checkers of its record say."""
    return {record.node: record.healthy for record in region.records()}


def serves(node: Booted) -> bool:
    """It answers a request."""
    try:
        return bool(ask_as(node, ["somebody"]))
    except (OSError, http.client.HTTPException):
        return False


def knows(node: Booted, users: set[str]) -> bool:
    """Its stick table has all of them."""
    return users <= node.stuck().keys()


def peers(node: Booted) -> set[tuple[str, str]]:
    """The peers in its haproxy.cfg: instance and address."""
    text = (node.machine.root / "etc/haproxy/haproxy.cfg").read_text()
    return set(re.findall(r"^\s+peer (i-[0-9a-f]+) ([0-9.]+:\d+)", text, re.MULTILINE))


def test_a_node_joins_the_fleet_and_serves(region: Region) -> None:
    (node,) = region.scale(1)  # its launch hook comes to ABANDON unless the agent says CONTINUE
    (record,) = region.records()
    assert (record.node, record.address) == (node.id, node.address)
    region.until(lambda: healthy(region) == {node.id: True}, "Route 53's checkers reach the node")
    assert len(checks_of(region.cloud, node.id)) == 1
    assert region.cloud.waiting() == [] and region.queues() == {node.id}
    assert node.machine.run("systemctl", "list-units", "--failed", "--plain", "--no-legend") == ""
    with clients(region) as traffic:
        region.until(lambda: traffic.latest.sent >= 60, "sixty requests by name")
    assert (traffic.stop().failed, set(traffic.latest.targets)) == (0, {f"{node.address}:80"})


def test_another_one_joins_under_traffic(region: Region) -> None:
    with clients(region) as traffic:
        nodes = region.scale(2)
        there = {f"{node.address}:80" for node in nodes}
        region.until(lambda: set(traffic.latest.targets) == there, "DNS sends clients to both")
    done = traffic.stop()
    assert (done.failed, dict(done.errors)) == (0, {})
    assert {record.node for record in region.records()} == {node.id for node in nodes}
    assert region.cloud.refused() == []


def test_what_one_node_learns_the_other_knows(region: Region) -> None:
    first, second = region.nodes
    mesh = {(node.id, f"{node.address}:10000") for node in region.nodes}
    region.until(lambda: peers(first) == mesh == peers(second), "each lists both, from the group")
    for node, other in ((first, second), (second, first)):
        users = {f"{node.id}-{number}" for number in range(5)}
        assert not users & other.stuck().keys()
        answers = ask_as(node, users)
        region.until(partial(knows, other, users), "the entries come to the other")
        assert {user: node.stuck()[user] for user in users} == {user: other.stuck()[user] for user in users}
        assert ask_as(other, users) == answers
    assert "nobody" not in {**first.stuck(), **second.stuck()}  # an entry comes of a request, and of nothing else


def test_doctor_is_content_with_the_printed_policy(region: Region) -> None:
    assert [doctor(node) for node in region.nodes] == [{}, {}]
    assert region.cloud.refused() == []


@pytest.mark.parametrize(
    ("statement", "action"),
    [
        ("RecordList", "route53:ListResourceRecordSets"),
        ("Membership", "autoscaling:DescribeAutoScalingGroups"),
        ("HookList", "autoscaling:DescribeLifecycleHooks"),
    ],
)
def test_doctor_names_the_permission_that_is_missing(region: Region, statement: str, action: str) -> None:
    node = region.nodes[0]
    region.allow("--without", statement)
    try:
        missing = doctor(node)
    finally:
        region.allow()
    fix = f"allow {action} to this node's role; `hafleet iam-policy` prints all that it needs"
    assert fix in {finding["fix"] for finding in missing.values()}, missing
    assert all("not authorized" in finding["what"] for finding in missing.values())
    assert doctor(node) == {}


def test_doctor_names_the_group_that_is_missing(region: Region) -> None:
    machine = region.nodes[0].machine
    machine.run("install", "--mode", "0644", "/etc/hafleet/hafleet.yaml", "/etc/open.yaml")
    closed = doctor(region.nodes[0], group="nogroup")
    assert closed.keys() == {"settings"} and "/etc/hafleet is closed" in closed["settings"]["what"]
    closed |= doctor(region.nodes[0], "-c", "/etc/open.yaml", group="nogroup")
    for about in ("settings", "master socket", "runtime socket"):
        assert "not in group haproxy" in closed[about]["what"]
        assert closed[about]["fix"] == "add the agent's user to group haproxy, then start the agent again"


def test_a_rebooted_node_serves_again(region: Region) -> None:
    node = region.nodes[1]
    before = region.records()
    node.machine.off()
    region.until(lambda: not healthy(region)[node.id], "Route 53's checkers notice")
    node.machine.on()
    region.until(lambda: "phase serving" in node.status(), "the agent says that it serves")
    region.until(lambda: healthy(region)[node.id], "Route 53's checkers agree")
    assert ask_as(node, ["returned"]).keys() == {"returned"}
    assert {record.check for record in region.records()} == {record.check for record in before}
    assert len(region.in_service()) == 2


def test_a_node_drains_and_is_powered_off_under_traffic(region: Region) -> None:
    before = {node.id: node for node in region.nodes}
    with clients(region) as traffic:
        region.until(lambda: len(traffic.latest.targets) == 2, "clients are on both")
        (left,) = region.scale(1)
    done = traffic.stop()
    assert (done.failed, dict(done.errors)) == (0, {})
    (gone,) = (node for name, node in before.items() if name != left.id)
    assert not gone.machine.running and not gone.machine.root.exists()
    assert [record.node for record in region.records()] == [left.id]
    assert checks_of(region.cloud, gone.id) == frozenset()
    assert region.queues() == {left.id}
    assert region.cloud.waiting() == [] and region.cloud.refused() == []
    assert "CONTINUE" in gone.said  # and the hook would have waited for an hour


def test_the_traffic_would_notice(region: Region) -> None:
    (node,) = region.nodes
    with clients(region) as traffic:
        node.machine.run("systemctl", "stop", "haproxy")
        region.until(lambda: traffic.latest.failed > 0, "a request fails")
        node.machine.run("systemctl", "start", "haproxy")
    region.until(lambda: serves(node), "the node serves again")
