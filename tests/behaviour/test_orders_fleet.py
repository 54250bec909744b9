"""Orders for the whole fleet on real nodes: a server drained, in maintenance, a zone shifted, under load; and a new node obeys."""

import json
import time
from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from hafleet.core import orders
from hafleet.lab.cloud import Machine
from hafleet.lab.fleet import Lab
from hafleet.lab.node import STATUS_PORT, Node
from hafleet.lab.plan import EDGE
from hafleet.lab.processes import wait_until
from hafleet.lab.traffic import Count, Traffic

pytestmark = [pytest.mark.deep, pytest.mark.xdist_group("orders")]  # one lab for all of them

DONE, FAILED, USAGE, HELD = 0, 1, 2, 3
PATIENCE = 120.0  # seconds
BLUE = "shop-blue"
READY, DRAINED, GONE = "ready", "drained", "in maintenance or not there"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        for name, desired in ((BLUE, 4), ("shop-green", 0), ("cart", 2)):
            lab.group(name, desired)
        lab.start_nodes(2)
        lab.wait_converged()
        for node in lab.nodes:  # no reload for the other one is to come any more
            wait_until(lambda node=node: node.command("plan").returncode == DONE, PATIENCE, "nothing to do", every=0.2)  # type: ignore[misc]
        wait_until(lambda: all(phase(node) == "serving" for node in lab.nodes), PATIENCE, "both nodes serve", every=0.2)
        yield lab


def report(node: Node) -> dict[str, object]:
    """What the last pass of a node told."""
    try:
        found = json.loads((node.folder / "state" / "status.json").read_text())
    except (OSError, ValueError):
        return {}
    assert isinstance(found, dict)
    return found


def metric(node: Node, name: str) -> float:
    with urlopen(f"http://{node.address}:{STATUS_PORT}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")))


def phase(node: Node) -> object:
    return report(node).get("phase")


def state(node: Node, backend: str, name: str) -> str:
    """Whether new sessions go to a server of this node's HAProxy."""
    rows = [row for row in node.servers() if (row.backend, row.name) == (backend, name)]
    if not rows or "MAINT" in rows[0].status:
        return GONE
    return READY if rows[0].in_rotation else DRAINED


def everywhere(lab: Lab, machine: Machine, expected: str) -> None:
    """Wait until this server of the shop is in that state on every node."""
    what = f"{machine.id} is {expected} on every node"
    wait_until(lambda: all(state(n, "shop", machine.id) == expected for n in lab.nodes), PATIENCE, what, every=0.1)


def more(traffic: Traffic, before: Count) -> Count:
    """A hundred requests more."""
    wait_until(lambda: traffic.latest.since(before).sent > 100, PATIENCE, "100 more requests")
    return traffic.latest.since(before)


def order(lab: Lab, *words: str, expect: int = DONE) -> str:
    """Run a command on the first node; what it printed."""
    done = lab.nodes[0].command(*words)
    assert done.returncode == expect, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_a_server_drains_on_every_node_and_comes_back_under_load(lab: Lab) -> None:
    one = lab.members(BLUE)[0]
    reloads = lab.reloads()
    with Traffic(lab.processes, [node.http for node in lab.nodes], rate=100) as traffic:
        told = order(lab, "server", "drain", f"shop/{one.id}", "--reason", "a new disk")
        assert "ordered" in told and "a new disk" in told
        everywhere(lab, one, DRAINED)
        more(traffic, traffic.count())  # what was on its way has come
        during = more(traffic, traffic.count())
        why = order(lab, "explain", one.id)
        assert "ordered drain" in why and "a new disk" in why
        wait_until(lambda: "a new disk" in lab.nodes[1].agent_log(), PATIENCE, "the other node to say it")
        assert metric(lab.nodes[1], "hafleet_orders") == 1
        wait_until(lambda: "a new disk" in order(lab, "status"), PATIENCE, "the first one's pass to tell it")
        assert "a new disk" in order(lab, "orders")
        assert "taken back" in order(lab, "server", "ready", f"shop/{one.id}")
        everywhere(lab, one, READY)
        total = traffic.stop()
    assert (total.failed, during.instances.get(one.id, 0)) == (0, 0) and total.sent > 100, total
    assert lab.reloads() == reloads
    assert "nothing is ordered" in order(lab, "orders")


def test_maintenance_is_out_at_once_and_comes_back(lab: Lab) -> None:
    one = lab.members(BLUE)[0]
    reloads = lab.reloads()
    order(lab, "server", "maint", f"shop/{one.id}")
    everywhere(lab, one, GONE)
    assert "in maintenance" in order(lab, "explain", one.id)
    order(lab, "server", "ready", f"shop/{one.id}")
    everywhere(lab, one, READY)
    assert lab.reloads() == reloads


