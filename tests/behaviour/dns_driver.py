"""Nodes over the lab's Route 53, driven by hand: registrars with the real adapter, or whole agents with HAProxy; DNS tells the rest."""

import contextlib
import http.client
import itertools
import random
import shutil
import signal
import socketserver
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import yaml

from hafleet.adapters.aws import Account
from hafleet.adapters.dns_store import FileDnsStore
from hafleet.adapters.route53 import Route53Dns
from hafleet.core import model
from hafleet.core.dns.layout import tree_aliases
from hafleet.core.dns.model import Situation
from hafleet.core.dns.report import DnsReport
from hafleet.core.model import Group, Instance
from hafleet.core.settings import Settings
from hafleet.lab.cloud import DNS_PORT, NODES, REGION, Cloud, Machine
from hafleet.lab.imds import Identity
from hafleet.lab.network import Network, claim
from hafleet.lab.node import HEALTH_PORT, Node
from hafleet.lab.processes import LIGHT, Processes, wait_until
from hafleet.lab.servers import SCRIPT
from hafleet.registration import DnsPorts, Registrar
from tests.fakes.dns import FakeEc2

SPEED = 30  # of the health checkers: an interval of 10 s takes a third of a second
HASTE = 10.0  # of the registrars' clock
INSYNC = 0.3


@dataclass
class Town:
    """A loopback /16 with a local AWS, its name server and its health checkers."""

    network: Network
    folder: Path
    processes: Processes
    cloud: Cloud
    _addresses: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def address(self) -> str:
        """An address for a node that is no machine of EC2's."""
        return f"127.{self.network.number}.200.{next(self._addresses)}"

    def ask(self, name: str, source: str | None = None) -> tuple[str, ...]:
        """One question for addresses, and what is answered."""
        query = dns.message.make_query(name, "A")
        answer = dns.query.udp(query, self.network.home, port=DNS_PORT, timeout=20, source=source)
        return tuple(item.to_text() for rrset in answer.answer for item in rrset)

    def answers(self, name: str, times: int = 30, source: str | None = None) -> Counter[str]:
        """How often each address is answered."""
        return Counter(address for _ in range(times) for address in self.ask(name, source))

    def until_answers(
        self, name: str, wanted: Iterable[str], source: str | None = None, timeout: float = 90.0
    ) -> float:
        """Wait until exactly these addresses are answered, in 30 questions for each; the seconds it took."""
        expected = set(wanted)
        times = 30 * max(1, len(expected))
        seen: set[str] = set()

        def same() -> bool:
            seen.clear()
            seen.update(self.answers(name, times, source))
            return seen == expected

        try:
            return wait_until(same, timeout, f"{name} to answer {sorted(expected)}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it answers {sorted(seen)}") from error

    def clients(self, **places: dict[str, Any]) -> dict[str, str]:
        """Addresses to ask from: who is asked for as (region, place, private) of a client."""
        named = {name: self.network.client(number) for number, name in enumerate(places)}
        self.cloud.control("POST", "dns", {"clients": {f"{named[n]}/32": place for n, place in places.items()}})
        return named

    def records(self, name: str) -> dict[tuple[str, str], dict[str, Any]]:
        """Record sets at and below this name: (name, SetIdentifier) -> botocore's shape."""
        zones = self.cloud.control("GET", "zones")
        found = [record for zone in zones for record in zone["ResourceRecordSets"]]
        return {
            (record["Name"].rstrip("."), record.get("SetIdentifier", "")): record
            for record in found
            if f".{record['Name'].rstrip('.')}".endswith(f".{name}")
        }

    def zone_id(self, name: str) -> str:
        """Id of the hosted zone of this name."""
        zones = [zone["HostedZone"] for zone in self.cloud.control("GET", "zones")]
        return next(str(zone["Id"]).rpartition("/")[2] for zone in zones if zone["Name"] == f"{name}.")

    def calls(self, operation: str) -> int:
        """Calls of Route 53's so far, by whoever."""
        return int(self.cloud.control("GET", "route53")["calls"].get(operation, 0))


