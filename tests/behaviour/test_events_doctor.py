"""``hafleet doctor`` on a node that hears events and attends to hooks: what it finds, and that looking changes nothing."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hafleet.core.queues import dead_letters, pulse_rule, queue_name
from hafleet.lab.cloud import NODES
from hafleet.lab.fleet import Lab
from hafleet.lab.plan import EDGE, FLEET
from hafleet.lab.processes import wait_until
from tests.behaviour.event_stage import END, Post, hearing, metrics

pytestmark = pytest.mark.deep


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Lab, Post]]:
    with hearing({"queue": "auto"}) as (lab, post):
        post.wait_heard(lab)
        yield lab, post


def doctor(lab: Lab) -> dict[str, list[dict[str, Any]]]:
    """What it finds, by what it is about."""
    rows = json.loads(lab.nodes[0].command("doctor", "--json").stdout)["findings"]
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["about"], []).append(row)
    return found


def states(found: dict[str, list[dict[str, Any]]], about: str) -> list[str]:
    return [row["state"] for row in found.get(about, [])]


def test_a_node_that_hears_is_found_well_and_looking_changes_nothing(stage: tuple[Lab, Post]) -> None:
    lab, post = stage
    lab.cloud.autoscaling.put_lifecycle_hook(
        AutoScalingGroupName=EDGE, LifecycleHookName="leaves", LifecycleTransition=END, HeartbeatTimeout=60
    )
    lab.cloud.control("POST", "physics", {"minute": 1})
    wait_until(lambda: metrics(lab.nodes[0])["hafleet_events_proven"] == 1, 90, "a pulse")
    lab.cloud.control("DELETE", "calls")
    found = doctor(lab)
    for about in ("event queue", "event queues of the fleet", "events come"):
        assert states(found, about) == ["ok"], found
    for about in ("lifecycle completion", "lifecycle heartbeat"):
        assert states(found, about) == ["ok"] and "allowed" in found[about][0]["what"]
    assert states(found, "lifecycle hooks") == ["ok", "warn"]  # one to leave by, none to join by
    assert (
        "leaves (terminate)" in found["lifecycle hooks"][0]["what"] and "launch" in found["lifecycle hooks"][1]["what"]
    )
    writes = ("sqs.Create", "sqs.Set", "sqs.DeleteQueue", "sqs.Tag", "sns.Subscribe", "sns.Unsubscribe")
    assert not [name for name in lab.cloud.calls() if name.startswith(writes)]
    assert post.subscribed() == {queue_name(FLEET, lab.nodes[0].id)}


def test_what_is_missing_is_named(stage: tuple[Lab, Post]) -> None:
    lab, post = stage
    post.sqs.delete_queue(QueueUrl=post.sqs.get_queue_url(QueueName=dead_letters(FLEET))["QueueUrl"])
    denied = [
        lab.cloud.fault("denied", operation=name, caller=NODES) for name in ("CompleteLifecycleAction", "ListQueues")
    ]
    found = doctor(lab)
    assert states(found, "lifecycle completion") == ["fail"] and states(found, "lifecycle heartbeat") == ["ok"]
    assert "autoscaling:CompleteLifecycleAction" in found["lifecycle completion"][0]["what"]
    assert states(found, "event queues of the fleet") == ["fail"]
    for fault in denied:
        lab.cloud.heal(fault)
    post.sns.delete_topic(TopicArn=post.topic)
    agent = lab.nodes[0].agent
    assert agent is not None
    agent.stop()
    found = doctor(lab)
    assert (
        states(found, "event dead letters") == ["warn"]
        and dead_letters(FLEET) in found["event dead letters"][0]["what"]
    )
    assert states(found, "event queue") == ["fail"]  # there is no topic
    assert states(found, "events come") == ["hint"]
    agent.start()
    wait_until(lambda: "hafleet_events_proven" in _told(lab), 60, "the agent")
    found = doctor(lab)
    assert states(found, "events come") == ["warn"] and pulse_rule(FLEET) in found["events come"][0]["fix"]


def _told(lab: Lab) -> dict[str, float]:
    try:
        return metrics(lab.nodes[0])
    except OSError:
        return {}
