"""Every command on a real node: its exit codes, its JSON, its words. One lab with one node serves all of them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from hafleet.lab.fleet import Lab
from hafleet.lab.node import Node
from hafleet.lab.processes import wait_until

pytestmark = pytest.mark.xdist_group("commands")  # one lab for all of them

Run = Callable[..., "subprocess.CompletedProcess[str]"]

DONE, FAILED, SETTINGS, HELD, PENDING, BUSY = 0, 1, 2, 3, 4, 75


def hafleet(*arguments: str, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "hafleet.cli", *arguments]
    env = {**os.environ, **(environment or {})}
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=env)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        lab.plan.backends = [{**b, "drain": "0s"} for b in lab.plan.backends]
        for name, desired in (("shop-blue", 3), ("shop-green", 0), ("cart", 1)):
            lab.group(name, desired)
        lab.start_nodes(1)
        lab.wait_converged()
        # HAProxy may be ahead of the file for a moment.
        lab.wait_until(lambda: lab.nodes[0].command("plan").returncode == DONE, 60, "nothing to do")
        yield lab


@pytest.fixture(scope="module")
def node(lab: Lab) -> Node:
    return lab.nodes[0]


@pytest.fixture
def quiet(node: Node) -> Iterator[Node]:
    """The node with its agent stopped, so that a command finds the world as the test left it."""
    assert node.agent
    node.agent.stop()
    yield node
    node.agent.start()


@pytest.fixture
def run(lab: Lab, node: Node) -> Run:
    environment = {**lab.cloud.environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT": node.imds.url}

    def call(command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return hafleet(command, "-c", str(node.settings), *arguments, environment=environment)

    return call


def as_json(done: "subprocess.CompletedProcess[str]", code: int) -> dict[str, object]:
    assert done.returncode == code, (done.stdout, done.stderr)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


# --- without a node --------------------------------------------------------------------------------------------------


def test_help_teaches_and_a_wrong_command_is_refused() -> None:
    done = hafleet("--help")
    assert done.returncode == DONE and "75 another agent holds the lock" in done.stdout and "demo" in done.stdout
    assert hafleet("no-such-command").returncode == SETTINGS
    for command in (
        "check",
        "render",
        "observe",
        "plan",
        "once",
        "agent",
        "status",
        "explain",
        "rollback",
        "thaw",
        "doctor",
    ):
        assert "--config" in hafleet(command, "--help").stdout


def test_schema_is_json_schema() -> None:
    schema = as_json(hafleet("schema"), DONE)
    assert "fleet" in schema["properties"]  # type: ignore[operator]


def test_every_command_names_line_and_remedy_of_bad_settings(tmp_path: Path) -> None:
    path = tmp_path / "hafleet.yaml"
    path.write_text("fleet: edge\nfrontend: []\nbackends:\n  - {name: site, sources: [{asg: a}], por: 80}\n")
    for command in ("check", "render", "observe", "plan", "once", "agent", "status", "rollback", "thaw"):
        done = hafleet(command, "-c", str(path))
        assert done.returncode == SETTINGS, command
        assert f"{path}:2: error:" in done.stderr and f"{path}:4: error:" in done.stderr, command
    assert hafleet("explain", "-c", str(path), "i-0").returncode == SETTINGS
    found = as_json(hafleet("check", "-c", str(path), "--json"), SETTINGS)
    assert found["ok"] is False
    assert {f"{path}:2", f"{path}:4"} <= {row["where"] for row in found["problems"]}  # type: ignore[attr-defined]
    assert hafleet("doctor", "-c", str(path)).returncode == FAILED
    assert hafleet("check", "-c", str(tmp_path / "none.yaml")).returncode == SETTINGS


def test_check_warns_of_what_is_not_alive_yet_and_passes(tmp_path: Path) -> None:
    path = tmp_path / "hafleet.yaml"
    path.write_text(
        "fleet: edge\nfrontends: [{name: web, bind: '127.0.0.1:8080', default_backend: site}]\n"
        "backends: [{name: site, sources: [{asg: a}]}]\nsignals: {cpu: 90%}\n"
    )
    done = hafleet("check", "-c", str(path))
    assert done.returncode == DONE
    assert f"{path}:4: warning:" in done.stdout + done.stderr and f"{path}: ok" in done.stdout


def test_check_names_the_template_and_its_line(tmp_path: Path) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "haproxy.cfg.j2").write_text("global\n  maxconn {{ no_such_thing }}\n")
    path = tmp_path / "hafleet.yaml"
    path.write_text(
        f"fleet: edge\nhaproxy: {{templates_dir: '{templates}'}}\n"
        "frontends: [{name: web, bind: '127.0.0.1:8080', default_backend: site}]\n"
        "backends: [{name: site, sources: [{asg: a}]}]\n"
    )
    done = hafleet("check", "-c", str(path))
    assert done.returncode == SETTINGS
    assert f"{templates}/haproxy.cfg.j2:2" in done.stderr and "no_such_thing" in done.stderr


def test_status_before_the_first_pass(tmp_path: Path) -> None:
    path = tmp_path / "hafleet.yaml"
    path.write_text(
        "fleet: edge\nfrontends: [{name: web, bind: ':80', default_backend: site}]\n"
        f"backends: [{{name: site, sources: [{{asg: a}}]}}]\nstate_dir: '{tmp_path}/state'\n"
    )
    done = hafleet("status", "-c", str(path))
    assert done.returncode == FAILED and "no pass was reported yet; start the agent" in done.stderr


# --- on a node that serves -------------------------------------------------------------------------------------------


def test_observe_render_offline_and_live_agree(run: Run, quiet: Node, tmp_path: Path) -> None:
    seen = run("observe", "--json")
    found = as_json(seen, DONE)
    assert found["node"]["id"] == quiet.id and not found["unknown"]  # type: ignore[index]
    assert "in_service" not in found
    world = tmp_path / "world.json"
    world.write_text(seen.stdout)
    live = run("render")
    assert live.returncode == DONE and live.stdout == quiet.config.read_text()
    offline = hafleet("render", "-c", str(quiet.settings), "--world", str(world), "--maps", str(tmp_path / "maps"))
    assert offline.returncode == DONE, offline.stderr
    assert offline.stdout == live.stdout  # the same members, the same peers, with no AWS and no HAProxy at hand
    assert (tmp_path / "maps" / "hosts.map").read_text() == (quiet.folder / "maps" / "hosts.map").read_text()
    newer = hafleet("render", "-c", str(quiet.settings), "--world", str(world), "--haproxy-version", "3.2.26")
    assert newer.returncode == DONE and "pool-purge-delay" not in newer.stdout
    world.write_text("{}")
    done = hafleet("render", "-c", str(quiet.settings), "--world", str(world))
    assert done.returncode == FAILED and "observe --json" in done.stderr


def test_a_version_is_for_offline_only(run: Run) -> None:
    done = run("render", "--haproxy-version", "3.2.0")
    assert done.returncode == SETTINGS and "--haproxy-version goes with --world" in done.stderr and not done.stdout


def test_a_plan_that_could_not_see_everything_is_no_clean_plan(run: Run, quiet: Node, lab: Lab) -> None:
    environment = {**lab.cloud.environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9/"}
    done = hafleet("plan", "-c", str(quiet.settings), environment=environment)
    assert done.returncode in {FAILED, HELD} and "nothing to do: HAProxy runs" not in done.stdout
    assert "nothing to do now" in done.stdout and "fault node" in done.stdout


def test_what_is_piped_has_no_padding(run: Run) -> None:
    for command in ("observe", "doctor", "status"):
        lines = run(command).stdout.split("\n")
        assert len(lines) > 3 and all(line == line.rstrip() for line in lines)


def test_nothing_to_do_then_pending_then_done(run: Run, lab: Lab, quiet: Node) -> None:
    assert as_json(run("plan", "--json"), DONE)["changes"] == []
    assert "nothing to do" in run("plan").stdout
    before = {m.id for m in lab.members("shop-blue")}
    lab.scale("shop-blue", 4)
    lab.wait_until(lambda: len(lab.members("shop-blue")) == 4, 60, "the fourth instance")
    (new,) = {m.id for m in lab.members("shop-blue")} - before
    found = as_json(run("plan", "--json"), PENDING)
    assert any(f"add server shop/{new}" in str(line) for line in found["changes"])  # type: ignore[attr-defined]
    assert found["reload"] == []
    assert f"add server shop/{new}" in run("plan").stdout
    assert new not in {row.name for row in quiet.servers()}  # plan changed nothing
    report = as_json(run("once", "--json"), DONE)
    assert report["wrote"] is True and report["reloaded"] == []
    assert new in {row.name for row in quiet.servers()}
    explained = as_json(run("explain", new, "--json"), DONE)
    assert any("in rotation" in str(line) for line in explained["lines"])  # type: ignore[attr-defined]
    unknown = run("explain", "i-00000000000000000")
    assert unknown.returncode == FAILED and "nothing is known of i-00000000000000000" in unknown.stdout


def test_a_half_answer_is_held_and_force_lets_it_through(run: Run, lab: Lab, quiet: Node) -> None:
    fault = lab.cloud.fault("half", service="autoscaling")
    try:
        found = as_json(run("plan", "--json"), HELD)
        assert found["held"] and found["changes"] == []
        assert run("plan").returncode == HELD
        before = quiet.config.read_bytes()
        report = as_json(run("once", "--json"), HELD)
        assert report["held"] and quiet.config.read_bytes() == before
        forced = run("once", "--force", "--json")
        assert forced.returncode == DONE, forced.stdout
        assert quiet.config.read_bytes() != before
    finally:
        lab.cloud.heal(fault)
    assert run("once").returncode == DONE
    wait_until(lambda: run("plan").returncode == DONE, 60, "the servers to be back")


def test_an_unreachable_aws_is_a_fault_that_changes_nothing(run: Run, lab: Lab, quiet: Node) -> None:
    before = quiet.config.read_bytes()
    fault = lab.cloud.fault("unreachable")
    try:
        done = run("once", "--json")
        report = as_json(done, FAILED)
        assert report["errors"] and quiet.config.read_bytes() == before
        assert run("doctor").returncode == FAILED
    finally:
        lab.cloud.heal(fault)


def test_doctor_finds_a_healthy_node(run: Run, quiet: Node) -> None:
    found = as_json(run("doctor", "--json"), DONE)
    states = {row["about"]: row["state"] for row in found["findings"]}  # type: ignore[attr-defined]
    assert states["haproxy answers"] == states["node identity"] == states["aws autoscaling and ec2"] == "ok"
    assert states["security group"] == "hint"  # nothing here can try it
    assert set(states.values()) <= {"ok", "warn", "hint"}


def test_doctor_names_what_is_missing(run: Run, node: Node, tmp_path: Path) -> None:
    settings = yaml.safe_load(node.settings.read_text())
    settings["haproxy"]["master_socket"] = str(tmp_path / "none.sock")
    settings["state_dir"] = str(tmp_path / "no-state")
    path = tmp_path / "hafleet.yaml"
    path.write_text(yaml.safe_dump(settings))
    done = hafleet("doctor", "-c", str(path), "--json")
    found = as_json(done, FAILED)
    failed = {row["about"]: row["fix"] for row in found["findings"] if row["state"] == "fail"}  # type: ignore[attr-defined]
    assert "start HAProxy with -W -S" in failed["master socket"]
    assert "install -d" in failed["state folder"]
    assert all(failed.values())  # every failure says what to do


def test_rollback_freezes_and_thaw_goes_on(run: Run, quiet: Node) -> None:
    settings = quiet.settings.read_text()
    assert run("once").returncode == DONE
    old = quiet.config.read_text()
    quiet.settings.write_text(settings.replace("expect: '200'", "expect: 200-299"))
    try:
        wait_until(lambda: as_json_any(run("once", "--json"))["reloaded"] != [], 60, "the reload")
        assert quiet.config.read_text() != old
        listed = as_json(run("rollback", "--list", "--json"), DONE)["kept"]
        assert [row["live"] for row in listed][:2] == [True, False]  # type: ignore[attr-defined]
        done = run("rollback")
        assert done.returncode == DONE and "frozen" in done.stdout, done.stderr
        assert servers_and_checks(quiet.config.read_text()) == servers_and_checks(old)
        frozen = as_json(run("once", "--json"), HELD)
        assert [h["rule"] for h in frozen["held"]] == ["frozen"]  # type: ignore[attr-defined]
        assert "frozen" in run("status").stdout
        assert run("rollback", "99").returncode == FAILED
        assert run("thaw").returncode == DONE
        assert run("thaw").stdout == "not frozen\n"
    finally:
        quiet.settings.write_text(settings)
    wait_until(lambda: run("once").returncode == DONE, 60, "the node to follow its settings again")


def as_json_any(done: "subprocess.CompletedProcess[str]") -> dict[str, object]:
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def servers_and_checks(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip().startswith(("server ", "http-check "))]


def test_status_and_the_lock_of_a_living_agent(run: Run, node: Node) -> None:
    assert node.agent
    wait_until(lambda: run("status").returncode == DONE, 60, "a pass of the agent")
    found = as_json(run("status", "--json"), DONE)
    assert found["node"] == node.id
    assert {row["name"] for row in found["backends"]} == {"shop", "cart"}  # type: ignore[attr-defined]
    second = run("agent")
    assert second.returncode == BUSY and "another hafleet (pid" in second.stderr
    assert run("once").returncode == DONE  # a single pass waits its turn


def test_sighup_runs_a_pass_and_sigterm_leaves_traffic_alone(run: Run, node: Node) -> None:
    assert node.agent
    agent = node.agent
    wait_until(lambda: agent.pid is not None and as_json(run("status", "--json"), DONE)["node"] == node.id, 60, "it")
    pid = node.haproxy.pid
    before = json.loads(run("status", "--json").stdout)["at"]
    assert agent.pid is not None
    os.kill(agent.pid, 1)
    wait_until(lambda: json.loads(run("status", "--json").stdout)["at"] > before, 60, "a pass")
    config = node.config.read_bytes()
    node.agent.stop()
    assert node.haproxy.pid == pid and node.config.read_bytes() == config
    assert node.in_rotation("shop")
    node.agent.start()
