"""Reports and where they go."""

import io
import json
import logging
import re
import subprocess
import sys
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from hafleet import publish
from hafleet.core.model import Held, Member, Memory, Node, Peer, RunningServer, Unknown, Worker, World
from hafleet.core.report import Report, backend_reports, failed, node_name, peer_names, proxy_report
from hafleet.errors import StoreError
from hafleet.logs import JsonLines
from hafleet.web.metrics import Metrics
from tests.loglines import logged

NODE = Node("i-0123456789abcdef0", IPv4Address("10.0.0.1"), "z", "r")


def running(name: str, **change: object) -> RunningServer:
    server = RunningServer("site", name, 1, "10.0.0.9", 80, False, False, 100, True, True, 2)
    return replace(server, **change)  # type: ignore[arg-type]  # a table of mixed fields


def worker(*servers: RunningServer) -> Worker:
    return Worker((3, 2, 26), 1, 2, 50.0, 20.0, "stamp", {(s.backend, s.name): s for s in servers}, {}, 1, 4)


def member(name: str, draining: bool = False) -> Member:
    return Member(name, name, IPv4Address("10.0.0.9"), 80, "z", draining=draining)


def test_backends_are_counted_from_what_is_wanted_and_what_runs() -> None:
    seen = worker(
        running("a"), running("b", weight=0), running("c", up=False), running("d", maint=True), running("e", drain=True)
    )
    rows = backend_reports({"site": (member("a"), member("b", True), member("c")), "aaa": ()}, seen)
    assert [(r.name, r.members, r.draining, r.up, r.sessions, r.parked) for r in rows] == [
        ("aaa", 0, 0, 0, 0, 0),
        ("site", 3, 1, 1, 10, 1),
    ]
    assert backend_reports({"site": (member("a"),)}, Unknown("gone"))[0].up == 0


def test_small_views() -> None:
    assert proxy_report(Unknown("x")) is None
    found = proxy_report(worker())
    assert found and found.version == (3, 2, 26) and found.failed_reloads == 4
    seen = World(1.0, NODE, Unknown(""), Unknown(""), Unknown(""))
    assert node_name(seen, Memory()) == NODE.id
    assert node_name(replace(seen, node=Unknown("")), Memory(node=NODE)) == NODE.id
    assert node_name(replace(seen, node=Unknown("")), Memory()) == ""
    assert peer_names((Peer("a", IPv4Address("10.0.0.1"), 1),)) == ("a",)


REPORT = replace(
    failed("edge", 1000.0, ("timer",), "x"),
    errors=(),
    backends=backend_reports({"site": (member("a"),)}, worker(running("a"))),
    proxy=proxy_report(worker()),
    membership_at=990.0,
)


def published(tmp_path: Path, reports: list[Report]) -> tuple[list[dict[str, object]], Metrics]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines())
    metrics = Metrics()
    publisher = publish.Publisher(metrics, tmp_path / "s" / "status.json", logged(handler))
    for report in reports:
        publisher(report)
    return [json.loads(line) for line in out.getvalue().splitlines()], metrics


def test_the_status_file_reads_back(tmp_path: Path) -> None:
    published(tmp_path, [REPORT])
    assert publish.read_status(tmp_path / "s" / "status.json") == REPORT


def test_the_status_file_names_the_version_of_haproxy_as_people_do(tmp_path: Path) -> None:
    text = publish.to_json(REPORT).decode()
    assert json.loads(text)["proxy"] == {
        "version": "3.2.26",
        "pid": 2,
        "uptime": 20.0,
        "master_uptime": 50.0,
        "structure": "stamp",
        "old_workers": 1,
        "failed_reloads": 4,
        "old_sessions": 0,
    }
    path = tmp_path / "status.json"
    path.write_text(text.replace("3.2.26", "3.next"))
    with pytest.raises(StoreError, match="damaged"):
        publish.read_status(path)


def test_a_missing_or_damaged_status_file_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no pass was reported yet; start the agent"):
        publish.read_status(tmp_path / "status.json")
    (tmp_path / "status.json").write_text("{}")
    with pytest.raises(StoreError, match="is damaged; run `hafleet once`"):
        publish.read_status(tmp_path / "status.json")


