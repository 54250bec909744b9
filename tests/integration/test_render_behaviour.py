import csv
import socket
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from hafleet.core.model import Desired
from hafleet.core.settings import Settings
from hafleet.lab.haproxies import Haproxy
from tests.integration.render_stage import (
    Server,
    check,
    command,
    get,
    render,
    running,
    serving,
    wait_for,
    write,
)
from tests.pki import Authority
from tests.renderings import ASG, make_desired, make_settings, member, node_at, peer
from tests.resources import Loopback

QUICK = {"interval": "100ms", "timeout": "3s", "fast": "50ms", "rise": 1, "fall": 2}


def files(folder: Path, address: str) -> dict[str, str]:
    return {
        "maps_dir": str(folder / "maps"),
        "server_state": str(folder / "state"),
        "runtime_socket": str(folder / "admin.sock"),
        "stats": f"{address}:8404",
        "health": f"{address}:8403",
    }


def settings_for(folder: Path, address: str, backends: list[dict[str, Any]], **sections: Any) -> Settings:
    frontend = {"name": "web", "bind": f"{address}:8000", "default_backend": backends[0]["name"]}
    return make_settings(
        **{"frontends": [frontend], "backends": backends, "haproxy": files(folder, address), **sections}
    )


class Fleet:
    """One HAProxy on a rendered configuration, until the stack closes."""

    def __init__(self, stack: ExitStack, haproxy: Haproxy, folder: Path) -> None:
        self.stack, self.haproxy, self.folder = stack, haproxy, folder
        self.socket_path = str(folder / "admin.sock")

    def start(self, settings: Settings, desired: Desired) -> None:
        config = write(render(settings, desired, self.haproxy), self.folder, settings)
        assert check(self.haproxy, config) == ""
        self.stack.enter_context(running(self.haproxy, config, self.socket_path))

    def run(self, line: str) -> str:
        return command(self.socket_path, line)

    def status(self, backend: str) -> dict[str, str]:
        """Server -> UP, DOWN, MAINT, ..., from the statistics."""
        rows = csv.DictReader(StringIO(self.run("show stat").removeprefix("# ")))
        return {row["svname"]: row["status"] for row in rows if row["pxname"] == backend and row["svname"] != "BACKEND"}


@pytest.fixture
def fleet(haproxy: Haproxy, tmp_path: Path) -> Any:
    with ExitStack() as stack:
        yield Fleet(stack, haproxy, tmp_path)


def test_the_health_endpoint_follows_the_switch_and_traffic_does_not(
    fleet: Fleet, loopback: Loopback, tmp_path: Path
) -> None:
    address, server = loopback.address(), Server(loopback.address(), "one")
    fleet.stack.enter_context(serving(server))
    settings = settings_for(tmp_path, address, [{"name": "site", "sources": ASG}])
    fleet.start(settings, make_desired({"site": [member("i-0abc", server.address)]}, node=node_at(address)))
    states = []
    for state in ("ready", "maint", "ready", "drain", "ready"):
        assert fleet.run(f"set server hafleet_ready/ready state {state}").strip() == ""
        states.append((get(address, 8403, "/hafleet-health")[0], get(address, 8000)[0]))
    assert states == [(200, 200), (503, 200), (200, 200), (503, 200), (200, 200)]
    assert get(address, 8403, "/anything")[0] == 404


def test_statistics_and_metrics(fleet: Fleet, loopback: Loopback, tmp_path: Path) -> None:
    address = loopback.address()
    settings = settings_for(tmp_path, address, [{"name": "site", "sources": ASG}])
    fleet.start(settings, make_desired(node=node_at(address)))
    status, body = get(address, 8404, "/metrics")
    assert status == 200
    assert "haproxy_process_start_time_seconds" in body
    status, body = get(address, 8404, "/")
    assert status == 200
    assert "Statistics Report" in body


def test_an_http_check_wants_status_and_body(fleet: Fleet, loopback: Loopback, tmp_path: Path) -> None:
    good, wrong, failing = (Server(loopback.address(), label) for label in ("is (ok), 100%", "is bad", "is (ok), 100%"))
    failing.status = 503
    fleet.stack.enter_context(serving(good, wrong, failing))
    checks = {
        "both": {"path": "/up", "expect": "200", "body": "(ok), 100%", **QUICK},
        "body": {"path": "/up", "expect": "200-599", "body": "(ok), 100%", **QUICK},
        "status": {"path": "/up", **QUICK},
        "connect": QUICK,
    }
    members = [member(name, each.address) for name, each in (("i-0a", good), ("i-0b", wrong), ("i-0c", failing))]
    dead = member("i-0d", loopback.address())
    backends = [{"name": name, "sources": ASG, "check": fields} for name, fields in checks.items()]
    address = loopback.address()
    settings = settings_for(tmp_path, address, backends)
    fleet.start(settings, make_desired({name: [*members, dead] for name in checks}, node=node_at(address)))
    expected = {
        "both": ["UP", "DOWN", "DOWN", "DOWN"],
        "body": ["UP", "DOWN", "UP", "DOWN"],
        "status": ["UP", "UP", "DOWN", "DOWN"],
        "connect": ["UP", "UP", "UP", "DOWN"],
    }
    for backend, states in expected.items():
        wanted = dict(zip(("i-0a", "i-0b", "i-0c", "i-0d"), states, strict=True))
        wait_for(lambda b=backend, w=wanted: fleet.status(b) == w, f"{backend}: {wanted}")
    assert {backend: list(fleet.status(backend).values()) for backend in checks} == expected


