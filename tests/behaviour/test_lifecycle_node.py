"""A node's own life through lifecycle hooks: real agents, real HAProxy, the lab's Auto Scaling, IMDS and Route 53."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from hafleet.lab.cloud import NODES
from hafleet.lab.fleet import Lab
from hafleet.lab.node import HTTP_PORT, PEER_PORT, Node
from hafleet.lab.plan import EDGE, Plan, shop_dns
from hafleet.lab.processes import Supervised
from hafleet.lab.servers import PORT
from tests.behaviour.test_fleet_hooks_load import joined, went
from tests.resources import Loopback

LAUNCH, END = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
SITE = {
    "name": "site",
    "port": PORT,
    "sources": [{"asg": "app"}],
    "check": {"path": "/healthz", "interval": "300ms", "timeout": "3s", "rise": 1, "fall": 2},
    "drain": "2s",
}
GREEN, RED = 200, 503

pytestmark = pytest.mark.deep


def plan(*, dns: bool = False, **lifecycle: Any) -> Plan:
    """One backend, and a lifecycle section whose times are those of a test. No reload for a peer comes in between."""
    section = {"drain": {"quiet": "1s", "max": "60s"}, "join_timeout": "60s", "peers_timeout": "0s", **lifecycle}
    made = Plan(
        backends=[SITE],
        default_backend="site",
        extra={"lifecycle": section, "peers": {"port": PEER_PORT, "settle": "10m"}},
    )
    made.dns = shop_dns() if dns else None
    return made


@contextmanager
def fleet(wanted: Plan, nodes: int = 1, *, apps: int = 2, timeout: int = 60) -> Iterator[Lab]:
    """A lab whose edge group has both hooks."""
    with Lab(wanted) as lab:
        lab.cloud.control("POST", "physics", {"hook_least": 3, "terminating": 0.3, "boot": 0.2})
        if wanted.dns is not None:
            lab.cloud.create_zone(wanted.dns["zone"])
        lab.group("app", apps)
        lab.group(EDGE, 0)
        for name, transition in (("born", LAUNCH), ("gone", END)):
            lab.cloud.autoscaling.put_lifecycle_hook(
                AutoScalingGroupName=EDGE,
                LifecycleHookName=name,
                LifecycleTransition=transition,
                HeartbeatTimeout=timeout,
                DefaultResult="ABANDON",
            )
        lab.scale(EDGE, nodes)
        yield lab


def state(lab: Lab, instance: str) -> str:
    return next((machine.lifecycle for machine in lab.cloud.machines() if machine.id == instance), "")


def in_service(lab: Lab, count: int = 1, timeout: float = 120) -> list[Node]:
    def nodes() -> list[Node]:
        ids = {machine.id for machine in lab.members(EDGE)}
        return [node for node in lab.nodes if node.id in ids]

    lab.wait_until(lambda: len(nodes()) == count, timeout, f"{count} nodes in service")
    return nodes()


def serves(node: Node) -> bool:
    try:
        with urllib.request.urlopen(f"http://{node.address}:{HTTP_PORT}/", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def leave(lab: Lab, node: Node) -> None:
    lab.terminate(node.id, decrement=True)


def kill(lab: Lab, agent: Supervised) -> None:
    """SIGKILL, and the next start."""
    starts = agent.starts
    agent.kill()
    lab.wait_until(lambda: agent.starts > starts, 60, "the next agent")


def awaited(node: Node) -> str:
    """What its hooks' side waits for, as its agent's last pass told; "" before it told anything."""
    told = report(node).get("life")
    return str(told["waiting"]) if told else ""


def report(node: Node) -> dict[str, Any]:
    """What its agent's last pass told; empty before the first."""
    with suppress(FileNotFoundError):
        found: dict[str, Any] = json.loads((node.folder / "state" / "status.json").read_text())
        return found
    return {}


# --- launch ---------------------------------------------------------------------------------------------------------


