"""A node's own event queue: its name, its settings, its policy; and which queues outlived their node.

The operator makes, once per fleet, the topic ``hafleet-<fleet>``, the dead-letter queue ``hafleet-<fleet>-dead`` and rules of
EventBridge that send to the topic (``rules``). A node makes its own queue, and subscribes it to that topic: nothing of another
node's, and no rule.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hafleet.core.sources import INSTANCE_ID

QUEUE_NAME = 80  # characters at most (SQS)
RETENTION = 300  # seconds; what is older wakes nobody for anything
HIDDEN = 30  # seconds in which a message that was received is not given out again
TRIES = 5  # receives after which a message goes to the dead-letter queue: its reader died each time
POLL = 20  # seconds of a long poll; the longest that SQS grants
PULSE = "rate(1 minute)"  # schedule of the rule that proves to every node that events come
PROOFS_APART = 600.0  # seconds between two looks that both found no instance

_STEM, _DIGEST = 50, 8
_GONE = frozenset({"terminated", "shutting-down"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a queue lies, by its ARN."""

    partition: str  # aws, aws-cn, aws-us-gov
    region: str
    account: str

    def arn(self, service: str, name: str) -> str:
        """The ARN of something else at the same place."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{name}"


def place_of(arn: str) -> Place:
    """The place of an ARN. Raises ValueError when it is none."""
    parts = arn.split(":")
    if len(parts) != 6 or parts[0] != "arn" or not all(parts):
        raise ValueError(f"{arn[:120]!r} is not an ARN")
    return Place(parts[1], parts[3], parts[4])


def account_of(url: str) -> str:
    """The account in a queue's URL, ``https://sqs.<region>.amazonaws.com/<account>/<name>``; "" when it names none."""
    parts = url.split("/")
    return parts[-2] if len(parts) > 4 and re.fullmatch("[0-9]{12}", parts[-2]) else ""


def topic_name(fleet: str) -> str:
    """The fleet's topic."""
    return f"hafleet-{fleet}"


def prefix(fleet: str) -> str:
    """How the names of all queues of a fleet begin. A long name of a fleet is cut, and told apart by a digest."""
    stem = fleet if len(fleet) <= _STEM else f"{fleet[: _STEM - _DIGEST - 1]}-{_digest(fleet)}"
    return f"hafleet-{stem}-"


def queue_name(fleet: str, node: str) -> str:
    """A node's own queue."""
    name = prefix(fleet) + node
    return name if len(name) <= QUEUE_NAME else prefix(fleet) + _digest(node)


def dead_letters(fleet: str) -> str:
    """The fleet's queue of messages that nobody could finish reading."""
    return f"{prefix(fleet)}dead"


def node_of(fleet: str, name: str) -> str:
    """The instance whose queue this is; "" for the dead-letter queue, and for another fleet's whose name only begins alike."""
    rest = name.removeprefix(prefix(fleet))
    return rest if rest != name and INSTANCE_ID.fullmatch(rest) else ""


def attributes(fleet: str, name: str, place: Place) -> dict[str, str]:
    """A queue's settings, as SetQueueAttributes takes them."""
    redrive = {"deadLetterTargetArn": place.arn("sqs", dead_letters(fleet)), "maxReceiveCount": str(TRIES)}
    return {
        "MessageRetentionPeriod": str(RETENTION),
        "VisibilityTimeout": str(HIDDEN),
        "ReceiveMessageWaitTimeSeconds": str(POLL),
        "SqsManagedSseEnabled": "true",
        "Policy": json.dumps(policy(fleet, name, place), sort_keys=True),
        "RedrivePolicy": json.dumps(redrive, sort_keys=True),
    }


def policy(fleet: str, name: str, place: Place) -> dict[str, object]:
    """Who may send to a node's queue: the fleet's topic, and nobody else."""
    topic = place.arn("sns", topic_name(fleet))
    return {
        "Version": "2012-10-17",
        "Id": f"hafleet {fleet}",
        "Statement": [
            {
                "Sid": "TheFleetsTopicSends",
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": place.arn("sqs", name),
                "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
            }
        ],
    }


def topic_policy(fleet: str, place: Place) -> dict[str, object]:
    """Who may publish to the fleet's topic: EventBridge.

    Without a condition: EventBridge's guide says that a topic's policy takes none for it, and SNS's that it knows neither
    aws:SourceArn nor aws:SourceAccount there. With one, AWS would deliver nothing. What is forged so costs a pass, no more.
    """
    return {
        "Version": "2012-10-17",
        "Id": f"hafleet {fleet}",
        "Statement": [
            {
                "Sid": "RulesPublish",
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sns:Publish",
                "Resource": place.arn("sns", topic_name(fleet)),
            }
        ],
    }


def dead_letters_policy(fleet: str, place: Place) -> dict[str, object]:
    """Nobody reads or writes dead letters unencrypted. SQS itself moves them there, and needs no leave to."""
    return {
        "Version": "2012-10-17",
        "Id": f"hafleet {fleet}",
        "Statement": [
            {
                "Sid": "OnlyEncrypted",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "sqs:*",
                "Resource": place.arn("sqs", dead_letters(fleet)),
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }


def rules(fleet: str, groups: frozenset[str]) -> dict[str, dict[str, object]]:
    """The rules of EventBridge by name, each with its event pattern: instances of these groups, and EC2's own events.

    Args:
        fleet: its name.
        groups: every group that the fleet's settings name, and its own; empty where some are found by tag: all groups then.
    """
    named: dict[str, object] = {"detail": {"AutoScalingGroupName": sorted(groups)}} if groups else {}
    return {
        f"hafleet-{fleet}-groups": named
        | {
            "source": ["aws.autoscaling"],
            "detail-type": [
                "EC2 Instance-launch Lifecycle Action",
                "EC2 Instance-terminate Lifecycle Action",
                "EC2 Instance Launch Successful",
                "EC2 Instance Terminate Successful",
            ],
        },
        f"hafleet-{fleet}-spot": {
            "source": ["aws.ec2"],
            "detail-type": ["EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation"],
        },
        # Auto Scaling tells of an end before it comes only where a hook waits for it.
        f"hafleet-{fleet}-ends": {
            "source": ["aws.ec2"],
            "detail-type": ["EC2 Instance State-change Notification"],
            "detail": {"state": ["shutting-down", "stopping"]},
        },
    }


def pulse_rule(fleet: str) -> str:
    """The rule of EventBridge whose schedule is ``PULSE`` and that sends to the topic as the others do."""
    return f"hafleet-{fleet}-pulse"


def orphans(
    owners: frozenset[str], states: Mapping[str, str], suspects: Mapping[str, float], at: float
) -> tuple[frozenset[str], Mapping[str, float]]:
    """The instances whose things may go, and those suspected of being gone with the time of the first look.

    EC2's word ``terminated`` is proof. Not found is proof when it was found so twice, apart: EC2 forgets an instance after about
    an hour, and does not know a new one for some seconds.

    Args:
        owners: instance ids that things are named after.
        states: EC2's answer for all of them; absent: EC2 does not know it.
        suspects: what the last call returned.
        at: wall clock seconds.
    """
    dead = {owner for owner in owners if states.get(owner) in _GONE}
    unheard = {owner: min(suspects.get(owner, at), at) for owner in owners - states.keys()}
    dead |= {owner for owner, since in unheard.items() if at - since >= PROOFS_APART}
    return frozenset(dead), {owner: since for owner, since in unheard.items() if owner not in dead}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
