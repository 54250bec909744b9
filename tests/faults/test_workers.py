"""Rows 50 to 52 on every version: a worker that hangs, that dies, or whose socket is missing, mute, mad or endless."""

import os
import signal
from dataclasses import replace

import pytest

from hafleet.core.model import Silent, Unknown, World
from hafleet.lab.haproxies import Haproxy
from hafleet.reconcile import Ports, Reconciler
from tests.faults.conftest import StageMaker
from tests.faults.liars import Behave, endless, garbage, listening, silent
from tests.faults.stage import HTTP, Stage, held, wait
from tests.resources import allow

pytestmark = pytest.mark.xdist_group("faults-workers")


@pytest.fixture
def versioned(make_stage: StageMaker, haproxy: Haproxy) -> Stage:
    """A calm node with two servers, on each version."""
    stage = make_stage(haproxy)
    stage.boot({"asg": stage.group(2)})
    return stage


def impatient(ports: Ports) -> Ports:
    """The two seconds for an answer of the worker, scaled down: for one that never answers."""
    allow(ports.proxy, runtime=0.7, master=4.0)
    return ports


def hurry(stage: Stage, seconds: float) -> None:
    """From now on the worker may take so long for an answer."""
    assert stage.assembly is not None
    allow(stage.assembly.reconciler._ports.proxy, runtime=seconds, master=4.0)


def gets_an_answer(stage: Stage) -> bool:
    try:
        return stage.get(port=HTTP, timeout=0.5)[0] == 200
    except OSError:
        return False


class Patient(Reconciler):
    """The control: it never looks past a worker that does not answer."""

    def observe(self, *, rests: bool = False) -> World:
        seen = super().observe(rests=rests)
        return replace(seen, worker=Unknown(seen.worker.reason)) if isinstance(seen.worker, Silent) else seen


# --- row 50 -----------------------------------------------------------------------------------------------------------


def test_f50_a_frozen_worker_is_replaced_after_three_probes_by_one_reload(versioned: Stage) -> None:
    stage = versioned
    before = stage.picture()
    os.kill(before.worker, signal.SIGSTOP)
    try:
        assert not gets_an_answer(stage)
        hurry(stage, 0.7)
        for _ in range(2):
            report = stage.turn()
            assert not report.reloaded
            assert any("haproxy:" in error and "does not answer" in error for error in report.errors)
        assert stage.metric("haproxy_up") == 0
        hurry(stage, 3.0)  # the new worker is asked, too
        report = stage.turn()
        assert report.reloaded == ("the worker hangs (3 passes)",), report.errors
        # All of them: the frozen worker's own listening sockets are gone with it.
        wait(lambda: all(gets_an_answer(stage) for _ in range(20)), 60, lambda: "traffic")
        after = stage.picture()
        hurry(stage, 20.0)
        assert (after.text, after.reloads) == (before.text, before.reloads + 1)
        assert after.worker != before.worker
        report = stage.turn()
        assert (report.reloaded, report.errors) == ((), ())
    finally:
        _continue(before.worker)


def _continue(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def test_f50_control_an_agent_that_only_waits_waits_for_ever(stage: Stage) -> None:
    stage.reconciler, stage.ports = Patient, impatient
    stage.boot({"asg": stage.group(1)})
    before = stage.picture()
    os.kill(before.worker, signal.SIGSTOP)
    try:
        assert not any(report.reloaded for report in stage.turns(4))
        assert not gets_an_answer(stage)
    finally:
        _continue(before.worker)


# --- row 51 -----------------------------------------------------------------------------------------------------------


def test_f51_after_the_death_of_a_worker_the_agent_waits_for_the_supervisor_and_reloads_nothing(
    versioned: Stage,
) -> None:
    stage = versioned
    before = stage.picture()
    os.kill(before.worker, signal.SIGKILL)
    assert stage.process is not None
    stage.process.wait(60)  # the master goes with its worker
    reports = stage.turns(2)
    assert not any(report.reloaded or report.wrote for report in reports)
    assert all("haproxy:" in report.errors[0] for report in reports)
    assert stage.config.read_bytes() == before.text
    stage.stop_haproxy()
    stage.start_haproxy()  # what systemd does
    stage.settle()
    after = stage.picture()
    assert (after.text, after.rotation, after.reloads) == (before.text, before.rotation, 0)


def test_f51_changes_that_came_while_haproxy_was_down_are_in_the_file_it_starts_on(stage: Stage) -> None:
    group = stage.group(1)
    stage.boot({"asg": group})
    stage.stop_haproxy()
    stage.scale(group, 2)
    assert stage.turn().wrote
    stage.start_haproxy()
    assert stage.rotation() == stage.members(group)
    assert stage.turn().commands == 0


def test_f51_control_a_reload_of_a_young_haproxy_is_what_the_guard_holds(stage: Stage) -> None:
    stage.sections["safety"]["cold_start_quiet"] = "3600s"
    stage.boot({"asg": stage.group(1)})
    extra = '{% extends "shipped/haproxy.cfg.j2" %}{% block extra %}\nbackend fresh\n    mode http\n{% endblock %}\n'
    (stage.templates / "haproxy.cfg.j2").write_text(extra)
    assert held(stage.turn()) == ["cold_start"]
    stage.sections["safety"]["cold_start_quiet"] = 0
    stage.write()
    assert stage.turn().reloaded  # the same reload, without that rule


# --- row 52 -----------------------------------------------------------------------------------------------------------

LIARS: dict[str, Behave] = {"mute": silent, "garbage": garbage, "endless": endless}


def _changes_go_by_reload(stage: Stage, group: str) -> None:
    """Whatever is wrong with the runtime socket: nothing is lost, and a change arrives."""
    before = stage.picture_without_runtime()
    reports = stage.turns(3)
    assert all("haproxy:" in report.errors[0] for report in reports)
    assert not any(report.reloaded for report in reports)  # nothing to change, so no reload
    assert stage.picture_without_runtime() == before
    stage.scale(group, 3)
    report = stage.turn()
    assert report.reloaded and "changes go by reload" in report.reloaded[0], report.errors
    assert stage.installed() == set(stage.members(group))
    wait(lambda: gets_an_answer(stage), 60, lambda: "traffic")
    assert not stage.turn().reloaded


def test_f52_with_a_missing_socket_changes_go_by_reload(versioned: Stage) -> None:
    stage = versioned
    stage.runtime.unlink()
    _changes_go_by_reload(stage, stage.site["sources"][0]["asg"])


@pytest.mark.parametrize("liar", LIARS)
def test_f52_with_a_socket_that_lies_changes_go_by_reload(stage: Stage, liar: str) -> None:
    group = stage.group(2)
    stage.ports = impatient
    stage.boot({"asg": group})
    hidden = stage.runtime.with_suffix(".hidden")
    stage.runtime.rename(hidden)
    with listening(stage.runtime, LIARS[liar]):
        _changes_go_by_reload(stage, group)


def test_f52_control_an_agent_that_only_writes_files_serves_the_old_servers(stage: Stage) -> None:
    group = stage.group(2)
    stage.reconciler, stage.ports = Patient, impatient
    stage.boot({"asg": group})
    stage.runtime.unlink()
    stage.scale(group, 3)
    reports = stage.turns(4)
    assert not any(report.reloaded for report in reports)
    assert stage.reloads == 0
