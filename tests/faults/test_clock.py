"""Rows 37 and 38: the wall clock jumps, the host stands still. No wait is over merely because a clock says so."""

import dataclasses

import pytest

from hafleet.core.model import Memory
from hafleet.ports import Store
from tests.faults.stage import Stage, held

pytestmark = pytest.mark.xdist_group("faults-clock")

YEAR = 365 * 86400.0
SCALING = {"service": "autoscaling"}


@pytest.mark.parametrize("jump", [YEAR, -YEAR, -3600.0], ids=["a-year-ahead", "a-year-back", "an-hour-back"])
def test_f37_a_jump_of_the_clock_ends_nothing(twelve: Stage, jump: float) -> None:
    before = twelve.picture()
    with twelve.fault("half", **SCALING):
        twelve.turns(3)
        twelve.clock.jump(jump)
        reports = twelve.turns(4)
    assert held(reports[0]) in (["confirm_reads"], ["half_answer"])  # the wait begins anew
    assert all(held(report) == ["half_answer"] for report in reports[1:])
    assert twelve.picture() == before
    twelve.settle()
    assert twelve.picture() == before


def test_f37_control_with_waits_that_trust_the_clock_servers_leave(stage: Stage) -> None:
    stage.boot({"asg": stage.group(12)})
    stage.ports = lambda ports: dataclasses.replace(ports, store=_ReadAt(ports.store, stage))
    stage.birth()
    with stage.fault("half", **SCALING):
        stage.turns(3)
        stage.clock.jump(YEAR)
        stage.turns(2)
    assert len(stage.rotation()) < 12


@dataclasses.dataclass
class _ReadAt:
    """A memory that hides how long ago the last read was, so that a jump is not noticed."""

    real: Store
    stage: Stage

    def load(self, node_id: str | None) -> Memory:
        return dataclasses.replace(self.real.load(node_id), read_at=self.stage.clock.wall())

    def save(self, memory: Memory) -> None:
        self.real.save(memory)


@pytest.mark.parametrize("jump", [-YEAR, -3600.0])
def test_f37_a_drain_that_began_in_the_future_runs_its_time_anew(stage: Stage, jump: float) -> None:
    group = stage.group(4)
    stage.boot({"asg": group})
    stage.cloud.scale(group, 3)
    (going,) = stage.members(group, "Terminating")
    stage.turn()
    stage.clock.jump(jump)
    stage.turn(seconds=1)
    assert {row.name: row.weight for row in stage.rows()}[going] == 0
    stage.turn(seconds=31)
    assert {row.name: row.status for row in stage.rows()}[going] == "MAINT"


def test_f37_a_clock_that_went_back_does_not_hold_a_reload_for_good(stage: Stage) -> None:
    stage.boot({"asg": stage.group(1)})
    (stage.templates / "haproxy.cfg.j2").write_text(
        f'{{% extends "shipped/haproxy.cfg.j2" %}}{{% block extra %}}\nlisten x\n    bind {stage.address}:9000 transparent\n'
        "    mode http\n    http-request return status 200\n{% endblock %}\n"
    )
    store = stage.assembly.reconciler._ports.store if stage.assembly else None
    assert store is not None
    store.save(dataclasses.replace(stage.memory, reload_failures=5, reload_failed_at=stage.clock.wall()))
    assert held(stage.turn()) == ["reload_failing"]
    stage.clock.jump(-YEAR)
    assert stage.turn().reloaded


def test_f38_after_a_pause_of_the_host_the_first_pass_looks_again_and_evicts_nobody(stage: Stage) -> None:
    stage.sections["safety"]["hold_max"] = "300s"
    stage.boot({"asg": stage.group(12)})
    before = stage.picture()
    with stage.fault("half", **SCALING):
        stage.turns(3)
        calls = sum(stage.cloud.calls().values())
        report = stage.turn(seconds=600)  # the host stood still for ten minutes
        assert sum(stage.cloud.calls().values()) > calls
        assert held(report) == ["confirm_reads"]  # what was missing before the pause counts anew
        assert held(stage.turn()) == ["half_answer"]
        assert stage.picture() == before
    stage.settle()
    assert stage.picture() == before


def test_f38_control_time_that_the_agent_has_seen_pass_does_end_the_hold(stage: Stage) -> None:
    stage.sections["safety"]["hold_max"] = "300s"
    stage.boot({"asg": stage.group(12)})
    with stage.fault("half", **SCALING):
        stage.turns(4, seconds=200)
    assert len(stage.rotation()) < 12