def test_a_node_joins_and_leaves_through_hooks_with_its_record() -> None:
    with fleet(plan(dns=True), nodes=2) as lab:
        first, second = in_service(lab, 2)
        assert {leaf.node for leaf in lab.registered()} == {first.id, second.id}  # before they were in service
        assert serves(first) and serves(second)
        refused = lab.cloud.fault("5xx", operation="CompleteLifecycleAction", caller=NODES)  # it stays while we look
        leave(lab, second)
        lab.wait_until(lambda: second.health() == RED, 60, "red")
        assert state(lab, second.id).startswith("Terminating")
        assert serves(second)  # whoever still comes is served
        lab.cloud.heal(refused)
        lab.wait_until(lambda: state(lab, second.id) == "", 120, "the node to go")
        assert {leaf.node for leaf in lab.registered()} == {first.id}
        assert went(second, "drained")


def test_a_node_that_is_not_ready_in_time_is_abandoned_with_a_reason_and_replaced() -> None:
    with fleet(plan(join_timeout="25s", abandon_tag=True), nodes=0, apps=1) as lab:
        first = comes_to_nothing(lab)
        lab.wait_until(lambda: bool(abandoned(lab, first)), 120, "the end of its launch")
        assert abandoned(lab, first) == "not ready within 25 s: it still waits for HAProxy to serve"
        lab.revive(lab.members("app")[0].id)
        (second,) = in_service(lab, timeout=180)
        assert second.id != first.id
        assert serves(second)


def comes_to_nothing(lab: Lab) -> Node:
    """A node that starts once its only server is dead: it cannot become ready."""
    lab.wait_until(lambda: len(lab.members("app")) == 1, 60, "the application")
    lab.crash(lab.members("app")[0].id)
    lab.scale(EDGE, 1)
    lab.wait_until(lambda: len(lab.nodes) == 1, 60, "a node")
    return lab.nodes[0]


def abandoned(lab: Lab, node: Node) -> str:
    """Why it abandoned its launch, as its tag tells; "" while there is none. Its log may end with its machine before it says so."""
    tags = lab.cloud.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [node.id]}])["Tags"]
    return next((tag["Value"] for tag in tags if tag["Key"] == "hafleet:abandoned"), "")


def test_a_launch_hook_outlasts_its_timeout_by_heartbeats_while_the_node_joins() -> None:
    with fleet(plan(), nodes=0, apps=1, timeout=15) as lab:
        node = comes_to_nothing(lab)
        lab.wait_until(
            lambda: sum(action["heartbeats"] for action in lab.cloud.waiting()) >= 6,
            120,
            "heartbeats for twice the timeout",
        )
        assert state(lab, node.id) == "Pending:Wait"
        lab.revive(lab.members("app")[0].id)
        in_service(lab)
        lab.wait_until(lambda: not lab.cloud.waiting(), 60, "the end of the wait")


@pytest.mark.parametrize("fault", ["throttle", "5xx", "unreachable"])
def test_a_refused_complete_is_tried_until_it_is_taken(fault: str) -> None:
    with fleet(plan()) as lab:
        refused = lab.cloud.fault(fault, operation="CompleteLifecycleAction", caller=NODES)
        lab.wait_until(lambda: lab.cloud.faulted() >= 3, 60, "refusals")
        (node,) = lab.nodes
        assert state(lab, node.id) == "Pending:Wait"
        assert serves(node)  # what it serves does not depend on it
        lab.cloud.heal(refused)
        in_service(lab)
        assert node.agent is not None and node.agent.starts == 1


def test_a_hook_that_was_deleted_and_one_that_ran_out_end_the_matter() -> None:
    with fleet(plan(join_timeout="1h"), nodes=0, apps=1, timeout=3) as lab:
        refused = lab.cloud.fault("5xx", operation="RecordLifecycleActionHeartbeat", caller=NODES)
        first = comes_to_nothing(lab)
        lab.wait_until(lambda: first not in lab.nodes, 60, "its launch to run out")  # DefaultResult ABANDON
        assert "Traceback" not in first.agent_log()
        lab.cloud.heal(refused)
        lab.cloud.autoscaling.delete_lifecycle_hook(AutoScalingGroupName=EDGE, LifecycleHookName="born")
        lab.revive(lab.members("app")[0].id)
        (second,) = in_service(lab)
        lab.wait_until(lambda: serves(second), 60, "it to serve")  # without a hook nobody waits for that
        assert "Traceback" not in second.agent_log()


