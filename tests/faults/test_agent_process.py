"""Rows 28, 29, 31, 56 and 69: the agent as a process that is killed, frozen, crashed, doubled and restarted."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from hafleet.adapters.lock import NodeLocks
from hafleet.core import proxyplan
from hafleet.core.features import features
from hafleet.core.model import Installed, Unknown
from hafleet.lab.fleet import Lab
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.node import HEALTH_PORT, Node
from hafleet.lab.plan import Plan
from hafleet.lab.traffic import Traffic
from tests.faults.stage import Stage, wait

pytestmark = pytest.mark.xdist_group("faults-agent_process")

EXTRA = '{% extends "shipped/haproxy.cfg.j2" %}\n{% block extra %}\nbackend fresh\n    mode http\n{% endblock %}\n'


class Notified:
    """The socket of a service supervisor: counts what an agent tells it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.feeds = self.marks = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"END", str(self.path))
        self._thread.join(30)
        self._socket.close()

    def _listen(self) -> None:
        while (said := self._socket.recv(4096)) != b"END":
            self.feeds += b"WATCHDOG=1" in said
            self.marks += said == b"MARK"

    def heard(self) -> int:
        """How often it was fed, of all that it has been told until now."""
        marks = self.marks
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"MARK", str(self.path))
        wait(lambda: self.marks > marks, 60, lambda: "the listener")
        return self.feeds


@pytest.fixture(scope="module")
def notified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notified]:
    with Notified(tmp_path_factory.mktemp("n") / "notify") as made:
        yield made


@pytest.fixture(scope="module")
def lab(one_haproxy: Haproxy, notified: Notified) -> Iterator[Lab]:
    """One node with a real agent process, under a supervisor that wants to be told it lives every 0.6 seconds."""
    environment = {"NOTIFY_SOCKET": str(notified.path), "WATCHDOG_USEC": "600000"}
    plan = Plan(interval=0.5)
    with Lab(plan, binary=str(one_haproxy.binary), environment=environment) as made:
        made.group("shop-blue", 2)
        made.start_nodes(1)
        made.wait_converged()
        made.wait_until(lambda: made.nodes[0].reloads() == 0, 60, "the master")
        yield made


@pytest.fixture
def node(lab: Lab) -> Node:
    """The node, calm: what runs is in the file, too."""
    lab.wait_converged()
    lab.wait_until(lambda: filed(lab), 60, "the file")
    return lab.nodes[0]


def filed(lab: Lab) -> bool:
    """True when the node's file has the servers in service and no others."""
    found = re.findall(r"^\s+server (i-\w+)", lab.nodes[0].config.read_text(), re.MULTILINE)
    return set(found) == {machine.id for machine in lab.members("shop-blue")}


def health(node: Node) -> int:
    """The status of the health listener, which HAProxy itself answers."""
    connection = http.client.HTTPConnection(node.address, HEALTH_PORT, timeout=30)
    try:
        connection.request("GET", "/hafleet-health")
        return connection.getresponse().status
    finally:
        connection.close()


def one_more(lab: Lab) -> None:
    """Another instance in service."""
    size = len(lab.members("shop-blue")) + 1
    lab.scale("shop-blue", size)
    lab.wait_until(lambda: len(lab.members("shop-blue")) == size, 60, "another instance")


# --- row 29 -----------------------------------------------------------------------------------------------------------


def test_f29_a_frozen_agent_feeds_no_watchdog_and_haproxy_does_not_notice(
    lab: Lab, node: Node, notified: Notified
) -> None:
    assert node.agent is not None
    wait(lambda: notified.feeds > 2, 60, lambda: "the watchdog to be fed")
    text, reloads = node.config.read_bytes(), node.reloads()
    with Traffic(lab.processes, [node.http], rate=50) as traffic:
        node.agent.signal(signal.SIGSTOP)
        try:
            feeds = notified.heard()
            one_more(lab)
            served = traffic.count().sent
            lab.wait_until(lambda: traffic.count().sent > served + 50, 60, "traffic beside the frozen agent")
            assert notified.heard() <= feeds + 1  # one may have been on its way
            assert (node.config.read_bytes(), node.reloads(), health(node)) == (text, reloads, 200)
        finally:
            node.agent.signal(signal.SIGCONT)
        lab.wait_converged()
        wait(lambda: notified.feeds > feeds + 1, 60, lambda: "the watchdog to be fed again")
        assert traffic.stop().failed == 0
    assert node.reloads() == reloads


def test_f29_what_the_watchdog_then_does_is_harmless(lab: Lab, node: Node) -> None:
    assert node.agent is not None
    starts, text, reloads = node.agent.starts, node.config.read_bytes(), node.reloads()
    node.agent.signal(signal.SIGSTOP)
    node.agent.kill()  # as the supervisor does, which then starts it again
    lab.wait_until(lambda: node.agent is not None and node.agent.starts > starts, 60, "the next agent")
    lab.wait_until(lambda: node.agent_log().count("agent starts") > starts, 60, "its first words")
    lab.wait_converged()
    assert (node.config.read_bytes(), node.reloads()) == (text, reloads)


# --- row 31 -----------------------------------------------------------------------------------------------------------


