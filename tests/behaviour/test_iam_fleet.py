"""A fleet whose nodes may do what `hafleet iam-policy` prints and nothing else: they join, hear events, drain, obey and leave."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from hafleet.core.queues import dead_letters, topic_name
from hafleet.lab.cloud import REGION
from hafleet.lab.fleet import Lab
from hafleet.lab.node import Node
from hafleet.lab.plan import EDGE, FLEET, Plan, shop_dns
from hafleet.lab.servers import PORT

pytestmark = [pytest.mark.deep, pytest.mark.xdist_group("iam fleet")]  # one lab for all of them

SITE = {
    "name": "site",
    "port": PORT,
    "sources": [{"asg": "app", "terminate_hook": "drains"}],
    "check": {"path": "/healthz", "interval": "300ms", "timeout": "3s", "rise": 1, "fall": 2},
    "drain": "1s",
}
LIFE = {"join_timeout": "2m", "peers_timeout": "5s", "drain": {"quiet": "1s", "max": "30s"}, "abandon_tag": True}
PATIENCE = 180.0  # seconds


def hook(lab: Lab, group: str, name: str, transition: str) -> None:
    """A hook whose wait nobody ends by waiting, as far as these tests go."""
    lab.cloud.autoscaling.put_lifecycle_hook(
        AutoScalingGroupName=group,
        LifecycleHookName=name,
        LifecycleTransition=f"autoscaling:EC2_INSTANCE_{transition}",
        HeartbeatTimeout=600,
        DefaultResult="ABANDON",
    )


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    sections = {"lifecycle": LIFE, "events": {"queue": "auto"}}
    with Lab(Plan(backends=[SITE], default_backend="site", dns=shop_dns(), extra=sections)) as made:
        made.cloud.control("POST", "physics", {"terminating": 0.3, "boot": 0.2})
        made.cloud.create_zone(shop_dns()["zone"])
        session: Any = boto3.session.Session("lab", "lab", region_name=REGION)
        session.client("sns", endpoint_url=made.cloud.url).create_topic(Name=topic_name(FLEET))
        queues(made).create_queue(QueueName=dead_letters(FLEET))
        made.group("app", 3)
        made.group(EDGE, 0)
        for group, name, transition in (
            ("app", "drains", "TERMINATING"),
            (EDGE, "joins", "LAUNCHING"),
            (EDGE, "leaves", "TERMINATING"),
        ):
            hook(made, group, name, transition)
        made.scale(EDGE, 1)
        in_service(made, 1)
        yield made


def queues(lab: Lab) -> Any:
    return boto3.session.Session("lab", "lab", region_name=REGION).client("sqs", endpoint_url=lab.cloud.url)


def queue_owners(lab: Lab) -> set[str]:
    """The instances that have a queue."""
    listed = queues(lab).list_queues(QueueNamePrefix=f"hafleet-{FLEET}-i-").get("QueueUrls", ())
    return {url.rpartition(f"hafleet-{FLEET}-")[2] for url in listed}


def in_service(lab: Lab, count: int) -> list[Node]:
    """So many nodes that their group counts as serving."""

    def nodes() -> list[Node]:
        ids = {machine.id for machine in lab.members(EDGE)}
        return sorted((node for node in lab.nodes if node.id in ids), key=lambda node: node.id)

    lab.wait_until(lambda: len(nodes()) == count == len(lab.nodes), PATIENCE, f"{count} nodes in service")
    return nodes()


@contextmanager
def limited(lab: Lab, *words: str) -> Iterator[None]:
    """The nodes may do what the command prints on one of them."""
    printed = lab.nodes[0].command("iam-policy", "--account", "123456789012", "--group", EDGE, *words)
    assert printed.returncode == 0, printed.stderr
    lab.cloud.enforce(json.loads(printed.stdout))
    try:
        yield
    finally:
        lab.cloud.enforce(None)


def test_a_fleet_lives_by_the_printed_policy(lab: Lab) -> None:
    with limited(lab):
        lab.scale(EDGE, 2)
        nodes = in_service(lab, 2)
        lab.wait_registered(PATIENCE)
        ids = {node.id for node in nodes}
        lab.wait_until(lambda: queue_owners(lab) == ids, PATIENCE, "each node's own queue")

        lab.scale("app", 2)  # the fleet completes the hook, once both have drained the server and said so in their tags
        lab.wait_until(lambda: len(lab.members("app", in_service=False)) == 2, PATIENCE, "the server to be let go")

        server = lab.members("app")[0].id
        for words in (("server", "drain", f"site/{server}"), ("server", "ready", f"site/{server}"), ("dns", "reap")):
            done = nodes[0].command(*words)
            assert done.returncode == 0, done.stderr
        assert not [line for line in nodes[0].command("doctor").stdout.splitlines() if "not authorized" in line]

        lab.scale(EDGE, 1)
        (left,) = in_service(lab, 1)
        lab.wait_registered(PATIENCE)
        lab.wait_until(lambda: queue_owners(lab) == {left.id}, PATIENCE, "the queue of the node that left to go")
        assert lab.cloud.refused() == []


def test_a_node_that_lacks_a_right_says_which_and_what_to_do(lab: Lab) -> None:
    (node,) = in_service(lab, 1)
    with limited(lab, "--without", "Changes", "--without", "HealthCheckList", "--without", "HookList"):
        done = node.command("doctor", "--json")
        findings = json.loads(done.stdout)["findings"]
        assert done.returncode == 1
        told = {finding["about"]: finding["fix"] for finding in findings if "not authorized" in finding["what"]}
    assert told == {
        about: f"allow {action} to this node's role; `hafleet iam-policy` prints all that it needs"
        for about, action in (
            ("dns one change", "route53:GetChange"),
            ("dns health checks", "route53:ListHealthChecks"),
            ("lifecycle hooks", "autoscaling:DescribeLifecycleHooks"),  # of the own group
            ("hook drains", "autoscaling:DescribeLifecycleHooks"),  # of the servers' group
        )
    }
