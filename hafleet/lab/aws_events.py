"""What AWS says of instances that come and go: to SNS, SQS and EventBridge, in AWS's own texts.

Sources of the texts: Auto Scaling user guide (lifecycle hook notifications; SNS notifications; EventBridge event reference), EC2 user
guide (spot interruption notices; rebalance recommendations). Deliveries are best effort: one that fails is logged, nothing else.
"""

import copy
import json
import logging
import re
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from moto.events import models as moto_events
from moto.events.models import Rule, events_backends
from moto.events.utils import EventTemplateParser
from moto.sns.models import sns_backends
from moto.sqs.models import sqs_backends
from moto.utilities.arns import parse_arn

from hafleet.lab.aws_hooks import LAUNCHING, Action, LabHook
from hafleet.lab.aws_state import PHYSICS, LabState

log = logging.getLogger(__name__)
TEST = "autoscaling:TEST_NOTIFICATION"
LAUNCHED, LAUNCH_FAILED = "autoscaling:EC2_INSTANCE_LAUNCH", "autoscaling:EC2_INSTANCE_LAUNCH_ERROR"
ENDED, END_FAILED = "autoscaling:EC2_INSTANCE_TERMINATE", "autoscaling:EC2_INSTANCE_TERMINATE_ERROR"
TYPES = (LAUNCHED, LAUNCH_FAILED, ENDED, END_FAILED, TEST)  # of notifications
_SERVICE = "AWS Auto Scaling"
_OUTCOMES = {  # notification type -> (detail type of EventBridge, status, description)
    LAUNCHED: ("EC2 Instance Launch Successful", "InProgress", "Launching a new EC2 instance: "),
    LAUNCH_FAILED: ("EC2 Instance Launch Unsuccessful", "Failed", "Launching a new EC2 instance: "),
    ENDED: ("EC2 Instance Terminate Successful", "InProgress", "Terminating EC2 instance: "),
}


class LabRule(Rule):
    """An EventBridge rule that can have SNS topics as targets or a rate as schedule, and whose targets do not spoil each other's event."""

    def send_to_targets(self, original_event: Any, transform_input: bool = True) -> None:
        """Send the event to every target if the rule is enabled and its pattern fits; what is only scheduled has none."""
        if self.event_pattern.get_pattern() and self.event_pattern.matches_event(original_event):
            self.deliver(original_event, transform_input)

    def tick(self, now: float) -> None:
        """Send what is scheduled, if its time has come. The first comes one period after the rule was made."""
        period = _period(self.scheduled_expression or "")
        if not period:
            return
        due = vars(self).setdefault("lab_due", now + period)
        if now >= due:
            vars(self)["lab_due"] = now + period
            self.deliver(_message(self, "aws.events", "Scheduled Event", [self.arn], {}), transform_input=True)

    def deliver(self, original_event: Any, transform_input: bool) -> None:
        """Send the event to every target if the rule is enabled."""
        if self.state != "ENABLED":
            return
        for target in self.targets:
            event, arn = copy.deepcopy(original_event), parse_arn(target["Arn"])
            try:
                if arn.service == "sns":
                    _publish(target["Arn"], _shaped(target, event))
                elif arn.service == "sqs":
                    order = target.get("SqsParameters", {}).get("MessageGroupId")
                    queues = sqs_backends[arn.account][arn.region]
                    queues.send_message(arn.resource_id, _shaped(target, event), group_id=order)
                else:
                    alone = copy.copy(self)
                    alone.targets = [target]
                    Rule.send_to_targets(alone, event, transform_input)
            except Exception:  # a target that is gone, or whatever moto makes of it: AWS drops such an event too
                log.exception("EventBridge rule %s could not deliver to %s", self.name, target["Arn"])


def _period(expression: str) -> float:
    """Seconds of ``rate(1 minute)``, ``rate(5 minutes)``, hours or days; 0 for what the lab does not follow."""
    told = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    return int(told[1]) * {"minute": 1, "hour": 60, "day": 1440}[told[2]] * PHYSICS.minute if told else 0.0


def tick(account: str, region: str, now: float) -> None:
    """One step of the schedules of a region. Call it under the lock."""
    for rule in list(events_backends[account][region].event_buses["default"].rules.values()):
        if isinstance(rule, LabRule):
            rule.tick(now)


