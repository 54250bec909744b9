"""The fleet grows, shrinks and is given a new application under load by DNS, all of it through lifecycle hooks: nothing is lost.

The control runs the same fleet, hooks and load with the drain switched off by its settings, and loses requests.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hafleet.adapters.life_store import FileLifeStore
from hafleet.lab.fleet import Lab
from hafleet.lab.haproxies import LABELS, Haproxy, Unavailable, find
from hafleet.lab.node import HTTP_PORT, Node
from hafleet.lab.plan import DNS_NAME, EDGE, ZONE, Plan, shop_dns
from hafleet.lab.servers import PORT, tell
from hafleet.lab.traffic import ByName, Count, Traffic
from tests.behaviour.stage import LONG

pytestmark = [pytest.mark.deep, pytest.mark.timeout(600)]

LAUNCH, END = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
APP, APP_HOOK = "app", "app-gone"
HOOKS = ((EDGE, "born", LAUNCH), (EDGE, "gone", END), (APP, APP_HOOK, END))
TIMEOUT = 3600  # seconds of a hook: far more than a test lasts, so what ends was completed
SLOW = 150  # milliseconds of an answer: there is always a request on its way
PATIENCE = 180.0  # seconds; a bound for waiting


@pytest.fixture(params=LABELS if LONG else LABELS[:1])
def binary(request: pytest.FixtureRequest) -> Haproxy:
    """The system's HAProxy; in longer runs each version."""
    found = find(request.param)
    if isinstance(found, Unavailable):
        pytest.skip(found.reason)
    return found


def plan(*, drains: bool) -> Plan:
    """One backend. Without the drain every hook is completed as soon as it is seen, and so does each server leave."""
    site = {
        "name": "site",
        "port": PORT,
        "sources": [{"asg": APP, "terminate_hook": APP_HOOK}],
        "check": {"path": "/healthz", "interval": "300ms", "timeout": "3s", "rise": 1, "fall": 3},
        "drain": "5s" if drains else "0s",
    }
    drain = {"quiet": "1s", "max": "120s"} if drains else {"quiet": "0s", "max": "0s"}
    life = {"drain": drain, "join_timeout": "120s", "peers_timeout": "20s"}
    return Plan(backends=[site], default_backend="site", dns=shop_dns(), extra={"lifecycle": life})


@contextmanager
def fleet(wanted: Plan, haproxy: Haproxy, *, nodes: int, apps: int) -> Iterator[Lab]:
    """Nodes that stand in DNS, and servers behind them; both groups have their hooks."""
    with Lab(wanted, binary=str(haproxy.binary)) as lab:
        lab.cloud.control("POST", "physics", {"terminating": 0.3, "boot": 0.3})
        lab.cloud.create_zone(ZONE)
        lab.group(APP, apps)
        lab.group(EDGE, 0)
        for group, name, transition in HOOKS:
            lab.cloud.autoscaling.put_lifecycle_hook(
                AutoScalingGroupName=group,
                LifecycleHookName=name,
                LifecycleTransition=transition,
                HeartbeatTimeout=TIMEOUT,
                DefaultResult="ABANDON",
            )
        lab.scale(EDGE, nodes)
        settle(lab, nodes)
        yield lab


def settle(lab: Lab, count: int) -> None:
    """Wait until so many nodes are there, in service and in DNS, and each has exactly the servers in service."""
    lab.wait_until(lambda: len(lab.members(EDGE)) == len(lab.nodes) == count, PATIENCE, f"{count} nodes in service")
    lab.wait_converged(PATIENCE)
    lab.wait_until(lambda: in_dns(lab) == {node.id for node in lab.nodes}, PATIENCE, "DNS to know them all")


def in_dns(lab: Lab) -> set[str]:
    return {leaf.node for leaf in lab.registered()}


def load(lab: Lab) -> Traffic:
    """Clients that find the nodes by DNS and honour its TTL; every second one keeps its connections."""
    where = ByName(DNS_NAME, lab.cloud.dns, HTTP_PORT)
    return Traffic(lab.processes, where, rate=200 if LONG else 100, clients=20)


def slow_down(lab: Lab) -> None:
    for machine in lab.members(APP):
        tell(machine.address, f"/_app/slow/{SLOW}")


