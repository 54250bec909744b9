"""``hafleet drain`` and ``hafleet ready`` on real nodes, with an agent and without. One lab with two nodes serves all of them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from urllib.request import urlopen

import pytest

from hafleet.lab.fleet import Lab
from hafleet.lab.node import HEALTH_PORT, STATUS_PORT, Node
from hafleet.lab.processes import wait_until

pytestmark = [pytest.mark.deep, pytest.mark.xdist_group("drain commands")]  # one lab for all of them

Run = Callable[..., "subprocess.CompletedProcess[str]"]

DONE, FAILED, SETTINGS, HELD = 0, 1, 2, 3
GREEN, RED = 200, 503


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        for name, desired in (("shop-blue", 1), ("shop-green", 0), ("cart", 1)):
            lab.group(name, desired)
        lab.start_nodes(2)
        lab.wait_converged()
        for node in lab.nodes:  # no reload for the other one is to come any more
            wait_until(lambda node=node: call(lab, node, "plan").returncode == DONE, 120, "nothing to do", every=0.2)  # type: ignore[misc]
        yield lab


@pytest.fixture
def node(lab: Lab) -> Iterator[Node]:
    """A node that serves; at the end it is brought back."""
    node = lab.nodes[0]
    assert node.agent
    wait_until(lambda: status(lab, node).get("phase") == "serving", 60, "the node serves", every=0.1)
    yield node
    if not node.agent.pid:
        node.agent.start()
    assert call(lab, node, "ready").returncode == DONE
    wait_until(lambda: health(node) == GREEN, 60, "the node is back", every=0.05)


def call(lab: Lab, node: Node, command: str, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "hafleet.cli", command, "-c", str(node.settings), *arguments]
    own = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": node.imds.url, **more}
    env = {**os.environ, **lab.cloud.environment, **own}
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, env=env)


def status(lab: Lab, node: Node) -> dict[str, object]:
    done = call(lab, node, "status", "--json")
    found = json.loads(done.stdout) if done.stdout else {}
    assert isinstance(found, dict)
    return found


def health(node: Node) -> int:
    """What a health check of DNS is answered; 0 while nobody answers."""
    with closing(HTTPConnection(node.address, HEALTH_PORT, timeout=20)) as connection:
        with suppress(OSError, HTTPException):
            connection.request("GET", "/hafleet-health")
            with connection.getresponse() as answer:
                return answer.status
    return 0


def metric(node: Node, name: str) -> float:
    with urlopen(f"http://{node.address}:{STATUS_PORT}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")))


def test_a_drain_waits_shows_and_comes_back(lab: Lab, node: Node) -> None:
    reloads = node.reloads()
    done = call(lab, node, "drain", "--wait", "--reason", "a new\ndisk")
    assert done.returncode == DONE, done.stderr
    assert done.stdout.splitlines()[0] == "leaving: a new disk" and done.stdout.splitlines()[-1] == "drained"
    assert "goes on from here" in done.stdout and health(node) == RED
    wait_until(lambda: bool(status(lab, node).get("red_since")), 60, "the agent saw it", every=0.1)
    seen = status(lab, node)
    assert (seen["phase"], seen["leaving"]) == ("leaving", ["a new disk"])
    assert "phase leaving: a new disk" in call(lab, node, "status").stdout
    wait_until(lambda: metric(node, "hafleet_health_red") == 1, 60, "the figures of that pass")
    assert metric(node, 'hafleet_phase{phase="leaving"}') == 1
    assert metric(node, 'hafleet_phase{phase="serving"}') == 0
    assert call(lab, node, "drain").returncode == DONE  # again is fine
    back = call(lab, node, "ready", "--json")
    assert back.returncode == DONE and json.loads(back.stdout)["lines"][0] == "not leaving"
    assert health(node) == GREEN
    wait_until(lambda: status(lab, node).get("phase") == "serving", 60, "it serves again", every=0.1)
    assert node.reloads() == reloads


def test_it_lasts_over_a_restart_of_agent_and_haproxy(lab: Lab, node: Node) -> None:
    assert node.agent
    assert call(lab, node, "drain").returncode == DONE
    node.agent.stop()
    node.haproxy.stop()
    node.haproxy.start()
    wait_until(lambda: health(node) == RED, 60, "HAProxy came up red", every=0.05)
    node.agent.start()
    wait_until(lambda: status(lab, node).get("phase") == "leaving", 60, "the agent goes on", every=0.1)
    assert health(node) == RED


def test_without_an_agent_and_without_aws_it_drains_all_the_same(lab: Lab, node: Node) -> None:
    assert node.agent
    node.agent.stop()
    away = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"}
    done = call(lab, node, "drain", **away)
    assert done.returncode == DONE, done.stderr
    assert "is not known" in done.stdout and "no agent runs here" in done.stdout
    assert health(node) == RED and "weight 1 disabled" in node.config.read_text()
    done = call(lab, node, "ready", **away)
    assert done.returncode == DONE and health(node) == GREEN
    assert "weight 1 disabled" not in node.config.read_text()


def test_the_last_node_is_held_unless_forced(lab: Lab, node: Node) -> None:
    other = lab.nodes[1]
    lab.cloud.autoscaling.enter_standby(
        InstanceIds=[other.id], AutoScalingGroupName="edge", ShouldDecrementDesiredCapacity=True
    )
    done = call(lab, node, "drain")
    assert done.returncode == HELD and "--force" in done.stderr and health(node) == GREEN
    found = json.loads(call(lab, node, "drain", "--json").stdout)
    assert found["held"]["rule"] == "last_node" and found["lines"] == []
    wait_until(lambda: health(other) == RED, 60, "the node in standby turned red", every=0.1)
    assert call(lab, other, "ready").stdout.splitlines()[0].startswith("still leaving: Auto Scaling says ")
    assert call(lab, node, "drain", "--force").returncode == DONE and health(node) == RED
    lab.cloud.autoscaling.exit_standby(InstanceIds=[other.id], AutoScalingGroupName="edge")
    wait_until(lambda: health(other) == GREEN, 60, "the node is out of standby", every=0.1)


def test_a_wait_ends_in_time_and_when_the_drain_is_taken_back(lab: Lab, node: Node) -> None:
    assert node.agent
    node.agent.stop()
    node.haproxy.stop()
    done = call(lab, node, "drain", "--wait", "--timeout", "1500ms", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == FAILED and "HAProxy to answer" in found["left"][0]
    assert "was not turned" in "".join(found["lines"])
    argv = [sys.executable, "-m", "hafleet.cli", "drain", "--force", "--wait", "-c", str(node.settings)]
    env = {**os.environ, **lab.cloud.environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT": node.imds.url}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as waits:
        assert waits.stdout and waits.stderr
        assert "waits for HAProxy" in waits.stderr.readline()
        assert call(lab, node, "ready").returncode == DONE
        _, said = waits.communicate(timeout=300)
        assert waits.returncode == FAILED and "taken back" in said
    node.haproxy.start()
    wait_until(lambda: health(node) == GREEN, 60, "HAProxy came up green", every=0.05)


def test_a_time_that_is_none_is_refused(lab: Lab, node: Node) -> None:
    done = call(lab, node, "drain", "--timeout", "soon")
    assert done.returncode == SETTINGS and "not a duration" in done.stderr
    assert health(node) == GREEN
