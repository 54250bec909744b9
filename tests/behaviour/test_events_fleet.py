"""A fleet that hears events: its passes are an hour apart, and yet it follows. Real agents, HAProxy, SQS, SNS and EventBridge."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from hafleet.core.queues import dead_letters, queue_name, rules, topic_name
from hafleet.lab.cloud import REGION
from hafleet.lab.fleet import Lab
from hafleet.lab.plan import EDGE, FLEET, Plan
from hafleet.lab.processes import wait_until
from hafleet.lab.servers import PORT

SITE = {"name": "site", "port": PORT, "sources": [{"asg": "app"}], "drain": "0s"}
SELDOM = "30s"  # between two passes
END = "autoscaling:EC2_INSTANCE_TERMINATING"

pytestmark = pytest.mark.deep


def clients(lab: Lab) -> tuple[Any, Any, Any]:
    """The operator's clients of SQS, SNS and EventBridge."""
    session = boto3.session.Session("lab", "lab", region_name=REGION)
    sqs, sns, events = (session.client(name, endpoint_url=lab.cloud.url) for name in ("sqs", "sns", "events"))
    return sqs, sns, events


@contextmanager
def fleet(events: dict[str, str] | None, nodes: int = 1) -> Iterator[Lab]:
    """A fleet with the things that its operator makes."""
    extra: dict[str, Any] = {
        "passes": {"interval": SELDOM, "settle_min": "20ms", "settle_max": "100ms"},
        "lifecycle": {"drain": {"quiet": "1s", "max": "20s"}, "peers_timeout": "0s"},
    }
    if events is not None:
        extra["events"] = events
    with Lab(Plan(backends=[SITE], default_backend="site", extra=extra)) as lab:
        lab.cloud.control("POST", "physics", {"hook_least": 3, "terminating": 0.3, "boot": 0.2})
        sqs, sns, bridge = clients(lab)
        topic = sns.create_topic(Name=topic_name(FLEET))["TopicArn"]
        sqs.create_queue(QueueName=dead_letters(FLEET))
        for name, pattern in rules(FLEET, frozenset({EDGE, "app"})).items():
            bridge.put_rule(Name=name, EventPattern=json.dumps(pattern))
            bridge.put_targets(Rule=name, Targets=[{"Id": "topic", "Arn": topic}])
        lab.group("app", 1)
        lab.start_nodes(nodes)
        lab.wait_converged(60)
        yield lab


def queues(lab: Lab) -> set[str]:
    sqs, _, _ = clients(lab)
    return {url.rpartition("/")[2] for url in sqs.list_queues(QueueNamePrefix="hafleet-").get("QueueUrls", [])}


def subscribed(lab: Lab) -> set[str]:
    _, sns, _ = clients(lab)
    topic = f"arn:aws:sns:{REGION}:123456789012:{topic_name(FLEET)}"
    return {
        item["Endpoint"].rpartition(":")[2] for item in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    }


def followed(lab: Lab, desired: int) -> float:
    """Seconds until every node has what the application's group has now."""
    began = time.monotonic()
    lab.scale("app", desired)
    wait_until(lambda: len(lab.members("app")) == desired, 20, f"{desired} application servers")
    lab.wait_converged(60)
    return time.monotonic() - began


def test_a_fleet_follows_events_and_leaves_no_queue() -> None:
    with fleet({"queue": "auto"}, nodes=2) as lab:
        own = {queue_name(FLEET, node.id) for node in lab.nodes}
        wait_until(lambda: subscribed(lab) == own, 30, "both queues to be subscribed")
        assert queues(lab) == own | {dead_letters(FLEET)}
        times = [followed(lab, desired) for desired in (2, 3, 1)]
        print(f"followed in {', '.join(f'{taken:.1f}' for taken in times)} s at passes {SELDOM} apart")
        assert sum(times) < 30  # three changes within one interval: the timer alone finds one
        lab.cloud.autoscaling.put_lifecycle_hook(
            AutoScalingGroupName=EDGE, LifecycleHookName="gone", LifecycleTransition=END, HeartbeatTimeout=60
        )
        lab.scale(EDGE, 1)
        wait_until(lambda: len(queues(lab)) == 2, 60, "the leaving node to take its queue away")
        wait_until(lambda: len(lab.members(EDGE, in_service=False)) == 1, 60, "the node to be gone")
        wait_until(lambda: len(lab.nodes) == 1, 20, "its machine to be gone")
        assert subscribed(lab) == {queue_name(FLEET, node.id) for node in lab.nodes} & own


def test_control_without_events_the_timer_finds_it() -> None:
    with fleet(None) as lab:
        assert queues(lab) == {dead_letters(FLEET)}
        times = [followed(lab, desired) for desired in (2, 1)]
        assert sum(times) > 20  # the second change waits for a whole interval
