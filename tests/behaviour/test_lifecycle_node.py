"""A node's own life through lifecycle hooks: real agents, real HAProxy, the lab's Auto Scaling, IMDS and Route 53."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hafleet.lab.cloud import NODES
from hafleet.lab.fleet import Lab
from hafleet.lab.node import HTTP_PORT, Node
from hafleet.lab.plan import EDGE, Plan, shop_dns
from hafleet.lab.servers import PORT

LAUNCH, END = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
SITE = {
    "name": "site",
    "port": PORT,
    "sources": [{"asg": "app"}],
    "check": {"path": "/healthz", "interval": "300ms", "rise": 1, "fall": 2},
    "drain": "2s",
}
GREEN, RED = 200, 503


def plan(*, dns: bool = False, **lifecycle: Any) -> Plan:
    """One backend, and a lifecycle section whose times are those of a test."""
    section = {"drain": {"quiet": "1s", "max": "60s"}, "join_timeout": "60s", "peers_timeout": "0s", **lifecycle}
    made = Plan(backends=[SITE], default_backend="site", extra={"lifecycle": section})
    made.dns = shop_dns() if dns else None
    return made


@contextmanager
def fleet(wanted: Plan, nodes: int = 1, *, apps: int = 2, timeout: int = 60) -> Iterator[Lab]:
    """A lab whose edge group has both hooks."""
    with Lab(wanted) as lab:
        lab.cloud.control("POST", "physics", {"hook_least": 3, "terminating": 0.3, "boot": 0.2})
        if wanted.dns is not None:
            lab.cloud.create_zone(wanted.dns["zone"])
        lab.group("app", apps)
        lab.group(EDGE, 0)
        for name, transition in (("born", LAUNCH), ("gone", END)):
            lab.cloud.autoscaling.put_lifecycle_hook(
                AutoScalingGroupName=EDGE,
                LifecycleHookName=name,
                LifecycleTransition=transition,
                HeartbeatTimeout=timeout,
                DefaultResult="ABANDON",
            )
        lab.scale(EDGE, nodes)
        yield lab


def state(lab: Lab, instance: str) -> str:
    return next((machine.lifecycle for machine in lab.cloud.machines() if machine.id == instance), "")


def calls(lab: Lab, operation: str) -> int:
    """How often the agents have called this so far."""
    return int(lab.cloud.control("GET", "calls")["all"].get(operation, 0))


def in_service(lab: Lab, count: int = 1, timeout: float = 60) -> list[Node]:
    lab.wait_until(lambda: len(lab.members(EDGE)) == count, timeout, f"{count} nodes in service")
    ids = {machine.id for machine in lab.members(EDGE)}
    return [node for node in lab.nodes if node.id in ids]


def serves(node: Node) -> bool:
    try:
        with urllib.request.urlopen(f"http://{node.address}:{HTTP_PORT}/", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def leave(lab: Lab, node: Node) -> None:
    lab.terminate(node.id, decrement=True)


def reported(node: Node) -> dict[str, Any]:
    """What its agent's last pass told of the hooks' side."""
    found: dict[str, Any] = json.loads((node.folder / "state" / "status.json").read_text())["life"]
    return found


# --- launch ---------------------------------------------------------------------------------------------------------


def test_a_node_joins_and_leaves_through_hooks_with_its_record(tmp_path: Any) -> None:
    with fleet(plan(dns=True), nodes=2) as lab:
        first, second = in_service(lab, 2)
        assert {leaf.node for leaf in lab.registered()} == {first.id, second.id}  # before they were in service
        assert serves(first) and serves(second)
        leave(lab, second)
        lab.wait_until(lambda: second.health() == RED, 10, "red")
        assert state(lab, second.id).startswith("Terminating")
        assert serves(second)  # whoever still comes is served
        lab.wait_until(lambda: state(lab, second.id) == "", 120, "the node to go")
        assert {leaf.node for leaf in lab.registered()} == {first.id}
        assert "completed hook gone (Terminating:Wait) with CONTINUE: drained" in second.agent_log()
