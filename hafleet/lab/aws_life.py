"""One step of one instance along its lifecycle, hooks among it. A table says which states end by themselves, and what comes then.

    Pending -> [Pending:Wait -> Pending:Proceed ->] InService -> Terminating -> [Terminating:Wait -> Terminating:Proceed ->] gone

The states in brackets are there only where the group has hooks for the transition. An abandoned launch goes to Terminating, whose
hooks run for it too. A machine that died goes through its terminate hooks as well: nobody on it can complete them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hafleet.lab import aws_events
from hafleet.lab.aws_hooks import LAUNCHING, TERMINATING, Wait
from hafleet.lab.aws_state import DEAD_EC2, PHYSICS, PROCEED, WAIT, LabState

if TYPE_CHECKING:
    from hafleet.lab.aws_group import LabGroup

GONE, WARM = "gone", "Warmed"  # ends of a leg that are no lifecycle states
ENDING = frozenset({"Terminating", "Warmed:Terminating"})


@dataclass(frozen=True, slots=True)
class Leg:
    """A state that ends by itself."""

    figure: str  # of the physics: how long it lasts
    transition: str  # whose hooks run when it is over; "" for none
    after: str


LEGS = {
    "Pending": Leg("boot", LAUNCHING, "InService"),
    "Terminating": Leg("terminating", TERMINATING, GONE),
    "Warmed:Pending": Leg("boot", LAUNCHING, WARM),
    "Warmed:Terminating": Leg("terminating", TERMINATING, GONE),
    "EnteringStandby": Leg("standby", "", "Standby"),
    "Detaching": Leg("standby", "", "Detached"),
}


def step(group: "LabGroup", state: LabState, now: float) -> None:
    """Move one instance along, if its time has come."""
    leg, age = LEGS.get(state.leg), now - state.since
    if state.leg not in ENDING and (_dead(state) or _replaceable(group, state)):
        state.health_status = "Unhealthy"
        group.end(state)
    elif leg is None:
        return
    elif state.wait is not None:
        _await(group, state, now)
    elif state.lifecycle_state.endswith(PROCEED):
        if age >= PHYSICS.of(group.name, "transit"):
            _finish(group, state, leg)
    elif age >= _lasts(group, state, leg):
        _arrive(group, state, leg, now)


def _dead(state: LabState) -> bool:
    """True when EC2 has ended the machine; one of the warm pool may well be stopped."""
    kinds = {"shutting-down", "terminated"} if state.leg.startswith("Warmed:") else DEAD_EC2
    return state.instance.state in kinds


def _replaceable(group: "LabGroup", state: LabState) -> bool:
    return state.health_status == "Unhealthy" and state.leg != "Pending" and group.may("ReplaceUnhealthy")


def _transition(state: LabState, leg: Leg) -> str:
    """Back into the warm pool the hooks of an end run."""
    return TERMINATING if state.returned else leg.transition


def _lasts(group: "LabGroup", state: LabState, leg: Leg) -> float:
    if state.leg in ENDING:
        if not state.hookless and group.hooks_of(TERMINATING):
            return PHYSICS.of(group.name, "transit")
        return PHYSICS.of(group.name, "dead" if state.instance.state in DEAD_EC2 else "terminating")
    return PHYSICS.of(group.name, leg.figure)


def _arrive(group: "LabGroup", state: LabState, leg: Leg, now: float) -> None:
    """The state is over: wait for the hooks of the transition, or go on at once where there are none."""
    if leg.figure == "boot":
        state.instance.run()  # type: ignore[attr-defined]  # a LabInstance
    transition = _transition(state, leg)
    hooks = () if state.hookless else group.hooks_of(transition)
    if not hooks:
        _finish(group, state, leg)
        return
    state.go(state.leg + WAIT)
    state.wait = Wait(hooks, transition, now, PHYSICS.of(group.name, "hook_speed"))
    for action in state.wait.actions.values():
        aws_events.action_began(group, state, action)


def _await(group: "LabGroup", state: LabState, now: float) -> None:
    assert state.wait is not None  # step asked
    verdict = state.wait.verdict(now)
    if verdict == "ABANDON" and state.wait.transition == LAUNCHING:
        aws_events.outcome(group, state, aws_events.LAUNCH_FAILED)
        group.end(state)
    elif verdict:
        state.go(state.leg + PROCEED)


def _finish(group: "LabGroup", state: LabState, leg: Leg) -> None:
    if leg.after == GONE:
        group.gone(state)
        aws_events.outcome(group, state, aws_events.ENDED)
    elif leg.after == "Detached":
        group.release(state)
    elif leg.after == WARM:
        group.warm_up(state)
        aws_events.outcome(group, state, aws_events.LAUNCHED)
    else:
        state.go(leg.after)
        if leg.after == "InService":
            aws_events.outcome(group, state, aws_events.LAUNCHED)
