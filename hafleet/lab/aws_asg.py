"""The Auto Scaling service: what AWS refuses is refused, with AWS's code and sentence. The physics are in ``aws_group``."""

import math
import time
from typing import Any

from moto.autoscaling import models as moto_asg
from moto.autoscaling import urls as asg_urls
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.models import (
    AutoScalingBackend,
    DetachInstanceActivity,
    EnterStandbyActivity,
    ExitStandbyActivity,
    FakeAutoScalingGroup,
    TerminateInstanceActivity,
)

from hafleet.lab import aws_events
from hafleet.lab.aws_ec2 import ADDRESSES
from hafleet.lab.aws_group import LabGroup, LabState
from hafleet.lab.aws_hooks import HOOKS_MOST, Action, checked_result, nothing_active, put, too_many
from hafleet.lab.aws_life import ENDING
from hafleet.lab.aws_notices import ANNOUNCED
from hafleet.lab.aws_state import PHYSICS


class LabAutoScaling(AutoScalingBackend):
    """The service: what AWS refuses is refused with AWS's code and sentence."""

    @property
    def _url_module(self) -> Any:
        return asg_urls  # moto guesses it from the name of the class's module

    def tick(self, now: float) -> None:
        """One step of every group, and of the addresses on their way back."""
        for group in list(self.autoscaling_groups.values()):
            if isinstance(group, LabGroup):
                group.tick(now)
        ADDRESSES.tick(now)
        ANNOUNCED.tick(self.ec2_backend, now)

    def group(self, name: str) -> LabGroup:
        """A group. Raises ValidationError when there is none of this name."""
        found = self.autoscaling_groups.get(name)
        if not isinstance(found, LabGroup):
            raise ValidationError("AutoScalingGroup name not found - null")
        return found

    def _member(self, instance_id: str) -> tuple[LabGroup, LabState]:
        for group in [group for group in self.autoscaling_groups.values() if isinstance(group, LabGroup)]:
            for state in [*group.members, *group.warm]:
                if state.instance.id == instance_id:
                    return group, state
        raise ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")

    def _serving(self, instance_ids: list[str]) -> list[LabState]:
        """These members, all of them settled. Raises ValidationError."""
        found = [self._member(instance_id)[1] for instance_id in instance_ids]
        for state in found:
            if state.lifecycle_state not in {"InService", "Standby"}:
                raise ValidationError(f"The instance {state.instance_id} is not in InService or Standby.")
        return found

    def create_auto_scaling_group(self, name: str, *args: Any, **kwargs: Any) -> FakeAutoScalingGroup:
        """Create; a name in use and sizes that contradict each other are refused."""
        if name in self.autoscaling_groups:
            raise AutoscalingClientError(
                "AlreadyExists",
                f"AutoScalingGroup by this name already exists - A group with the name {name} already exists",
            )
        _check_sizes(kwargs.get("min_size"), kwargs.get("max_size"), kwargs.get("desired_capacity"))
        grace = kwargs.get("health_check_period")
        made = super().create_auto_scaling_group(name, *args, **kwargs)
        made.health_check_grace_period = int(grace or 0)  # the API's default; moto's is the console's
        return made

    def update_auto_scaling_group(self, name: str, *args: Any, **kwargs: Any) -> FakeAutoScalingGroup:
        """Update; sizes are checked against each other, and DesiredCapacity follows a new limit."""
        group = self.group(name)
        low = group.min_size if kwargs.get("min_size") is None else kwargs["min_size"]
        high = group.max_size if kwargs.get("max_size") is None else kwargs["max_size"]
        _check_sizes(low, high, kwargs.get("desired_capacity"))
        if kwargs.get("desired_capacity") is None:
            kwargs["desired_capacity"] = min(max(group.desired_capacity or 0, low or 0), high or 0)
        return super().update_auto_scaling_group(name, *args, **kwargs)

    def set_desired_capacity(self, group_name: str, desired_capacity: int | None) -> None:
        """Set DesiredCapacity within the limits."""
        group = self.group(group_name)
        wanted = desired_capacity or 0
        for bad, word, limit in (
            (wanted > (group.max_size or 0), "above max", group.max_size),
            (wanted < (group.min_size or 0), "below min", group.min_size),
        ):
            if bad:
                what = f"New SetDesiredCapacity value {wanted} is {word} value {limit} for the AutoScalingGroup."
                raise ValidationError(what)
        group.set_desired_capacity(wanted)

    def delete_group(self, name: str, force: bool) -> None:
        """Delete: without ForceDelete only an empty group; with it the instances end at once."""
        group = self.group(name)
        if (group.instance_states or group.warm) and not force:
            raise AutoscalingClientError(
                "ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances still in the group."
            )
        for state in [*group.instance_states, *group.warm]:
            self.ec2_backend.terminate_instances([state.instance.id])
        del self.autoscaling_groups[name]

    def set_instance_health(self, instance_id: str, health_status: str, respect_grace: bool = True) -> None:
        """Unhealthy instances are replaced by the next tick; within the group's grace period only if it is not respected."""
        group, state = self._member(instance_id)
        grace = float(group.health_check_grace_period or 0) if respect_grace else 0.0
        if health_status == "Unhealthy" and time.monotonic() - state.serving_since < grace:
            return
        state.health_status = health_status

    def terminate_instance(self, instance_id: str, should_decrement: bool) -> TerminateInstanceActivity:
        """Let one member leave; it is replaced unless the capacity goes down with it."""
        group, state = self._member(instance_id)
        before = group.desired_capacity or 0
        if should_decrement and before <= (group.min_size or 0):
            raise ValidationError(
                f"Currently, desiredSize equals minSize ({group.min_size}). Terminating instance without replacement "
                f"will violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false "
                f"or lower group's min size."
            )
        if state.leg not in ENDING:
            group.end(state)
        group.set_desired_capacity(before - state.units if should_decrement else before)
        return TerminateInstanceActivity(state.instance, before)

    def enter_standby_instances(
        self, group_name: str, instance_ids: list[str], should_decrement: bool
    ) -> list[EnterStandbyActivity]:
        """Take members out of service without ending them."""
        group, done = self.group(group_name), []
        for state in self._serving(instance_ids):
            before = group.desired_capacity or 0
            state.go("EnteringStandby")
            group.desired_capacity = before - state.units if should_decrement else before
            done.append(EnterStandbyActivity(state.instance, before))
        group.set_desired_capacity(group.desired_capacity)
        return done

    def exit_standby_instances(self, group_name: str, instance_ids: list[str]) -> list[ExitStandbyActivity]:
        """Bring members back: Pending again for the boot time, DesiredCapacity grows by their share."""
        group, done = self.group(group_name), []
        for state in (self._member(instance_id)[1] for instance_id in instance_ids):
            before = group.desired_capacity or 0
            state.go("Pending", hookless=True)
            group.desired_capacity = before + state.units
            done.append(ExitStandbyActivity(state.instance, before))
        group.set_desired_capacity(group.desired_capacity)
        return done

    def detach_instances(
        self, group_name: str, instance_ids: list[str], should_decrement: bool
    ) -> list[DetachInstanceActivity]:
        """Let members go without ending their machines. No hooks run."""
        group, done = self.group(group_name), []
        for state in self._serving(instance_ids):
            before = group.desired_capacity or 0
            state.go("Detaching")
            group.desired_capacity = before - state.units if should_decrement else before
            done.append(DetachInstanceActivity(state.instance))
        group.set_desired_capacity(group.desired_capacity)
        return done

    # --- lifecycle hooks ---

    def put_hook(self, group_name: str, name: str, asked: dict[str, Any]) -> None:
        """Make or change a hook; a new target gets a test message. Raises ValidationError and its kinds."""
        group = self.group(group_name)
        known = group.hooks.get(name)
        if known is None and len(group.hooks) >= HOOKS_MOST:
            raise too_many(group_name)
        hook = group.hooks[name] = put(known, name, group_name, asked, PHYSICS.of(group_name, "hook_least"))
        if hook.target and (known is None or known.target != hook.target):
            aws_events.hook_made(group, hook)

    def delete_lifecycle_hook(self, as_name: str, name: str) -> None:
        """Delete a hook; what waits for it goes on."""
        group = self.group(as_name)
        if group.hooks.pop(name, None) is None:
            raise ValidationError(f"No Lifecycle Hook found with name {name}")
        for state in [*group.members, *group.warm]:
            if state.wait is not None:
                state.wait.drop(name)

    def action(self, group_name: str, hook: str, instance_id: str | None, token: str | None) -> Action:
        """The lifecycle action that a call means, by instance, by token or by both.

        Raises:
            ValidationError: nothing waits for such a call.
        """
        group = self.group(group_name)
        if hook not in group.hooks:
            raise ValidationError(f"No Lifecycle Hook found with name {hook}")
        if not instance_id and not token:
            raise ValidationError("Either a lifecycle action token or an instance id is needed")
        for state in [*group.members, *group.warm]:
            if state.wait is not None and instance_id in (None, "", state.instance_id):
                found = state.wait.active(hook, token or None)
                if found is not None:
                    return found
        raise nothing_active(instance_id, token)

    def complete(self, action: Action, result: str | None) -> None:
        """End a lifecycle action. The instance moves on by the next tick."""
        action.result = checked_result(result)

    def notify_terminate_instances(self, instance_ids: list[str]) -> None:
        """EC2 ended instances: nothing to do here, the next tick finds them dead."""


def _check_sizes(low: Any, high: Any, desired: Any) -> None:
    """Refuse sizes that contradict each other. All may be None, numbers or number texts."""
    least, most = int(low or 0), math.inf if high is None else int(high)
    if least > most:
        raise ValidationError(f"Max bound, {high}, must be greater than or equal to min bound, {least}")
    if desired is not None and not least <= int(desired) <= most:
        raise ValidationError(
            f"Desired capacity:{desired} must be between the specified min size:{least} and max size:{high}"
        )


def install() -> None:
    """Make moto build ``LabGroup`` and ``LabAutoScaling``."""
    if not hasattr(moto_asg, "FakeAutoScalingGroup"):
        raise RuntimeError("moto.autoscaling.models has no FakeAutoScalingGroup; this lab fits another version of moto")
    vars(moto_asg)["FakeAutoScalingGroup"] = LabGroup
    moto_asg.autoscaling_backends.backend = LabAutoScaling
