"""What an operator makes in AWS once per fleet: the lifecycle hooks of the nodes' group, and the way that events take to the nodes."""

import json
from collections.abc import Iterable
from typing import Any

import boto3

from hafleet.core.queues import dead_letters, dead_letters_policy, place_of, rules, topic_name, topic_policy
from hafleet.lab.cloud import REGION, Cloud
from hafleet.lab.plan import EDGE, FLEET, JOIN_HOOK, LEAVE_HOOK, SIZES, Plan


def make_hooks(cloud: Cloud) -> None:
    """The nodes' own hooks: a launch that nobody completes is given up, an end goes on."""
    cloud.add_hook(EDGE, JOIN_HOOK, "LAUNCHING", "ABANDON")
    cloud.add_hook(EDGE, LEAVE_HOOK, "TERMINATING", "CONTINUE")


def make_groups(cloud: Cloud, plan: Plan) -> None:
    """The demo's groups beside the nodes' own: events find their way first, and servers get the hooks that the plan names."""
    if "events" in plan.extra:
        make_events(cloud, {EDGE, *SIZES})
    for name, size in SIZES.items():
        cloud.create_group(name, size, {})
    for source in (source for backend in plan.backends for source in backend["sources"] if "terminate_hook" in source):
        cloud.add_hook(source["asg"], source["terminate_hook"], "TERMINATING", "CONTINUE")


def make_events(cloud: Cloud, groups: Iterable[str]) -> None:
    """The fleet's topic and dead-letter queue, and EventBridge rules that send what befalls these groups to the topic."""
    session = boto3.Session("lab", "lab", region_name=REGION)
    sns, sqs = session.client("sns", endpoint_url=cloud.url), session.client("sqs", endpoint_url=cloud.url)
    bridge: Any = session.client("events", endpoint_url=cloud.url)
    topic = sns.create_topic(Name=topic_name(FLEET))["TopicArn"]
    place = place_of(topic)
    policy = json.dumps(topic_policy(FLEET, place))
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    dead_policy = json.dumps(dead_letters_policy(FLEET, place))
    sqs.create_queue(QueueName=dead_letters(FLEET), Attributes={"Policy": dead_policy})
    for name, pattern in rules(FLEET, frozenset(groups)).items():
        bridge.put_rule(Name=name, EventPattern=json.dumps(pattern))
        bridge.put_targets(Rule=name, Targets=[{"Id": "topic", "Arn": topic}])
