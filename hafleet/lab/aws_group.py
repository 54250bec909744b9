"""Auto Scaling groups with physics: instances boot, take time to leave, and are replaced when they die.

Every group converges by itself: ``tick`` moves each instance along its lifecycle (``aws_life``) and ``_settle`` launches or removes
what DesiredCapacity asks for, through the warm pool where there is one.
"""

from collections import Counter
from typing import Any

from moto.autoscaling.models import ASG_NAME_TAG, FakeAutoScalingGroup

from hafleet.lab import aws_life
from hafleet.lab.aws_hooks import LabHook
from hafleet.lab.aws_state import LIVE, PHYSICS, LabState

__all__ = ["PHYSICS", "LabGroup", "LabState"]

_READY = frozenset({"Warmed:Stopped", "Warmed:Running", "Warmed:Hibernated"})


class LabGroup(FakeAutoScalingGroup):
    """A group that follows its DesiredCapacity."""

    warm_pool: Any = None  # moto sets it late in its constructor, which launches instances before

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.hooks: dict[str, LabHook] = {}
        self.notifications: dict[str, list[str]] = {}  # ARN of an SNS topic -> notification types
        self.warm: list[LabState] = []  # moto's answers leave them out, as AWS's do
        super().__init__(*args, **kwargs)

    @property
    def members(self) -> list[LabState]:
        """All members; attached ones get the lab's fields first. Those in the warm pool are not among them."""
        for place, state in enumerate(self.instance_states):
            if not isinstance(state, LabState):
                adopted = LabState(state.instance, weight=None, group=self, protected=False)
                adopted.go(state.lifecycle_state)
                self.instance_states[place] = adopted
        return [state for state in self.instance_states if isinstance(state, LabState)]

    @property
    def warm_pool_size(self) -> int | None:
        """As DescribeAutoScalingGroups shows it; None where there is no pool."""
        return len(self.warm) if self.warm_pool else None

    def hooks_of(self, transition: str) -> tuple[LabHook, ...]:
        """The hooks of one transition, by name."""
        return tuple(hook for _, hook in sorted(self.hooks.items()) if hook.transition == transition)

    def set_desired_capacity(self, new_capacity: int | None) -> None:
        """Set DesiredCapacity (None: the minimum) and begin to follow it."""
        self.desired_capacity = self.min_size if new_capacity is None else new_capacity
        self._settle()

    def tick(self, now: float) -> None:
        """Move every instance along, then follow DesiredCapacity."""
        for state in [*self.members, *self.warm]:
            aws_life.step(self, state, now)
        self._settle()

    def may(self, process: str) -> bool:
        """True unless this process of the group is suspended."""
        return process not in self._suspended_processes

    # --- what becomes of one instance ---

    def end(self, state: LabState) -> None:
        """It begins to leave for good."""
        state.go("Warmed:Terminating" if state in self.warm else "Terminating")

    def gone(self, state: LabState) -> None:
        """It leaves for good now, and its machine with it."""
        self.ec2_backend.terminate_instances([state.instance.id])
        (self.warm if state in self.warm else self.instance_states).remove(state)

    def release(self, state: LabState) -> None:
        """It is no member any more; its machine runs on."""
        self.instance_states.remove(state)
        self.ec2_backend.delete_tags([state.instance.id], {ASG_NAME_TAG: self.name})
        del state.instance.autoscaling_group  # type: ignore[attr-defined]  # moto's own back reference

    def warm_up(self, state: LabState) -> None:
        """It stands by in the warm pool, stopped where the pool says so."""
        kept = self.warm_pool.pool_state if self.warm_pool else "Stopped"
        if kept != "Running":
            state.instance.stop()
        state.returned = False
        state.go(f"Warmed:{kept}")

    # --- capacity ---

    def _settle(self) -> None:
        desired = self.desired_capacity or 0
        live = [state for state in self.members if state.lifecycle_state in LIVE]
        units = sum(state.units for state in live)
        if units < desired and self.may("Launch"):
            self._launch(desired - units)
        if units > desired and self.may("Terminate"):
            self._remove(live, units - desired)
        if self.warm or self.warm_pool:
            self._settle_warm(desired)

    def _settle_warm(self, desired: int) -> None:
        """The pool holds what is missing up to its prepared capacity; without a pool nothing."""
        wanted, pool = 0, self.warm_pool
        if pool:
            prepared = pool.max_group_prepared_capacity
            most = int(self.max_size or 0) if prepared in (None, "", -1, "-1") else int(prepared)
            wanted = max(int(pool.min_size), most - desired)
        kept = [state for state in self.warm if state.leg != "Warmed:Terminating"]
        for state in kept[wanted:]:
            self.end(state)
        if self.may("Launch"):
            for _ in range(wanted - len(kept)):
                state = self._new()
                self.warm.append(state)
                state.go("Warmed:Pending")

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
            self._retire(victim)

    def _retire(self, state: LabState) -> None:
        """Scale-in: back into the warm pool where its reuse policy says so, else away."""
        policy = (self.warm_pool.instance_reuse_policy if self.warm_pool else None) or {}
        if str(policy.get("ReuseOnScaleIn", "")).lower() != "true":
            self.end(state)
            return
        self.instance_states.remove(state)
        self.warm.append(state)
        state.returned = True
        state.go("Warmed:Pending")

    def _launch(self, missing: int) -> None:
        """From the warm pool first; then one reservation per instance, in the zone that has the fewest members."""
        ready = [state for state in self.warm if state.lifecycle_state in _READY]
        while missing > 0:
            state = self._from_pool(ready.pop(0)) if ready else self._new()
            self.instance_states.append(state)
            missing -= state.units

    def _from_pool(self, state: LabState) -> LabState:
        self.warm.remove(state)
        if state.instance.state != "running":
            state.instance.pend()  # type: ignore[attr-defined]  # a LabInstance
        state.warmed = True
        state.go("Pending")
        return state

    def _new(self) -> LabState:
        """A machine, Pending and not a member yet."""
        overrides = (self.mixed_instances_policy or {}).get("LaunchTemplate", {}).get("Overrides") or []
        choice = overrides[len(self.instance_states) % len(overrides)] if overrides else {}
        weight = choice.get("WeightedCapacity")
        state = LabState(
            self._run_instance(choice.get("InstanceType") or self.instance_type),
            weight=int(weight) if weight else None,
            group=self,
            protected=bool(self.new_instances_protected_from_scale_in),
        )
        state.go("Pending")
        return state

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