def _shaped(target: dict[str, Any], event: Any) -> str:
    """The event as this target wants it. Its time is Unix seconds in moto, ISO 8601 in AWS's texts."""
    event["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(float(event["time"])))
    received = event.pop("ingestion-time", event["time"])  # moto's own; AWS does not send it
    shape = target.get("InputTransformer")
    if shape:
        event["ingestion-time"] = received
        event = EventTemplateParser.parse(shape["InputTemplate"], shape.get("InputPathsMap", {}), event)
    return json.dumps(event)


def install() -> None:
    """Make moto build ``LabRule``."""
    if not hasattr(moto_events, "Rule"):
        raise RuntimeError("moto.events.models has no Rule any more; this lab fits another version of moto")
    vars(moto_events)["Rule"] = LabRule


# --- hooks ---


def hook_made(group: Any, hook: LabHook) -> None:
    """The test message that a new notification target of a hook gets."""
    _tell(hook.target, _test(group))


def action_began(group: Any, state: LabState, action: Action) -> None:
    """An instance waits for a hook: told to EventBridge, and to the hook's target if it has one."""
    hook = action.hook
    launch = hook.transition == LAUNCHING
    origin, destination = _way(state, launch)
    detail = {
        "LifecycleActionToken": action.token,
        "AutoScalingGroupName": group.name,
        "LifecycleHookName": hook.name,
        "EC2InstanceId": state.instance_id,
        "LifecycleTransition": hook.transition,
        "NotificationMetadata": hook.metadata,
        "Origin": origin,
        "Destination": destination,
    }
    if not hook.metadata:
        del detail["NotificationMetadata"]
    kind = f"EC2 Instance-{'launch' if launch else 'terminate'} Lifecycle Action"
    event(group, "aws.autoscaling", kind, [group.arn], detail)
    if hook.target:
        message = {"AccountId": group.account_id, "RequestId": str(uuid.uuid4()), "Service": _SERVICE, "Time": _now()}
        _tell(hook.target, {**detail, **message})


def _way(state: LabState, launch: bool) -> tuple[str, str]:
    """Origin and destination of a transition."""
    if state.leg.startswith("Warmed:"):
        if state.returned:
            return "AutoScalingGroup", "WarmPool"
        return ("EC2", "WarmPool") if launch else ("WarmPool", "EC2")
    if state.warmed and launch:
        return "WarmPool", "AutoScalingGroup"
    return ("EC2", "AutoScalingGroup") if launch else ("AutoScalingGroup", "EC2")


# --- outcomes ---


def outcome(group: Any, state: LabState, kind: str) -> None:
    """An instance has come, has gone or could not come: told to EventBridge and to the group's notification topics."""
    detail_type, status, description = _OUTCOMES[kind]
    origin, destination = _way(state, kind in (LAUNCHED, LAUNCH_FAILED))
    activity, now = str(uuid.uuid4()), _now()
    detail = {
        "StatusCode": status,
        "AutoScalingGroupName": group.name,
        "ActivityId": activity,
        "Details": {
            "Availability Zone": state.availability_zone,
            "Subnet ID": state.instance.subnet_id,
        },
        "RequestId": activity,
        "EndTime": now,
        "EC2InstanceId": state.instance_id,
        "StartTime": now,
        "Cause": f"At {now} the lab moved an instance of {group.name} to its next state.",
        "Description": f"{description}{state.instance_id}",
        "StatusMessage": "",
        "Origin": origin,
        "Destination": destination,
    }
    instance = f"arn:aws:ec2:{group.region}:{group.account_id}:instance/{state.instance_id}"
    event(group, "aws.autoscaling", detail_type, [group.arn, instance], detail)
    for topic in sorted(topic for topic, kinds in group.notifications.items() if kind in kinds):
        more = {"Event": kind, "AccountId": group.account_id, "AutoScalingGroupARN": group.arn, "Progress": 50}
        _tell(topic, {**detail, **more, "Service": _SERVICE, "Time": now})


def topic_added(group: Any, topic: str) -> None:
    """The test message that a new notification topic of a group gets."""
    _tell(topic, _test(group))


# --- EC2 ---


def spot_warning(backend: Any, instance: Any, action: str) -> None:
    """EC2 will take a spot instance back."""
    detail = {"instance-id": instance.id, "instance-action": action}
    event(backend, "aws.ec2", "EC2 Spot Instance Interruption Warning", [_spot_arn(instance)], detail)


def rebalance(backend: Any, instance: Any) -> None:
    """A spot instance is at elevated risk of interruption."""
    detail = {"instance-id": instance.id}
    event(backend, "aws.ec2", "EC2 Instance Rebalance Recommendation", [_spot_arn(instance)], detail)


def state_changed(instance: Any, state: str) -> None:
    """An instance's machine goes to another state, whatever group it is in."""
    backend = instance.ec2_backend
    arn = f"arn:aws:ec2:{backend.region_name}:{backend.account_id}:instance/{instance.id}"
    event(
        backend,
        "aws.ec2",
        "EC2 Instance State-change Notification",
        [arn],
        {"instance-id": instance.id, "state": state},
    )


def _spot_arn(instance: Any) -> str:
    """These two events name the zone and no account in their ARN, as AWS has it."""
    return f"arn:aws:ec2:{instance.placement.zone}:instance/{instance.id}"


# --- delivery ---


def event(where: Any, source: str, kind: str, resources: list[str], detail: dict[str, Any]) -> None:
    """Put one event on the default bus of the account and region of this group or backend."""
    message = _message(where, source, kind, resources, detail)
    bus = events_backends[where.account_id][message["region"]].event_buses["default"]
    for rule in list(bus.rules.values()):
        rule.send_to_targets(message)  # type: ignore[arg-type]


def _message(where: Any, source: str, kind: str, resources: list[str], detail: dict[str, Any]) -> dict[str, Any]:
    """An event as EventBridge holds it."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": source,
        "account": where.account_id,
        "time": float(int(time.time())),
        "region": getattr(where, "region_name", None) or where.region,
        "resources": resources,
        "detail": detail,
    }


def _test(group: Any) -> dict[str, Any]:
    return {
        "AccountId": group.account_id,
        "RequestId": str(uuid.uuid4()),
        "AutoScalingGroupARN": group.arn,
        "AutoScalingGroupName": group.name,
        "Service": _SERVICE,
        "Event": TEST,
        "Time": _now(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _tell(target: str, message: dict[str, Any]) -> None:
    """Send a message to an SNS topic or an SQS queue; the same JSON for both."""
    if not target:
        return
    arn = parse_arn(target)
    try:
        if arn.service == "sns":
            _publish(target, json.dumps(message), subject=f"Auto Scaling: {message.get('Event', 'lifecycle action')}")
        else:
            sqs_backends[arn.account][arn.region].send_message(arn.resource_id, json.dumps(message))
    except Exception:  # no such topic or queue any more
        log.exception("Auto Scaling could not deliver to %s", target)


def _publish(topic: str, text: str, subject: str | None = None) -> None:
    arn = parse_arn(topic)
    sns_backends[arn.account][arn.region].publish(text, arn=topic, subject=subject)
