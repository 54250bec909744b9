"""Auto Scaling groups with physics: capacity limits, instances that boot and take time to leave, dead ones replaced.

Every group converges by itself: ``tick`` moves each instance along its lifecycle and ``_settle`` launches or removes what
DesiredCapacity asks for. Lifecycle hooks are not given life here: an instance goes Pending -> InService and
Terminating -> gone after fixed times.
"""

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from moto.autoscaling import models as moto_asg
from moto.autoscaling import urls as asg_urls
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.models import (
    AutoScalingBackend,
    EnterStandbyActivity,
    ExitStandbyActivity,
    FakeAutoScalingGroup,
    InstanceState,
    TerminateInstanceActivity,
)

from hafleet.lab.aws_ec2 import ADDRESSES

DEAD_EC2 = frozenset({"shutting-down", "terminated", "stopping", "stopped"})
LIVE = frozenset({"Pending", "InService"})


@dataclass(slots=True)
class Physics:
    """How long things take, in seconds. Changed at run time through the control endpoint."""

    boot: float = 0.4  # Pending; the machine runs when it is over
    terminating: float = 6.0  # Terminating while the machine still runs, as with a termination hook
    dead: float = 1.0  # Terminating of a machine that died already
    standby: float = 0.3  # EnteringStandby
    groups: dict[str, dict[str, float]] = field(default_factory=dict)  # group name -> figures that differ for it

    def of(self, group: str, what: str) -> float:
        """The figure ``what`` for this group."""
        return self.groups.get(group, {}).get(what, float(getattr(self, what)))


PHYSICS = Physics()


class LabState(InstanceState):
    """Membership of one instance, with the moment its lifecycle state began and its share of the capacity."""

    def __init__(self, instance: Any, *, weight: int | None, group: "LabGroup", protected: bool) -> None:
        super().__init__(
            instance, lifecycle_state="Pending", protected_from_scale_in=protected, autoscaling_group=group
        )
        self.since = time.monotonic()
        self.weighted_capacity = None if weight is None else str(weight)

    @property
    def units(self) -> int:
        """What it counts against DesiredCapacity."""
        return int(self.weighted_capacity or 1)

    def go(self, state: str) -> None:
        """Enter a lifecycle state now."""
        self.lifecycle_state = state
        self.since = time.monotonic()


class LabGroup(FakeAutoScalingGroup):
    """A group that follows its DesiredCapacity."""

    @property
    def members(self) -> list[LabState]:
        """All members; attached ones get the lab's fields first."""
        for place, state in enumerate(self.instance_states):
            if not isinstance(state, LabState):
                adopted = LabState(state.instance, weight=None, group=self, protected=False)
                adopted.go(state.lifecycle_state)
                self.instance_states[place] = adopted
        return [state for state in self.instance_states if isinstance(state, LabState)]

    def set_desired_capacity(self, new_capacity: int | None) -> None:
        """Set DesiredCapacity (None: the minimum) and begin to follow it."""
        self.desired_capacity = self.min_size if new_capacity is None else new_capacity
        self._settle()

    def tick(self, now: float) -> None:
        """Move every member along, then follow DesiredCapacity."""
        for state in self.members:
            self._step(state, now - state.since)
        self._settle()

    def _step(self, state: LabState, age: float) -> None:
        dead = state.instance.state in DEAD_EC2
        if state.lifecycle_state == "Terminating":
            if age >= PHYSICS.of(self.name, "dead" if dead else "terminating"):
                self.ec2_backend.terminate_instances([state.instance.id])
                self.instance_states.remove(state)
        elif dead or (state.health_status == "Unhealthy" and self._may("ReplaceUnhealthy")):
            state.health_status = "Unhealthy"
            state.go("Terminating")
        elif state.lifecycle_state == "Pending" and age >= PHYSICS.of(self.name, "boot"):
            state.instance.run()  # type: ignore[attr-defined]  # a LabInstance
            state.go("InService")
        elif state.lifecycle_state == "EnteringStandby" and age >= PHYSICS.of(self.name, "standby"):
            state.go("Standby")

    def _may(self, process: str) -> bool:
        return process not in self._suspended_processes

    def _settle(self) -> None:
        desired = self.desired_capacity or 0
        live = [state for state in self.members if state.lifecycle_state in LIVE]
        units = sum(state.units for state in live)
        if units < desired and self._may("Launch"):
            self._launch(desired - units)
        if units > desired and self._may("Terminate"):
            self._remove(live, units - desired)

    def _remove(self, live: list[LabState], surplus: int) -> None:
        """AWS's default order: the fullest zone first, there the oldest instance."""
        left = [state for state in live if not state.protected_from_scale_in]
        while left:
            zones = Counter(state.availability_zone for state in left)
            victim = max(left, key=lambda s: (zones[s.availability_zone], -left.index(s)))
            if victim.units > surplus:
                return
            surplus -= victim.units
            left.remove(victim)
            victim.go("Terminating")

    def _launch(self, missing: int) -> None:
        """One reservation per instance, in the zone that has the fewest members."""
        overrides = (self.mixed_instances_policy or {}).get("LaunchTemplate", {}).get("Overrides") or []
        while missing > 0:
            choice = overrides[len(self.instance_states) % len(overrides)] if overrides else {}
            weight = choice.get("WeightedCapacity")
            instance = self._run_instance(choice.get("InstanceType") or self.instance_type)
            state = LabState(
                instance,
                weight=int(weight) if weight else None,
                group=self,
                protected=bool(self.new_instances_protected_from_scale_in),
            )
            self.instance_states.append(state)
            missing -= state.units

    def _run_instance(self, instance_type: str) -> Any:
        zones = Counter(state.availability_zone for state in self.instance_states if state.lifecycle_state in LIVE)
        subnets = self.ec2_backend.describe_subnets(subnet_ids=(self.vpc_zone_identifier or "").split(","))
        subnet = min(subnets, key=lambda s: (zones[s.availability_zone], s.availability_zone))
        tags = {"aws:autoscaling:groupName": self.name, **self.instance_tags, **self.get_propagated_tags()}
        template = self.ec2_launch_template
        reservation = self.ec2_backend.run_instances(
            self.image_id,
            1,
            self.user_data,
            self.security_groups,
            instance_type=instance_type,
            tags={"instance": tags},
            launch_template={"LaunchTemplateId": template.id} if template else None,
            is_instance_type_default=False,
            subnet_id=subnet.id,
            region_name=self.region,
        )
        instance = reservation.instances[0]
        instance.pend()  # type: ignore[attr-defined]  # a LabInstance
        instance.autoscaling_group = self  # type: ignore[attr-defined]  # moto's own back reference
        return instance


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
