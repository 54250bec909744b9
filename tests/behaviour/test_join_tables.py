"""A node that joins a fleet comes with its stick tables: before its first announced request it knows every client."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hafleet.lab import proxy as eye
from hafleet.lab.cloud import NODES
from hafleet.lab.fleet import Lab
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.node import HTTP_PORT, PEER_PORT, Node
from hafleet.lab.plan import EDGE, Plan
from hafleet.lab.servers import PORT
from tests.resources import answers

pytestmark = pytest.mark.deep

ENTRIES = 100_000
LAUNCH = "autoscaling:EC2_INSTANCE_LAUNCHING"
SITE = {
    "name": "site",
    "port": PORT,
    "sources": [{"asg": "app"}],
    "check": {"path": "/healthz", "interval": "300ms", "timeout": "3s", "rise": 1, "fall": 2},
    "stick": {"on": "req.hdr(x-user)", "type": "string", "size": "200k", "expire": "30m"},
}


@contextmanager
def fleet(haproxy: Haproxy, peers_timeout: str, settle: str = "8s") -> Iterator[tuple[Lab, Node]]:
    """One node in service whose table is full, in a group with a launch hook. It takes its time to list a newcomer."""
    times = {"join_timeout": "15m", "peers_timeout": peers_timeout}
    peers = {"port": PEER_PORT, "settle": settle}
    plan = Plan(backends=[SITE], default_backend="site", extra={"lifecycle": times, "peers": peers})
    with Lab(plan, binary=str(haproxy.binary)) as lab:
        lab.group("app", 2)
        lab.group(EDGE, 0)
        lab.cloud.autoscaling.put_lifecycle_hook(
            AutoScalingGroupName=EDGE, LifecycleHookName="born", LifecycleTransition=LAUNCH, HeartbeatTimeout=120
        )
        lab.scale(EDGE, 1)
        (first,) = in_service(lab, 1)
        lab.wait_until(lambda: len(first.in_rotation("site")) == 2, 60, "its servers")
        fill(first)
        yield lab, first


def in_service(lab: Lab, count: int) -> list[Node]:
    """The nodes, once so many have been launched; the oldest first."""
    lab.wait_until(lambda: len(lab.members(EDGE)) == count and len(lab.nodes) == count, 240, f"{count} nodes")
    return list(lab.nodes)


def fill(node: Node) -> None:
    """Learn so many clients of one server, as if each had come once."""
    text = eye.ask(node.runtime_socket, "show servers state site")
    server = next(line.split()[2] for line in text.splitlines() if line.split()[3:4] == [min(node.in_rotation("site"))])
    for start in range(0, ENTRIES, 200):  # a line of all of them would not fit into a buffer
        users = range(start, start + 200)
        eye.ask(node.runtime_socket, ";".join(f"set table site key user-{n} data.server_id {server}" for n in users))
    assert entries(node) == ENTRIES


def entries(node: Node) -> int:
    """How many clients its worker knows; -1 while HAProxy does not answer."""
    try:
        heads = eye.ask(node.runtime_socket, "show table")
    except OSError:
        return -1
    line = next(line for line in heads.splitlines() if "table: site," in line)
    return int(line.rpartition("used:")[2])


def homes(node: Node, users: range) -> set[str]:
    """The instances that answer these clients."""
    return set(answers(node.address, HTTP_PORT, "x-user", (f"user-{user}" for user in users)).values())


def test_a_node_that_joins_has_every_entry_before_it_is_announced(haproxy: Haproxy) -> None:
    with fleet(haproxy, "10m") as (lab, first):
        refused = lab.cloud.fault("5xx", operation="CompleteLifecycleAction", caller=NODES)
        lab.scale(EDGE, 2)
        lab.wait_until(lambda: len(lab.nodes) == 2, 60, "a second node")
        second = lab.nodes[1]
        lab.wait_until(lambda: lab.cloud.faulted() > 0, 300, "it to say that it serves")
        assert [machine.id for machine in lab.members(EDGE)] == [first.id]
        assert entries(second) == ENTRIES  # before it is in service
        lab.cloud.heal(refused)
        in_service(lab, 2)
        assert entries(second) == ENTRIES
        assert homes(second, range(40)) == homes(first, range(1)) == {min(first.in_rotation("site"))}
        assert "peers_first" in second.agent_log()


def test_control_a_node_that_waits_for_no_peer_has_none(haproxy: Haproxy) -> None:
    with fleet(haproxy, "0s", settle="10m") as (lab, first):  # nobody lists the newcomer while we look
        lab.scale(EDGE, 2)
        _, second = in_service(lab, 2)
        assert entries(second) == 0
        assert entries(first) == ENTRIES
        assert len(homes(second, range(40))) == 2


def test_with_no_peer_that_answers_there_is_a_limit(haproxy: Haproxy) -> None:
    with fleet(haproxy, "3s") as (lab, first):
        assert first.agent is not None
        first.agent.stop()  # nobody lists the newcomer
        lab.scale(EDGE, 2)
        _, second = in_service(lab, 2)
        assert entries(second) == 0
        assert "peers_first" in second.agent_log()
