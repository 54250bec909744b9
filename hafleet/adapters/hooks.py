"""Lifecycle hooks on Auto Scaling: what a node says of its own coming and going."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from hafleet.adapters import aws
from hafleet.core.model import Hook
from hafleet.errors import HookGone, SourceUnavailable

_TRANSITIONS = {
    "autoscaling:EC2_INSTANCE_LAUNCHING": "launch",
    "autoscaling:EC2_INSTANCE_TERMINATING": "terminate",
}
_TAG_VALUE = 256  # characters of a tag's value at most (EC2)
_MALFORMED = "failed to satisfy constraint"  # how AWS words an argument that can never be right
_DESCRIBE = "autoscaling:DescribeLifecycleHooks"


class AsgHooks:
    """Implements ``ports.Hooks``. For one thread.

    Args:
        account: whose clients are used.
    """

    def __init__(self, account: aws.Account) -> None:
        self._account = account

    def hooks(self, group: str) -> tuple[Hook, ...]:
        """See ``ports.Hooks.hooks``. A hook of a transition that nobody knows yet is left out: no wait of ours can be on it."""
        client, _, region = self._account.scaling()
        with aws.translated(_DESCRIBE, region):
            answer = client.describe_lifecycle_hooks(AutoScalingGroupName=group)
        listed: Any = answer.get("LifecycleHooks")
        if not isinstance(listed, list):
            raise SourceUnavailable("the answer holds no list of hooks", where=f"{_DESCRIBE} in {region}")
        try:
            found = [_parse(item) for item in listed if item.get("LifecycleTransition") in _TRANSITIONS]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"a hook of {group} is odd: {type(error).__name__} {error}"
            raise SourceUnavailable(
                what, where=f"{_DESCRIBE} in {region}", fix="nothing now: it is read again"
            ) from error
        return tuple(sorted(found, key=lambda hook: hook.name))

    def complete(self, group: str, hook: str, instance: str, result: str) -> None:
        """See ``ports.Hooks.complete``."""
        client, _, region = self._account.scaling()
        with _acting("autoscaling:CompleteLifecycleAction", region):
            client.complete_lifecycle_action(
                AutoScalingGroupName=group,
                LifecycleHookName=hook,
                InstanceId=instance,
                LifecycleActionResult=result,
            )

    def heartbeat(self, group: str, hook: str, instance: str) -> None:
        """See ``ports.Hooks.heartbeat``."""
        client, _, region = self._account.scaling()
        with _acting("autoscaling:RecordLifecycleActionHeartbeat", region):
            client.record_lifecycle_action_heartbeat(
                AutoScalingGroupName=group, LifecycleHookName=hook, InstanceId=instance
            )

    def set_unhealthy(self, instance: str) -> None:
        """See ``ports.Hooks.set_unhealthy``."""
        client, _, region = self._account.scaling()
        with aws.translated("autoscaling:SetInstanceHealth", region):
            client.set_instance_health(InstanceId=instance, HealthStatus="Unhealthy", ShouldRespectGracePeriod=True)

    def tag(self, instance: str, key: str, value: str) -> None:
        """See ``ports.Hooks.tag``. A longer value is cut to what EC2 takes."""
        _, client, region = self._account.scaling()
        with aws.translated("ec2:CreateTags", region):
            client.create_tags(Resources=[instance], Tags=[{"Key": key, "Value": value[:_TAG_VALUE]}])


@contextmanager
def _acting(call: str, region: str) -> Iterator[None]:
    """Errors of a call on one lifecycle action.

    AWS has one code, ValidationError, for an action that is over ("No active Lifecycle Action found with instance ID ..."), for a
    hook, an instance and a group that do not exist, and for an argument it cannot read. All but the last mean: nothing waits.

    Raises:
        HookGone: nothing waits for this call.
        SourceUnavailable: or one of its kinds.
    """
    with aws.translated(call, region):
        try:
            yield
        except ClientError as error:
            told = error.response.get("Error", {})
            message = str(told.get("Message") or "")
            if told.get("Code") != "ValidationError" or _MALFORMED in message:
                raise
            fix = "nothing to do: the wait is over, or its hook was deleted"
            raise HookGone(aws.one_line(message) or "no message", where=f"{call} in {region}", fix=fix) from error


def _parse(item: Mapping[str, Any]) -> Hook:
    """One hook. Raises KeyError, TypeError, ValueError for a part that is missing or odd."""
    return Hook(
        name=str(item["LifecycleHookName"]),
        transition=_TRANSITIONS[item["LifecycleTransition"]],
        timeout=float(item.get("HeartbeatTimeout", 3600)),  # seconds; the API's default
        default=str(item.get("DefaultResult") or "ABANDON"),
    )
