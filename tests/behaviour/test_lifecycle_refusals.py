"""Auto Scaling refuses a leaving node's calls, its hook goes meanwhile, IMDS is broken at a start: no crash loop, traffic stays off or on."""

import pytest

from hafleet.lab.cloud import NODES
from hafleet.lab.fleet import Lab
from hafleet.lab.node import Node
from hafleet.lab.plan import EDGE
from tests.behaviour.test_lifecycle_node import (
    GREEN,
    RED,
    fleet,
    in_service,
    kill,
    leave,
    phase_of,
    plan,
    serves,
    state,
)

pytestmark = pytest.mark.deep

BEAT, COMPLETE = "RecordLifecycleActionHeartbeat", "CompleteLifecycleAction"


def gone(lab: Lab, node: Node) -> None:
    lab.wait_until(lambda: state(lab, node.id) == "", 180, "the node to go")


def impatient(lab: Lab, seconds: int) -> None:
    """From now on the terminate hook waits so long between heartbeats. Not so the launch hook: agents take time to start."""
    lab.cloud.autoscaling.put_lifecycle_hook(
        AutoScalingGroupName=EDGE, LifecycleHookName="gone", HeartbeatTimeout=seconds
    )


def refusals(lab: Lab, count: int) -> None:
    """Wait for so many more."""
    before = lab.cloud.faulted()
    lab.wait_until(lambda: lab.cloud.faulted() >= before + count, 90, f"{count} refusals")


def test_a_leaving_node_whose_calls_are_refused_stays_off_and_ends_once_they_are_taken() -> None:
    with fleet(plan(), nodes=2, timeout=600) as lab:  # it waits on without a heartbeat
        node, other = in_service(lab, 2)
        faults = [lab.cloud.fault("denied", operation=name, caller=NODES) for name in (BEAT, COMPLETE)]
        leave(lab, node)
        lab.wait_until(lambda: node.health() == RED, 60, "red")
        refusals(lab, 3)
        assert node.agent is not None
        assert node.agent.starts == 1
        kill(lab, node.agent)
        refusals(lab, 2)
        assert (state(lab, node.id), node.health(), phase_of(node)[0]) == ("Terminating:Wait", RED, "leaving")
        assert serves(node) and serves(other)
        for fault in faults:
            lab.cloud.heal(fault)
        gone(lab, node)
        assert node.agent.starts == 2
        assert "Traceback" not in node.agent_log()
        assert other.health() == GREEN


def test_a_node_that_completes_too_late_is_gone_by_the_hooks_own_default() -> None:
    with fleet(plan(), nodes=2) as lab:
        node, other = in_service(lab, 2)
        impatient(lab, 15)
        for name in (BEAT, COMPLETE):
            lab.cloud.fault("throttle", operation=name, caller=NODES)
        leave(lab, node)
        lab.wait_until(lambda: node.health() == RED, 60, "red")
        seen: set[int] = set()

        def ends() -> bool:
            if node in lab.nodes:
                seen.add(node.health())
            return state(lab, node.id) == ""

        lab.wait_until(ends, 90, "the node to go")
        assert seen <= {RED, 0}
        assert node.agent is not None and node.agent.starts == 1
        assert "Traceback" not in node.agent_log()
        assert other.health() == GREEN


def test_a_terminate_hook_that_is_deleted_while_the_node_drains_ends_the_matter() -> None:
    with fleet(plan(drain={"quiet": "5m", "max": "10m"}), nodes=2) as lab:
        node, other = in_service(lab, 2)
        impatient(lab, 15)
        leave(lab, node)
        lab.wait_until(lambda: any(action["heartbeats"] for action in lab.cloud.waiting()), 60, "a heartbeat")
        assert node.health() == RED
        lab.cloud.control("POST", "physics", {"transit": 15.0})  # time for a heartbeat that meets no hook
        lab.cloud.autoscaling.delete_lifecycle_hook(AutoScalingGroupName=EDGE, LifecycleHookName="gone")
        lab.wait_until(lambda: state(lab, node.id) == "Terminating:Proceed", 60, "the end of the wait")
        assert node.health() == RED
        gone(lab, node)
        assert node.agent is not None and node.agent.starts == 1
        assert "Traceback" not in node.agent_log()
        assert other.health() == GREEN


def test_agents_that_start_with_a_broken_imds_know_who_they_are_and_follow_the_fleet() -> None:
    with fleet(plan(), nodes=4) as lab:
        nodes = in_service(lab, 4)
        for node, fault in zip(nodes, ("refuse", "unauthorized", "hang", "v1"), strict=True):
            node.imds.break_(fault)
            assert node.agent is not None
            kill(lab, node.agent)
        lab.scale("app", 3)
        lab.wait_until(
            lambda: all(len(node.in_rotation("site")) == 3 for node in nodes), 90, "the change of the application"
        )
        for node in nodes:
            assert phase_of(node) == ["serving"]
            assert node.health() == GREEN
            assert "Traceback" not in node.agent_log()
            assert node.agent is not None and node.agent.starts == 2
