"""What a message of the event queue is: a reason for a pass, a pulse, none of our business, or odd. Total: any text has an answer.

A message is never believed. At worst a forged one makes a pass that was not needed; the pass reads the world for itself.
Shapes: EventBridge events (Auto Scaling and EC2 user guides), notifications of hooks and groups (Auto Scaling user guide), each as
it is or inside an SNS envelope (SNS developer guide, fan-out to SQS).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

LONGEST = 262144  # characters; no event of AWS is near it, and nothing longer is parsed

_TEST = "autoscaling:TEST_NOTIFICATION"
_OF_GROUPS = {  # EventBridge's detail-type, or a notification's Event or LifecycleTransition -> the reason's word
    "EC2 Instance-launch Lifecycle Action": "comes",
    "EC2 Instance-terminate Lifecycle Action": "leaves",
    "EC2 Instance Launch Successful": "came",
    "EC2 Instance Launch Unsuccessful": "could not come",
    "EC2 Instance Terminate Successful": "left",
    "EC2 Instance Terminate Unsuccessful": "could not leave",
    "autoscaling:EC2_INSTANCE_LAUNCHING": "comes",
    "autoscaling:EC2_INSTANCE_TERMINATING": "leaves",
    "autoscaling:EC2_INSTANCE_LAUNCH": "came",
    "autoscaling:EC2_INSTANCE_LAUNCH_ERROR": "could not come",
    "autoscaling:EC2_INSTANCE_TERMINATE": "left",
    "autoscaling:EC2_INSTANCE_TERMINATE_ERROR": "could not leave",
}
_OF_INSTANCES = {  # EventBridge's detail-type of EC2's own events
    "EC2 Spot Instance Interruption Warning": "spot notice",
    "EC2 Instance Rebalance Recommendation": "rebalance recommendation",
    "EC2 Instance State-change Notification": "other state",
}


Kind = Literal["wake", "pulse", "aside", "poison", "forged"]  # of a message


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose events are ours. None: anybody's."""

    account: str = ""  # of this node, twelve digits; "" while that is not known
    groups: frozenset[str] | None = None  # names of the groups that this node reads
    instances: frozenset[str] | None = None  # ids of this node and of those it knows


@dataclass(frozen=True, slots=True)
class Heard:
    """The judgement of one message, or a fault of the queue. ``text`` is one line: the reason for a pass, or why there is none."""

    kind: Kind | Literal["fault"]
    text: str

    @property
    def odd(self) -> bool:
        """True for what somebody should look at."""
        return self.kind in {"poison", "forged", "fault"}


def heard(body: str, scope: Scope) -> Heard:
    """Judge a message.

    Args:
        body: of the message, whoever sent it.
        scope: whose events count.
    """
    message = _object(body)
    if isinstance(message, Heard):
        return message
    inner, topic = message.get("Message"), message.get("TopicArn")
    if message.get("Type") == "Notification" and isinstance(inner, str):
        if scope.account and (not isinstance(topic, str) or f":{scope.account}:" not in topic):
            return Heard("forged", f"forged: sent by the topic {_shown(topic)}, which is none of this account")
        message = _object(inner)
        if isinstance(message, Heard):
            return message
    if "detail-type" in message:
        return _event(message, scope)
    return _notification(message, scope)


def _event(message: Mapping[str, object], scope: Scope) -> Heard:
    """One of EventBridge."""
    kind, source, detail = message["detail-type"], message.get("source"), message.get("detail")
    if not isinstance(kind, str) or not isinstance(detail, dict):
        return Heard("poison", f"poison: the event {_shown(kind)} has no detail")
    if foreign := _foreign_account(message.get("account"), scope):
        return foreign
    if source == "aws.autoscaling" and kind in _OF_GROUPS:
        return _of_group(_OF_GROUPS[kind], detail.get("AutoScalingGroupName"), scope)
    if source == "aws.ec2" and kind in _OF_INSTANCES:
        instance = detail.get("instance-id")
        if scope.instances is not None and not (isinstance(instance, str) and instance in scope.instances):
            return Heard("aside", f"{_OF_INSTANCES[kind]} of instance {_shown(instance)}, which is none of ours")
        return Heard("wake", f"event: {_OF_INSTANCES[kind]}")
    if source == "aws.events" and kind == "Scheduled Event":
        return Heard("pulse", "events come")
    return Heard("aside", f"{_shown(kind)} of {_shown(source)} wakes nobody")


def _notification(message: Mapping[str, object], scope: Scope) -> Heard:
    """One of a hook or of a group, sent by Auto Scaling itself."""
    kind = message.get("Event") or message.get("LifecycleTransition")
    if kind == _TEST:
        return Heard("aside", "a test notification")
    if not isinstance(kind, str) or kind not in _OF_GROUPS:
        return Heard(
            "poison", f"poison: neither an event nor a notification, with {_shown(', '.join(sorted(message)))}"
        )
    if foreign := _foreign_account(message.get("AccountId"), scope):
        return foreign
    return _of_group(_OF_GROUPS[kind], message.get("AutoScalingGroupName"), scope)


def _of_group(what: str, group: object, scope: Scope) -> Heard:
    """An event of a group: its instances are many, so the reason names the group alone, and a burst is few reasons."""
    if not isinstance(group, str) or not group:
        return Heard("poison", f"poison: an instance {what}, of no group")
    if scope.groups is not None and group not in scope.groups:
        return Heard("aside", f"an instance {what} in {_shown(group)}, which is none of our groups")
    return Heard("wake", f"event: {_shown(group)} {what}")


def _foreign_account(account: object, scope: Scope) -> Heard | None:
    if not scope.account or account == scope.account:
        return None
    return Heard("forged", f"forged: of account {_shown(account)}, and this node is of {scope.account}")


def _object(text: str) -> dict[str, object] | Heard:
    """The JSON object of a text, or why it is none."""
    if len(text) > LONGEST:
        return Heard("poison", f"poison: {len(text)} characters")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return Heard("poison", f"poison: not JSON: {_shown(text)}")
    return found if isinstance(found, dict) else Heard("poison", f"poison: not an object: {_shown(text)}")


def _shown(value: object) -> str:
    """A value for one line of a log."""
    text = value if isinstance(value, str) else f"a {type(value).__name__}"
    plain = "".join(c if c.isprintable() else " " for c in text[:200])
    return plain if len(plain) <= 80 else f"{plain[:77]}..."
