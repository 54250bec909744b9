"""A node that leaves, on real HAProxy: its health endpoint turns red and back without a reload, and traffic never notices."""

import socket
from contextlib import closing, suppress
from http.client import HTTPConnection

import pytest

from hafleet.core import phase
from hafleet.core.dns.model import Situation
from hafleet.core.model import Memory, Worker
from hafleet.core.situation import situation
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.processes import wait_until
from hafleet.lab.servers import PORT
from hafleet.lab.traffic import Traffic
from tests.behaviour.stage import EDGE, HEALTH, Node, Stage, Turn, plan_of

pytestmark = pytest.mark.deep(besides=("3.2",))

GREEN, RED = 200, 503
MARK = "server ready 127.0.0.1:9 id 1 weight 1 disabled"


def begin(stage: Stage, haproxy: Haproxy) -> Node:
    stage.launch("blue")
    stage.account.launch(EDGE, stage.loopback.address())  # another node, so that this one is not the last
    node = stage.node(haproxy.binary, plan_of({"blue": None}))
    node.start()
    wait_until(lambda: node.settle().plan.decision.memory.phase == "serving", 60, "it serves", every=0.1)
    return node


def health(node: Node) -> int:
    """What a health check of DNS is answered."""
    with closing(HTTPConnection(node.address, HEALTH, timeout=20)) as connection:
        connection.request("GET", "/hafleet-health")
        with connection.getresponse() as answer:
            return answer.status


def claim(node: Node, *, leaves: bool) -> None:
    """What ``hafleet drain`` and ``hafleet ready`` write into the memory."""
    memory = node.parts.store.load(None)
    node.parts.store.save(phase.drained(memory, "the operator drains it", 1.0) if leaves else phase.readied(memory))


def worker(node: Node) -> Worker:
    found = node.reconciler.observe().worker
    assert isinstance(found, Worker), found
    return found


def told(turn: Turn) -> Situation:
    found = situation(turn.world, turn.plan.decision)
    assert found is not None
    return found


def cold_start(node: Node) -> None:
    """HAProxy is started anew, on the file as it is."""
    assert node.haproxy
    node.processes.kill(node.haproxy)
    argv = [node.binary, "-W", "-S", f"{node.master_socket},mode,600", "-f", str(node.config)]
    node.haproxy = node.processes.start(argv, log=node.folder / "haproxy.log")
    wait_until(lambda: answers(node), 60, "HAProxy after its cold start", every=0.02)


def answers(node: Node) -> bool:
    with suppress(OSError):
        return health(node) in {GREEN, RED} and isinstance(node.reconciler.observe().worker, Worker)
    return False


def test_a_drain_turns_health_red_and_ready_turns_it_green_with_no_reload_and_no_lost_request(
    haproxy: Haproxy, stage: Stage
) -> None:
    node = begin(stage, haproxy)
    pid, structure = worker(node).pid, node.structure()
    with Traffic(stage.processes, [node.http], rate=0, clients=5) as traffic:
        assert health(node) == GREEN
        claim(node, leaves=True)
        turn = node.good_turn()
        assert (turn.outcome.commands, turn.outcome.wrote, turn.outcome.reloaded) == (1, True, ())
        assert health(node) == RED
        assert node.settle().plan.decision.memory.phase == "leaving"
        assert MARK in node.config.read_text() and node.structure() == structure
        claim(node, leaves=False)
        assert node.good_turn().outcome.reloaded == ()
        assert health(node) == GREEN
        assert not node.settle().plan.pending
        assert MARK not in node.config.read_text() and node.structure() == structure
        wait_until(lambda: traffic.latest.sent > 200, 60, "traffic")
    assert traffic.latest.failed == 0
    assert worker(node).pid == pid


def test_it_stays_red_over_a_reload_and_a_cold_start_and_comes_back_green(haproxy: Haproxy, stage: Stage) -> None:
    node = begin(stage, haproxy)
    claim(node, leaves=True)
    node.settle()
    node.edit_template(1)
    turn = node.good_turn()
    assert turn.outcome.reloaded and turn.outcome.commands == 0
    assert health(node) == RED  # by the file alone
    assert not node.settle().plan.health
    cold_start(node)
    assert health(node) == RED
    claim(node, leaves=False)
    node.settle()
    assert health(node) == GREEN
    node.edit_template(2)
    assert node.good_turn().outcome.reloaded
    assert health(node) == GREEN
    cold_start(node)
    assert health(node) == GREEN