# --- leave ----------------------------------------------------------------------------------------------------------


class Trickle:
    """A server at one address whose answers take as long as they are let."""

    def __init__(self, address: str) -> None:
        self.ends = threading.Event()
        ends = self.ends

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def log_message(self, *_args: object) -> None:
                """Not here."""

            def do_GET(self) -> None:
                """A byte now and then, until the end."""
                self.send_response(200)
                self.end_headers()
                while self.path.startswith("/long") and not ends.wait(0.2):
                    self.wfile.write(b".")
                with suppress(OSError):  # a health check that has seen enough
                    self.wfile.write(b"!")

        self._server = ThreadingHTTPServer((address, PORT), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.ends.set()
        self._server.shutdown()
        self._server.server_close()


class Download(threading.Thread):
    """One long answer, and how it ended."""

    def __init__(self, node: Node) -> None:
        super().__init__(daemon=True)
        self._url = f"http://{node.address}:{HTTP_PORT}/long"
        self.begun = threading.Event()
        self.body = b""
        self.start()

    def run(self) -> None:
        with suppress(OSError, HTTPException), urllib.request.urlopen(self._url, timeout=120) as answer:
            self.begun.set()
            while chunk := answer.read(1):
                self.body += chunk

    @property
    def whole(self) -> bool:
        return self.body.endswith(b"!")


@pytest.fixture
def trickle(loopback: Loopback) -> Iterator[tuple[str, Trickle]]:
    address = loopback.address()
    server = Trickle(address)
    yield address, server
    server.close()


def trickling(address: str, **lifecycle: Any) -> Plan:
    made = plan(**lifecycle)
    made.backends = [{**SITE, "sources": [{"static": [address]}]}]
    return made


def test_a_long_download_ends_before_the_node_does_though_its_agent_is_killed(trickle: tuple[str, Trickle]) -> None:
    address, server = trickle
    with fleet(trickling(address), nodes=2, apps=0, timeout=120) as lab:  # three starts of an agent fit in
        node, other = in_service(lab, 2)
        download = Download(node)
        assert download.begun.wait(60)
        leave(lab, node)
        lab.wait_until(lambda: node.health() == RED, 60, "red")
        agent = node.agent
        assert agent is not None
        for _ in range(3):
            kill(lab, agent)
            lab.wait_until(lambda: "1 connections" in awaited(node), 60, "it to go on with its drain")
            assert node.health() == RED
        held = lab.cloud.waiting()
        assert [action["hook"] for action in held] == ["gone"]
        server.ends.set()
        lab.wait_until(lambda: state(lab, node.id) == "", 60, "the node to go")
        download.join(60)
        assert download.whole
        assert serves(other)


def test_a_connection_over_the_limit_is_cut_and_said(trickle: tuple[str, Trickle]) -> None:
    address, _ = trickle
    with fleet(trickling(address, drain={"quiet": "1s", "max": "4s"}), apps=0) as lab:
        (node,) = in_service(lab)
        download = Download(node)
        assert download.begun.wait(60)
        leave(lab, node)
        lab.wait_until(lambda: state(lab, node.id) == "", 60, "the node to go")
        wanted = "the drain.max of 4 s is over: it no longer waits for 1 connections and 0 old workers to end"
        assert went(node, wanted)
        download.join(60)
        assert not download.whole


def test_an_instance_that_is_gone_while_it_drains_leaves_no_crash_behind(trickle: tuple[str, Trickle]) -> None:
    address, _ = trickle
    with fleet(trickling(address), apps=0) as lab:
        (node,) = in_service(lab)
        assert Download(node).begun.wait(60)
        leave(lab, node)
        lab.wait_until(lambda: state(lab, node.id) == "Terminating:Wait", 60, "the hook")
        lab.cloud.autoscaling.complete_lifecycle_action(  # somebody else's hand
            AutoScalingGroupName=EDGE, LifecycleHookName="gone", InstanceId=node.id, LifecycleActionResult="CONTINUE"
        )
        lab.wait_until(lambda: state(lab, node.id) == "", 60, "the node to go")
        assert "Traceback" not in node.agent_log()
        assert node.agent is not None and node.agent.starts == 1


def test_a_spot_notice_turns_the_node_red_within_seconds() -> None:
    with fleet(plan(dns=False), nodes=2) as lab:
        node, other = in_service(lab, 2)
        lab.wait_until(lambda: node.health() == GREEN, 60, "green")
        lab.cloud.spot_interrupt(node.id, seconds=40)
        lab.wait_until(lambda: node.health() == RED, 60, "red")
        reason = "EC2 takes this spot instance back: terminate"
        lab.wait_until(lambda: reason in phase_of(node), 60, "its reason")
        assert state(lab, node.id) == "InService"  # only IMDS knew
        lab.wait_until(lambda: node not in lab.nodes, 60, "EC2 to take it")
        assert serves(other)


def phase_of(node: Node) -> list[str]:
    """Its phase, and why it leaves; a phase of "" before its first pass."""
    found = report(node)
    return [str(found.get("phase", "")), *found.get("leaving", ())]


# --- aside ----------------------------------------------------------------------------------------------------------


def test_standby_takes_the_node_out_and_in_service_brings_it_back() -> None:
    with fleet(plan(), nodes=2) as lab:
        node, _ = in_service(lab, 2)
        lab.cloud.autoscaling.enter_standby(
            AutoScalingGroupName=EDGE, InstanceIds=[node.id], ShouldDecrementDesiredCapacity=True
        )
        lab.wait_until(lambda: node.health() == RED, 60, "red")
        assert serves(node)
        lab.cloud.autoscaling.exit_standby(AutoScalingGroupName=EDGE, InstanceIds=[node.id])
        lab.wait_until(lambda: node.health() == GREEN, 60, "green again")
        lab.wait_until(lambda: phase_of(node) == ["serving"], 60, "it serves")


def test_a_node_goes_through_the_warm_pool_without_traffic_and_then_serves() -> None:
    with fleet(plan(), nodes=1) as lab:
        (first,) = in_service(lab)
        lab.cloud.autoscaling.put_warm_pool(AutoScalingGroupName=EDGE, MaxGroupPreparedCapacity=2, PoolState="Running")
        lab.wait_until(lambda: len(lab.nodes) == 2, 60, "a warm node")
        warm = next(node for node in lab.nodes if node is not first)
        lab.wait_until(lambda: state(lab, warm.id) == "Warmed:Running", 60, "the hook into the pool to be completed")
        lab.wait_until(lambda: phase_of(warm)[0] == "leaving", 60, "it to stay away")
        lab.wait_until(
            lambda: "completed hook born (Warmed:Pending:Wait) with CONTINUE" in warm.agent_log(),
            60,
            "the agent says so",
        )
        lab.scale(EDGE, 2)
        lab.wait_until(lambda: warm.id in {machine.id for machine in lab.members(EDGE)}, 60, "it to come into service")
        assert serves(warm)
        lab.wait_until(lambda: joined(warm), 60, "the agent to say so")


@pytest.mark.parametrize("fault", ["refuse", "unauthorized", "hang", "v1"])
def test_a_broken_imds_neither_drains_nor_stops_a_node(fault: str) -> None:
    with fleet(plan()) as lab:
        (node,) = in_service(lab)
        node.imds.break_(fault)
        before = lab.cloud.machines()
        lab.scale("app", 3)
        lab.wait_until(lambda: len(node.in_rotation("site")) == 3, 60, "the change of the application to arrive")
        assert len(before) == 3
        assert phase_of(node) == ["serving"]
        assert node.health() == GREEN
        assert node.agent is not None and node.agent.starts == 1
        node.imds.break_("")
        leave(lab, node)
        lab.wait_until(lambda: state(lab, node.id) == "", 60, "the node to go")
