"""One change among 1,000 servers, and a pass over 10,000 that changes nothing, beside HAProxy's own times."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from hafleet.core.model import Instance, Worker
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.processes import Processes, wait_until
from tests.behaviour.stage import EDGE, ZONE, Account, Node, plan_of
from tests.bench.figures import cpu, summary, timed
from tests.resources import LoopbackPool

CHANGES = 40
PASSES = 15
SPREAD = 200  # addresses per /24 of the made-up servers


def measure(haproxy: Haproxy) -> dict[str, Any]:
    """Both sizes."""
    return {"1000_servers": _thousand(haproxy), "10000_servers": _ten_thousand(haproxy)}


@contextmanager
def _node(haproxy: Haproxy, servers: int) -> Iterator[Node]:
    """A node with this many servers that nobody checks often, loaded by a cold start."""
    folder = Path(tempfile.mkdtemp(prefix="hfb-", dir="/tmp"))
    processes = Processes(folder)
    pool = LoopbackPool()
    try:
        with pool.lease() as network:
            account = Account()
            for number in range(servers):
                account.launch("blue", _address(number))
            address = network.address()
            name = f"i-{0xE:017x}"
            account.put(EDGE, _edge(name, address))
            check = {"path": "/healthz", "interval": "1h", "fast": "1h"}
            plan = plan_of({"blue": None}, backend={"check": check}, haproxy={"maxconn": 1000})
            node = Node(str(haproxy.binary), folder / "n", name, address, account, processes, plan)
            node.turn()
            argv = [str(haproxy.binary), "-W", "-S", f"{node.master_socket},mode,600", "-f", str(node.config)]
            node.haproxy = processes.start(argv, log=folder / "haproxy.log")
            wait_until(lambda: isinstance(node.turn().world.worker, Worker), 60, "HAProxy")
            yield node
    finally:
        processes.close()
        pool.close()
        shutil.rmtree(folder, ignore_errors=True)


def _address(number: int) -> str:
    """Addresses that nobody listens on: 127.120.x.y."""
    return f"127.120.{number // SPREAD}.{number % SPREAD + 1}"


def _edge(name: str, address: str) -> Instance:
    return Instance(name, "InService", ZONE, ip_address(address))


def _thousand(haproxy: Haproxy) -> dict[str, Any]:
    with _node(haproxy, 1000) as node:
        observe, plan, sent = zip(*(_one_add(node, 1000 + number) for number in range(CHANGES)), strict=True)
        return {
            "observe": summary(list(observe)),
            "plan": summary(list(plan)),
            "plan_and_runtime_commands": summary([p + s for p, s in zip(plan, sent, strict=True)], target_ms=30),
            "floor_raw_socket_same_commands": summary([timed(partial(_raw, node, n)) for n in range(CHANGES)]),
            "whole_pass_with_one_change": summary(_changes(node)),
            "no_change_pass": summary([timed(node.turn) for _ in range(PASSES)]),
            "floor_haproxy_c": summary([timed(lambda: _check(node)) for _ in range(10)]),
            "floor_bare_reload": summary([timed(lambda: _bare_reload(node)) for _ in range(5)]),
        }


def _one_add(node: Node, number: int) -> tuple[float, float, float]:
    """Seconds to observe, to plan, and until the new server is in the running HAProxy. The file follows untimed."""
    node.account.launch("blue", _address(number))
    began = time.perf_counter()
    world = node.reconciler.observe()
    seen = time.perf_counter()
    plan = node.reconciler.plan(world)
    planned = time.perf_counter()
    assert isinstance(world.worker, Worker) and plan.proxy.commands and not plan.proxy.reload, plan.proxy
    node.proxy.run(world.worker.pid, plan.proxy.commands)
    done = time.perf_counter()
    node.good_turn()
    return seen - began, planned - seen, done - planned


def _changes(node: Node) -> list[float]:
    """Whole passes with one server more, ``haproxy -c`` and the fsync of the file included."""
    found = []
    for number in range(10):
        node.account.launch("blue", _address(3000 + number))
        found.append(timed(node.turn))
    return found


def _ten_thousand(haproxy: Haproxy) -> dict[str, Any]:
    with _node(haproxy, 10_000) as node:
        node.turn()
        passes = [cpu(node.turn) for _ in range(PASSES)]
        return {
            "no_change_pass_cpu": summary(passes, target_ms=150),
            "no_change_pass_wall": summary([timed(node.turn) for _ in range(5)]),
            "floor_show_servers_state": summary([timed(lambda: _ask(node, b"show servers state\n")) for _ in range(5)]),
            "floor_haproxy_c": summary([timed(lambda: _check(node)) for _ in range(3)]),
            "floor_bare_reload": summary([timed(lambda: _bare_reload(node)) for _ in range(2)]),
        }


def _raw(node: Node, number: int) -> None:
    """The floor: the same three commands through a bare socket, nothing parsed."""
    name = f"site/raw-{number}"
    add = f"add server {name} {_address(2000 + number)}:80 id {90_000 + number} weight 100 check inter 1h"
    on = f"enable health {name};set server {name} state ready;set server {name} health down"
    for line in (add, on):
        _ask(node, f"{line}\n".encode())


def _ask(node: Node, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(30)
        channel.connect(str(node.runtime_socket))
        channel.sendall(line)
        found = bytearray()
        while data := channel.recv(1 << 20):
            found += data
    return bytes(found)


def _check(node: Node) -> None:
    subprocess.run([node.binary, "-c", "-dW", "-f", str(node.config)], check=True, capture_output=True)


def _bare_reload(node: Node) -> None:
    """``reload`` on the master socket until another worker answers, nothing proven."""
    before = node.master().worker
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(30)
        channel.connect(str(node.master_socket))
        channel.sendall(b"reload\n")
        channel.shutdown(socket.SHUT_WR)
        while channel.recv(65536):
            pass
    wait_until(lambda: node.master().worker != before, 30, "a new worker", every=0.005)
