"""The load generator by name: it goes where the lab's name server sends it, for as long as the TTL says, and not beyond."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network

import pytest

from hafleet.core.dns.model import Place, Record
from hafleet.lab.dns_answers import Client, Zone
from hafleet.lab.dns_server import DnsServer
from hafleet.lab.processes import Processes, wait_until
from hafleet.lab.resolving import NoAddress, Resolver, Where
from hafleet.lab.traffic import ByName, Count, Traffic

HOME = "127.122"  # no lab claims it
NAME = "lb.example.test"


def leaf(*addresses: str, ttl: int = 1, **more: object) -> Record:
    return Record(NAME, "A", ttl=ttl, values=addresses, **more)  # type: ignore[arg-type]


def zone(*records: Record) -> tuple[Zone, ...]:
    return (Zone.of("Z1", "example.test", records),)


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server((f"{HOME}.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def names(port: int) -> Iterator[DnsServer]:
    server = DnsServer(f"{HOME}.0.53", port, lambda _: True, seed=1)
    yield server
    server.close()


@pytest.fixture
def where(port: int) -> Where:
    return Where(NAME, f"{HOME}.0.53:{port}", port)


@pytest.fixture
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    processes = Processes(tmp_path_factory.mktemp("load") / "none")
    yield processes
    processes.close()


@contextmanager
def node(address: str, port: int, connections: Counter[str]) -> Iterator[None]:
    """A node that answers every request, and counts its connections."""
    listener = socket.create_server((address, port))

    def talk(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            while line := lines.readline():
                while lines.readline().strip():
                    pass
                body = f"{address} blue 1 {line.split()[1].decode()}\n"
                connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections[address] += 1
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def nodes(port: int) -> Iterator[Counter[str]]:
    """Two nodes at .1 and .2; yields the connections of each."""
    seen: Counter[str] = Counter()
    with ExitStack() as stack:
        for number in (1, 2):
            stack.enter_context(node(f"{HOME}.0.{number}", port, seen))
        yield seen


def ended(traffic: Traffic) -> Count:
    wait_until(lambda: traffic._process.poll() is not None, 30, "the load to end")
    return traffic.stop()


def by_name(where: Where) -> ByName:
    return ByName(where.name, where.server, where.port)


class TestLoad:
    def test_it_follows_the_name_and_loses_nothing(
        self, names: DnsServer, nodes: Counter[str], processes: Processes, where: Where
    ) -> None:
        one, two = (f"{HOME}.0.{number}" for number in (1, 2))
        names.zones = zone(leaf(one))
        with Traffic(processes, by_name(where), rate=200, clients=4) as traffic:
            first = traffic.count()
            names.zones = zone(leaf(two))

            def moved() -> bool:
                before = traffic.count()
                later = traffic.count().since(before)
                return set(later.instances) == {two} and set(later.targets) == {f"{two}:{where.port}"}

            wait_until(moved, 20, "the load to move")
        assert set(first.instances) == {one}
        assert traffic.latest.failed == 0

    def test_the_ttl_decides_how_often_it_asks(
        self, names: DnsServer, nodes: Counter[str], processes: Processes, where: Where
    ) -> None:
        names.zones = zone(leaf(f"{HOME}.0.1", ttl=3600))
        count = ended(Traffic(processes, by_name(where), rate=0, clients=4, requests="400"))
        assert (count.sent, count.failed, names.asked) == (400, 0, 4)  # each client once

    def test_a_ttl_of_zero_is_asked_for_each_request(
        self, names: DnsServer, nodes: Counter[str], processes: Processes, where: Where
    ) -> None:
        names.zones = zone(leaf(f"{HOME}.0.1", ttl=0))
        count = ended(Traffic(processes, by_name(where), rate=0, clients=4, requests="40"))
        assert (count.sent, count.failed) == (40, 0)
        assert names.asked >= 40

    def test_a_kept_connection_stays_while_the_answer_has_its_address(
        self, names: DnsServer, nodes: Counter[str], processes: Processes, where: Where
    ) -> None:
        names.zones = zone(leaf(f"{HOME}.0.1", f"{HOME}.0.2", ttl=0))  # in any order, each time
        count = ended(Traffic(processes, by_name(where), rate=0, clients=1, requests="100"))
        assert (count.sent, count.failed, sum(nodes.values())) == (100, 0, 1)

    def test_no_answer_is_a_failed_request(self, names: DnsServer, processes: Processes, where: Where) -> None:
        names.zones = zone(Record("other.example.test", "A", ttl=1, values=("192.0.2.1",)))
        count = ended(Traffic(processes, by_name(where), rate=0, clients=2, requests="6"))
        assert (count.sent, count.failed, count.targets) == (6, 6, {})
        assert count.errors == {f"NoAddress: {NAME}: NXDOMAIN, no A": 6}

    def test_a_node_that_is_gone_fails_its_clients_and_no_other_is_tried(
        self, names: DnsServer, nodes: Counter[str], processes: Processes, where: Where
    ) -> None:
        names.zones = zone(leaf(f"{HOME}.0.9", ttl=3600))
        count = ended(Traffic(processes, by_name(where), rate=0, clients=2, requests="6"))
        assert (count.sent, count.failed, sum(nodes.values())) == (6, 6, 0)


class TestResolver:
    def target(self, where: Where, source: str = "", kept: tuple[str, ...] = ()) -> str:
        return asyncio.run(Resolver(where, source).target(kept))

    def test_it_asks_from_its_own_address(self, names: DnsServer, where: Where, port: int) -> None:
        names.clients = {ip_network(f"{HOME}.7.0/24"): Client(place=Place("EU"))}
        names.zones = zone(
            Record(NAME, "A", "eu", 60, ("192.0.2.1",), place=Place("EU")),
            Record(NAME, "A", "default", 60, ("192.0.2.2",), place=Place()),
        )
        assert self.target(where, f"{HOME}.7.1") == f"192.0.2.1:{port}"
        assert self.target(where, f"{HOME}.8.1") == f"192.0.2.2:{port}"

    def test_an_answer_that_does_not_fit_comes_over_tcp(self, names: DnsServer, where: Where, port: int) -> None:
        names.zones = zone(leaf(*(f"192.0.2.{number}" for number in range(200))))
        assert self.target(where, kept=(f"192.0.2.77:{port}",)) == f"192.0.2.77:{port}"

    def test_ipv6_has_brackets(self, names: DnsServer, where: Where, port: int) -> None:
        names.zones = zone(Record(NAME, "AAAA", ttl=1, values=("2001:db8::1",)))
        assert self.target(Where(NAME, where.server, port, "AAAA")) == f"[2001:db8::1]:{port}"

    def test_a_port_where_nobody_answers_is_no_address(self, port: int) -> None:
        with pytest.raises(NoAddress, match=NAME):
            self.target(Where(NAME, f"{HOME}.0.54:{port}", port))

    def test_garbage_is_no_address_and_an_answer_to_another_question_is_waited_out(self, port: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar:
            liar.bind((f"{HOME}.0.55", port))

            def lie() -> None:
                wire, client = liar.recvfrom(512)
                other = bytearray(wire)
                other[0] ^= 0xFF  # another id
                other[2] |= 0x80  # an answer
                liar.sendto(bytes(other), client)
                liar.sendto(b"garbage", client)

            thread = threading.Thread(target=lie)
            thread.start()
            with pytest.raises(NoAddress, match="ShortHeader"):
                self.target(Where(NAME, f"{HOME}.0.55:{port}", port))
            thread.join()
