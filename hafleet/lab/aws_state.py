"""One instance's membership of its group, and how long the lab lets each lifecycle state last."""

import time
from dataclasses import dataclass, field
from typing import Any

from moto.autoscaling.models import InstanceState

from hafleet.lab.aws_hooks import TIMEOUT_LEAST, Wait

DEAD_EC2 = frozenset({"shutting-down", "terminated", "stopping", "stopped"})
# Lifecycle states that count against DesiredCapacity. Standby does not: entering it takes the capacity down or asks for another.
LIVE = frozenset({"Pending", "Pending:Wait", "Pending:Proceed", "InService"})
WAIT, PROCEED = ":Wait", ":Proceed"


@dataclass(slots=True)
class Physics:
    """How long things take, in seconds. Changed at run time through the control endpoint."""

    boot: float = 0.4  # Pending; the machine runs when it is over
    terminating: float = 6.0  # Terminating without hooks, while the machine still runs
    dead: float = 1.0  # Terminating without hooks, of a machine that died already
    standby: float = 0.3  # EnteringStandby, Detaching
    transit: float = 0.3  # Terminating before its hooks, and :Proceed
    hook_speed: float = 1.0  # how fast the time of hooks passes
    minute: float = 60.0  # one minute of a schedule of EventBridge
    hook_least: float = TIMEOUT_LEAST  # shortest heartbeat timeout that a hook may have
    groups: dict[str, dict[str, float]] = field(default_factory=dict)  # group name -> figures that differ for it

    def of(self, group: str, what: str) -> float:
        """The figure ``what`` for this group."""
        return self.groups.get(group, {}).get(what, float(getattr(self, what)))


PHYSICS = Physics()
FIGURES = frozenset(Physics.__slots__) - {"groups"}


class LabState(InstanceState):
    """Membership of one instance, with the moment its lifecycle state began and its share of the capacity."""

    def __init__(self, instance: Any, *, weight: int | None, group: Any, protected: bool) -> None:
        super().__init__(
            instance, lifecycle_state="Pending", protected_from_scale_in=protected, autoscaling_group=group
        )
        self.since = time.monotonic()
        self.serving_since = self.since  # of the last InService
        self.weighted_capacity = None if weight is None else str(weight)
        self.wait: Wait | None = None  # of a :Wait state
        self.hookless = False  # this transition runs no hooks
        self.warmed = False  # it came out of the warm pool
        self.returned = False  # back into the warm pool: the hooks of an end run, those of a launch do not

    @property
    def units(self) -> int:
        """What it counts against DesiredCapacity."""
        return int(self.weighted_capacity or 1)

    def go(self, state: str, *, hookless: bool = False) -> None:
        """Enter a lifecycle state now. ``hookless``: no hooks run before the next one."""
        self.lifecycle_state = state
        self.since = time.monotonic()
        self.hookless = hookless
        self.wait = None
        if state == "InService":
            self.serving_since = self.since
        target = target_of(state, self.auto_scaling_group)
        if target:
            self.instance.target_state = target  # type: ignore[attr-defined]  # a LabInstance

    @property
    def leg(self) -> str:
        """The state without :Wait or :Proceed."""
        return self.lifecycle_state.removesuffix(WAIT).removesuffix(PROCEED)


def target_of(state: str, group: Any) -> str:
    """What IMDS calls ``target-lifecycle-state`` in this lifecycle state; "" where it stays as it was.

    Source: Auto Scaling user guide, retrieving the target lifecycle state through instance metadata.
    """
    if state.startswith("Warmed:Pending"):
        pool = getattr(group, "warm_pool", None)
        return f"Warmed:{pool.pool_state if pool else 'Stopped'}"
    for start, target in (
        ("Warmed:Terminat", "Warmed:Terminated"),
        ("Warmed:", state),
        ("Pending", "InService"),
        ("InService", "InService"),
        ("Terminat", "Terminated"),
        ("EnteringStandby", "Standby"),
        ("Standby", "Standby"),
        ("Detach", "Detached"),
    ):
        if state.startswith(start):
            return target
    return ""
