"""inventory/aws_ec2.yml on the local AWS: which nodes it lists, in which groups, and which it leaves out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hafleet.lab.cloud import REGION, Cloud
from hafleet.lab.network import claim
from hafleet.lab.processes import Processes, wait_until
from tests.ansible.account import lacking
from tests.ansible.tools import ROOT, call

pytestmark = [pytest.mark.skipif(bool(lacking()), reason=lacking()), pytest.mark.timeout(600)]
FLEET, HOOK, PATIENCE = "edge-one", "hafleet-leave", 120.0


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Two groups, and an instance that no group has."""
    folder = tmp_path_factory.mktemp("inventory")
    processes = Processes(folder)
    with claim() as network:
        try:
            made = Cloud(network, processes, folder / "aws.log")
            made.create_group(FLEET, 3, {})
            made.create_group("site", 1, {})
            made.ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)
            wait_until(lambda: in_service(made) == 4, PATIENCE, "all are in service")
            yield made
        finally:
            processes.close()


def in_service(region: Cloud) -> int:
    return sum(machine.in_service for machine in region.machines())


def listed(region: Cloud, folder: Path) -> dict[str, Any]:
    """What ansible-inventory prints as JSON: groups with their hosts, and ``_meta`` with each host's variables."""
    inventory = ROOT / "ansible/inventory/aws_ec2.yml"
    done = call("ansible-inventory", folder, "-i", inventory, "--list", **region.environment)
    assert done.code == 0, done.said
    found: dict[str, Any] = json.loads(done.said[done.said.index("{\n") :])
    return found


def test_nodes_are_in_the_groups_of_their_auto_scaling_group_and_zone(region: Cloud, tmp_path: Path) -> None:
    found = listed(region, tmp_path)
    machines = region.machines()
    for group in (FLEET, "site"):
        hosts = found[f"asg_{group.replace('-', '_')}"]["hosts"]
        assert sorted(hosts) == sorted(machine.id for machine in machines if machine.group == group)
    for zone in (f"{REGION}a", f"{REGION}b"):
        hosts = found[f"zone_{zone.replace('-', '_')}"]["hosts"]
        assert sorted(hosts) == sorted(machine.id for machine in machines if machine.group and machine.zone == zone)
    addresses = {name: told["ansible_host"]["__ansible_unsafe"] for name, told in found["_meta"]["hostvars"].items()}
    assert addresses == {machine.id: machine.address for machine in machines if machine.group}


def test_instances_that_end_are_left_out_and_those_that_wait_for_a_hook_are_not(region: Cloud, tmp_path: Path) -> None:
    region.add_hook(FLEET, HOOK, "TERMINATING", "CONTINUE")
    waits, ends, *_ = (machine.id for machine in region.machines() if machine.group == FLEET)
    region.autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=waits, ShouldDecrementDesiredCapacity=True)
    wait_until(lambda: region.waiting() != [], PATIENCE, "the node waits to be drained")
    region.ec2.terminate_instances(InstanceIds=[ends])
    hosts = set(listed(region, tmp_path)["asg_edge_one"]["hosts"])
    assert waits in hosts  # EC2 runs it until the agent completes the hook, and says nothing of it
    assert ends not in hosts and hosts
