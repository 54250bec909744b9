"""Real agents and a pool of Elastic IPs: two addresses for three nodes, a node that leaves, an agent that is killed."""

import json
from collections.abc import Iterator

import pytest

from hafleet.lab.fleet import Lab
from hafleet.lab.node import Node
from hafleet.lab.plan import Plan
from hafleet.lab.processes import wait_until

pytestmark = [pytest.mark.deep, pytest.mark.xdist_group("eip")]  # one lab for all of them

POOL = {"hafleet:pool": "edge"}
PATIENCE = 120.0  # seconds


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(Plan(extra={"eip": {"pool_tag": POOL}})) as lab:
        for _ in range(2):
            allocated = lab.cloud.ec2.allocate_address(Domain="vpc")["AllocationId"]
            tags = [{"Key": key, "Value": value} for key, value in POOL.items()]
            lab.cloud.ec2.create_tags(Resources=[allocated], Tags=tags)  # type: ignore[arg-type]
        for name, desired in (("shop-blue", 1), ("shop-green", 0), ("cart", 1)):
            lab.group(name, desired)
        lab.start_nodes(3)
        lab.wait_converged()
        yield lab


def holders(lab: Lab) -> list[str]:
    """Who has an address of the pool."""
    found = lab.cloud.ec2.describe_addresses()["Addresses"]
    return sorted(item["InstanceId"] for item in found if item.get("AssociationId"))


def told(node: Node) -> str:
    """What the last pass of a node said of its registration."""
    try:
        return json.dumps(json.loads((node.folder / "state" / "status.json").read_text()).get("dns"))
    except (OSError, ValueError):
        return ""


def test_each_address_has_one_node_and_who_has_none_says_so(lab: Lab) -> None:
    wait_until(lambda: len(holders(lab)) == 2, PATIENCE, "both addresses are taken", every=0.2)
    assert len(set(holders(lab))) == 2
    (without,) = [node for node in lab.nodes if node.id not in holders(lab)]
    wait_until(lambda: "none of the pool's 2 Elastic IPs is free" in told(without), PATIENCE, "it says so", every=0.2)
    for node in lab.nodes:
        if node is without:
            assert "2 in the pool, 0 free" in node.command("doctor").stdout
        else:
            wait_until(lambda node=node: '"registered": true' in told(node), PATIENCE, "it is registered", every=0.2)  # type: ignore[misc]


def test_a_node_that_leaves_gives_its_address_to_one_that_waits_and_a_killed_agent_keeps_it(lab: Lab) -> None:
    wait_until(lambda: len(holders(lab)) == 2, PATIENCE, "both addresses are taken", every=0.2)
    first, second = sorted((n for n in lab.nodes if n.id in holders(lab)), key=lambda node: node.id)
    (waiting,) = [node for node in lab.nodes if node not in (first, second)]
    assert first.agent and second.agent
    second.agent.kill()  # the supervisor starts it again
    assert first.command("drain").returncode == 0
    wait_until(lambda: holders(lab) == sorted([second.id, waiting.id]), PATIENCE, "the address went on", every=0.2)
    assert first.command("ready").returncode == 0
    wait_until(lambda: "Elastic IPs is free" in told(first), PATIENCE, "the first waits for another", every=0.2)
    assert holders(lab) == sorted([second.id, waiting.id])