def roll(lab: Lab) -> None:
    """Every server is retired, one after the other; its machine goes when the fleet says that it has drained it."""
    for machine in lab.members(APP):
        count = len(lab.members(APP))
        lab.terminate(machine.id)
        lab.wait_until(lambda old=machine.id: gone(lab, old), PATIENCE, f"{machine.id} to go")  # type: ignore[misc]
        lab.wait_until(lambda size=count: len(lab.members(APP)) == size, PATIENCE, "its successor")  # type: ignore[misc]
        lab.wait_converged(PATIENCE)
        slow_down(lab)


def gone(lab: Lab, instance: str) -> bool:
    return instance not in {machine.id for machine in lab.cloud.machines()}


def joined(node: Node) -> bool:
    """True when the node itself told Auto Scaling that it serves."""
    return "completed hook born (Pending:Wait) with CONTINUE: it serves" in node.agent_log()


def went(node: Node, reason: str) -> bool:
    """True when the node itself told Auto Scaling to go on with its end, for this reason.

    Its log may end with its machine before it says so; its memory does not, but begins anew once the group has gone on.
    """
    memory = FileLifeStore(node.folder / "state").load(node.id)
    kept = f"{memory.state} {memory.result}: {memory.reason}".startswith(f"Terminating:Wait CONTINUE: {reason}")
    return kept or f"completed hook gone (Terminating:Wait) with CONTINUE: {reason}" in node.agent_log()


def test_the_fleet_grows_shrinks_and_changes_its_application_through_hooks_and_loses_nothing(binary: Haproxy) -> None:
    with fleet(plan(drains=True), binary, nodes=2, apps=3) as lab:
        slow_down(lab)
        seen = {node.id: node for node in lab.nodes}
        servers = {machine.id for machine in lab.members(APP)}
        with load(lab) as traffic:
            lab.scale(EDGE, 5)
            settle(lab, 5)
            seen |= {node.id: node for node in lab.nodes}
            lab.wait_until(lambda: len(used(traffic)) == 5, PATIENCE, "every node to be asked")
            lab.scale(EDGE, 2)
            settle(lab, 2)
            roll(lab)
            sent = traffic.count().sent
            lab.wait_until(lambda: traffic.latest.sent > sent + 200, PATIENCE, "more of the load")
        total = traffic.latest
        assert total.failed == 0, total.errors
        assert total.sent > 500
        assert not servers & {machine.id for machine in lab.members(APP)}
        logs = "".join(node.agent_log() for node in lab.nodes)
        assert [logs.count(f"completed hook {APP_HOOK} of {APP} for {server}:") for server in servers] == [1, 1, 1]
        assert len(seen) == 5
        assert all(joined(node) for node in seen.values())
        left = [node for node in seen.values() if node not in lab.nodes]
        assert len(left) == 3
        assert all(went(node, "drained") for node in left)


def used(traffic: Traffic) -> set[str]:
    """The nodes that got requests so far."""
    return set(traffic.latest.targets)


def test_control_without_the_drain_a_new_application_and_a_fleet_that_shrinks_lose_requests(binary: Haproxy) -> None:
    with fleet(plan(drains=False), binary, nodes=3, apps=3) as lab:
        slow_down(lab)
        with load(lab) as traffic:
            lab.wait_until(lambda: len(used(traffic)) == 3, PATIENCE, "every node to be asked")
            assert traffic.count().failed == 0
            for machine in lab.members(APP):
                lab.terminate(machine.id)
            lab.wait_until(lambda: traffic.latest.failed > 0, PATIENCE, "requests that were cut with their server")
            settle(lab, 3)
            leaving, before = lab.nodes[0], traffic.count()
            lab.terminate(leaving.id, decrement=True)
            lab.wait_until(lambda: bool(unheard(traffic, before, leaving)), PATIENCE, "requests to a node that is gone")
        assert went(leaving, "the drain.max of 0 s is over")


def unheard(traffic: Traffic, before: Count, node: Node) -> list[str]:
    """Why requests to this node failed, of those that did after ``before``."""
    found = traffic.latest.since(before).errors
    return [error for error in found if error.startswith(f"{node.http} ")]
