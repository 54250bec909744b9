"""Servers that end through a hook, as the log, the metrics and ``hafleet status`` tell them."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hafleet import show
from hafleet.core.endings import EndingReport, EndingRow
from hafleet.core.life import Deed
from hafleet.core.report import Report
from hafleet.publish import to_json
from tests.unit.test_report import REPORT, published

ROW = EndingRow("i-00000000000000001", "app", "i-0000000000000000b to drain it")
TOLD = EndingReport(at=1.0, rows=(ROW,))


def lines(folder: Path, *told: EndingReport | None) -> tuple[list[dict[str, Any]], Any]:
    found, metrics = published(folder, [replace(REPORT, endings=each) for each in told])
    return [line for line in found if line["event"] == "server hooks"], metrics.registry.get_sample_value


def test_a_deed_is_logged_once_and_a_problem_when_it_comes(tmp_path: Path) -> None:
    released = replace(TOLD, rows=(), done=(Deed(5.0, "completed hook h"),))
    later = replace(released, done=(*released.done, Deed(6.0, "completed hook g")))
    refused = replace(later, problems=("not allowed",))
    found, value = lines(tmp_path, TOLD, released, released, later, refused, refused, later, refused, TOLD, None)
    assert [line.get("did") or line.get("problem") for line in found] == [
        "completed hook h",
        "completed hook g",
        "not allowed",
        "not allowed",  # it had gone meanwhile
    ]
    assert value("hafleet_servers_ending") == 1


@pytest.mark.parametrize(("problems", "count"), [((), 0), (("a", "b"), 2)])
def test_problems_are_counted(tmp_path: Path, problems: tuple[str, ...], count: int) -> None:
    _, value = lines(tmp_path, replace(TOLD, rows=(), problems=problems))
    assert (value("hafleet_server_hook_problems"), value("hafleet_servers_ending")) == (count, 0)


def shown(report: Report) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(show.status(report, 10.0))
    return console.export_text()


def test_status_says_for_what_it_waits() -> None:
    text = shown(replace(REPORT, endings=replace(TOLD, problems=("not allowed",))))
    assert "ends i-00000000000000001 of app  waits: i-0000000000000000b to drain it" in text
    assert "fault server hooks not allowed" in text
    assert "ends" not in shown(replace(REPORT, endings=None))


def test_the_status_file_holds_it() -> None:
    found = json.loads(to_json(replace(REPORT, endings=TOLD)))["endings"]
    assert found["rows"] == [{"instance": ROW.instance, "group": "app", "waiting": ROW.waiting}]
