"""The Lambda that reaps, against the local AWS: a fleet of which no node is left, its settings, and nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hafleet.errors import AwsDenied, HafleetError, SettingsError, SourceUnavailable
from hafleet.lab.cloud import REGION
from hafleet.lab.fleet import Lab
from hafleet.lab.plan import FLEET
from hafleet.lambdas.reaper import handler
from tests.behaviour.dns_stage import NAME, ZONE, Stage, dns_section

pytestmark = [pytest.mark.deep, pytest.mark.xdist_group("lambda")]  # one local AWS for all of them

DEAD = [f"i-0dead00000000000{n}" for n in range(3)]
MINUTES = 15 * 60 * 1000
UNWANTED = ("hafleet.adapters.haproxy", "hafleet.compose", "hafleet.lab")


class Context:
    """What Lambda tells of the time: milliseconds left, at each look."""

    def __init__(self, *left: int) -> None:
        self._left = list(left) or [MINUTES]

    def get_remaining_time_in_millis(self) -> int:
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Stage]:
    with Lab(agents=False) as lab:
        zone_id = lab.cloud.create_zone(ZONE)
        lab.group("empty", 0)
        lab.group("alive", 1)
        yield Stage(lab, zone_id)


@pytest.fixture
def stage(cloud: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The function's variables, and a zone with nothing in it at the end."""
    for name, value in {
        **cloud.lab.cloud.environment,
        "HAFLEET_SETTINGS": str(write(tmp_path)),
        "HAFLEET_GROUP": "empty",
        "PATH": str(tmp_path),  # no HAProxy, no anything
    }.items():
        monkeypatch.setenv(name, value)
    yield cloud
    cloud.lab.cloud.heal()
    if cloud.records():
        cloud.erase(NAME)
    for check in cloud.checks():
        cloud.delete_check(check)


