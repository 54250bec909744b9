"""The Auto Scaling operations around an instance's life that moto lacks or only stores: hooks, notifications, warm pools."""

import time
from collections.abc import Iterator
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from hafleet.lab import aws_events
from hafleet.lab.aws_asg import LabAutoScaling
from hafleet.lab.aws_hooks import LAUNCHING, TERMINATING, Action
from hafleet.lab.aws_state import LabState

_HOOK_TEXTS = ("LifecycleTransition", "DefaultResult", "NotificationTargetARN", "RoleARN", "NotificationMetadata")


class LifecycleResponse(AutoScalingResponse):
    """Hooks, notification configurations and warm pools."""

    @property
    def _lab(self) -> LabAutoScaling:
        backend = self.autoscaling_backend
        assert isinstance(backend, LabAutoScaling)  # set by aws_asg.install
        return backend

    # --- hooks ---

    def create_auto_scaling_group(self) -> ActionResult:
        """Create, with the hooks of LifecycleHookSpecificationList."""
        answer = super().create_auto_scaling_group()
        for hook in self._get_param("LifecycleHookSpecificationList", []):
            self._lab.put_hook(self._get_param("AutoScalingGroupName"), hook["LifecycleHookName"], hook)
        return answer

    def put_lifecycle_hook(self) -> ActionResult:
        """Make or change a hook; what the call does not name stays."""
        asked: dict[str, Any] = {key: self._get_param(key) for key in _HOOK_TEXTS}
        asked["HeartbeatTimeout"] = self._get_int_param("HeartbeatTimeout")
        self._lab.put_hook(self._get_param("AutoScalingGroupName"), self._get_param("LifecycleHookName"), asked)
        return EmptyResult()

    def describe_lifecycle_hooks(self) -> ActionResult:
        """The hooks of a group, all or those named."""
        group = self._lab.group(self._get_param("AutoScalingGroupName"))
        names = self._get_param("LifecycleHookNames", [])
        hooks = [hook.answer() for name, hook in sorted(group.hooks.items()) if not names or name in names]
        return ActionResult({"LifecycleHooks": hooks})

    def describe_lifecycle_hook_types(self) -> ActionResult:
        """Both transitions."""
        return ActionResult({"LifecycleHookTypes": [LAUNCHING, TERMINATING]})

    def complete_lifecycle_action(self) -> ActionResult:
        """End the wait of an instance for one hook."""
        self._lab.complete(self._action(), self._get_param("LifecycleActionResult"))
        return EmptyResult()

    def record_lifecycle_action_heartbeat(self) -> ActionResult:
        """Begin the hook's timeout anew."""
        self._action().beat(time.monotonic())
        return EmptyResult()

    def _action(self) -> Action:
        return self._lab.action(
            self._get_param("AutoScalingGroupName"),
            self._get_param("LifecycleHookName"),
            self._get_param("InstanceId"),
            self._get_param("LifecycleActionToken"),
        )

    # --- notifications ---

    def put_notification_configuration(self) -> ActionResult:
        """Which outcomes of a group an SNS topic hears of; the topic gets a test message."""
        group, topic = self._lab.group(self._get_param("AutoScalingGroupName")), self._get_param("TopicARN")
        kinds = self._get_param("NotificationTypes", [])
        if unknown := [kind for kind in kinds if kind not in aws_events.TYPES]:
            raise ValidationError(f"Invalid notification type(s): [{', '.join(unknown)}]")
        group.notifications[topic] = list(kinds)
        aws_events.topic_added(group, topic)
        return EmptyResult()

    def describe_notification_configurations(self) -> ActionResult:
        """One entry for each group, topic and kind."""
        names = self._get_param("AutoScalingGroupNames", [])
        groups = [self._lab.group(name) for name in names or self._lab.autoscaling_groups]
        found = [
            {"AutoScalingGroupName": group.name, "TopicARN": topic, "NotificationType": kind}
            for group in groups
            for topic, kinds in sorted(group.notifications.items())
            for kind in kinds
        ]
        return ActionResult({"NotificationConfigurations": found})

    def delete_notification_configuration(self) -> ActionResult:
        """The topic hears of the group no more."""
        group = self._lab.group(self._get_param("AutoScalingGroupName"))
        group.notifications.pop(self._get_param("TopicARN"), None)
        return EmptyResult()

    def describe_auto_scaling_notification_types(self) -> ActionResult:
        """What a topic can hear of."""
        return ActionResult({"AutoScalingNotificationTypes": list(aws_events.TYPES)})

    def disable_metrics_collection(self) -> ActionResult:
        """End metrics of a group, all or those named."""
        group, named = self._lab.group(self._get_param("AutoScalingGroupName")), self._get_param("Metrics", [])
        group.metrics = [metric for metric in group.metrics if named and metric not in named]
        return EmptyResult()

    def describe_instance_refreshes(self) -> ActionResult:
        """None: the lab starts no instance refresh."""
        self._lab.group(self._get_param("AutoScalingGroupName"))
        return ActionResult({"InstanceRefreshes": []})

    # --- warm pools ---

    def describe_warm_pool(self) -> ActionResult:
        """The pool and the instances in it."""
        group = self._lab.group(self._get_param("AutoScalingGroupName"))
        instances = [_warm(state) for state in group.warm]
        return ActionResult({"WarmPoolConfiguration": group.warm_pool, "Instances": instances})

    def delete_warm_pool(self) -> ActionResult:
        """Delete the pool; its instances end, through their hooks unless it is forced."""
        group = self._lab.group(self._get_param("AutoScalingGroupName"))
        if self._get_bool_param("ForceDelete", False):
            for state in list(group.warm):
                group.gone(state)
        group.warm_pool = None
        return EmptyResult()

    def every_state(self) -> Iterator[LabState]:
        """The members of all groups and of all warm pools, for DescribeAutoScalingInstances."""
        for name in self._lab.autoscaling_groups:
            group = self._lab.group(name)
            yield from group.members
            yield from group.warm


def _warm(state: LabState) -> dict[str, Any]:
    return {
        "InstanceId": state.instance_id,
        "InstanceType": state.instance_type,
        "AvailabilityZone": state.availability_zone,
        "LifecycleState": state.lifecycle_state,
        "HealthStatus": state.health_status,
        "LaunchTemplate": state.launch_template,
    }
