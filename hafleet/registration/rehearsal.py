"""A dry plan: the step machine run against the effects that each step would have. Checks are read; nothing is written."""

from collections.abc import Callable
from dataclasses import replace

from hafleet.core.dns.model import Check, CheckMemo, Record
from hafleet.core.dns.plan import (
    ASSUMED,
    Apply,
    AwaitInsync,
    CreateCheck,
    DeleteCheck,
    Look,
    LookCheck,
    Move,
    Remember,
    Scene,
    Step,
    Wait,
    after,
)
from hafleet.core.dns.report import DnsPlan
from hafleet.core.dns.steps import next_step
from hafleet.errors import HafleetError

_MOST_STEPS = 500


def rehearse(scene: Scene, check: Callable[[str], Check | None]) -> DnsPlan:
    """All steps from this scene on, each taken to succeed.

    Args:
        scene: with the whole tree seen.
        check: reads one health check.
    """
    steps: list[Step] = []
    records = scene.seen.records
    for _ in range(_MOST_STEPS):
        move = next_step(scene)
        if move.step is None:
            return _plan(steps, move, records)
        if not isinstance(move.step, Remember | Look | LookCheck):
            steps.append(move.step)
        scene = _assume(scene, move.step, check)
    raise HafleetError("the plan does not come to an end", where="dns", fix="report it, with this output")


def _plan(steps: list[Step], move: Move, records: tuple[Record, ...]) -> DnsPlan:
    problems = tuple(str(HafleetError(b.what, where=b.where, fix=b.fix)) for b in move.blocked)
    return DnsPlan(tuple(steps), records, move.held, problems)


def _assume(scene: Scene, step: Step, check: Callable[[str], Check | None]) -> Scene:
    """The scene after a step that succeeded."""
    seen, memory = scene.seen, scene.memory
    match step:
        case Remember(after_it):
            memory = after_it
        case CreateCheck(slot, memo):
            memory = replace(
                memory, checks={**memory.checks, slot: CheckMemo(memo.reference, memo.config, f"(new {slot})")}
            )
        case Apply(batch):
            seen = replace(seen, records=after(seen.records, batch, ASSUMED))
            memory = replace(memory, change=ASSUMED)
        case AwaitInsync():
            memory = replace(memory, change="")
        case DeleteCheck(id_):
            memory = replace(memory, old_checks=tuple(old for old in memory.old_checks if old != id_))
        case LookCheck(id_):
            seen = replace(seen, checks={**seen.checks, id_: check(id_)})
        case Look():
            seen = replace(seen, fresh=True)
        case Wait(until):
            scene = replace(scene, at=max(until, scene.at))
    return replace(scene, seen=seen, memory=memory)
