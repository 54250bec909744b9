"""`hafleet doctor` on a node whose role lacks a right: each is tried, named, and nothing is changed by it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hafleet import compose, permits
from hafleet.findings import Finding
from hafleet.lab.cloud import REGION
from tests.contract import iam_stage
from tests.contract.iam_stage import EDGE, World

SITE = {"name": "site", "port": 8080, "sources": [{"asg": iam_stage.BLUE, "terminate_hook": "drains"}]}

# statement that is missing -> what says so, and how bad it is
TOLD: dict[str, tuple[str, str, str]] = {
    "Records": ("fail", "may change records", "route53:ChangeResourceRecordSets"),
    "HealthChecks": ("fail", "may delete checks", "route53:DeleteHealthCheck"),
    "ServerHooks": ("fail", f"may end {iam_stage.BLUE}'s hooks", "autoscaling:CompleteLifecycleAction"),
    "AbandonedTag": ("fail", "may write why it gave up", "ec2:CreateTags"),
    "DrainedTag": ("fail", "may tell what it drained", "ec2:CreateTags"),
    "Addresses": ("fail", "may take an address", "ec2:AssociateAddress"),
    "AddressInstance": ("fail", "may take an address", "ec2:AssociateAddress"),
    "AddressInterface": ("fail", "may take an address", "ec2:AssociateAddress"),
    "Orders": ("warn", "may take orders back", "autoscaling:DeleteTags"),
}


@dataclass
class Node:
    """A node of the world, described by hand; its role is the one of an instance all the same."""

    world: World
    parts: compose.Parts

    def looks(self, without: str = "") -> dict[str, Finding]:
        """What is found with the printed policy, less one statement."""
        with self.world.allowed(self.world.policy(iam_stage.settings(), without)):
            return {finding.about: finding for finding in permits.rights(self.parts)}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with iam_stage.open_world() as made:
        yield made


@pytest.fixture
def node(world: World, tmp_path: Path) -> Node:
    asked = iam_stage.settings().model_dump(mode="json", exclude_unset=True)
    static = {
        "id": world.node,
        "private_ip": "10.0.0.7",
        "public_ip": "198.51.100.7",
        "zone": f"{REGION}a",
        "region": REGION,
        "asg": EDGE,
    }
    path = tmp_path / "hafleet.yaml"
    written: dict[str, Any] = {**asked, "backends": [SITE], "node": {"static": static}, "state_dir": str(tmp_path)}
    path.write_text(json.dumps(written))
    return Node(world, compose.build(path))


def test_every_right_is_tried_and_nothing_is_changed(node: Node) -> None:
    before = everything(node.world)
    found = node.looks()
    assert {about for about, finding in found.items() if finding.state == "ok"} == {told[1] for told in TOLD.values()}
    assert found.pop("permissions").state == "hint"
    assert {finding.state for finding in found.values()} == {"ok"}
    assert node.world.cloud.refused() == []
    assert everything(node.world) == before


@pytest.mark.parametrize("sid", TOLD)
def test_a_right_that_is_missing_is_named(node: Node, sid: str) -> None:
    state, about, action = TOLD[sid]
    found = node.looks(without=sid)
    assert (found[about].state, found[about].fix) == (
        state,
        f"allow {action} to this node's role; `hafleet iam-policy` prints all that it needs",
    )
    assert [name for name, finding in found.items() if finding.state in {"fail", "warn"}] == [about]


def test_while_aws_is_away_one_line_says_so(node: Node) -> None:
    fault = node.world.cloud.fault("5xx", service="autoscaling")
    try:
        found = node.looks()
    finally:
        node.world.cloud.heal(fault)
    last = list(found.values())[-1]
    assert last.about == f"may end {iam_stage.BLUE}'s hooks" and last.what.startswith("cannot be tried now")
    assert [finding.state for finding in found.values()] == ["ok", "ok", "warn"]


def everything(world: World) -> Any:
    """Records, checks, tags, addresses and waits, as the operator sees them."""
    cloud = world.cloud
    waits = [{key: wait[key] for key in ("instance", "hook", "heartbeats")} for wait in cloud.waiting()]
    groups = cloud.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    tags = {machine.id: machine.tags for machine in cloud.machines()}
    addresses = [sorted(a.items(), key=str) for a in cloud.ec2.describe_addresses()["Addresses"]]
    paths = [cloud.control("GET", path) for path in ("zones", "checks")]
    return paths, waits, [group["Tags"] for group in groups], tags, addresses