def write(folder: Path, **dns: object) -> Path:
    """Settings as the nodes have them: their folders are not here."""
    path = folder / "hafleet.yaml"
    document = {
        "fleet": FLEET,
        "haproxy": {"binary": "/nowhere/haproxy", "templates_dir": "/nowhere/templates"},
        "frontends": [{"name": "web", "bind": ":80", "default_backend": "site"}],
        "backends": [{"name": "site", "sources": [{"asg": "site"}]}],
        "dns": dns_section(**dns),
    }
    path.write_text(yaml.safe_dump(document))
    return path


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_of_a_fleet_scaled_to_zero_all_goes_but_one_record(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    for number, node in enumerate(DEAD):
        stage.leave_behind(node, f"127.9.9.{number + 1}")
    found = handler({"source": "aws.scheduler"}, Context())
    assert len(stage.records()) == len(stage.checks()) == 1
    (kept,) = stage.records()
    assert json.loads(json.dumps(found)) == found and set(found) == {"done", "held"}
    done = found["done"]
    assert isinstance(done, list)
    assert {node for node in DEAD if any(f"delete {NAME} A [{node}]" in line for line in done)} == set(DEAD) - {kept}
    assert len([line for line in done if "health check" in line and "deleted" in line]) == 2, done
    assert [held["rule"] for held in found["held"]] == ["last_record"]  # type: ignore[attr-defined]
    assert logged(capsys) == [{"level": "info", "event": "reap", **found}]
    again = handler({}, Context())
    assert again["done"] == [] and len(stage.records()) == 1


def test_a_node_that_lives_keeps_its_record(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.lab.wait_until(lambda: len(stage.lab.members("alive")) == 1, 60, "the instance")
    (living,) = stage.lab.members("alive")
    stage.leave_behind(living.id, "127.9.9.1")
    stage.leave_behind(DEAD[0], "127.9.9.2")
    monkeypatch.setenv("HAFLEET_GROUP", "alive, empty")
    found = handler({}, Context())
    assert set(stage.records()) == {living.id} and found["held"] == []
    monkeypatch.setenv("HAFLEET_GROUP", "empty")  # not told of its group: EC2 says that it runs
    stage.leave_behind(DEAD[1], "127.9.9.2")
    handler({}, Context())
    assert set(stage.records()) == {living.id}


def test_it_says_before_it_begins_that_the_time_is_too_short(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.leave_behind(DEAD[0], "127.9.9.1")
    before = stage.lab.cloud.calls()
    with pytest.raises(HafleetError, match=r"may run for 3 s more.*timeout of 36 s"):
        handler({}, Context(3000))
    assert stage.lab.cloud.calls() == before
    (line,) = logged(capsys)
    assert line["level"] == "error" and "dns.reap.confirm" in str(line["error"])


def test_time_that_runs_out_ends_it_before_anything_is_taken_away(stage: Stage) -> None:
    for number, node in enumerate(DEAD):
        stage.leave_behind(node, f"127.9.9.{number + 1}")
    with pytest.raises(HafleetError, match="no time is left to wait 1 s for the second proof"):
        handler({}, Context(MINUTES, 1000))
    assert set(stage.records()) == set(DEAD)
    handler({}, Context())  # the next run goes on
    assert len(stage.records()) == 1


def test_whatever_cannot_be_read_is_an_error_of_the_function(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, node in enumerate(DEAD):
        stage.leave_behind(node, f"127.9.9.{number + 1}")
    cloud = stage.lab.cloud
    for service, words in (
        ("route53", "route53:List"),
        ("ec2", "ec2:Describe"),
        ("autoscaling", "autoscaling:Describe"),
    ):
        fault = cloud.fault("denied", service=service)
        with pytest.raises(AwsDenied, match=words):
            handler({}, Context())
        cloud.heal(fault)
    fault = cloud.fault("empty", service="autoscaling")
    with pytest.raises(SourceUnavailable, match="AWS knows no group empty"):
        handler({}, Context())
    cloud.heal(fault)
    assert {line["level"] for line in logged(capsys)} == {"error"}
    monkeypatch.setenv("HAFLEET_GROUP", " , ")
    with pytest.raises(HafleetError, match="HAFLEET_GROUP is not set"):
        handler({}, Context())
    monkeypatch.setenv("HAFLEET_SETTINGS", str(tmp_path / "none.yaml"))
    with pytest.raises(SettingsError, match=r"none\.yaml"):
        handler({}, Context())
    monkeypatch.setenv("HAFLEET_GROUP", "empty")
    monkeypatch.setenv("HAFLEET_SETTINGS", str(plain(tmp_path)))
    with pytest.raises(HafleetError, match="no dns section"):
        handler({}, Context())
    assert set(stage.records()) == set(DEAD)


def plain(folder: Path) -> Path:
    """Settings without a dns section."""
    path = write(folder)
    document = yaml.safe_load(path.read_text())
    del document["dns"]
    path.write_text(yaml.safe_dump(document))
    return path


def test_zones_with_leaf_groups_of_their_own_are_reaped_too(stage: Stage, tmp_path: Path) -> None:
    zones = [f"{REGION}a", f"{REGION}b"]
    write(tmp_path, group="{zone}", tree={"failover": zones})
    for number, node in enumerate(DEAD):
        stage.leave_behind(node, f"127.9.9.{number + 1}", f"{zones[1]}.{NAME}")
    found = handler({}, Context())
    assert len(stage.records(f"{zones[1]}.{NAME}")) == 1, found
    stage.erase(f"{zones[1]}.{NAME}")


def test_the_bundle_is_small_and_has_no_proxy_in_it(stage: Stage) -> None:
    """Run as Lambda does: a fresh process that imports the handler and calls it once."""
    stage.leave_behind(DEAD[0], "127.9.9.1")
    stage.leave_behind(DEAD[1], "127.9.9.2")
    script = (
        "import sys, json\n"
        "from hafleet.lambdas.reaper import handler\n"
        "class Context:\n"
        "    def get_remaining_time_in_millis(self): return 900000\n"
        "handler({}, Context())\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('hafleet.')]))\n"
    )
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    log, packages, modules = map(json.loads, done.stdout.splitlines())
    assert log["done"] and len(stage.records()) == 1
    unwanted = {"click", "jinja2", "prometheus_client", "psutil", "rich", "watchdog", "moto"}
    assert not unwanted & set(packages)
    assert not [name for name in modules if name.startswith(UNWANTED)]
