"""Fifty structural changes under load: fifty reloads, no lost request. And what a hard restart costs."""

import random
import subprocess
import time
from dataclasses import dataclass, field

import pytest

from hafleet.core.model import Worker
from hafleet.errors import ProxyUnavailable
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.processes import wait_until
from hafleet.lab.traffic import Traffic
from tests.behaviour.stage import EDGE, LONG, Node, Stage, plan_of

pytestmark = pytest.mark.deep(besides=("2.6",))

CHANGES = 200 if LONG else 50


@dataclass
class Engineer:
    """Changes what only a reload can change, one thing at a time. The order comes from a seed."""

    stage: Stage
    node: Node
    seed: int
    done: dict[str, int] = field(default_factory=dict)  # kind -> how often
    peers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def change(self, number: int) -> None:
        """One change; ``number`` makes it differ from all before."""
        kind = self.chance.choice(("template", "option", "check", "peer", "no peer" if self.peers else "peer"))
        self.done[kind] = self.done.get(kind, 0) + 1
        if kind == "template":
            self.node.edit_template(number)
        elif kind == "option":
            self.node.set_haproxy(timeout_client=f"{100 + number}s")
        elif kind == "check":  # an option of every server
            self.node.plan["backends"][0]["check"]["interval"] = f"{200 + number}ms"
            self.node.configure()
        elif kind == "peer":
            self.peers.append(self.stage.account.launch(EDGE, self.stage.loopback.address()))
        else:
            name = self.peers.pop()
            self.stage.account.state(name, "Terminating:Wait")


def begin(stage: Stage, haproxy: Haproxy) -> Node:
    for _ in range(4):
        stage.launch("blue")
    node = stage.node(haproxy.binary, plan_of({"blue": None}))
    # Reloads follow each other faster than an old worker hands its tables over, which takes one of 3.x up to five seconds.
    node.plan["safety"]["max_old_workers"] = CHANGES
    node.set_haproxy(max_reloads=CHANGES)
    node.start()
    return node


@pytest.mark.timeout(900 if LONG else 600)
def test_fifty_structural_changes_are_fifty_reloads_and_lose_no_request(haproxy: Haproxy, stage: Stage) -> None:
    node = begin(stage, haproxy)
    engineer = Engineer(stage, node, seed=haproxy.version[1])
    pids = set()
    with Traffic(stage.processes, [node.http], rate=0, clients=20) as traffic:
        for number in range(CHANGES):
            engineer.change(number)
            turn = node.good_turn()
            while turn.plan.held:
                time.sleep(0.05)
                turn = node.good_turn()
            assert turn.outcome.reloaded == ("the structure changed",), turn.plan.proxy.lines()
            worker = node.proxy.observe(())
            assert worker.stamp == node.structure()
            pids.add(worker.pid)
        last = node.settle()
        before = traffic.count()
        wait_until(lambda: traffic.count().since(before).sent > 100, 60, "100 more requests")
        total = traffic.stop()
    assert len(engineer.done) == 5, engineer.done
    assert (node.master().reloads, node.master().failed, len(pids)) == (CHANGES, 0, CHANGES)
    assert isinstance(last.world.worker, Worker)
    assert (total.failed, dict(total.errors)) == (0, {})
    assert total.sent > 5 * CHANGES
    assert frozenset(total.instances) == node.expected()


def test_control_a_hard_restart_loses_requests(haproxy: Haproxy, stage: Stage) -> None:
    node = begin(stage, haproxy)
    with Traffic(stage.processes, [node.http], rate=0, clients=20) as traffic:
        old = node.proxy.observe(())
        argv = [node.binary, "-W", "-S", f"{node.master_socket},mode,600", "-f", str(node.config), "-st", str(old.pid)]
        new = stage.processes.start(argv, log=node.folder / "haproxy.log")
        wait_until(lambda: _master(node) == new.pid, 60, "the new HAProxy")
        total = traffic.stop()
    assert total.failed > 0
    assert isinstance(new, subprocess.Popen)


def _master(node: Node) -> int:
    """Its master now; 0 in the moments in which the old one is gone and the new one does not answer yet."""
    try:
        return node.proxy.observe(()).master_pid
    except ProxyUnavailable:
        return 0
