"""A lab of two nodes that register in the local Route 53, and its commands run as on a node, or from elsewhere."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.request import urlopen

import boto3
import yaml
from botocore.config import Config

from hafleet.adapters.route53.checks import write_config
from hafleet.core.dns.checks import Author, make_reference
from hafleet.core.dns.model import CheckConfig
from hafleet.lab.cloud import REGION
from hafleet.lab.fleet import Lab
from hafleet.lab.node import STATUS_PORT, Node
from hafleet.lab.plan import FLEET
from hafleet.lab.processes import wait_until

ZONE, NAME = "example.test", "lb.example.test"
TTL = 2
NOWHERE = "http://127.0.0.1:9"  # an endpoint where nobody listens
WRITES = ("ChangeResourceRecordSets", "CreateHealthCheck", "DeleteHealthCheck")

DONE, FAILED, SETTINGS, HELD, PENDING = 0, 1, 2, 3, 4

Done = "subprocess.CompletedProcess[str]"


def dns_section(**more: Any) -> dict[str, Any]:
    """The dns section of the lab's nodes: real rules, short waits; the nodes themselves reap nothing."""
    return {
        "name": NAME,
        "zone": ZONE,
        "ttl": TTL,
        "health": {"endpoint": {"interval": 10, "threshold": 1}},
        "interval": "2s",
        "settle": "5s",
        "reap": {"interval": "3h", "confirm": "1s"},
        **more,
    }


class Stage:
    """The lab, its zone, and what stands in it."""

    def __init__(self, lab: Lab, zone_id: str) -> None:
        self.lab = lab
        self.zone_id = zone_id
        patient = Config(retries={"mode": "standard", "total_max_attempts": 10})  # the nodes write to the zone, too
        self._route53 = boto3.Session("lab", "lab", region_name=REGION).client(
            "route53", endpoint_url=lab.cloud.url, config=patient
        )

    def run(
        self, node: Node, *arguments: str, settings: Path | None = None, **more: str
    ) -> "subprocess.CompletedProcess[str]":
        """``hafleet ARGUMENTS`` as on this node; ``more``: variables of the environment."""
        argv = [sys.executable, "-m", "hafleet.cli", *arguments, "-c", str(settings or node.settings)]
        own = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": node.imds.url, **more}
        env = {**os.environ, **self.lab.cloud.environment, **own}
        return subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False, env=env)

    def writes(self) -> int:
        """Calls so far that would change Route 53."""
        calls = self.lab.cloud.calls()
        return sum(calls.get(f"route53.{name}", 0) for name in WRITES)

    def records(self, name: str = NAME) -> dict[str, dict[str, Any]]:
        """The A records of this name, by set identifier."""
        found = self._route53.list_resource_record_sets(HostedZoneId=self.zone_id)["ResourceRecordSets"]
        return {r.get("SetIdentifier", ""): dict(r) for r in found if r["Name"] == f"{name}." and r["Type"] == "A"}

    def checks(self) -> set[str]:
        """Ids of all health checks."""
        return {check["Id"] for check in self._route53.list_health_checks()["HealthChecks"]}

    def write(self, **record: Any) -> None:
        """Somebody writes a record set."""
        changes: Any = [{"Action": "CREATE", "ResourceRecordSet": record}]
        self._route53.change_resource_record_sets(HostedZoneId=self.zone_id, ChangeBatch={"Changes": changes})

    def erase(self, name: str, *set_ids: str) -> None:
        """The A records of this name with these set identifiers go; without any, all."""
        gone = [record for id_, record in self.records(name).items() if not set_ids or id_ in set_ids]
        changes: Any = [{"Action": "DELETE", "ResourceRecordSet": record} for record in gone]
        self._route53.change_resource_record_sets(HostedZoneId=self.zone_id, ChangeBatch={"Changes": changes})

    def leave_behind(self, instance: str, address: str, name: str = NAME) -> str:
        """What a node that is no more left: a record and its health check, whose id is returned."""
        config = CheckConfig("TCP", address, 8403, interval=30)
        reference = make_reference(Author(FLEET, instance, REGION), "A/endpoint", config, token_hex(4))
        raw: Any = write_config(config)
        made = self._route53.create_health_check(CallerReference=reference, HealthCheckConfig=raw)
        check = made["HealthCheck"]["Id"]
        values = [{"Value": address}]
        self.write(
            Name=name,
            Type="A",
            SetIdentifier=instance,
            Weight=100,
            TTL=TTL,
            ResourceRecords=values,
            HealthCheckId=check,
        )
        return check

    def delete_check(self, check: str) -> None:
        """A health check goes."""
        self._route53.delete_health_check(HealthCheckId=check)

    def registered(self) -> bool:
        """True when every node stands in DNS."""
        return {node.id for node in self.lab.nodes} <= self.records().keys()


@contextmanager
def staged(nodes: int = 2) -> Iterator[Stage]:
    """The lab with its nodes registered."""
    with Lab() as lab:
        zone_id = lab.cloud.create_zone(ZONE)
        lab.plan.extra = {"dns": dns_section()}
        for name, desired in (("shop-blue", 1), ("shop-green", 0), ("cart", 1)):
            lab.group(name, desired)
        lab.start_nodes(nodes)
        lab.wait_converged()
        stage = Stage(lab, zone_id)
        wait_until(lambda: all(settled(stage, node) for node in lab.nodes), 120, "the nodes to register", every=0.2)
        yield stage


def settled(stage: Stage, node: Node) -> bool:
    """True when the agent of this node says that it is registered."""
    done = stage.run(node, "status", "--json")
    told = json.loads(done.stdout).get("dns") if done.stdout else None
    return bool(told and told["registered"] and not told["waiting"])


@contextmanager
def quiet(node: Node) -> Iterator[Node]:
    """The node without its agent."""
    assert node.agent
    node.agent.stop()
    try:
        yield node
    finally:
        node.agent.start()


def changed(node: Node, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The node's settings with a change, in another file."""
    settings = yaml.safe_load(node.settings.read_text())
    change(settings)
    path.write_text(yaml.safe_dump(settings))
    return path


def metric(node: Node, name: str) -> float:
    """A figure of the agent."""
    with urlopen(f"http://{node.address}:{STATUS_PORT}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")))
