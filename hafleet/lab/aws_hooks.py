"""Lifecycle hooks as values: what one instance waits for in one transition, and how that wait ends.

A wait ends when every hook of its transition has been completed, or at the first ABANDON; a hook that nobody completes gets its
default result when its heartbeat timeout is over, and that can be put off for 48 hours or 100 timeouts in all, whichever is less
(source: Auto Scaling API reference, PutLifecycleHook). Times are monotonic seconds of the lab; ``speed`` makes AWS's pass faster.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
RESULTS = ("CONTINUE", "ABANDON")
TIMEOUT_LEAST, TIMEOUT_MOST, TIMEOUT_DEFAULT = 30, 7200, 3600  # seconds
GLOBAL_TIMEOUTS, GLOBAL_MOST = 100, 172800  # heartbeat timeouts; seconds
HOOKS_MOST = 50  # of one group


@dataclass(frozen=True, slots=True)
class LabHook:
    """One hook of a group."""

    name: str
    group: str
    transition: str
    timeout: int = TIMEOUT_DEFAULT  # seconds between two heartbeats at most
    default: str = "ABANDON"
    target: str = ""  # ARN of the SNS topic or SQS queue that is told beside EventBridge
    role: str = ""
    metadata: str = ""

    @property
    def limit(self) -> int:
        """Seconds that an instance may wait for it in all."""
        return min(GLOBAL_MOST, GLOBAL_TIMEOUTS * self.timeout)

    def answer(self) -> dict[str, Any]:
        """As DescribeLifecycleHooks shows it."""
        told = {
            "LifecycleHookName": self.name,
            "AutoScalingGroupName": self.group,
            "LifecycleTransition": self.transition,
            "NotificationTargetARN": self.target,
            "RoleARN": self.role,
            "NotificationMetadata": self.metadata,
            "HeartbeatTimeout": self.timeout,
            "GlobalTimeout": self.limit,
            "DefaultResult": self.default,
        }
        return {key: value for key, value in told.items() if value != ""}


def put(known: LabHook | None, name: str, group: str, asked: dict[str, Any], least: float = TIMEOUT_LEAST) -> LabHook:
    """A hook as PutLifecycleHook makes or changes it.

    Args:
        known: the hook of this name, which keeps what the call does not name.
        name: of the hook.
        group: of the Auto Scaling group.
        asked: the parameters of the call by their API names; None where it names none.
        least: seconds; the shortest timeout. AWS's, unless a lab control says otherwise.

    Raises:
        ValidationError: a parameter that AWS refuses.
    """
    hook = known or LabHook(name, group, asked.get("LifecycleTransition") or "")
    fields = {
        "transition": asked.get("LifecycleTransition"),
        "timeout": asked.get("HeartbeatTimeout"),
        "default": asked.get("DefaultResult"),
        "target": asked.get("NotificationTargetARN"),
        "role": asked.get("RoleARN"),
        "metadata": asked.get("NotificationMetadata"),
    }
    hook = replace(hook, **{key: value for key, value in fields.items() if value is not None})
    if hook.transition not in (LAUNCHING, TERMINATING):
        raise ValidationError(f"Invalid Lifecycle Transition {hook.transition}. Valid: [{LAUNCHING}, {TERMINATING}]")
    if not least <= hook.timeout <= TIMEOUT_MOST:
        raise ValidationError(f"Heartbeat timeout must be between {least:g} and {TIMEOUT_MOST} seconds")
    if hook.default not in RESULTS:
        raise ValidationError(f"Invalid default result {hook.default}. Valid: [CONTINUE, ABANDON]")
    return hook


@dataclass(slots=True)
class Action:
    """One lifecycle action: an instance that waits for one hook."""

    hook: LabHook
    began: float
    speed: float = 1.0
    token: str = field(default_factory=lambda: str(uuid.uuid4()))
    heartbeats: int = 0
    result: str = ""  # CONTINUE or ABANDON once it is over
    timed_out: bool = False
    deadline: float = 0.0

    def __post_init__(self) -> None:
        """Begin the first timeout."""
        self._extend(self.began)

    def _extend(self, now: float) -> None:
        last = self.began + self.hook.limit / self.speed
        self.deadline = min(now + self.hook.timeout / self.speed, last)

    def beat(self, now: float) -> None:
        """Begin the timeout anew, up to the limit of the whole wait."""
        self.heartbeats += 1
        self._extend(now)

    def expire(self, now: float) -> None:
        """Give it its default result once its time is over."""
        if not self.result and now >= self.deadline:
            self.result, self.timed_out = self.hook.default, True


class Wait:
    """What one instance waits for in one transition: an action for each hook."""

    def __init__(self, hooks: Iterable[LabHook], transition: str, now: float, speed: float = 1.0) -> None:
        self.transition = transition
        self.actions = {hook.name: Action(hook, now, speed) for hook in hooks if hook.transition == transition}

    def active(self, hook: str, token: str | None) -> Action | None:
        """The action of this hook that nothing has ended; with a token only where the token is its own."""
        action = self.actions.get(hook)
        fits = action is not None and not action.result and token in (None, action.token)
        return action if fits else None

    def drop(self, hook: str) -> None:
        """The hook is deleted: its action is over, ABANDON for a launch and CONTINUE for an end (DeleteLifecycleHook)."""
        action = self.actions.get(hook)
        if action is not None and not action.result:
            action.result = "ABANDON" if self.transition == LAUNCHING else "CONTINUE"

    def verdict(self, now: float) -> str:
        """CONTINUE or ABANDON when the wait is over at this time, "" while it is not."""
        for action in self.actions.values():
            action.expire(now)
        results = [action.result for action in self.actions.values()]
        if "ABANDON" in results:
            return "ABANDON"  # the other hooks are not waited for
        return "" if "" in results else "CONTINUE"


def checked_result(result: str | None) -> str:
    """The result of a CompleteLifecycleAction. Raises ValidationError."""
    if result not in RESULTS:
        raise ValidationError(f"Invalid lifecycle action result {result}. Valid: [CONTINUE, ABANDON]")
    return str(result)


def nothing_active(instance: str | None, token: str | None) -> ValidationError:
    """AWS's refusal of a call on an action that is over or never was; the sentence is its own."""
    what = f"token {token}" if token else f"instance ID {instance}"
    return ValidationError(f"No active Lifecycle Action found with {what}")


def too_many(group: str) -> AutoscalingClientError:
    """AWS's refusal of one hook more."""
    what = f"You may not have more than {HOOKS_MOST} lifecycle hooks on {group}"
    return AutoscalingClientError("LimitExceeded", what)