def test_holds_and_faults_are_logged_when_they_come_and_go(tmp_path: Path) -> None:
    held = replace(REPORT, held=(Held("empty", "site", "2 of 2"),), errors=("groups: no answer for 5 s",))
    later = replace(held, errors=("groups: no answer for 15 s",))
    lines, _ = published(tmp_path, [held, later, REPORT, replace(REPORT, commands=3)])
    assert [line["event"] for line in lines] == ["held", "fault", "released", "faults are over", "pass"]
    assert lines[0]["level"] == "warning" and lines[0]["rule"] == "empty"
    assert lines[-1]["commands"] == 3


def test_metrics_say_what_the_report_says(tmp_path: Path) -> None:
    held = replace(
        REPORT, held=(Held("empty", "site", "x"), Held("empty", "api", "x")), reloaded=("peers",), wrote=True
    )
    _, metrics = published(tmp_path, [REPORT, held])
    text = generate_latest(metrics.registry).decode()
    for line in (
        'hafleet_held_steps{rule="empty"} 2.0',
        "hafleet_reloads_total 1.0",
        "hafleet_membership_age_seconds 10.0",
        'hafleet_backend_up{backend="site"} 1.0',
        'hafleet_passes_total{outcome="held"} 1.0',
        "hafleet_haproxy_up 1.0",
    ):
        assert line in text.splitlines()
    published_again, metrics = published(tmp_path, [held, replace(REPORT, proxy=None)])
    text = generate_latest(metrics.registry).decode()
    assert "hafleet_haproxy_up 0.0" in text and "hafleet_held_steps{" not in text
    assert published_again[-1]["event"] == "released"
    assert "_created" not in text
    _, metrics = published(tmp_path, [replace(REPORT, membership_at=0.0)])
    assert "hafleet_membership_age_seconds +Inf" in generate_latest(metrics.registry).decode()  # an alert on age fires


def test_a_fault_that_goes_while_another_stays_is_told(tmp_path: Path) -> None:
    both = replace(REPORT, errors=("a: broken", "b: broken"))
    lines, _ = published(tmp_path, [both, replace(REPORT, errors=("b: broken",)), REPORT])
    assert [(line["event"], line.get("fault")) for line in lines[2:]] == [
        ("fault is over", "a: broken"),
        ("faults are over", None),
    ]


def log_lines(form: str, environment: dict[str, str]) -> list[str]:
    code = (
        f"import logging; from hafleet import logs; logs.set_up('info', {form!r}); log = logs.Log()\n"
        "log.warning('held', rule='empty', subject='site'); log.error('fault', fault='a \"b\": c')\n"
        "log.log(logging.DEBUG, 'pass')"
    )
    argv = [sys.executable, "-c", code]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    assert said.stdout == ""
    return said.stderr.splitlines()


def test_logs_for_the_journal_and_for_people() -> None:
    first, second = log_lines("auto", {"JOURNAL_STREAM": "8:1"})
    assert first.startswith('<4>{"timestamp": "') and second.startswith("<3>{")
    assert list(json.loads(first[3:])) == ["timestamp", "level", "event", "rule", "subject"]
    assert log_lines("json", {})[0].startswith('{"timestamp": "')
    human = log_lines("human", {})
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning held  rule=empty  subject=site", human[0])
    assert human[1].endswith(
        'error   fault  a "b": c'
    )  # the words of a fault stand as they are; no terminal, no colour


def test_orders_are_logged_when_they_come_and_when_they_end(tmp_path: Path) -> None:
    told = replace(REPORT, phase="serving", orders=("kim ordered drain of zone a",))
    broken = replace(told, phase=None, orders=())
    lines, metrics = published(tmp_path, [told, broken, told, replace(told, orders=())])
    assert [(line["event"], line["order"]) for line in lines] == [
        ("order", "kim ordered drain of zone a"),
        ("order is over", "kim ordered drain of zone a"),
    ]
    assert metrics.registry.get_sample_value("hafleet_orders") == 0