def test_the_last_server_needs_force_and_typing_errors_are_found(lab: Lab) -> None:
    names = [machine.id for machine in lab.members("cart")]
    order(lab, "server", "drain", f"cart/{names[0]}")
    assert "no other server" in order(lab, "server", "drain", f"cart/{names[1]}", expect=HELD)
    order(lab, "server", "drain", f"cart/{names[1]}", "--force")
    wait_until(
        lambda: all(state(n, "cart", names[1]) == DRAINED for n in lab.nodes), PATIENCE, "both are drained", every=0.1
    )
    for name in names:
        order(lab, "server", "ready", f"cart/{name}")
    assert "nothing was ordered" in order(lab, "server", "ready", f"cart/{names[0]}")
    assert "no backend" in order(lab, "server", "drain", f"shoe/{names[0]}", expect=FAILED)
    assert "no server" in order(lab, "server", "drain", f"shop/{names[0]}", expect=FAILED)
    assert "zones of this fleet" in order(lab, "zone", "drain", "eu-west-1z", expect=FAILED)
    order(lab, "server", "drain", "shop", expect=USAGE)
    order(lab, "zone", "drain", "eu-west-1a", "--for", "30s", expect=USAGE)


def test_a_zone_drains_its_nodes_leave_and_a_new_node_obeys(lab: Lab) -> None:
    here = [node for node in lab.nodes if node.zone == lab.nodes[0].zone]
    away = lab.nodes[0].zone
    servers = lab.members(BLUE)
    assert len(here) == 1 and {m.zone for m in servers} > {away}
    with Traffic(lab.processes, [node.http for node in lab.nodes], rate=100) as traffic:
        order(lab, "zone", "drain", away, "--for", "10m", "--reason", "slow")
        for machine in servers:
            everywhere(lab, machine, DRAINED if machine.zone == away else READY)
        wait_until(lambda: here[0].health() == 503, PATIENCE, "its node is red", every=0.1)
        wait_until(lambda: "slow" in str(report(here[0]).get("leaving")), PATIENCE, "its pass to tell why")
        assert phase(here[0]) == "leaving"
        other = next(node for node in lab.nodes if node.zone != away)
        assert other.health() == 200
        lab.scale(EDGE, 3)
        lab.wait_until(lambda: len(lab.nodes) == 3, PATIENCE, "a third node")
        for machine in servers:
            everywhere(lab, machine, DRAINED if machine.zone == away else READY)
        second = next(node.zone for node in lab.nodes if node.zone != away)
        assert "no node of another zone" in order(lab, "zone", "drain", second, expect=HELD)
        order(lab, "zone", "ready", away)
        for machine in servers:
            everywhere(lab, machine, READY)
        wait_until(lambda: here[0].health() == 200, PATIENCE, "its node is back", every=0.1)
        total = traffic.stop()
    assert total.failed == 0 and total.sent > 100, total


def test_an_order_ends_by_time_and_one_that_nobody_can_read_changes_nothing(lab: Lab) -> None:
    one, two = lab.members(BLUE)[:2]
    order(lab, "server", "drain", f"shop/{one.id}")
    order(lab, "server", "drain", f"shop/{two.id}")
    everywhere(lab, two, DRAINED)
    tag = {"ResourceId": EDGE, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": False}
    over = "drain at=2026-01-01T00:00:00Z until=2026-01-01T01:00:00Z by=kim"
    old, young = "i-00000000000000001", "i-00000000000000002"  # nobody lists these
    young_order = orders.Order("drain", time.time(), server=young, backend="shop").value
    values = {one.id: "what?", two.id: over, old: "drain at=2026-01-01T00:00:00Z by=kim", young: young_order}
    for name, value in values.items():
        lab.cloud.autoscaling.create_or_update_tags(
            Tags=[{**tag, "Key": f"hafleet:server:shop/{name}", "Value": value}]  # type: ignore[typeddict-item]
        )
    everywhere(lab, two, READY)
    everywhere(lab, one, DRAINED)
    wait_until(lambda: "is no order" in str(report(lab.nodes[0])["held"]), PATIENCE, "it is told", every=0.1)
    assert "nobody could read" in order(lab, "server", "ready", f"shop/{one.id}")
    everywhere(lab, one, READY)
    group = lab.cloud.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[EDGE])["AutoScalingGroups"][0]
    left = [tag["Key"] for tag in group["Tags"] if tag["Key"].startswith("hafleet:server")]
    assert left == [f"hafleet:server:shop/{young}"]  # what was over went too
    assert "taken back" in order(lab, "server", "ready", f"shop/{young}")
