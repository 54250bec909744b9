"""The agent is killed at random and at chosen moments of a change: the live file is always good, and the next pass converges."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from hafleet.core.cfgtext import STAMP, complete, parse
from hafleet.errors import ConfigRejected
from hafleet.lab import proxy as eye
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.traffic import Traffic
from tests.behaviour.crash_driver import GROUPS, POINTS, Scene
from tests.behaviour.stage import LONG, Node, Stage, plan_of

pytestmark = pytest.mark.deep

KILLS = 170 if LONG else 34  # on each of three versions
CALM = 1.5  # seconds that a master may take to obey


@dataclass
class Rig:
    """One node, and the driver whose agents are killed."""

    node: Node
    driver: subprocess.Popen[str]
    unfinished: int = 0  # kills that left something for the next pass to do

    def ask(self, **order: Any) -> dict[str, Any]:
        """One command of the driver."""
        assert self.driver.stdin is not None and self.driver.stdout is not None
        self.driver.stdin.write(json.dumps(order) + "\n")
        self.driver.stdin.flush()
        answer: dict[str, Any] = json.loads(self.driver.stdout.readline())
        assert answer["status"] in {0, -9}, (self.node.folder / "driver.log").read_text()
        return answer

    def span(self) -> float:
        """Seconds that an agent takes for a change, its own start included."""
        answer = self.ask(do="churn", seed=0, after=1.0)
        return 1.0 / max(1, int(answer["passes"]))

    def stamp(self) -> str:
        """The structure that the worker has loaded, by its own word."""
        return eye.ask(self.node.runtime_socket, f"show env {STAMP}").strip().removeprefix(f"{STAMP}=")

    def calm(self) -> None:
        """Wait until a reload that the killed agent has begun is over: one worker for a while, the same to both sockets."""
        mark = self.node.config.with_name("haproxy.cfg.loading")
        until = time.monotonic() + (CALM if mark.exists() else 0)
        last = 0
        while time.monotonic() < until:
            try:
                now, seen = eye.master(self.node.master_socket).worker, self.node.proxy.observe(()).pid
            except (OSError, ValueError):
                now = seen = 0
            if now != seen or now != last:
                last, until = now, time.monotonic() + CALM
            time.sleep(0.02)


@contextmanager
def begin(stage: Stage, haproxy: Haproxy) -> Iterator[Rig]:
    node = stage.node(haproxy.binary, plan_of(dict.fromkeys(GROUPS, 50), backend={"drain": "10s"}))
    node.plan["safety"]["max_old_workers"] = 1000
    node.configure()
    homes = []
    for number in range(8):
        homes.append(stage.loopback.address())
        stage.apps.start(f"home-{number}", "any", homes[-1], slow=5)
        if number < 5:
            stage.account.launch(GROUPS[number % 2], homes[-1])
    node.edit_template(0)
    node.start()
    homes.append(
        stage.loopback.address()
    )  # where nothing answers: a server that is down, in the state that a reload hands on
    stage.account.launch(GROUPS[0], homes[-1])
    Scene(node.folder, node.document(), stage.account, homes).save()
    argv = [sys.executable, "-m", "tests.behaviour.crash_driver", str(node.folder)]
    with (
        (node.folder / "driver.log").open("w") as log,
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as driver,
    ):
        try:
            yield Rig(node, driver)
        finally:
            driver.kill()


def file_faults(node: Node) -> list[str]:
    """What is wrong with the live file. HAProxy's own check does not mind one that is cut at a line, so ours comes first."""
    try:
        complete(node.config.read_text())
    except ConfigRejected as error:
        return [str(error)]
    done = subprocess.run([node.binary, "-c", "-f", str(node.config)], capture_output=True, check=False)
    return [] if done.returncode == 0 else [done.stderr.decode(errors="replace")]


