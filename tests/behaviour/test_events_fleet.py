"""A fleet that hears events: its passes are an hour apart, and yet it follows. Real agents, HAProxy, SQS, SNS and EventBridge."""

import time
from contextlib import AbstractContextManager
from typing import Any

import pytest

from hafleet.core.queues import dead_letters, queue_name
from hafleet.lab.fleet import Lab
from hafleet.lab.plan import EDGE, FLEET
from hafleet.lab.processes import wait_until
from tests.behaviour.event_stage import APP, END, Post, hearing

SELDOM = 30.0  # seconds between two passes
NEVER = 3600.0  # the same, where the timer is to find nothing at all

pytestmark = pytest.mark.deep


def passes(interval: float) -> dict[str, str]:
    return {"interval": f"{interval:g}s", "settle_min": "20ms", "settle_max": "100ms"}


def fleet(events: dict[str, Any] | None, interval: float, nodes: int = 1) -> AbstractContextManager[tuple[Lab, Post]]:
    return hearing(events, nodes=nodes, passes=passes(interval))


def queues(post: Post) -> set[str]:
    return {url.rpartition("/")[2] for url in post.sqs.list_queues(QueueNamePrefix="hafleet-").get("QueueUrls", [])}


def followed(lab: Lab, desired: int) -> float:
    """Seconds until every node has what the application's group has now."""
    began = time.monotonic()
    lab.scale(APP, desired)
    wait_until(lambda: len(lab.members(APP)) == desired, 60, f"{desired} application servers")
    lab.wait_converged(120)
    return time.monotonic() - began


def test_a_fleet_follows_events_and_leaves_no_queue() -> None:
    with fleet({"queue": "auto"}, NEVER, nodes=2) as (lab, post):
        own = {queue_name(FLEET, node.id) for node in lab.nodes}
        wait_until(lambda: post.subscribed() == own, 60, "both queues to be subscribed")
        assert queues(post) == own | {dead_letters(FLEET)}
        times = [followed(lab, desired) for desired in (2, 3, 1)]
        print(f"followed in {', '.join(f'{taken:.1f}' for taken in times)} s at passes {NEVER:g} s apart")
        lab.cloud.autoscaling.put_lifecycle_hook(
            AutoScalingGroupName=EDGE, LifecycleHookName="gone", LifecycleTransition=END, HeartbeatTimeout=60
        )
        lab.scale(EDGE, 1)
        wait_until(lambda: len(queues(post)) == 2, 60, "the leaving node to take its queue away")
        wait_until(lambda: len(lab.members(EDGE, in_service=False)) == 1, 60, "the node to be gone")
        wait_until(lambda: len(lab.nodes) == 1, 60, "its machine to be gone")
        assert post.subscribed() == {queue_name(FLEET, node.id) for node in lab.nodes} & own


def test_control_without_events_the_timer_finds_it_and_imds_tells_of_an_end() -> None:
    with fleet(None, SELDOM) as (lab, post):
        assert queues(post) == {dead_letters(FLEET)}
        times = [followed(lab, desired) for desired in (2, 1)]
        assert sum(times) > 20  # the second change waits for a whole interval
        node = lab.nodes[0]
        assert node.health() == 200
        before = node.config.read_text()
        lab.plan.extra["passes"] = passes(NEVER)  # from here on the timer tells of nothing
        lab.apply()
        wait_until(lambda: node.config.read_text() != before, 60, "a pass by the new settings, which its file names")
        began = time.monotonic()
        lab.cloud.spot_interrupt(node.id, seconds=600)
        wait_until(lambda: node.health() == 503, 60, "the health endpoint to turn red", every=0.02)
        print(f"red {time.monotonic() - began:.1f} s after the notice, of IMDS alone")  # figures: tests/bench/events.py
