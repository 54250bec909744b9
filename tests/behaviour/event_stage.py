"""Where a test or the bench lets a fleet hear events: a lab with the topic, the rules and the queues that its operator makes once."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import boto3

from hafleet.core.queues import PULSE, dead_letters, pulse_rule, queue_name, rules, topic_name
from hafleet.lab.cloud import REGION
from hafleet.lab.fleet import Lab
from hafleet.lab.node import STATUS_PORT, Node
from hafleet.lab.plan import EDGE, FLEET, Plan
from hafleet.lab.processes import wait_until
from hafleet.lab.servers import PORT

APP = "app"  # the group behind the backend
SITE = {"name": "site", "port": PORT, "sources": [{"asg": APP}], "drain": "0s"}
ACCOUNT = "123456789012"
END = "autoscaling:EC2_INSTANCE_TERMINATING"
QUICK = {"terminating": 0.2, "dead": 0.2, "boot": 0.2, "quarantine": 0, "hook_least": 3}


@dataclass(frozen=True)
class Post:
    """The operator's hand in SQS, SNS and EventBridge."""

    sqs: Any
    sns: Any
    bridge: Any

    @classmethod
    def of(cls, lab: Lab) -> "Post":
        """Clients of a lab's AWS."""
        session = boto3.session.Session("lab", "lab", region_name=REGION)
        return cls(*(session.client(name, endpoint_url=lab.cloud.url) for name in ("sqs", "sns", "events")))

    @property
    def topic(self) -> str:
        """The ARN of the fleet's topic."""
        return f"arn:aws:sns:{REGION}:{ACCOUNT}:{topic_name(FLEET)}"

    def make(self) -> None:
        """What the operator makes once per fleet."""
        self.sns.create_topic(Name=topic_name(FLEET))
        self.sqs.create_queue(QueueName=dead_letters(FLEET))
        for name, rule in rules(FLEET, frozenset({EDGE, APP})).items():
            self.bridge.put_rule(Name=name, EventPattern=json.dumps(rule))
            self.bridge.put_targets(Rule=name, Targets=[{"Id": "topic", "Arn": self.topic}])
        self.bridge.put_rule(Name=pulse_rule(FLEET), ScheduleExpression=PULSE)
        self.bridge.put_targets(Rule=pulse_rule(FLEET), Targets=[{"Id": "topic", "Arn": self.topic}])

    def queue(self, node: Node) -> str:
        """The URL of a node's own queue."""
        return str(self.sqs.get_queue_url(QueueName=queue_name(FLEET, node.id))["QueueUrl"])

    def left(self, url: str) -> int:
        """Messages in a queue, those included that somebody has received and not deleted."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(told[name]) for name in names)

    def subscribed(self) -> set[str]:
        """The names of the queues that hang on the topic."""
        found = self.sns.list_subscriptions_by_topic(TopicArn=self.topic)["Subscriptions"]
        return {item["Endpoint"].rpartition(":")[2] for item in found}

    def wait_heard(self, lab: Lab) -> None:
        """Wait until the queue of every node hangs on the topic."""
        own = {queue_name(FLEET, node.id) for node in lab.nodes}
        wait_until(lambda: self.subscribed() >= own, 60, "the nodes' queues")


class Witness:
    """A queue of the test's own on the fleet's topic: it tells when an event came."""

    def __init__(self, post: Post) -> None:
        self._sqs = post.sqs
        self._url = post.sqs.create_queue(QueueName="witness")["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:witness"
        post.sns.subscribe(TopicArn=post.topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})

    def sent(self, instance: str, kind: str) -> float:
        """Wall clock at which SQS took the event of this kind for this instance. Raises TimeoutError."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            answer = self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=5, AttributeNames=["SentTimestamp"]
            )
            for message in answer.get("Messages", []):
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
                body = json.loads(message["Body"])
                if body["detail-type"] == kind and body["detail"].get("EC2InstanceId") == instance:
                    return int(message["Attributes"]["SentTimestamp"]) / 1000
        raise TimeoutError(f"no {kind} of {instance}")


@contextmanager
def hearing(
    events: dict[str, Any] | None, *, apps: int = 1, nodes: int = 1, binary: str = "haproxy", **sections: Any
) -> Iterator[tuple[Lab, Post]]:
    """A fleet that serves, with the things that its operator makes; ``sections`` are of hafleet.yaml."""
    extra: dict[str, Any] = {"lifecycle": {"drain": {"quiet": "1s", "max": "20s"}, "peers_timeout": "0s"}, **sections}
    if events is not None:
        extra["events"] = events
    with Lab(Plan(backends=[SITE], default_backend="site", extra=extra), binary=binary) as lab:
        lab.cloud.control("POST", "physics", QUICK)
        post = Post.of(lab)
        post.make()
        lab.group(APP, apps)
        lab.wait_until(lambda: len(lab.members(APP)) == apps, 60, "the servers")  # a node's first pass finds them
        lab.start_nodes(nodes)
        lab.wait_converged(120)
        yield lab, post


def asked(lab: Lab) -> int:
    """Calls to Auto Scaling and EC2 so far. The lab itself looks by another door."""
    return sum(count for name, count in lab.cloud.calls().items() if name.startswith(("autoscaling.", "ec2.")))


def metrics(node: Node) -> dict[str, float]:
    """What the agent of a node tells of itself: ``name{label="x"}`` -> value."""
    connection = HTTPConnection(node.address, STATUS_PORT, timeout=20)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def counted(node: Node, name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(value for key, value in metrics(node).items() if key.partition("{")[0] == name)