def test_f31_an_agent_in_a_crash_loop_leaves_haproxy_alone_and_recovers_with_its_settings(lab: Lab, node: Node) -> None:
    assert node.agent is not None
    good, text, reloads = node.settings.read_bytes(), node.config.read_bytes(), node.reloads()
    starts = node.agent.starts
    node.settings.write_text("fleet: [this is no fleet\n")
    try:
        node.agent.kill()
        lab.wait_until(lambda: node.agent is not None and node.agent.starts >= starts + 3, 60, "three crashes")
        assert health(node) == 200
        assert (node.config.read_bytes(), node.reloads()) == (text, reloads)
        assert "hafleet.yaml:" in node.agent_log()  # with its line
    finally:
        node.settings.write_bytes(good)
    one_more(lab)
    lab.wait_converged()
    assert node.reloads() == reloads


def test_f31_control_a_running_agent_keeps_its_old_settings_and_says_so(lab: Lab, node: Node) -> None:
    """Not every bad file is a crash: without the start there is no loop to survive."""
    assert node.agent is not None
    good, starts = node.settings.read_bytes(), node.agent.starts
    seen = len(node.agent_log())
    node.settings.write_text("fleet: [this is no fleet\n")
    try:
        lab.wait_until(lambda: "hafleet.yaml:" in node.agent_log()[seen:], 60, "the complaint")
        assert node.agent.starts == starts
    finally:
        node.settings.write_bytes(good)


# --- row 69, as far as stop and start go ------------------------------------------------------------------------------


def test_f69_the_agent_is_stopped_and_started_under_load_without_a_trace(lab: Lab, node: Node) -> None:
    assert node.agent is not None
    text, reloads = node.config.read_bytes(), node.reloads()
    with Traffic(lab.processes, [node.http], rate=100) as traffic:
        for _ in range(2):
            log = node.agent_log()
            starts, stops = log.count("agent starts"), log.count("agent stops")
            node.agent.terminate()
            lab.wait_until(lambda n=starts: node.agent_log().count("agent starts") > n, 60, "the next agent")  # type: ignore[misc]
            assert node.agent_log().count("agent stops") == stops + 1  # it left by the door
        assert node.config.read_bytes() == text
        one_more(lab)
        lab.wait_converged()
        assert traffic.stop().failed == 0
    assert node.reloads() == reloads
    lab.wait_until(lambda: node.config.read_bytes() != text, 60, "the new server in the file")


def test_f69_control_a_restart_of_haproxy_itself_is_seen(lab: Lab, node: Node) -> None:
    with Traffic(lab.processes, [node.http], rate=200) as traffic:
        starts = node.haproxy.starts
        node.haproxy.kill()
        lab.wait_until(lambda: node.haproxy.starts > starts, 60, "HAProxy to be started again")
        lab.wait_converged()
        assert traffic.stop().failed > 0


# --- row 56 -----------------------------------------------------------------------------------------------------------


def _agent(stage: Stage) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "hafleet.cli", "agent", "-c", str(stage.path), "--log-format", "json"]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_f56_a_second_agent_on_a_node_goes_with_75_and_writes_nothing(stage: Stage) -> None:
    group = stage.group(1)
    stage.boot({"asg": group})
    stage.scale(group, 2)
    before = stage.picture()
    with NodeLocks(stage.state).agent():
        second = _agent(stage)
        _, said = second.communicate(timeout=120)
    assert second.returncode == 75
    assert f"pid {os.getpid()}".encode() in said
    assert stage.picture() == before


def test_f56_control_without_the_lock_it_would_have_worked(stage: Stage) -> None:
    group = stage.group(1)
    stage.boot({"asg": group})
    stage.scale(group, 2)
    alone = _agent(stage)
    try:
        wait(lambda: stage.rotation() == stage.members(group), 60, lambda: "the agent's first pass")
    finally:
        alone.terminate()
        alone.communicate(timeout=120)
    assert alone.returncode == 0


# --- row 28: one aimed case; random kills are elsewhere ---------------------------------------------------------------

KILLED = """
    import os, signal, sys
    from pathlib import Path
    from hafleet import compose
    parts = compose.build(Path(sys.argv[1]))
    loader = parts.proxy._loader
    def die(*_: object, **__: object) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""
    setattr(loader, "_load", die)
    reconciler = parts.reconciler()
    reconciler.apply(reconciler.plan(reconciler.observe()))
"""


def test_f28_an_agent_killed_between_rename_and_reload_is_made_good_by_the_next_pass(stage: Stage) -> None:
    stage.boot({"asg": stage.group(2)})
    before = stage.picture()
    (stage.templates / "haproxy.cfg.j2").write_text(EXTRA)
    argv = [sys.executable, "-c", textwrap.dedent(KILLED), str(stage.path)]
    assert subprocess.run(argv, check=False, timeout=120, capture_output=True).returncode == -signal.SIGKILL
    assert "backend fresh" in stage.config.read_text()  # the file is in place ...
    assert stage.picture().worker == before.worker  # ... and nothing has loaded it
    checked = subprocess.run([stage.haproxy.binary, "-c", "-f", stage.config], check=False, capture_output=True)
    assert checked.returncode == 0
    _a_comparison_of_files_sees_nothing(stage)
    stage.birth()
    report = stage.turn()
    assert report.reloaded
    assert stage.picture().worker != before.worker
    assert stage.turn().reloaded == ()
    assert stage.reloads == before.reloads + 1


def _a_comparison_of_files_sees_nothing(stage: Stage) -> None:
    """The control: an agent that compares the wanted text with the disk alone has nothing to do, and never reloads."""
    assert stage.assembly is not None
    reconciler = stage.assembly.reconciler
    made = reconciler.plan(reconciler.observe())
    assert made.wanted is not None
    installed = made.world.installed
    assert isinstance(installed, Installed)
    blind = proxyplan.plan(installed, made.wanted, Unknown("not looked at"), features(stage.haproxy.version))
    assert blind.empty
    assert made.proxy.reload