def test_control_without_the_mark_in_the_file_a_cold_start_is_green_until_the_next_pass(
    haproxy: Haproxy, stage: Stage
) -> None:
    node = begin(stage, haproxy)
    before = node.config.read_text()
    claim(node, leaves=True)
    node.settle()
    node.config.write_text(before)
    cold_start(node)
    assert health(node) == GREEN
    node.good_turn()
    assert health(node) == RED


def test_the_group_s_word_drains_and_standby_comes_back_but_terminating_does_not(
    haproxy: Haproxy, stage: Stage
) -> None:
    node = begin(stage, haproxy)
    seen = []
    for state in ("EnteringStandby", "Standby", "InService", "Terminating:Wait", "InService"):
        stage.account.state(node.id, state)
        seen.append((node.settle().plan.decision.memory.phase, health(node)))
    assert seen == [("leaving", RED), ("leaving", RED), ("serving", GREEN), ("leaving", RED), ("leaving", RED)]


def test_a_drain_works_on_a_frozen_node_and_while_nothing_can_be_rendered(haproxy: Haproxy, stage: Stage) -> None:
    node = begin(stage, haproxy)
    memory = node.parts.store.load(None)
    node.parts.store.save(Memory(node=memory.node, members=memory.members, frozen="a rollback"))
    claim(node, leaves=True)
    node.turn()
    assert health(node) == RED
    (node.folder / "templates" / "haproxy.cfg.j2").write_text("{% broken")
    claim(node, leaves=False)
    turn = node.turn()
    assert turn.plan.wanted is None and turn.plan.errors
    assert health(node) == GREEN


def test_an_earlier_configuration_that_is_put_back_keeps_the_colour(haproxy: Haproxy, stage: Stage) -> None:
    node = begin(stage, haproxy)
    earlier = node.settle().plan.wanted
    assert earlier is not None
    node.edit_template(1)
    node.settle()
    claim(node, leaves=True)
    node.settle()
    done = node.reconciler.put_back(earlier, "a rollback")
    assert done.reloaded and not done.errors
    assert health(node) == RED


@pytest.mark.parametrize("kind", ["as shipped", "without the switch"])
def test_the_situation_tells_when_it_serves_and_since_when_it_is_red(haproxy: Haproxy, stage: Stage, kind: str) -> None:
    plan = plan_of({"blue": None})
    stage.launch("blue")
    node = stage.node(haproxy.binary, plan)
    if kind == "without the switch":
        text = '{% extends "haproxy.cfg.j2" %}\n{% block internals %}\n{% endblock %}\n'
        (node.folder / "templates" / "haproxy.cfg.j2").write_text(text)
    before = node.reconciler.plan(node.reconciler.observe())  # no HAProxy yet
    found = situation(before.world, before.decision)
    assert found and (found.serves, found.leaving, found.red_since) == (False, False, 0.0)
    node.start()
    wait_until(lambda: told(node.turn()).serves, 60, "it serves", every=0.05)
    found = told(node.good_turn())
    assert (found.leaving, found.red_since) == (False, 0.0)
    assert found.group and found.node.id == node.id
    claim(node, leaves=True)
    node.turn()
    found = told(node.turn())
    assert found.leaving and 0 < found.red_since <= found.at
    since = found.red_since
    if kind == "as shipped":
        assert not found.serves
    else:  # waits, for on a busy machine a check of the server may fail once
        wait_until(lambda: told(node.turn()).serves, 60, "it serves on, for nothing can turn it red", every=0.05)
    turn = node.turn()
    assert bool(turn.plan.errors) == (kind == "without the switch")
    assert told(turn).red_since == since


@pytest.mark.parametrize("answer", [False, True], ids=["no check has ended", "the check passed"])
def test_a_server_makes_a_node_serve_once_its_check_has_passed(haproxy: Haproxy, stage: Stage, answer: bool) -> None:
    """HAProxy counts a checked server as up before its first check has ended: a node must not be announced by that."""
    address = stage.loopback.address()
    name = stage.account.launch("blue", address)
    plan = plan_of({"blue": None})
    plan["backends"][0]["check"] = {"path": "/healthz", "interval": "20s", "fast": "20s", "rise": 1, "fall": 3}
    node = stage.node(haproxy.binary, plan)
    with socket.socket() as silent:
        if answer:
            stage.apps.start(name, "blue", address)
        else:
            silent.bind((address, PORT))
            silent.listen()
        node.start()
        wait_until(lambda: worker(node).uptime >= 1, 60, "its first second is over", every=0.1)
        wait_until(lambda: worker(node).servers["site", name].proven == answer, 60, "its first check", every=0.1)
        assert node.in_rotation() == {name}
        assert told(node.turn()).serves == answer
