"""The Auto Scaling service: what AWS refuses is refused, with AWS's code and sentence. The physics are in ``aws_group``."""

import math
from typing import Any

from moto.autoscaling import models as moto_asg
from moto.autoscaling import urls as asg_urls
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.models import (
    AutoScalingBackend,
    EnterStandbyActivity,
    ExitStandbyActivity,
    FakeAutoScalingGroup,
    TerminateInstanceActivity,
)

from hafleet.lab.aws_ec2 import ADDRESSES
from hafleet.lab.aws_group import LabGroup, LabState


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

    def _group(self, name: str) -> FakeAutoScalingGroup:
        if name not in self.autoscaling_groups:
            raise ValidationError("AutoScalingGroup name not found - null")
        return self.autoscaling_groups[name]

    def _member(self, instance_id: str) -> tuple[LabGroup, LabState]:
        for group in [group for group in self.autoscaling_groups.values() if isinstance(group, LabGroup)]:
            for state in group.members:
                if state.instance.id == instance_id:
                    return group, state
        raise ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")

    def create_auto_scaling_group(self, name: str, *args: Any, **kwargs: Any) -> FakeAutoScalingGroup:
        """Create; a name in use and sizes that contradict each other are refused."""
        if name in self.autoscaling_groups:
            raise AutoscalingClientError(
                "AlreadyExists",
                f"AutoScalingGroup by this name already exists - A group with the name {name} already exists",
            )
        _check_sizes(kwargs.get("min_size"), kwargs.get("max_size"), kwargs.get("desired_capacity"))
        return super().create_auto_scaling_group(name, *args, **kwargs)

    def update_auto_scaling_group(self, name: str, *args: Any, **kwargs: Any) -> FakeAutoScalingGroup:
        """Update; sizes are checked against each other, and DesiredCapacity follows a new limit."""
        group = self._group(name)
        low = group.min_size if kwargs.get("min_size") is None else kwargs["min_size"]
        high = group.max_size if kwargs.get("max_size") is None else kwargs["max_size"]
        _check_sizes(low, high, kwargs.get("desired_capacity"))
        if kwargs.get("desired_capacity") is None:
            kwargs["desired_capacity"] = min(max(group.desired_capacity or 0, low or 0), high or 0)
        return super().update_auto_scaling_group(name, *args, **kwargs)

    def set_desired_capacity(self, group_name: str, desired_capacity: int | None) -> None:
        """Set DesiredCapacity within the limits."""
        group = self._group(group_name)
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
        group = self._group(name)
        if group.instance_states and not force:
            raise AutoscalingClientError(
                "ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances still in the group."
            )
        for state in group.instance_states:
            self.ec2_backend.terminate_instances([state.instance.id])
        del self.autoscaling_groups[name]

    def set_instance_health(self, instance_id: str, health_status: str) -> None:
        """Unhealthy instances are replaced by the next tick."""
        self._member(instance_id)[1].health_status = health_status

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
        state.go("Terminating")
        group.set_desired_capacity(before - state.units if should_decrement else before)
        return TerminateInstanceActivity(state.instance, before)

    def enter_standby_instances(
        self, group_name: str, instance_ids: list[str], should_decrement: bool
    ) -> list[EnterStandbyActivity]:
        """Take members out of service without ending them."""
        group, done = self._group(group_name), []
        for state in (self._member(instance_id)[1] for instance_id in instance_ids):
            before = group.desired_capacity or 0
            state.go("EnteringStandby")
            group.desired_capacity = before - state.units if should_decrement else before
            done.append(EnterStandbyActivity(state.instance, before))
        group.set_desired_capacity(group.desired_capacity)
        return done

    def exit_standby_instances(self, group_name: str, instance_ids: list[str]) -> list[ExitStandbyActivity]:
        """Bring members back: Pending again for the boot time, DesiredCapacity grows by their share."""
        group, done = self._group(group_name), []
        for state in (self._member(instance_id)[1] for instance_id in instance_ids):
            before = group.desired_capacity or 0
            state.go("Pending")
            group.desired_capacity = before + state.units
            done.append(ExitStandbyActivity(state.instance, before))
        group.set_desired_capacity(group.desired_capacity)
        return done

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
