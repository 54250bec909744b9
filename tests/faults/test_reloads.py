"""Rows 45 to 48 on every version: binds that fail, sockets that refuse, answers that are no proof."""

import copy
import dataclasses
import socket
import threading
from collections.abc import Iterator

import pytest

from hafleet.adapters.haproxy import HaproxyProxy, MasterCli
from hafleet.adapters.haproxy.runtimeapi import connect
from hafleet.errors import ProxyUnavailable
from hafleet.lab.cloud import Cloud
from hafleet.lab.haproxies import Haproxy
from hafleet.reconcile import Ports
from tests.faults.conftest import stages
from tests.faults.doubles import without
from tests.faults.liars import late, listening, lying_master, silent
from tests.faults.servers import Servers, squatter
from tests.faults.stage import HandClock, Stage, held, wait
from tests.resources import LoopbackPool, allow

pytestmark = pytest.mark.xdist_group("faults-reloads")

EXTRA = '{{% extends "shipped/haproxy.cfg.j2" %}}\n{{% block extra %}}\n{}\n{{% endblock %}}\n'


@pytest.fixture(scope="module")
def one_per_version(haproxy: Haproxy, cloud: Cloud, answering: Servers, loopback_pool: LoopbackPool) -> Iterator[Stage]:
    with stages(cloud, haproxy, answering, loopback_pool) as make:
        stage = make()
        stage.boot({"asg": stage.group(2)})
        yield stage


@pytest.fixture
def versioned(one_per_version: Stage) -> Iterator[Stage]:
    """A calm node with two servers, on each version. What a test changes of it is put back."""
    stage = one_per_version
    sections = copy.deepcopy(stage.sections)
    yield stage
    stage.sections, stage.ports = sections, lambda ports: ports
    (stage.templates / "haproxy.cfg.j2").unlink(missing_ok=True)
    stage.write()
    stage.birth()
    stage.log.entries.clear()
    stage.settle()


def listen_on(stage: Stage, port: int, options: str = "") -> None:
    """The template with one more listener."""
    lines = (
        f"frontend more\n    mode http\n    bind {stage.address}:{port} {options}\n    http-request return status 200"
    )
    (stage.templates / "haproxy.cfg.j2").write_text(EXTRA.format(lines))


# --- row 45 -----------------------------------------------------------------------------------------------------------


def test_f45_a_busy_port_that_haproxy_does_not_see_is_refused_by_name(versioned: Stage) -> None:
    stage = versioned
    before = stage.picture()
    with squatter(stage.address, 9000):
        listen_on(stage, 9000)
        for report in stage.turns(3):
            (error,) = report.errors
            assert f"{stage.address}:9000 is taken by another program" in error
            assert error.startswith(f"{stage.config}:")  # file and line of the bind
            assert "bind" in stage_line(stage, error)
            assert stage.picture() == before
            assert stage.healthy()
        assert stage.said("fault", "9000 is taken")
        assert stage.metric("errors") == 1
    assert stage.turn().reloaded  # the port is free, and nobody had to help
    assert stage.get(port=9000)[0] == 200


def stage_line(stage: Stage, error: str) -> str:
    """The line of the candidate that an error names."""
    number = int(error.removeprefix(f"{stage.config}:").partition(":")[0])
    candidate = stage.config.with_name("haproxy.cfg.candidate")
    return candidate.read_text().split("\n")[number - 1]


def test_f45_control_without_the_trial_the_reload_fails_and_all_is_put_back(versioned: Stage) -> None:
    """A transparent bind is not tried, so the fault reaches HAProxy: the second net."""
    stage = versioned
    before = stage.picture()
    with squatter(stage.address, 9000):
        listen_on(stage, 9000, "transparent")
        report = stage.turn()
        assert any("did not load the new configuration" in error and "back on disk" in error for error in report.errors)
        after = stage.picture()
        assert (after.text, after.worker, after.rotation) == (before.text, before.worker, before.rotation)
        assert after.reloads == before.reloads + 1
        wait(stage.healthy, 60, lambda: "the old listeners")
        assert held(stage.turn(seconds=1)) == ["reload_failing"]  # each try costs two seconds of listeners
        assert stage.metric("held_steps", rule="reload_failing") == 1
    assert stage.turn(seconds=20).reloaded
    assert stage.get(port=9000)[0] == 200


def test_f45_control_without_the_pause_every_pass_would_stop_the_listeners_again(stage: Stage) -> None:
    stage.boot({"asg": stage.group(1)})
    stage.reconciler = without("failing")
    stage.birth()
    with squatter(stage.address, 9000):
        listen_on(stage, 9000, "transparent")
        stage.turns(2, seconds=1)
    assert stage.reloads == 2


# --- row 46 -----------------------------------------------------------------------------------------------------------


