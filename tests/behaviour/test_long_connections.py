"""Downloads and WebSockets on servers and nodes that leave: whole where the drain is long enough, else cut, counted and said."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

import pytest

from hafleet.lab.cloud import Machine
from hafleet.lab.fleet import Lab
from hafleet.lab.haproxies import LABELS, Unavailable, find
from hafleet.lab.node import STATUS_PORT, Node
from hafleet.lab.plan import EDGE, ZONE, Plan, shop_dns
from tests.behaviour.long_talks import Kind, LongServer, Order, Talk
from tests.behaviour.stage import LONG, edit_template
from tests.behaviour.test_fleet_hooks_load import went

pytestmark = [pytest.mark.deep, pytest.mark.timeout(900)]

END = "autoscaling:EC2_INSTANCE_TERMINATING"
APP = "app"
RAW = 8081  # port of the frontend that passes bytes
KINDS: tuple[Kind, ...] = ("download", "websocket")
LONGEST = 40.0  # seconds of a download
SHORT = 15.0  # of a download or a WebSocket that need not be as long
ENDLESS = 300.0  # far longer than any drain here
PATIENCE = 180.0  # a bound for waiting


@dataclass
class Talks(Plan):
    """Two backends of the same servers, one that reads HTTP and one that passes bytes, each with a frontend."""

    port: int = 0
    drain: str = "120s"
    life: dict[str, Any] = field(default_factory=dict)
    hard_stop: str = "120s"

    def settings(self, node: Node) -> dict[str, Any]:
        """The lab's, with a second frontend."""
        check = {"path": "/healthz", "interval": "500ms", "timeout": "3s", "rise": 1, "fall": 4}
        common = {"port": self.port, "sources": [{"asg": APP}], "check": check, "drain": self.drain}
        self.backends = [{"name": "site", **common}, {"name": "raw", "mode": "tcp", **common}]
        made = super().settings(node)
        made["frontends"] = [
            {"name": "web", "bind": node.http, "mode": "http", "default_backend": "site"},
            {"name": "bytes", "bind": f"{node.address}:{RAW}", "mode": "tcp", "default_backend": "raw"},
        ]
        made["haproxy"]["hard_stop_after"] = self.hard_stop
        made["lifecycle"] = {"drain": {"quiet": "1s", "max": "120s"}, "peers_timeout": "10s", **self.life}
        return made


@pytest.fixture(params=LABELS if LONG else LABELS[:1])
def binary(request: pytest.FixtureRequest) -> str:
    """The system's HAProxy; in longer runs each version."""
    found = find(request.param)
    if isinstance(found, Unavailable):
        pytest.skip(found.reason)
    return str(found.binary)


@contextmanager
def fleet(plan: Talks, binary: str) -> Iterator[Lab]:
    """Two nodes before two servers; who ends waits in a hook. Nobody completes the servers': their machines outlast the test."""
    with LongServer() as server, Lab(plan, binary=binary) as lab:
        plan.port = server.port
        lab.cloud.control("POST", "physics", {"boot": 0.2, "groups": {EDGE: {"transit": 3.0}}})
        if plan.dns is not None:
            lab.cloud.create_zone(ZONE)
        lab.group(APP, 2)
        lab.group(EDGE, 0)
        for group in (APP, EDGE):
            lab.cloud.autoscaling.put_lifecycle_hook(
                AutoScalingGroupName=group, LifecycleHookName="gone", LifecycleTransition=END, HeartbeatTimeout=3600
            )
        lab.scale(EDGE, 2)
        lab.wait_until(lambda: len(lab.members(EDGE)) == len(lab.nodes) == 2, PATIENCE, "two nodes in service")
        lab.wait_until(lambda: all(serving(node) for node in lab.nodes), PATIENCE, "their servers")
        lab.wait_registered(PATIENCE)
        yield lab


def serving(node: Node) -> bool:
    return all(len(node.in_rotation(backend)) == 2 for backend in ("site", "raw")) and told(node)["phase"] == "serving"


def told(node: Node) -> dict[str, Any]:
    """What its last pass told; a phase of "" before the first."""
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads((node.folder / "state" / "status.json").read_text())
        return found
    return {"phase": ""}


