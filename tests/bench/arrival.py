"""From the Auto Scaling answer that first shows an instance in service to the first request that its server gets.

The lab's own AWS, a real HAProxy under load, real application servers, and the agent's own parts: its pass runs here, without the
timer, so that the figure is the agent's and not that of the interval between two passes.
"""

import dataclasses
import http.client
import os
import statistics
import threading
import time
from typing import Any

from hafleet import compose
from hafleet.core.model import Groups
from hafleet.lab.cloud import Machine
from hafleet.lab.fleet import Lab
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.node import Node
from hafleet.lab.servers import tell
from hafleet.ports import Membership
from hafleet.reconcile import Reconciler
from tests.bench.figures import ms, summary

ARRIVALS = 20
START = 3


class Witness:
    """The membership, with a note of when an answer first showed an instance in service."""

    def __init__(self, inner: Membership) -> None:
        self._inner = inner
        self.seen: dict[str, float] = {}

    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        """See ``ports.Membership``."""
        groups = self._inner.read(names, tags, ipv6)
        now = time.perf_counter()
        for group in groups.by_name.values():
            for instance in group.instances:
                if instance.serves:
                    self.seen.setdefault(instance.id, now)
        return groups


class Client(threading.Thread):
    """Sends one request after the other and notes when each instance first answered."""

    def __init__(self, node: Node) -> None:
        super().__init__(daemon=True)
        self._node = node
        self.answered: dict[str, float] = {}
        self.failed = 0
        self.sent = 0
        self.stop = False

    def run(self) -> None:
        """Keep asking over one kept connection."""
        host, _, port = self._node.http.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        while not self.stop:
            self.sent += 1
            connection.request("GET", "/", headers={"Host": "shop.example.com"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                self.failed += 1
            else:
                self.answered.setdefault(body.split()[0].decode(), time.perf_counter())
            time.sleep(0.002)


def measure(haproxy: Haproxy) -> dict[str, Any]:
    """Arrivals one after the other in a backend that is under load."""
    with Lab(binary=str(haproxy.binary), agents=False) as lab:
        lab.cloud.control("POST", "physics", {"boot": 0.5, "terminating": 0.5, "dead": 0.2, "quarantine": 0})
        for name, size in (("shop-blue", START), ("shop-green", 0), ("cart", 1)):
            lab.group(name, size)
        lab.start_nodes(1)
        node = lab.nodes[0]
        lab.apply()
        os.environ.update(lab.cloud.environment, AWS_EC2_METADATA_SERVICE_ENDPOINT=node.imds.url)
        parts = compose.build(node.settings)
        witness = Witness(parts.membership)
        reconciler = Reconciler(parts.settings, dataclasses.replace(parts.ports, membership=witness))
        wait_for(reconciler, lambda: len(node.in_rotation("shop")) == START)
        client = Client(node)
        client.start()
        found = [_arrival(lab, reconciler, witness, client, START + 1 + n) for n in range(ARRIVALS)]
        client.stop = True
        client.join(10)
        return {
            "asg_answer_to_first_request": summary([total for total, _ in found], target_ms=250),
            "of_which_the_pass": ms(statistics.median(spent for _, spent in found)),
            "check_of_the_lab": "interval 500ms, rise 2: a new server answers two checks, 100 ms apart, before its first request",
            "requests": client.sent,
            "failed": client.failed,
            "reloads": node.reloads(),
        }


def wait_for(reconciler: Reconciler, condition: Any) -> None:
    """Run passes until the condition holds. Raises TimeoutError."""
    end = time.monotonic() + 60
    while not condition():
        reconciler.apply(reconciler.plan(reconciler.observe()))
        if time.monotonic() > end:
            raise TimeoutError("it does not settle")
        time.sleep(0.05)


def _arrival(lab: Lab, reconciler: Reconciler, witness: Witness, client: Client, size: int) -> tuple[float, float]:
    """Seconds from answer to first request, and those of the pass itself, for one new instance whose server is ready."""
    known = {machine.id for machine in lab.members("shop-blue")}
    lab.scale("shop-blue", size)
    lab.wait_until(lambda: any(_ready(m) for m in lab.members("shop-blue") if m.id not in known), 30, "a new server")
    (name,) = {machine.id for machine in lab.members("shop-blue")} - known
    began = time.perf_counter()
    reconciler.apply(reconciler.plan(reconciler.observe()))
    spent = time.perf_counter() - began
    end = time.monotonic() + 30
    while name not in client.answered:
        if time.monotonic() > end:
            raise TimeoutError(f"no request reached {name}")
        time.sleep(0.005)
    return client.answered[name] - witness.seen[name], spent


def _ready(machine: Machine) -> bool:
    try:
        return tell(machine.address, "/healthz") == "ok\n"
    except OSError:
        return False
