"""``hafleet dns list|plan|reap``, and what the other commands say of DNS, on real nodes that register in the local Route 53."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hafleet.lab.node import Node
from hafleet.lab.processes import wait_until
from tests.behaviour.dns_stage import (
    DONE,
    FAILED,
    HELD,
    NAME,
    NOWHERE,
    PENDING,
    SETTINGS,
    TTL,
    ZONE,
    Stage,
    changed,
    metric,
    quiet,
    settled,
    staged,
)

pytestmark = [pytest.mark.deep, pytest.mark.xdist_group("dns commands")]  # one lab for all of them

Told = "subprocess.CompletedProcess[str]"
GHOST, SHADE = "i-0dead000000000001", "i-0dead000000000002"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged() as made:
        yield made


@pytest.fixture(scope="module")
def node(stage: Stage) -> Node:
    return stage.lab.nodes[0]


@pytest.fixture
def still(stage: Stage) -> Iterator[Node]:
    """A node whose agent is stopped, so that a command finds the world as the test left it."""
    with quiet(stage.lab.nodes[0]) as node:
        yield node


def as_json(done: "subprocess.CompletedProcess[str]", code: int) -> dict[str, Any]:
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


# --- what stands -----------------------------------------------------------------------------------------------------


def test_help_teaches_and_a_shell_is_told_of_the_commands() -> None:
    def hafleet(*words: str, **more: str) -> str:
        argv = [sys.executable, "-m", "hafleet.cli", *words]
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=120, check=True, env={**os.environ, **more}
        ).stdout

    text = hafleet("dns", "--help")
    assert all(word in text for word in ("list", "plan", "reap")), text
    assert "exit 4" in hafleet("dns", "reap", "--help")
    assert "4 changes pending" in hafleet("dns", "plan", "--help")
    for shell in ("bash", "fish", "zsh"):
        typed = {"COMP_WORDS": "hafleet dns ", "COMP_CWORD": "" if shell == "fish" else "2"}
        ask = {"_HAFLEET_COMPLETE": f"{shell}_complete", **typed}
        words = subprocess.run(
            [sys.executable, "-c", "from hafleet.cli import main; main(prog_name='hafleet')"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, **ask},
        ).stdout
        assert all(word in words for word in ("list", "plan", "reap")), (shell, words)


def test_list_shows_every_record_and_check_with_its_node(stage: Stage, node: Node) -> None:
    done = stage.run(node, "dns", "list")
    assert done.returncode == DONE, done.stderr
    for each in stage.lab.nodes:
        assert any(
            each.id in line and each.address in line and "weight 100" in line for line in done.stdout.split("\n")
        )
    found = as_json(stage.run(node, "dns", "list", "--json"), DONE)
    assert {record["set_id"] for record in found["records"]} == {each.id for each in stage.lab.nodes}
    assert {(check["node"], check["used"]) for check in found["checks"]} == {
        (each.id, True) for each in stage.lab.nodes
    }
    assert {record["check"] for record in found["records"]} == {check["id"] for check in found["checks"]}


def test_list_shows_what_is_not_ours_and_what_nobody_uses(stage: Stage, node: Node) -> None:
    check = stage.leave_behind(GHOST, "127.9.9.9", f"old.{NAME}")
    stage.erase(f"old.{NAME}")
    stage.write(Name=f"txt.{NAME}", Type="TXT", TTL=60, ResourceRecords=[{"Value": '"hello"'}])
    try:
        text = stage.run(node, "dns", "list").stdout
        assert "health checks that no record uses" in text and check in text and GHOST in text
        assert f"txt.{NAME}" in text and "simple" in text
        found = as_json(stage.run(node, "dns", "list", "--json"), DONE)
        assert [c["node"] for c in found["checks"] if not c["used"]] == [GHOST]
    finally:
        stage.delete_check(check)


def test_status_and_metrics_tell_of_the_registration(stage: Stage, node: Node) -> None:
    wait_until(lambda: settled(stage, node), 60, "the node to be registered", every=0.2)
    text = stage.run(node, "status").stdout
    assert "dns registered" in text and f"{NAME} A [{node.id}] {node.address} weight 100 ttl {TTL}" in text
    assert metric(node, "hafleet_dns_registered") == 1
    assert metric(node, "hafleet_dns_problems") == 0
    assert sum(metric(each, "hafleet_dns_leader") for each in stage.lab.nodes) == 1


# --- what would be done ----------------------------------------------------------------------------------------------


def test_a_registered_node_has_nothing_to_do(stage: Stage, node: Node) -> None:
    done = stage.run(node, "dns", "plan")
    assert (done.returncode, done.stdout) == (DONE, "nothing to do: Route 53 has what it should\n")
    assert as_json(stage.run(node, "dns", "plan", "--json"), DONE) == {"steps": [], "held": [], "problems": []}


def test_a_change_is_planned_then_done_by_once(stage: Stage, still: Node, tmp_path: Path) -> None:
    path = changed(still, tmp_path / "hafleet.yaml", lambda s: s["dns"].update(weight=7))
    before = stage.writes()
    planned = as_json(stage.run(still, "dns", "plan", "--json", settings=path), PENDING)["steps"]
    assert any(
        f"change of the own record: change {NAME} A [{still.id}]" in step and "weight 7" in step for step in planned
    )
    assert planned[-1] == "wait until it is in force everywhere"
    assert "weight 7" in stage.run(still, "dns", "plan", settings=path).stdout
    whole = stage.run(still, "plan", settings=path)
    assert whole.returncode == PENDING and "dns: change of the own record" in whole.stdout
    assert as_json(stage.run(still, "plan", "--json", settings=path), PENDING)["dns"] == planned
    assert stage.writes() == before
    done = as_json(stage.run(still, "once", "--json", settings=path), DONE)
    assert done["dns"]["registered"] and stage.records()[still.id]["Weight"] == 7
    assert stage.run(still, "dns", "plan", settings=path).returncode == DONE
    back = stage.run(still, "once")
    assert back.returncode == DONE and "dns: change of the own record" in back.stdout
    assert stage.records()[still.id]["Weight"] == 100


def test_a_new_check_is_planned_before_the_old_one_goes(stage: Stage, still: Node, tmp_path: Path) -> None:
    path = changed(still, tmp_path / "hafleet.yaml", lambda s: s["dns"]["health"]["endpoint"].update(interval=30))
    steps = as_json(stage.run(still, "dns", "plan", "--json", settings=path), PENDING)["steps"]
    (old,) = (r["HealthCheckId"] for r in stage.records().values() if r["SetIdentifier"] == still.id)
    order = [
        next(n for n, s in enumerate(steps) if word in s) for word in ("create health", "change of", "wait until", old)
    ]
    assert order == sorted(order) and steps[-1] == f"delete health check {old}"


def test_once_beside_an_agent_leaves_dns_to_it(stage: Stage, node: Node, tmp_path: Path) -> None:
    wait_until(lambda: settled(stage, node), 60, "the agent to have told of DNS", every=0.2)
    path = changed(node, tmp_path / "hafleet.yaml", lambda s: s["dns"].update(weight=9))
    done = stage.run(node, "once", "--json", settings=path)
    assert done.returncode == DONE, done.stderr
    assert stage.records()[node.id]["Weight"] == 100
    assert "dns registered" in stage.run(node, "status").stdout  # what the agent told last is still shown


# --- what cannot be done ---------------------------------------------------------------------------------------------


def without(settings: dict[str, Any]) -> None:
    del settings["dns"]


def section(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda settings: settings["dns"].update(values)


def test_without_a_dns_section_each_command_says_so(stage: Stage, still: Node, tmp_path: Path) -> None:
    path = changed(still, tmp_path / "hafleet.yaml", without)
    for command in (("list",), ("plan",), ("reap",), ("reap", "--yes", "--group", "edge")):
        done = stage.run(still, "dns", *command, settings=path)
        assert done.returncode == FAILED and "no dns section" in done.stderr and "docs/dns.md" in done.stderr, command
        assert not done.stdout
    stage.run(still, "once", settings=path)  # the file names its settings
    assert as_json(stage.run(still, "plan", "--json", settings=path), DONE)["dns"] == []
    assert as_json(stage.run(still, "once", "--json", settings=path), DONE)["dns"] is None


def test_settings_that_do_not_fit_are_told_before_anything_is_written(
    stage: Stage, still: Node, tmp_path: Path
) -> None:
    other = stage.lab.cloud.create_zone("other.test")
    stage.write(Name=f"plain.{ZONE}", Type="A", TTL=60, ResourceRecords=[{"Value": "127.8.8.8"}])
    stage.write(
        Name=f"geo.{ZONE}",
        Type="A",
        SetIdentifier="all",
        GeoLocation={"CountryCode": "*"},
        TTL=60,
        ResourceRecords=[{"Value": "127.8.8.8"}],
    )
    wrong = [
        (section(zone="elsewhere.test", name="lb.elsewhere.test"), FAILED, "there is no public zone elsewhere.test"),
        (section(zone=None, zone_id=other), FAILED, f"{NAME} does not lie in zone {other}, which is other.test"),
        (section(zone=None, zone_id="Z00000000000000000000"), FAILED, "zone"),
        (section(private=True), FAILED, "and a private one is wanted"),
        (section(zone="other.test"), SETTINGS, f"the record '{NAME}' is not inside the zone 'other.test'"),
        (section(name=f"plain.{ZONE}"), FAILED, f"a simple A record stands at plain.{ZONE}"),
        (section(name=f"geo.{ZONE}"), FAILED, f"a geolocation A record stands at geo.{ZONE}"),
        (section(policy="multivalue"), FAILED, "are weighted, the settings say multivalue"),
        (section(ttl=5), FAILED, f"have ttl {TTL}, the settings say 5"),
    ]
    before = stage.writes()
    for number, (change, code, words) in enumerate(wrong):
        path = changed(still, tmp_path / f"{number}.yaml", change)
        done = stage.run(still, "dns", "plan", settings=path)
        assert done.returncode == code and words in done.stdout + done.stderr, (words, done.stdout, done.stderr)
        applied = stage.run(still, "once", settings=path)
        assert applied.returncode == code and words in applied.stdout + applied.stderr, (words, applied.stdout)
    assert stage.writes() == before
    assert set(stage.records(f"plain.{ZONE}")) == {""}


def test_a_newcomer_with_another_ttl_writes_nothing(stage: Stage, still: Node, tmp_path: Path) -> None:
    check = stage.leave_behind(GHOST, "127.9.9.9", f"young.{ZONE}")
    path = changed(still, tmp_path / "hafleet.yaml", section(name=f"young.{ZONE}", ttl=5))
    before = stage.writes()
    found = as_json(stage.run(still, "dns", "plan", "--json", settings=path), FAILED)
    assert f"ttl {TTL}, the settings say 5" in found["problems"][0] and not found["steps"]
    assert stage.run(still, "once", settings=path).returncode == FAILED
    assert stage.writes() == before
    stage.erase(f"young.{ZONE}")
    stage.delete_check(check)


def test_a_denied_route_53_names_the_permission(stage: Stage, still: Node) -> None:
    assert stage.run(still, "once").returncode == DONE
    fault = stage.lab.cloud.fault("denied", service="route53")
    try:
        for command in (("list",), ("plan",), ("reap",)):
            done = stage.run(still, "dns", *command)
            assert done.returncode == FAILED and "route53:List" in done.stderr, (command, done.stderr)
            assert "to this node's role" in done.stderr and "Traceback" not in done.stderr
        told = stage.run(still, "plan")
        assert told.returncode == FAILED and "route53:List" in told.stdout and "nothing to do: " in told.stdout
        report = as_json(stage.run(still, "once", "--json"), FAILED)
        assert not report["errors"] and "route53:List" in report["dns"]["problems"][0]
    finally:
        stage.lab.cloud.heal(fault)


def test_an_unreachable_route_53_fails_and_changes_nothing(stage: Stage, still: Node) -> None:
    assert stage.run(still, "once").returncode == DONE
    before, config = stage.records(), still.config.read_bytes()
    fault = stage.lab.cloud.fault("unreachable", service="route53")
    try:
        for command in (("list",), ("plan",), ("reap", "--yes")):
            done = stage.run(still, "dns", *command)
            assert done.returncode == FAILED and "ListHostedZonesByName" in done.stderr, (command, done.stderr)
        assert as_json(stage.run(still, "once", "--json"), FAILED)["reloaded"] == []
    finally:
        stage.lab.cloud.heal(fault)
    assert (stage.records(), still.config.read_bytes()) == (before, config)


def findings(done: "subprocess.CompletedProcess[str]", code: int) -> dict[str, tuple[str, str]]:
    rows = as_json(done, code)["findings"]
    return {
        row["about"]: (row["state"], f"{row['what']}; {row['fix']}") for row in rows if row["about"] != "security group"
    }


def test_doctor_tries_every_right_and_the_health_endpoint(stage: Stage, node: Node) -> None:
    found = {k: v for k, v in findings(stage.run(node, "doctor", "--json"), DONE).items() if k.startswith("dns ")}
    assert {about for about, (state, _) in found.items() if state == "ok"} == {
        *("dns zone", "dns records", "dns health checks", "dns one health check", "dns one change"),
        *("dns reaping", "dns A record", "dns health endpoint"),
    }
    assert found["dns zone"][1].startswith(f"{NAME} lies in {stage.zone_id}")
    assert found["dns health endpoint"][1].startswith(f"GET http://{node.address}:8403/hafleet-health is answered 200")
    assert found["dns reaping"][1].startswith("EC2 says running")
    text = stage.run(node, "doctor").stdout
    assert "let Route 53's checkers reach port 8403" in text and "route53-healthchecks" in text


def six(settings: dict[str, Any]) -> None:
    """Publish an IPv6 address, too, which no node of the lab has."""
    settings["dns"]["families"] = ["ipv4", "ipv6"]
    settings["haproxy"]["health"] = "[::]:8403"


def test_doctor_names_what_is_denied_and_what_does_not_answer(stage: Stage, node: Node, tmp_path: Path) -> None:
    denied = {
        "ListHealthChecks": "dns health checks",
        "GetChange": "dns one change",
        "ListHostedZonesByName": "dns zone",
    }
    for operation, about in denied.items():
        fault = stage.lab.cloud.fault("denied", service="route53", operation=operation)
        found = findings(stage.run(node, "doctor", "--json"), FAILED)
        stage.lab.cloud.heal(fault)
        assert found[about][0] == "fail" and f"allow route53:{operation} to this node's role" in found[about][1]
        assert [key for key, (state, _) in found.items() if state == "fail"] == [about]
    path = changed(node, tmp_path / "port.yaml", section(health={"endpoint": {"port": 9}}))
    found = findings(stage.run(node, "doctor", "--json", settings=path), FAILED)
    assert found["dns health endpoint"][0] == "fail" and "nobody answers" in found["dns health endpoint"][1]
    path = changed(node, tmp_path / "six.yaml", six)
    found = findings(stage.run(node, "doctor", "--json", settings=path), FAILED)
    assert found["dns AAAA record"][0] == "fail" and "no IPv6 address" in found["dns AAAA record"][1]
    path = changed(node, tmp_path / "alarm.yaml", section(health={"alarm": {"name": "{fleet} {instance}"}}))
    found = findings(stage.run(node, "doctor", "--json", settings=path), DONE)
    assert found["dns health check"][0] == "hint" and node.id in found["dns health check"][1]


# --- reaping ---------------------------------------------------------------------------------------------------------


def test_reap_shows_first_and_does_it_on_demand(stage: Stage, node: Node) -> None:
    done = stage.run(node, "dns", "reap")
    assert (done.returncode, done.stdout) == (DONE, "nothing to reap\n"), done.stderr
    before = stage.checks()
    check = stage.leave_behind(GHOST, "127.9.9.9")
    shown = stage.run(node, "dns", "reap")
    assert shown.returncode == PENDING and f"{GHOST} is gone; it left {NAME} A 127.9.9.9" in shown.stdout
    assert GHOST in as_json(stage.run(node, "dns", "reap", "--json"), PENDING)["lines"][0]
    assert GHOST in stage.records() and check in stage.checks()
    done = stage.run(node, "dns", "reap", "--yes")
    assert done.returncode == DONE and GHOST in done.stdout, (done.stdout, done.stderr)
    assert "waits 1 s: the second proof" in done.stderr
    assert set(stage.records()) == {each.id for each in stage.lab.nodes}
    assert stage.checks() == before
    assert as_json(stage.run(node, "dns", "reap", "--yes", "--json"), DONE) == {"lines": [], "held": [], "problems": []}


def test_a_node_that_runs_is_nobodys_to_reap(stage: Stage, node: Node) -> None:
    (other,) = stage.lab.members("cart")  # it runs, and is no member of the nodes' own group
    check = stage.leave_behind(other.id, "127.9.9.9")
    done = stage.run(node, "dns", "reap", "--yes")
    assert (done.returncode, done.stdout) == (DONE, "nothing to reap\n")
    assert other.id in stage.records()
    stage.erase(NAME, other.id)
    stage.delete_check(check)


def test_away_from_the_fleet_the_group_is_named(stage: Stage, node: Node, tmp_path: Path) -> None:
    away = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": NOWHERE}
    path = changed(node, tmp_path / "hafleet.yaml", lambda s: s.update(state_dir=str(tmp_path / "none")))
    done = stage.run(node, "dns", "reap", settings=path, **away)
    assert done.returncode == FAILED and "--group" in done.stderr
    done = stage.run(node, "dns", "reap", "--group", "no-such-group", settings=path, **away)
    assert done.returncode == FAILED and "no-such-group" in done.stderr
    check = stage.leave_behind(GHOST, "127.9.9.9")
    shown = stage.run(node, "dns", "reap", "--group", "edge", settings=path, **away)
    assert shown.returncode == PENDING and GHOST in shown.stdout, (shown.stdout, shown.stderr)
    done = stage.run(node, "dns", "reap", "--yes", "--group", "edge", settings=path, **away)
    assert done.returncode == DONE, done.stderr
    assert GHOST not in stage.records() and check not in stage.checks()
    assert not (tmp_path / "none").exists()  # nothing is kept where no node is


def test_the_last_record_of_a_name_is_held(stage: Stage, node: Node, tmp_path: Path) -> None:
    name = f"empty.{ZONE}"
    path = changed(node, tmp_path / "hafleet.yaml", section(name=name))
    check = stage.leave_behind(GHOST, "127.9.9.8", name)
    other = stage.leave_behind(SHADE, "127.9.9.9", name)
    done = stage.run(node, "dns", "reap", "--yes", settings=path)
    assert done.returncode == HELD and "last_record" in done.stderr and "until another node has joined" in done.stderr
    assert len(stage.records(name)) == 1 and len({check, other} & stage.checks()) == 1
    held = as_json(stage.run(node, "dns", "reap", "--json", settings=path), HELD)["held"]
    assert [each["rule"] for each in held] == ["last_record"]
    stage.erase(name)
    for left in {check, other} & stage.checks():
        stage.delete_check(left)


# --- leaving ---------------------------------------------------------------------------------------------------------


def test_drain_waits_until_the_record_is_gone_and_ready_brings_it_back(stage: Stage, node: Node) -> None:
    wait_until(lambda: settled(stage, node), 60, "the node to be registered", every=0.2)
    checks = stage.checks()
    done = stage.run(node, "drain", "--wait", "--timeout", "5m")
    assert done.returncode == DONE and done.stdout.endswith("drained\n"), (done.stdout, done.stderr)
    assert node.id not in stage.records()
    wait_until(lambda: len(stage.checks()) == len(checks) - 1, 60, "its check is deleted", every=0.1)
    assert metric(node, "hafleet_dns_registered") == 0
    found = findings(stage.run(node, "doctor", "--json"), FAILED)
    assert "is answered 503: Route 53 takes that for dead" in found["dns health endpoint"][1]
    planned = stage.run(node, "dns", "plan")
    assert (planned.returncode, planned.stdout) == (DONE, "nothing to do: Route 53 has what it should\n")
    assert stage.run(node, "ready").returncode == DONE
    wait_until(lambda: settled(stage, node) and stage.registered(), 120, "the node to be back", every=0.2)


def test_the_last_to_drain_keeps_its_record_and_is_not_waited_for(stage: Stage, node: Node) -> None:
    other = stage.lab.nodes[1]
    wait_until(lambda: settled(stage, node) and settled(stage, other), 120, "both are registered", every=0.2)
    done = stage.run(other, "drain", "--wait", "--timeout", "5m")
    assert done.returncode == DONE and set(stage.records()) == {node.id}, (done.stderr, other.agent_log())
    done = stage.run(node, "drain", "--force", "--wait", "--timeout", "5m")
    assert done.returncode == DONE, done.stderr
    assert set(stage.records()) == {node.id}, (node.agent_log(), other.agent_log())
    text = stage.run(node, "status").stdout
    assert "held  dns" in text and "last_record" in text
    assert stage.run(node, "plan").returncode == HELD
    assert stage.run(node, "dns", "plan").returncode == HELD
    for each in (node, other):
        assert stage.run(each, "ready").returncode == DONE
    wait_until(stage.registered, 120, "both are back", every=0.2)
