"""A node's own group on the lab: hooks of somebody else stay theirs, a node that cannot serve is replaced, and one that EC2 recommends
to move drains by choice."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hafleet.lab.fleet import Lab
from hafleet.lab.node import Node
from hafleet.lab.plan import EDGE
from tests.behaviour.test_lifecycle_node import (
    END,
    GREEN,
    RED,
    in_service,
    leave,
    phase_of,
    plan,
    report,
    serves,
    state,
)

UNHEALTHY = "autoscaling.SetInstanceHealth"

pytestmark = [pytest.mark.deep, pytest.mark.timeout(600)]  # a bound for a busy machine


@contextmanager
def fleet(nodes: int, *hooks: str, apps: int = 1, **lifecycle: Any) -> Iterator[Lab]:
    """A lab whose edge group has these terminate hooks."""
    with Lab(plan(**lifecycle)) as lab:
        lab.cloud.control("POST", "physics", {"hook_least": 3, "terminating": 0.3, "boot": 0.2})
        lab.group("app", apps)
        lab.group(EDGE, 0)
        for name in hooks:
            lab.cloud.autoscaling.put_lifecycle_hook(
                AutoScalingGroupName=EDGE,
                LifecycleHookName=name,
                LifecycleTransition=END,
                HeartbeatTimeout=300,
                DefaultResult="ABANDON",
            )
        lab.scale(EDGE, nodes)
        in_service(lab, nodes)
        lab.wait_converged(60)
        yield lab


def held(lab: Lab, node: Node) -> list[str]:
    """The hooks in which this instance waits, sorted."""
    return sorted(action["hook"] for action in lab.cloud.waiting() if action["instance"] == node.id)


def heartbeats(lab: Lab, node: Node, hook: str) -> int:
    """Heartbeats so far for a hook in which this instance waits."""
    return sum(a["heartbeats"] for a in lab.cloud.waiting() if (a["instance"], a["hook"]) == (node.id, hook))


def test_the_hook_of_somebody_else_is_left_alone_where_ours_are_named() -> None:
    with fleet(3, "backup", "gone", hooks=["gone"]) as lab:
        node = in_service(lab, 3)[0]
        leave(lab, node)
        lab.wait_until(lambda: held(lab, node) == ["backup", "gone"], 60, "both hooks")
        lab.wait_until(lambda: held(lab, node) == ["backup"], 90, "its own hook to be completed")
        lab.wait_until(lambda: waiting(node) == "Auto Scaling to go on", 60, "it to have said its word")
        assert (heartbeats(lab, node, "backup"), state(lab, node.id)) == (0, "Terminating:Wait")
        lab.cloud.autoscaling.complete_lifecycle_action(  # its owner
            AutoScalingGroupName=EDGE, LifecycleHookName="backup", InstanceId=node.id, LifecycleActionResult="CONTINUE"
        )
        lab.wait_until(lambda: state(lab, node.id) == "", 60, "the node to go")
        # control: the same hooks, none named
        lab.plan.extra["lifecycle"].pop("hooks")
        lab.apply()
        other = in_service(lab, 2)[0]
        leave(lab, other)
        lab.wait_until(lambda: state(lab, other.id) == "", 90, "the other node to go, by its own word for both")


def waiting(node: Node) -> str:
    """What its hooks' side waits for."""
    told = report(node).get("life")
    return str(told["waiting"]) if told else ""


def test_a_node_that_cannot_serve_is_replaced_and_one_that_leaves_or_is_alone_does_not_ask() -> None:
    with fleet(2, "gone", unhealthy_after="4s", drain={"quiet": "1s", "max": "8s"}) as lab:
        sick, other = in_service(lab, 2)
        leave(lab, other)
        other.fail()  # it leaves already: its end is decided
        lab.wait_until(lambda: state(lab, other.id) == "", 90, "the leaving node to go, its drain over")
        assert lab.cloud.calls().get(UNHEALTHY, 0) == 0
        sick.fail()  # alone: who would serve while it is replaced?
        lab.wait_until(lambda: mute(sick), 60, "its agent to see that HAProxy is gone")
        since = last_pass(sick)
        lab.wait_until(lambda: last_pass(sick) > since + 6, 60, "its patience to be over")
        assert lab.cloud.calls().get(UNHEALTHY, 0) == 0
        lab.scale(EDGE, 2)
        fresh = next(node for node in in_service(lab, 2) if node is not sick)
        lab.wait_until(lambda: state(lab, sick.id) != "InService", 90, "Auto Scaling to take it out")
        told = "asked Auto Scaling to replace this instance: HAProxy has not answered for"
        lab.wait_until(lambda: told in sick.agent_log(), 60, "it to be told")
        lab.wait_until(lambda: state(lab, sick.id) == "", 90, "it to go")
        lab.wait_until(lambda: len(in_service(lab, 2)) == 2, 90, "another one in its place")
        assert lab.cloud.calls()[UNHEALTHY] >= 1  # and again where Auto Scaling takes its time
        lab.wait_until(lambda: serves(fresh), 60, "the one that came to serve")


def mute(node: Node) -> bool:
    """True when its agent's last pass found no HAProxy."""
    return report(node)["proxy"] is None


def last_pass(node: Node) -> float:
    """Wall clock of its agent's last pass."""
    return float(report(node)["at"])


def test_a_rebalance_recommendation_is_told_and_drains_the_node_by_choice() -> None:
    with fleet(2) as lab:
        node, other = in_service(lab, 2)
        lab.wait_until(lambda: phase_of(node) == phase_of(other) == ["serving"], 60, "both to serve")
        lab.cloud.announce(node.id, rebalance=True)
        lab.wait_until(lambda: "EC2 recommends to move since" in node.agent_log(), 60, "it to be told")
        since = last_pass(node)
        lab.wait_until(lambda: last_pass(node) > since, 60, "a pass more")
        assert (phase_of(node), node.health()) == (["serving"], GREEN)  # ignored, as it is where nobody chose
        lab.plan.extra["lifecycle"]["rebalance"] = "drain"
        lab.apply()
        lab.wait_until(lambda: node.health() == RED, 60, "red")
        lab.wait_until(
            lambda: phase_of(node) == ["leaving", "EC2 recommends to move this spot instance"], 60, "it to say why"
        )
        assert serves(node)
        assert (phase_of(other), other.health(), state(lab, node.id)) == (["serving"], GREEN, "InService")
        lab.cloud.announce(node.id, rebalance=None)  # taken back
        lab.wait_until(lambda: phase_of(node) == ["serving"], 60, "it to serve again")
        assert node.health() == GREEN
