"""Auto Scaling groups with physics: instances boot, take time to leave, and are replaced when they die.

Every group converges by itself: ``tick`` moves each instance along its lifecycle and ``_settle`` launches or removes what
DesiredCapacity asks for. Lifecycle hooks are not given life here: an instance goes Pending -> InService and
Terminating -> gone after fixed times.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from moto.autoscaling.models import FakeAutoScalingGroup, InstanceState

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
