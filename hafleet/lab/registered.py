"""What stands in the lab's Route 53 and what its name server answers, asked as an outsider would."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from hafleet.core.dns.checks import node_label
from hafleet.core.dns.model import Record
from hafleet.lab.cloud import Cloud
from hafleet.lab.dns_shapes import record
from hafleet.lab.node import Node

ASK = 0.05  # seconds between two questions of a watch
PATIENCE = 2.0  # seconds for one answer


@dataclass(frozen=True, slots=True)
class Leaf:
    """The record of one node."""

    name: str
    node: str  # instance id
    address: str
    weight: int | None
    check: str  # id of its health check
    healthy: bool

    def line(self) -> str:
        """One line for people."""
        weight = "" if self.weight is None else f"  weight {self.weight}"
        return f"{self.name}  {self.node}  {self.address}{weight}  {'healthy' if self.healthy else 'NOT healthy'}"


def leaves(cloud: Cloud) -> tuple[Leaf, ...]:
    """The records of nodes, in every zone. Raises OSError."""
    checks = cloud.control("GET", "checkers")["checks"]
    found = [record(shape) for zone in cloud.control("GET", "zones") for shape in zone["ResourceRecordSets"]]
    return tuple(_leaf(item, checks) for item in found if item.set_id.startswith("i-") and item.values)


def _leaf(found: Record, checks: dict[str, dict[str, bool]]) -> Leaf:
    healthy = not found.check or bool(checks.get(found.check, {}).get("healthy"))
    return Leaf(found.name, found.set_id, found.values[0], found.weight, found.check, healthy)


def checks_of(cloud: Cloud, node: str) -> frozenset[str]:
    """Ids of the health checks that this node has made and that still exist. Raises OSError."""
    label = f":{node_label(node)}:"
    return frozenset(check["Id"] for check in cloud.control("GET", "checks") if label in check["CallerReference"])


def ask(server: str, name: str) -> frozenset[str]:
    """The addresses (A) that the name server, host:port, answers this time.

    Raises:
        OSError: it did not answer in time.
    """
    host, _, port = server.rpartition(":")
    query = dns.message.make_query(name, "A")
    try:
        answer = dns.query.udp(query, host, port=int(port), timeout=PATIENCE)
    except dns.exception.DNSException as error:
        raise OSError(f"{server} on {name}: {error}") from error
    found = [item for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A for item in rrset]
    return frozenset(item.to_text() for item in found)


@dataclass(slots=True)
class Sight:
    """What a watch saw of one address. Monotonic times; None while it has not happened."""

    ready: float | None = None  # first time that the node's health listener said 200 and HAProxy had servers
    first: float | None = None  # answered for the first time
    last: float | None = None  # answered for the last time so far
    since: int = 0  # questions answered otherwise since then
    early: bool = False  # it was answered before it was ready


class Watch:
    """Asks the name server many times a second, in a thread: ``with Watch(...) as watch``.

    Args:
        server: host:port of the name server.
        name: what to ask for.
        nodes: the nodes at this moment; whether a new one serves is looked at *before* each question.
        backend: the backend that must have servers in rotation.
    """

    def __init__(self, server: str, name: str, nodes: Callable[[], Iterable[Node]], backend: str) -> None:
        self.asked = 0
        self._where = (server, name)
        self._nodes = nodes
        self._backend = backend
        self._seen: dict[str, Sight] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch dns")

    def __enter__(self) -> Self:
        """Begin to ask."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop asking."""
        self._stop.set()
        self._thread.join(PATIENCE + 1)

    def of(self, address: str) -> Sight:
        """What was seen of an address up to now."""
        return self._seen.setdefault(address, Sight())

    def _run(self) -> None:
        while not self._stop.wait(ASK):
            for node in tuple(self._nodes()):
                sight = self.of(node.address)
                if sight.ready is None and node.health() == 200 and node.in_rotation(self._backend):
                    sight.ready = time.monotonic()
            try:
                found = ask(*self._where)
            except OSError:
                continue  # the traffic counts what is not answered
            self._hear(found, time.monotonic())

    def _hear(self, found: frozenset[str], now: float) -> None:
        self.asked += 1
        for address in found:
            sight = self.of(address)
            sight.first = now if sight.first is None else sight.first
            sight.early = sight.early or sight.ready is None
            sight.last, sight.since = now, -1
        for sight in tuple(self._seen.values()):
            sight.since += 1