def test_f46_reloads_on_end_meet_no_socket_that_fails_them(versioned: Stage) -> None:
    for number in range(5):
        (versioned.templates / "haproxy.cfg.j2").write_text(EXTRA.format(f"backend b{number}\n    mode http"))
        report = versioned.turn()
        assert report.errors == ()
        assert report.reloaded
        versioned.turn()


def test_f46_a_socket_that_refuses_for_a_moment_is_tried_again(stage: Stage) -> None:
    stage.boot({"asg": stage.group(1)})
    path = stage.folder / "late.sock"
    clock = _RealClock()
    with late(path, stage.master, clock.twice):
        assert MasterCli(path, clock, timeout=20.0).processes().worker is not None
    assert clock.waits > 1


def test_f46_control_one_try_would_have_failed(stage: Stage) -> None:
    stage.boot({"asg": stage.group(1)})
    path = stage.folder / "late.sock"
    with late(path, stage.master, threading.Event()), pytest.raises(ProxyUnavailable, match="refused"):
        connect(path, 1.0)


class _RealClock(HandClock):
    """A clock that really waits, and counts how often. Its own time stands still."""

    waits = 0

    def __init__(self) -> None:
        super().__init__()
        self.twice = threading.Event()  # set once it was waited for twice

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits += 1
        if self.waits > 1:
            self.twice.set()
        return event.wait(seconds)


# --- row 47 -----------------------------------------------------------------------------------------------------------


def test_f47_a_reload_is_proven_by_a_new_worker_with_the_new_stamp(versioned: Stage) -> None:
    before = versioned.picture()
    listen_on(versioned, 9000)
    report = versioned.turn()
    assert report.reloaded == ("the structure changed",)
    assert versioned.picture().worker != before.worker
    assert versioned.turn().wrote is False
    assert versioned.report is not None and versioned.report.proxy is not None
    assert versioned.report.proxy.structure in versioned.config.read_text()


@pytest.mark.parametrize("reply", [b"Success=1\n--\n", b"", b"Success=0\n--\n[ALERT] (1) : no\n"], ids=repr)
def test_f47_an_answer_without_a_new_worker_is_no_proof(versioned: Stage, reply: bytes) -> None:
    stage = versioned
    before = stage.picture()
    with listening(stage.folder / "liar.sock", lying_master(stage.master, reply)):
        stage.sections["haproxy"]["master_socket"] = str(stage.folder / "liar.sock")
        stage.write()
        stage.ports = _hasty
        stage.birth()
        listen_on(stage, 9000)
        report = stage.turn()
    assert any("did not load the new configuration" in error for error in report.errors), report.errors
    assert not report.reloaded
    assert stage.picture() == before  # the file, too, is the one that runs


def test_f47_control_the_answer_alone_says_that_all_went_well(versioned: Stage) -> None:
    before = versioned.reloads
    with listening(versioned.folder / "liar.sock", lying_master(versioned.master, b"Success=1\n--\n")):
        said = MasterCli(versioned.folder / "liar.sock", HandClock()).ask("reload")
    assert said.startswith("Success=1")
    assert versioned.reloads == before


def _hasty(ports: Ports) -> Ports:
    """The ten seconds that a proof may take pass in a moment."""
    assert isinstance(ports.proxy, HaproxyProxy)
    return dataclasses.replace(ports, proxy=HaproxyProxy(ports.proxy._settings, _Quick()))


def _impatient(ports: Ports) -> Ports:
    """For a master that never answers."""
    allow(ports.proxy, runtime=20.0, master=0.7)
    return ports


class _Quick(HandClock):
    """A clock on which every wait is ten times as long."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return super().wait(event, seconds * 10)


# --- row 48 -----------------------------------------------------------------------------------------------------------


def test_f48_the_master_that_never_closes_is_asked_with_a_closed_hand(versioned: Stage) -> None:
    assert MasterCli(versioned.master, HandClock(), timeout=20.0).processes().worker is not None


def test_f48_control_a_client_that_keeps_its_side_open_waits_for_ever(versioned: Stage) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20.0)
        connection.connect(str(versioned.master))
        connection.sendall(b"show proc\n")
        assert b"master" in connection.recv(65536)
        connection.settimeout(1.0)
        with pytest.raises(TimeoutError):
            connection.recv(65536)


def test_f48_a_master_that_never_answers_costs_its_timeout_and_no_more(stage: Stage) -> None:
    stage.boot({"asg": stage.group(1)})
    before = stage.picture()
    with listening(stage.folder / "mute.sock", silent):
        with pytest.raises(ProxyUnavailable, match="not answered in time"):
            MasterCli(stage.folder / "mute.sock", HandClock(), timeout=0.3).ask("show proc")
        stage.sections["haproxy"]["master_socket"] = str(stage.folder / "mute.sock")
        stage.ports = _impatient
        stage.write()
        report = stage.turn()
    assert any("mute.sock" in error and "not answered in time" in error for error in report.errors)
    assert dataclasses.replace(stage.picture(), text=before.text) == before  # the header names the new settings
    assert stage.healthy()