def talks(node: Node, seconds: float, kinds: Iterable[Kind] = KINDS) -> list[Talk]:
    """Of each kind through both frontends, as many as there are servers: each server gets one of all."""
    ways = [(kind, through) for kind in kinds for through in (node.http, f"{node.address}:{RAW}")]
    return [Talk(Order(kind, through, seconds)).begun() for kind, through in ways for _ in range(2)]


def gone(lab: Lab, node: Node) -> bool:
    return node.id not in {machine.id for machine in lab.cloud.machines()}


def waits(lab: Lab, node: Node) -> bool:
    return any(machine.id == node.id and machine.lifecycle == "Terminating:Wait" for machine in lab.cloud.machines())


def rotation(node: Node) -> set[str]:
    return {name for backend in ("site", "raw") for name in node.in_rotation(backend)}


def cut_by(node: Node) -> dict[str, float]:
    """The node's metric of cut connections, by what cut them; empty while nobody answers."""
    with suppress(OSError), urlopen(f"http://{node.address}:{STATUS_PORT}/metrics", timeout=20) as answer:
        found = re.findall(r'^hafleet_connections_cut_total\{by="(\w+)"\} (\S+)$', answer.read().decode(), re.MULTILINE)
        return {kind: float(count) for kind, count in found}
    return {}


def said(node: Node, kind: str) -> list[dict[str, Any]]:
    """What its log says of connections that this cut."""
    whole = node.agent_log().rpartition("\n")[0]  # of the last line there may be a part
    lines = (json.loads(line) for line in whole.splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == "connections cut" and line["by"] == kind]


def test_what_ends_within_the_drain_ends_whole_on_a_server_and_on_a_node_that_leave(binary: str) -> None:
    with fleet(Talks(dns=shop_dns()), binary) as lab:
        leaves, stays = lab.nodes
        first = lab.members(APP)[0]
        download = [Talk(Order("download", leaves.http, LONGEST)).begun() for _ in range(2)]
        running = [*download, *talks(leaves, SHORT), *talks(stays, SHORT)]
        assert {talk.server for talk in download} == {machine.address for machine in lab.members(APP)}
        lab.terminate(first.id)
        lab.wait_until(lambda: not any(first.id in rotation(node) for node in lab.nodes), PATIENCE, "the drain")
        lab.terminate(leaves.id, decrement=True)
        lab.wait_until(lambda: leaves.id not in {leaf.node for leaf in lab.registered()}, PATIENCE, "its record to go")
        assert any(talk.is_alive() for talk in download) and not gone(lab, leaves)
        for talk in running:
            talk.join(PATIENCE)
        assert [f"{talk.order}: {talk.error}" for talk in running if not talk.whole] == []
        lab.wait_until(lambda: gone(lab, leaves), PATIENCE, "the node to go")
        assert went(leaves, "drained")
        lab.wait_until(lambda: all(state(stays, first.id)), PATIENCE, "the server to be parked")
        assert cut_by(stays) == {"server": 0.0, "node": 0.0, "reload": 0.0}
        assert not [
            line for node in (leaves, stays) for kind in ("server", "node", "reload") for line in said(node, kind)
        ]


def state(node: Node, server: str) -> list[bool]:
    """For each backend, whether the server is out of it: in maint, or deleted."""
    rows = {row.backend: row.status for row in node.servers() if row.name == server}
    return [rows.get(backend, "MAINT") == "MAINT" for backend in ("site", "raw")]