def faults(rig: Rig, *, calm: bool = True) -> list[str]:
    """What is wrong after a kill: with the live file, with the next pass, or with what it left behind. Empty when nothing is."""
    node = rig.node
    found = file_faults(node)
    if calm:
        rig.calm()
    loaded = rig.stamp() if calm else ""
    done = rig.ask(do="converge")
    if done["errors"] or done["again"]["errors"]:
        return [*found, f"the next pass fails: {done}"]
    rig.unfinished += not done["idle"]
    # A reload that was still under way may be over between two looks; then the pass's own look decides.
    if calm and done["stamp"] not in {loaded, "unfinished"}:
        found.append(f"the pass saw {done['stamp']}, and the worker had {loaded}")
    due = (loaded if calm else done["stamp"]) != done["wanted"]
    if due != bool(done["reloaded"]):
        found.append(f"a reload was {'missed' if due else 'needless'}: {done}")
    if done["again"]["reloaded"]:
        found.append(f"one pass was not enough: {done}")
    return [*found, *file_faults(node), *differences(rig)]


def differences(rig: Rig) -> list[str]:
    """Where the worker, the live file and the world do not agree."""
    node = rig.node
    text = parse(node.config.read_text())
    found = []
    if rig.stamp() != text.structure:
        found.append(f"the worker has {rig.stamp()}, and the file {text.structure}")
    servers = node.proxy.observe(()).servers
    runs = {
        key[1]: (s.address, s.port, s.id, s.weight) for key, s in servers.items() if key[0] == "site" and not s.maint
    }
    filed = {line.name: (line.address, line.port, line.id, line.weight) for line in text.servers.values()}
    if runs != filed:
        found.append(f"the worker serves {runs}, and the file {filed}")
    scene = Scene.load(node.folder)
    weighed = {name for name, server in filed.items() if server[3] > 0}
    if weighed != set(scene.account.in_service(*GROUPS)):
        found.append(f"in rotation are {sorted(weighed)}, in service {scene.account.in_service(*GROUPS)}")
    if f"note_{scene.edits}" not in text.backends:
        found.append(f"template edit {scene.edits} is not in force")
    return found


@pytest.mark.timeout(900 if LONG else 600)
def test_after_every_kill_the_file_is_good_and_the_next_pass_converges(haproxy: Haproxy, stage: Stage) -> None:
    chance = random.Random(haproxy.version[1])
    with begin(stage, haproxy) as rig, Traffic(stage.processes, [rig.node.http], rate=100, clients=6) as traffic:
        span = rig.span()
        assert faults(rig) == []
        for number in range(KILLS):
            killed = rig.ask(do="churn", seed=number, after=chance.uniform(0, 2 * span))
            assert killed["status"] == -9
            # Every second time the next agent comes at once, even into a reload that is still under way.
            assert faults(rig, calm=number % 2 == 0) == [], f"kill {number}"
            if number % 10 == 9:  # the machine may be busier by now
                span = rig.span()
                assert faults(rig) == []
        total = traffic.stop()
        assert rig.node.master().reloads > KILLS / 10
        assert rig.unfinished > KILLS / 4, "too few kills hit an agent in the middle of its work"
    assert (total.failed, dict(total.errors)) == (0, {})


@pytest.mark.parametrize("when", ["before", "after"])
def test_after_a_kill_at_each_step_the_next_pass_converges(haproxy: Haproxy, stage: Stage, when: str) -> None:
    with begin(stage, haproxy) as rig:
        for number, point in enumerate(POINTS):
            kind = "membership" if point == "proxy.run" else "structure"
            killed = rig.ask(do="aimed", seed=number, kind=kind, point=point, when=when)
            assert killed["status"] == -9, f"the pass did not come by {point}"
            assert faults(rig) == [], f"killed {when} {point}"


def test_control_an_agent_that_trusts_the_file_misses_a_reload(haproxy: Haproxy, stage: Stage) -> None:
    with begin(stage, haproxy) as rig:
        killed = rig.ask(do="aimed", seed=1, kind="structure", point="proxy._disk.install", when="after")
        assert killed["status"] == -9
        found = rig.ask(do="converge", trusting=True)
        assert found["reloaded"] == []
        assert any("the worker has" in fault for fault in differences(rig))


def test_control_a_file_written_in_place_is_found_cut(haproxy: Haproxy, stage: Stage) -> None:
    with begin(stage, haproxy) as rig:
        text = rig.node.config.read_text()
        with rig.node.config.open("w") as file:
            file.write(text[: text.index("backend hafleet_ready")])
            file.flush()
            os.fsync(file.fileno())
        assert file_faults(rig.node) != []
        rig.ask(do="converge")
        assert file_faults(rig.node) == []
