"""Connections that were cut are said once: by the hooks' side, in the log, the metrics, the status file and `hafleet status`."""

import io
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from rich.console import Console

from hafleet import publish, show
from hafleet.core.cuts import Cut
from hafleet.core.model import Hook
from hafleet.core.report import ProxyReport, Report, failed
from hafleet.errors import HookGone
from hafleet.logs import JsonLines
from hafleet.web.metrics import Metrics
from tests.loglines import logged
from tests.unit.test_hook_keeper import LEAVES, Stage

BUSY = replace(LEAVES, sessions=4, old_workers=1, old_sessions=2)
DRAIN = {"quiet": 1, "max": 120}
PLAIN = replace(
    failed("edge", 1000.0, ("timer",), ""), errors=(), proxy=ProxyReport((3, 2, 26), old_workers=1, old_sessions=2)
)
FIRST = Cut(1, 990.0, "server", "site/i-0a", 3, 0, "drained for 5 s")
SECOND = Cut(2, 995.0, "reload", "old worker 7", 2, 0, "hard_stop_after of 300 s is over")


# --- the hooks' side ------------------------------------------------------------------------------------------------


def cuts_of(stage: Stage, *hooks: str) -> list[int]:
    """What the deeds of a drain over its limit say, with these hooks."""
    stage.listed = tuple(Hook(name, "terminate", 300.0) for name in hooks)
    keeper = stage.keeper(drain=DRAIN)
    stage.run(keeper, BUSY)
    return [deed.cut for deed in stage.run(keeper, BUSY, 120.0).done if "completed" in deed.what]


def test_the_first_hook_that_is_completed_tells_what_is_cut() -> None:
    assert cuts_of(Stage(), "a") == [6]
    assert cuts_of(Stage(), "a", "b") == [6, 0]


def test_a_drained_node_cuts_nothing() -> None:
    stage = Stage()
    keeper = stage.keeper(drain=DRAIN)
    stage.run(keeper, LEAVES)
    report = stage.run(keeper, LEAVES, 60.0)
    assert [deed.cut for deed in report.done if "completed" in deed.what] == [0]


def test_what_was_decided_to_be_cut_is_told_by_the_next_process_where_the_first_could_not() -> None:
    stage = Stage()
    stage.faults["complete"] = HookGone("nobody", where="autoscaling")
    keeper = stage.keeper(drain=DRAIN)
    stage.run(keeper, BUSY)
    stage.run(keeper, BUSY, 120.0)
    assert stage.kept is not None and stage.kept.cut == 6
    stage.faults.clear()
    again = stage.keeper(drain=DRAIN)
    told = stage.run(again, replace(BUSY, sessions=1), 70.0)
    assert [deed.cut for deed in told.done] == [6]
    assert stage.kept.cut == 0


# --- what is told ---------------------------------------------------------------------------------------------------


def published(folder: Path, *reports: Report) -> tuple[list[dict[str, object]], str]:
    """The lines of the log, and the metrics."""
    out, metrics = io.StringIO(), Metrics()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines())
    publisher = publish.Publisher(metrics, folder / "status.json", logged(handler))
    for report in reports:
        publisher(report)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    return [line for line in lines if line["event"] == "connections cut"], generate_latest(metrics.registry).decode()


def test_each_cut_is_one_line_of_the_log_and_is_counted_once(tmp_path: Path) -> None:
    lines, metrics = published(
        tmp_path, replace(PLAIN, cuts=(FIRST,)), replace(PLAIN, cuts=(FIRST, SECOND)), replace(PLAIN, cuts=(SECOND,))
    )
    assert [(line["level"], line["by"], line["connections"]) for line in lines] == [
        ("warning", "server", 3),
        ("warning", "reload", 2),
    ]
    assert lines[0]["cut"] == "3 connections of site/i-0a cut (drained for 5 s)"
    for series in ('cut_total{by="server"} 3.0', 'cut_total{by="reload"} 2.0', 'cut_total{by="node"} 0.0'):
        assert f"hafleet_connections_{series}\n" in metrics
    assert "hafleet_old_worker_connections 2.0\n" in metrics
    assert publish.read_status(tmp_path / "status.json").cuts == (SECOND,)


@pytest.mark.parametrize("cuts", [(), (FIRST,)])
def test_status_shows_them_and_what_old_workers_hold(cuts: tuple[Cut, ...]) -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(show.status(replace(PLAIN, cuts=cuts), 1000.0))
    text = console.export_text()
    assert "old workers 1 with 2 connections" in text
    assert ("cut 10s ago  3 connections of site/i-0a cut (drained for 5 s)" in text) == bool(cuts)
