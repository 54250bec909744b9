"""What is around a drain: finding the agent, and telling of the phase."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from hafleet import show
from hafleet.adapters.lock import NodeLocks
from hafleet.core.model import Phase
from hafleet.core.report import failed
from hafleet.web.metrics import Metrics

REPORT = replace(failed("edge", 100.0, ("timer",), ""), errors=())


def test_the_agent_is_the_process_that_has_its_lock_file_open(tmp_path: Path) -> None:
    locks = NodeLocks(tmp_path)
    assert locks.agent_pid() is None
    with locks.agent():
        assert locks.agent_pid() == os.getpid()
    assert locks.agent_pid() is None  # the pid is still in the file, but this process holds it no longer


@pytest.mark.parametrize("content", ["", "no pid", "999999999"])
def test_a_lock_file_without_a_living_pid_names_no_agent(tmp_path: Path, content: str) -> None:
    (tmp_path / "agent.lock").write_text(content)
    assert NodeLocks(tmp_path).agent_pid() is None


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_phase_is_one_of_three_gauges_and_a_broken_pass_leaves_them() -> None:
    metrics = Metrics()
    phases: tuple[Phase, ...] = ("joining", "serving", "leaving")
    for phase in phases:
        metrics.record(replace(REPORT, phase=phase, red_since=7.0 if phase == "leaving" else 0.0))
        assert [sample(metrics, "hafleet_phase", phase=each) for each in phases] == [each == phase for each in phases]
    metrics.record(REPORT)
    assert sample(metrics, "hafleet_phase", phase="leaving") == 1
    assert sample(metrics, "hafleet_health_red") == 1


def text(phase: Phase | None, leaving: tuple[str, ...] = (), red_since: float = 0.0) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(show.status(replace(REPORT, phase=phase, leaving=leaving, red_since=red_since), 100.0))
    return captured.get()


def test_status_shows_the_phase_with_its_reasons() -> None:
    assert "phase serving\n" in text("serving")
    assert "phase leaving: Auto Scaling says Standby, works on it  health red for 30s" in text(
        "leaving", ("Auto Scaling says Standby", "works on it"), 70.0
    )
    assert "phase" not in text(None)
