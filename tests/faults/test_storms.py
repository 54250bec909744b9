"""Rows 53, 54 and 66: many changes at once, many old workers, peers that come and go. Reloads stay few."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator

import pytest

from hafleet.lab import proxy as eye
from tests.faults.doubles import without
from tests.faults.stage import HTTP, NODE, Stage, all_held, held, wait
from tests.resources import sessions

pytestmark = pytest.mark.xdist_group("faults-storms")

CHANGES = 1000 if os.environ.get("HAFLEET_LONG") == "1" else 60
EXTRA = '{{% extends "shipped/haproxy.cfg.j2" %}}\n{{% block extra %}}\nbackend {}\n    mode http\n{{% endblock %}}\n'


def change_structure(stage: Stage, name: str) -> None:
    """A template with a backend of this name."""
    (stage.templates / "haproxy.cfg.j2").write_text(EXTRA.format(name))


# --- row 53 -----------------------------------------------------------------------------------------------------------


def test_f53_a_storm_of_changes_costs_one_reload_per_interval_and_the_last_state_wins(stage: Stage) -> None:
    stage.sections["safety"]["reload_min_interval"] = "2s"
    stage.boot({"asg": stage.group(1)})
    wait(lambda: _uptime(stage) >= 2, 60, lambda: "the gap since the start")
    began = time.monotonic()
    told = 0.0
    for number in range(CHANGES):
        change_structure(stage, f"storm{number}")
        stage.turn()
        told = max(told, stage.metric("held_steps", rule="min_interval") or 0)
    spent = time.monotonic() - began
    assert told == 1  # the last pass of the storm may be the one that reloads
    assert 1 <= stage.reloads <= 1 + spent / 2
    wait(lambda: not held(stage.turn()), 60, lambda: "the last reload")
    assert f"backend storm{CHANGES - 1}\n" in stage.config.read_text()
    stage.turn()
    assert stage.report is not None and stage.report.proxy is not None
    assert stage.report.proxy.structure in stage.config.read_text()
    assert stage.reloads <= 3 + spent / 2


def test_f53_control_without_the_gap_every_change_is_a_reload(stage: Stage) -> None:
    stage.sections["safety"]["reload_min_interval"] = "60s"
    stage.reconciler = without("min_interval")
    stage.boot({"asg": stage.group(1)})
    for number in range(4):
        change_structure(stage, f"storm{number}")
        stage.turn()
    assert stage.reloads == 4


def test_f53_a_storm_of_members_costs_no_reload_at_all(stage: Stage) -> None:
    group = stage.group(2)
    stage.boot({"asg": group})
    for size in (6, 3, 8, 2, 7, 4):
        stage.cloud.scale(group, size)
        wait(lambda size=size: len(stage.members(group)) == size, 60, lambda: "the group")  # type: ignore[misc]
        stage.turns(2, seconds=20)
    stage.settle()
    assert stage.rotation() == stage.members(group)
    assert stage.reloads == 0


def _uptime(stage: Stage) -> int:
    for line in eye.ask(stage.runtime, "show info").split("\n"):
        if line.startswith("Uptime_sec: "):
            return int(line.split(": ")[1])
    return 0


# --- row 54 -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def held_connection(stage: Stage) -> Iterator[None]:
    """A request that is never finished keeps its worker alive."""
    with socket.create_connection((stage.address, HTTP), 60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        wait(lambda: sessions(stage.runtime, "web") > 0, 60, lambda: "the worker to accept it")
        yield


def keep_old_workers(stage: Stage) -> None:
    """None ends by a time limit of its own while the test looks."""
    stage.sections["haproxy"] |= {"hard_stop_after": "10m", "timeout_http_request": "10m"}


def test_f54_old_workers_are_capped_but_for_removals(stage: Stage) -> None:
    stage.sections["safety"]["max_old_workers"] = 2
    keep_old_workers(stage)
    group = stage.group(2)
    stage.boot({"asg": group})
    with contextlib.ExitStack() as stack:
        for number in range(2):
            stack.enter_context(held_connection(stage))
            change_structure(stage, f"more{number}")
            assert stage.turn().reloaded
        change_structure(stage, "more2")
        report = stage.turn()
        assert held(report) == ["old_workers"]
        assert stage.metric("old_workers") == 2
        assert stage.reloads == 2
        assert stage.said("'rule': 'old_workers'", "max_old_workers 2")
        stage.cloud.scale(group, 1)  # a server that leaves goes all the same
        assert stage.turn().commands > 0
        assert len(stage.rotation()) == 1
    wait(lambda: bool(stage.turn().reloaded), 60, lambda: "the reload that was held")


def test_f54_control_without_the_cap_they_pile_up(stage: Stage) -> None:
    stage.sections["safety"]["max_old_workers"] = 2
    keep_old_workers(stage)
    stage.reconciler = without("old_workers")
    stage.boot({"asg": stage.group(1)})
    with contextlib.ExitStack() as stack:
        for number in range(4):
            stack.enter_context(held_connection(stage))
            change_structure(stage, f"more{number}")
            stage.turn()
        stage.turn()
        assert stage.metric("old_workers") == 4


# --- row 55: a drain is over when nobody uses the server, old workers included ----------------------------------------


def test_f55_a_drain_does_not_end_early_while_an_old_worker_may_still_use_the_server(stage: Stage) -> None:
    group = stage.group(2)
    keep_old_workers(stage)
    stage.boot({"asg": group})
    with held_connection(stage):
        change_structure(stage, "fresh")
        assert stage.turn().reloaded
        stage.cloud.scale(group, 1)
        stage.turn()
        stage.turn(seconds=10)  # far beyond what an idle server needs
        assert len([row for row in stage.rows() if row.status != "MAINT"]) == 2
    wait(lambda: eye.master(stage.master).old_workers == 0, 60, lambda: "the end of the old worker")
    stage.turn(seconds=3)
    assert len([row for row in stage.rows() if row.status != "MAINT"]) == 1


# --- row 66 -----------------------------------------------------------------------------------------------------------


def _peers(stage: Stage) -> str:
    """A node whose own group feeds the peers; returns the group."""
    group = stage.group(2)
    stage.sections["node"]["static"]["asg"] = group
    stage.sections["peers"]["settle"] = "30s"
    stage.site["stick"] = {"on": "src", "size": "1k", "expire": "10m"}
    stage.boot({"static": [stage.address]})
    return group


def test_f66_peers_that_come_and_go_cost_one_reload_when_they_have_settled(stage: Stage) -> None:
    group = _peers(stage)
    text = stage.config.read_text()
    assert NODE in text and all(name in text for name in stage.members(group))
    reports = []
    for size in (3, 4, 5, 6):
        stage.scale(group, size)
        reports.append(stage.turn())
    assert all_held(reports) == {"peers_settle"}
    assert stage.reloads == 0
    eye.ask(stage.runtime, "set table site key 192.0.2.7 data.server_id 1")
    reports = stage.turns(5)
    assert sum(bool(report.reloaded) for report in reports) == 1
    text = stage.config.read_text()
    assert all(f"peer {name} " in text for name in (NODE, *stage.members(group)))
    assert stage.reloads == 1


def test_f66_a_peer_that_leaves_takes_no_entry_with_it(stage: Stage) -> None:
    group = _peers(stage)
    # A worker hands its table on only when its own first resync is over, some five seconds after a cold start.
    wait(lambda: _uptime(stage) >= 8, 60, lambda: "the first resync")
    eye.ask(stage.runtime, "set table site key 192.0.2.7 data.server_id 1")
    assert "192.0.2.7" in eye.ask(stage.runtime, "show table site")
    stage.cloud.scale(group, 1)
    stage.turns(5)
    assert stage.reloads == 1
    wait(lambda: "192.0.2.7" in eye.ask(stage.runtime, "show table site"), 60, lambda: "the entry in the new worker")


def test_f66_control_without_the_quiet_time_every_change_is_a_reload(stage: Stage) -> None:
    group = _peers(stage)
    stage.sections["peers"]["settle"] = 0
    stage.write()
    stage.turn()
    for size in (3, 4, 5):
        stage.scale(group, size)
        stage.turn()
    assert stage.reloads == 3