@contextmanager
def town() -> Iterator[Town]:
    """A town; everything in it ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="hfd-", dir="/tmp"))  # short: the path of a unix socket holds 107 bytes
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        network = stack.enter_context(claim())
        processes = Processes(folder)
        stack.callback(processes.close)
        cloud = Cloud(network, processes, folder / "aws.log")
        cloud.control("POST", "physics", {"boot": 0.1, "terminating": 0.2, "dead": 0.2, "quarantine": 0})
        cloud.control("POST", "route53", {"insync": INSYNC, "processing": 0, "throttling": False})
        cloud.control("POST", "checkers", {"speed": SPEED})
        yield Town(network, folder, processes, cloud)


# --- registrars -----------------------------------------------------------------------------------------------------


class HastyClock:
    """Implements ``ports.Clock``: time that goes faster than it should."""

    def __init__(self) -> None:
        self._began, self._wall = time.monotonic(), time.time()

    def wall(self) -> float:
        return self._wall + self.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * HASTE

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds / HASTE)


class Door(socketserver.ThreadingTCPServer):
    """The health listener of a node: open, or the node is dead."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: str) -> None:
        super().__init__((address, HEALTH_PORT), _Healthy)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True, name="door").start()

    def close(self) -> None:
        """The node is dead."""
        self.shutdown()
        self.server_close()


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response_only(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


@dataclass
class Member:
    """A node without HAProxy: its registrar, and a door that is probed."""

    node: model.Node
    registrar: Registrar
    door: Door | None = None
    report: DnsReport | None = None
    due: float = 0.0

    @property
    def address(self) -> str:
        """What it publishes."""
        return str(self.node.public)

    def die(self) -> None:
        """Nobody answers at its address any more."""
        if self.door is not None:
            self.door.close()
            self.door = None

    def revive(self) -> None:
        """It answers again."""
        self.door = Door(self.address)


class Members:
    """The registrars of one fleet, over HTTP to the town's Route 53."""

    def __init__(self, town: Town, settings: Settings, account: Account) -> None:
        assert settings.dns is not None
        self.all: list[Member] = []
        self._town, self._settings, self._dns, self._account = town, settings, settings.dns, account
        self._clock = HastyClock()
        self._numbers = itertools.count(1)

    def launch(self, count: int, zone: str = f"{REGION}a", *, probed: bool = True) -> list[Member]:
        """Nodes in this availability zone that serve from now on."""
        made = []
        for _ in range(count):
            number, address = next(self._numbers), self._town.address()
            name = f"i-{number:017x}"
            node = model.Node(name, IPv4Address(address), zone, zone[:-1], "edge", public=IPv4Address(address))
            dns = Route53Dns(self._dns, self._account.route53, self._clock)
            folder = self._town.folder / f"{self._settings.fleet}-{number}"
            folder.mkdir()
            ports = DnsPorts(
                dns,
                FakeEc2(),
                FileDnsStore(folder),
                self._clock,
                lambda: f"{random.getrandbits(32):08x}",
                random.Random(number),
            )
            made.append(Member(node, Registrar(self._settings, ports), Door(address) if probed else None))
        self.all += made
        return made

    def settle(self, timeout: float = 180.0) -> None:
        """Passes of all, each when the one before asked for it, until all are registered and the tree stands."""
        until = time.monotonic() + timeout
        while not self._settled():
            assert time.monotonic() < until, [(m.node.id, m.report) for m in self.all]
            member = min(self.all, key=lambda m: m.due)
            self._clock.wait(threading.Event(), max(0.0, member.due - self._clock.monotonic()))
            member.report = member.registrar.run(self._situation(member))
            member.due = self._clock.monotonic() + max(0.1, member.report.next_at)

    def _settled(self) -> bool:
        if not all(m.report and m.report.registered and not m.report.waiting for m in self.all):
            return False
        wanted = {(alias.name, alias.set_id) for alias in tree_aliases(self._dns, "any")}
        return wanted <= self._town.records(self._dns.name).keys()

    def close(self) -> None:
        """Close all doors."""
        for member in self.all:
            member.die()

    def _situation(self, member: Member) -> Situation:
        """What a pass would tell: the groups of other regions are none of a node's."""
        mates = [m.node for m in self.all if m.node.region == member.node.region]
        listed = tuple(Instance(n.id, "InService", n.zone, n.address) for n in mates)
        group = Group("edge", len(listed), listed)
        return Situation(self._clock.wall(), member.node, True, False, 0.0, group)


# --- agents ---------------------------------------------------------------------------------------------------------


def read_texts(path: Path) -> dict[str, Any]:
    """A hafleet.yaml, all of its values texts, as hafleet itself reads it: to YAML 1.1, "on" would be true."""
    document: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    return document


class Agents:
    """Nodes with an agent and a HAProxy each, over machines of the town's EC2."""

    def __init__(self, town: Town, binary: str) -> None:
        self.nodes: list[Node] = []
        self._town, self._binary = town, binary

    def group(self, name: str, count: int) -> list[Machine]:
        """A new group, and its machines once they are in service."""
        cloud = self._town.cloud
        cloud.create_group(name, count, {})
        found: list[Machine] = []

        def there() -> bool:
            found[:] = [machine for machine in cloud.machines() if machine.group == name and machine.in_service]
            return len(found) == count

        wait_until(there, 120, f"{count} machines of {name}")
        return found

    def serve(self, machine: Machine, port: int) -> None:
        """The application server of this machine."""
        self.serve_at(machine.address, port, machine.id, machine.group)

    def serve_at(self, address: str, port: int, name: str, group: str) -> None:
        """An application server that answers by these names."""
        argv = [sys.executable, *LIGHT, str(SCRIPT), address, str(port), name, group, "0"]
        self._town.processes.start(argv)

    def start(self, machines: Iterable[Machine], settings: Callable[[Node], dict[str, Any]]) -> None:
        """Agents and HAProxies, with the hafleet.yaml that this tells for each node."""
        for machine in machines:
            identity = Identity(machine.id, machine.address, machine.zone, REGION, machine.group, machine.tags)
            node = Node(self._town.folder / f"n{machine.id[-8:]}", identity, self._town.processes, self._binary)
            node.write_settings(settings(node))
            self.nodes.append(node)
            node.start({**self._town.cloud.environment, "AWS_ACCESS_KEY_ID": NODES})

    def nudge(self) -> None:
        """A pass of every agent, now: nobody waits for the timer of the example."""
        for node in self.nodes:
            if node.agent is not None and '"event": "pass"' in node.agent_log():  # before, SIGHUP would end it
                node.agent.signal(signal.SIGHUP)

    def until(self, holds: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait, with a pass every half second. Raises TimeoutError with what the agents said last."""

        def look() -> bool:
            self.nudge()
            return holds()

        try:
            wait_until(look, timeout, what, every=0.5)
        except TimeoutError as error:
            logs = (path for node in self.nodes for path in sorted(node.folder.glob("*.log")))
            said = "\n".join(line for path in logs for line in path.read_text(errors="replace").splitlines()[-8:])
            raise TimeoutError(f"{error}\n{said}") from error

    def close(self) -> None:
        """End them all."""
        for node in self.nodes:
            node.stop()


def get(address: str, port: int, host: str) -> str:
    """What a node answers on / for this host."""
    with contextlib.closing(http.client.HTTPConnection(address, port, timeout=20)) as connection:
        connection.request("GET", "/", headers={"Host": host})
        with connection.getresponse() as answer:
            return f"{answer.status} {answer.read().decode()}"