def answers_of(address: str, times: int = 12, **headers: str) -> set[str]:
    found = [get(address, 8000, **headers) for _ in range(times)]
    assert {status for status, _ in found} == {200}
    return {body for _, body in found}


def test_other_zones_serve_only_when_the_own_zone_has_none(fleet: Fleet, loopback: Loopback, tmp_path: Path) -> None:
    servers = {name: Server(loopback.address(), name) for name in ("i-0a", "i-0b", "i-0c", "i-0d")}
    fleet.stack.enter_context(serving(*servers.values()))
    zones = {"i-0a": "eu-west-1a", "i-0b": "eu-west-1a", "i-0c": "eu-west-1b", "i-0d": "eu-west-1c"}
    members = [member(name, each.address, zone=zones[name]) for name, each in servers.items()]
    address = loopback.address()
    settings = settings_for(tmp_path, address, [{"name": "site", "sources": ASG, "zone_affinity": "prefer"}])
    fleet.start(settings, make_desired({"site": members}, node=node_at(address)))
    assert answers_of(address) == {"i-0a", "i-0b"}
    for name in ("i-0a", "i-0b"):
        fleet.run(f"set server site/{name} state maint")
    assert answers_of(address) == {"i-0c", "i-0d"}


def test_a_draining_server_keeps_its_cookie_users_and_gets_no_new_ones(
    fleet: Fleet, loopback: Loopback, tmp_path: Path
) -> None:
    servers = {name: Server(loopback.address(), name) for name in ("i-0a", "i-0b")}
    fleet.stack.enter_context(serving(*servers.values()))
    members = [member(name, each.address, draining=name == "i-0a") for name, each in servers.items()]
    address = loopback.address()
    settings = settings_for(tmp_path, address, [{"name": "site", "sources": ASG, "cookie": {"name": "SRV"}}])
    fleet.start(settings, make_desired({"site": members}, node=node_at(address)))
    assert answers_of(address) == {"i-0b"}
    assert answers_of(address, Cookie="SRV=i-0a") == {"i-0a"}


# --- peers -----------------------------------------------------------------------------------------------------------

HELLO = b"HAProxyS 2.1\ni-0bbb\ni-0ccc 1 1\n"  # how a peer greets: whom it calls, and who it is


def reply_to_greeting(address: str, greeting: bytes) -> bytes:
    """What the peers port answers to a greeting in clear; empty when the connection is closed or reset."""
    with socket.create_connection((address, 10000), timeout=10) as connection:
        try:
            connection.sendall(greeting)
            return connection.recv(64)
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("secured", [False, True])
def test_peers_replicate_and_with_tls_refuse_whoever_cannot_prove_himself(
    haproxy: Haproxy, loopback: Loopback, tmp_path: Path, secured: bool
) -> None:
    authority, server = Authority("fleet"), Server(loopback.address(), "one")
    nodes = {name: loopback.address() for name in ("i-0aaa", "i-0bbb")}
    stranger = loopback.address()
    with ExitStack() as stack:
        stack.enter_context(serving(server))
        fleets = {}
        for name, address in nodes.items():
            folder = tmp_path / name
            folder.mkdir()
            tls = {
                "cert": str(authority.issue(folder / "node.pem", name)),
                "ca": str(authority.write(folder / "ca.pem")),
            }
            backend = {"name": "site", "sources": ASG, "stick": {"size": "1k"}}
            settings = settings_for(folder, address, [backend], peers={"tls": tls if secured else None})
            others = [peer(each, where) for each, where in nodes.items()] + [peer("i-0ccc", stranger)]
            node = node_at(address, name)
            members = {"site": [member("i-0abc", server.address)]}
            fleets[name] = Fleet(stack, haproxy, folder)
            fleets[name].start(settings, make_desired(members, others, node))
        wait_for(lambda: "ESTA" in fleets["i-0bbb"].run("show peers"), "the peers to find each other", 90)
        assert get(nodes["i-0aaa"], 8000) == (200, "one")
        wait_for(lambda: "key=" in fleets["i-0bbb"].run("show table site"), "the entry to arrive", 90)
        assert "server_key=i-0abc" in fleets["i-0bbb"].run("show table site")
        assert reply_to_greeting(nodes["i-0bbb"], HELLO).startswith(b"200") is not secured