def test_what_lasts_longer_than_a_drain_or_an_old_worker_may_is_cut_counted_and_said(binary: str) -> None:
    plan = Talks(drain="4s", hard_stop="1h", life={"drain": {"quiet": "1s", "max": "6s"}})
    with fleet(plan, binary) as lab:
        leaves, reloaded = lab.nodes
        first = lab.members(APP)[0]
        on_first, on_second = by_server(talks(leaves, ENDLESS), first)
        in_old, also_in_old = by_server(talks(reloaded, ENDLESS, kinds=("websocket",)), first)
        edit_template(reloaded.templates, 1)
        lab.wait_until(lambda: held(reloaded) == (1, 4), PATIENCE, "the old worker's connections to be told")
        assert "old workers 1 with 4 connections" in reloaded.command("status").stdout

        lab.terminate(first.id)
        lab.wait_until(lambda: cut_by(leaves).get("server") == 4.0, PATIENCE, "the server's cut to be counted")
        assert ended(on_first)
        assert all(talk.is_alive() for talk in on_second)
        lab.wait_until(
            lambda: len(servers_cut(leaves)) == 2, PATIENCE, "its status to tell, after the metric and the log"
        )
        assert servers_cut(leaves) == {(f"{backend}/{first.id}", 2, 0) for backend in ("site", "raw")}
        wanted = r"2 connections of (site|raw)/i-\w+ cut \(AWS says Terminating:Wait; drained for \d+ s\)"
        assert [bool(re.fullmatch(wanted, line["cut"])) for line in said(leaves, "server")] == [True, True]

        lab.wait_until(lambda: len(servers_cut(reloaded)) == 2, PATIENCE, "the server to be removed")
        assert servers_cut(reloaded) == {(f"{backend}/{first.id}", 0, 1) for backend in ("site", "raw")}
        assert all(talk.is_alive() for talk in in_old)  # nothing reaches them there

        lab.terminate(leaves.id, decrement=True)
        lab.wait_until(lambda: waits(lab, leaves), PATIENCE, "the node to wait in its hook")
        lab.cloud.control("POST", "physics", {"groups": {EDGE: {"transit": 600.0}}})  # it ends when it has said all
        lab.wait_until(lambda: cut_by(leaves).get("node") == 4.0, PATIENCE, "the node's cut to be counted")
        lab.wait_until(lambda: len(said(leaves, "node")) == 1, PATIENCE, "and said")
        lab.cloud.control("POST", "physics", {"groups": {EDGE: {"transit": 0.3}}})
        lab.wait_until(lambda: gone(lab, leaves), PATIENCE, "the node to go")
        assert ended(on_second)
        (line,) = said(leaves, "node")
        assert (line["connections"], line["level"]) == (4, "warning")
        assert "the drain.max of 6 s is over: it no longer waits for 4 connections and 0 old workers" in line["cut"]

        plan.hard_stop = "30s"
        lab.apply([reloaded])
        lab.wait_until(lambda: reloaded.command("plan").returncode == 0, PATIENCE, "a worker with less patience")
        more = talks(reloaded, ENDLESS, kinds=("websocket",))
        edit_template(reloaded.templates, 2)
        lab.wait_until(lambda: cut_by(reloaded).get("reload") == 4.0, PATIENCE, "the old worker's cut to be counted")
        assert ended(more)
        assert all(talk.is_alive() for talk in [*in_old, *also_in_old])
        lab.wait_until(lambda: held(reloaded) == (1, 4), PATIENCE, "its status to tell, after the metric and the log")
        (line,) = said(reloaded, "reload")
        assert re.match(r"4 connections of old worker \d+ cut \(hard_stop_after of 30 s is over\)", line["cut"])
        assert cut_by(reloaded) == {"server": 0.0, "node": 0.0, "reload": 4.0}


def by_server(running: list[Talk], server: Machine) -> tuple[list[Talk], list[Talk]]:
    """Those on this server, and those on the other one: as many."""
    on, off = ([talk for talk in running if (talk.server == server.address) is here] for here in (True, False))
    assert len(on) == len(off) == len(running) / 2
    return on, off


def ended(running: list[Talk]) -> bool:
    """True once all are over, none of them whole."""
    for talk in running:
        talk.join(PATIENCE)
    return not any(talk.is_alive() or talk.whole for talk in running)


def servers_cut(node: Node) -> set[tuple[str, int, int]]:
    """What its status says of removed servers: which, connections that were cut, connections left in old workers."""
    cuts = told(node).get("cuts", ())
    return {(cut["where"], cut["connections"], cut["left"]) for cut in cuts if cut["kind"] == "server"}


def held(node: Node) -> tuple[int, int]:
    """Its old workers, and the connections that they hold."""
    proxy = told(node).get("proxy") or {}
    return int(proxy.get("old_workers", 0)), int(proxy.get("old_sessions", 0))
