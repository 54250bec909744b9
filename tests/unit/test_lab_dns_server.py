"""The lab's name server over real sockets, asked by dnspython and by hand."""

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_network

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rrset
import pytest

from hafleet.core.dns.model import Place, Record
from hafleet.lab.dns_answers import Client, Zone
from hafleet.lab.dns_server import DnsServer

HOST = "127.0.0.1"
TIMEOUT = 30.0  # seconds; an upper bound of waiting
PATIENCE = 6  # questions


def leaf(name: str, *values: str, type_: str = "A") -> Record:
    return Record(name, type_, ttl=30, values=values)


ZONE = Zone.of(
    "Z1",
    "example.test",
    (
        leaf("lb.example.test", "192.0.2.1"),
        leaf("six.example.test", "2001:db8::1", type_="AAAA"),
        leaf("www.example.test", "lb.example.test.", type_="CNAME"),
        leaf("many.example.test", *(f"192.0.2.{number}" for number in range(200))),
        Record("where.example.test", "A", "eu", 60, ("192.0.2.20",), place=Place("EU")),
        Record("where.example.test", "A", "default", 60, ("192.0.2.21",), place=Place()),
        Record("near.example.test", "A", "eu", 60, ("192.0.2.30",), region="eu-west-1"),
        Record("near.example.test", "A", "us", 60, ("192.0.2.31",), region="us-east-1"),
        Record("sick.example.test", "A", "i-1", 60, ("192.0.2.40",), weight=1, check="ill"),
        Record("sick.example.test", "A", "i-2", 60, ("192.0.2.41",), weight=1, check="well"),
    ),
)


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def server(port: int) -> Iterator[DnsServer]:
    server = DnsServer(HOST, port, lambda check: check != "ill", seed=1)
    server.zones = (ZONE,)
    server.clients = {
        ip_network("127.0.0.0/8"): Client("us-east-1", Place("NA", "US")),
        ip_network("127.0.9.0/24"): Client("eu-west-1", Place("EU", "DE")),
    }
    yield server
    server.close()


def udp(port: int, query: dns.message.Message, source: str | None = None) -> dns.message.Message:
    return dns.query.udp(query, HOST, port=port, timeout=TIMEOUT, source=source)


def ask(port: int, name: str, type_: str = "A", source: str | None = None) -> dns.message.Message:
    return udp(port, dns.message.make_query(name, type_), source)


def addresses(message: dns.message.Message) -> set[str]:
    return {item.to_text() for rrset in message.answer for item in rrset}


@pytest.mark.usefixtures("server")
class TestAnswers:
    def test_an_answer_is_authoritative_and_has_its_ttl(self, port: int) -> None:
        message = ask(port, "lb.example.test")
        assert message.flags & dns.flags.AA
        assert not message.flags & dns.flags.RA
        assert (message.rcode(), addresses(message), message.answer[0].ttl) == (dns.rcode.NOERROR, {"192.0.2.1"}, 30)

    def test_aaaa_and_cname(self, port: int) -> None:
        assert addresses(ask(port, "six.example.test", "AAAA")) == {"2001:db8::1"}
        assert addresses(ask(port, "www.example.test")) == {"lb.example.test.", "192.0.2.1"}

    def test_upper_and_lower_case_come_back_as_they_were_asked(self, port: int) -> None:
        assert ask(port, "Lb.eXample.TEST").answer[0].name.to_text() == "Lb.eXample.TEST."

    @pytest.mark.parametrize(
        ("name", "type_", "code"),
        [("no.example.test", "A", dns.rcode.NXDOMAIN), ("lb.example.test", "AAAA", dns.rcode.NOERROR)],
    )
    def test_a_negative_answer_says_how_long_it_holds(self, port: int, name: str, type_: str, code: int) -> None:
        message = ask(port, name, type_)
        assert (message.rcode(), message.answer) == (code, [])
        assert [rrset.to_text().split()[:4] for rrset in message.authority] == [["example.test.", "900", "IN", "SOA"]]

    def test_the_soa_of_the_zone_is_used_where_there_is_one(self, port: int, server: DnsServer) -> None:
        soa = Record("other.test", "SOA", ttl=900, values=("ns.other.test. me.other.test. 7 1 2 3 60",))
        server.zones = (ZONE, Zone.of("Z2", "other.test", (soa,)))
        message = ask(port, "no.other.test")
        server.zones = (ZONE,)
        assert (message.authority[0].ttl, message.authority[0][0].to_text()) == (60, soa.values[0])

    def test_zones_it_does_not_have_are_refused(self, port: int) -> None:
        message = ask(port, "example.net")
        assert message.rcode() == dns.rcode.REFUSED
        assert not message.flags & dns.flags.AA

    def test_what_the_health_check_calls_ill_is_not_answered(self, port: int) -> None:
        assert {address for _ in range(20) for address in addresses(ask(port, "sick.example.test"))} == {"192.0.2.41"}

    @pytest.mark.parametrize("type_", ["ANY", "AXFR"])
    def test_transfers_and_any_are_not_served(self, port: int, type_: str) -> None:
        query = dns.message.make_query("example.test", type_)
        assert dns.query.tcp(query, HOST, port=port, timeout=TIMEOUT).rcode() == dns.rcode.NOTIMP

    def test_other_classes_and_opcodes_are_turned_down(self, port: int) -> None:
        assert udp(port, dns.message.make_query("lb.example.test", "A", "CH")).rcode() == dns.rcode.REFUSED
        query = dns.message.make_query("lb.example.test", "A")
        query.set_opcode(dns.opcode.STATUS)
        assert udp(port, query).rcode() == dns.rcode.NOTIMP

    def test_a_message_without_a_question_is_a_format_error(self, port: int) -> None:
        assert udp(port, dns.message.Message()).rcode() == dns.rcode.FORMERR


@pytest.mark.usefixtures("server")
class TestClients:
    def test_the_smallest_network_around_the_sender_counts(self, port: int) -> None:
        assert addresses(ask(port, "where.example.test", source="127.0.9.7")) == {"192.0.2.20"}
        assert addresses(ask(port, "where.example.test", source="127.0.8.7")) == {"192.0.2.21"}

    def test_the_edns_client_subnet_counts_before_the_sender(self, port: int) -> None:
        subnet = dns.edns.ECSOption("127.0.9.0", 24)
        query = dns.message.make_query("near.example.test", "A", use_edns=0, options=[subnet])
        message = udp(port, query, source="127.0.8.7")
        assert addresses(message) == {"192.0.2.30"}
        (back,) = message.options
        assert isinstance(back, dns.edns.ECSOption)
        assert (back.address, back.srclen, back.scopelen) == ("127.0.9.0", 24, 24)

    def test_who_asks_not_to_be_placed_is_placed_by_the_sender(self, port: int) -> None:
        query = dns.message.make_query("near.example.test", "A", use_edns=0, options=[dns.edns.ECSOption("0.0.0.0", 0)])
        assert addresses(udp(port, query, source="127.0.8.7")) == {"192.0.2.31"}

    def test_who_is_in_no_network_is_the_default_client(self, port: int, server: DnsServer) -> None:
        server.default = Client("eu-west-1")
        query = dns.message.make_query("near.example.test", "A", options=[dns.edns.ECSOption("2001:db8::", 32)])
        assert addresses(udp(port, query)) == {"192.0.2.30"}


@pytest.mark.usefixtures("server")
class TestSizes:
    def test_what_does_not_fit_is_cut_and_told_over_tcp(self, port: int) -> None:
        short = ask(port, "many.example.test")
        assert short.flags & dns.flags.TC
        query = dns.message.make_query("many.example.test", "A")
        whole, was_cut = dns.query.udp_with_fallback(query, HOST, port=port, timeout=TIMEOUT)
        assert (len(addresses(whole)), was_cut, bool(whole.flags & dns.flags.TC)) == (200, True, False)

    def test_edns_makes_room(self, port: int) -> None:
        query = dns.message.make_query("many.example.test", "A", use_edns=0, payload=4096)
        message = udp(port, query)
        assert (len(addresses(message)), bool(message.flags & dns.flags.TC)) == (200, False)
        tiny = dns.message.make_query("lb.example.test", "A", use_edns=0, payload=100)
        assert addresses(udp(port, tiny)) == {"192.0.2.1"}  # less than 512 is taken for 512

    def test_many_questions_over_one_tcp_connection(self, port: int) -> None:
        with socket.create_connection((HOST, port), TIMEOUT) as connection:
            for number in range(3):
                query = dns.message.make_query("lb.example.test", "A", id=number + 1)
                wire = query.to_wire()
                connection.sendall(struct.pack("!H", len(wire)) + wire)
                with connection.makefile("rb") as back:
                    (length,) = struct.unpack("!H", back.read(2))
                    assert dns.message.from_wire(back.read(length)).id == number + 1


class TestGarbage:
    def test_no_bytes_kill_it(self, server: DnsServer, port: int) -> None:
        chance = random.Random(7)
        good = dns.message.make_query("lb.example.test", "A", use_edns=0).to_wire()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(300):
                wire = bytearray(good)
                for _ in range(chance.randint(1, 6)):
                    wire[chance.randrange(2, len(wire))] = chance.randrange(256)
                sender.sendto(bytes(wire[: chance.randint(0, len(wire))]), (HOST, port))
        with socket.create_connection((HOST, port), TIMEOUT) as connection:
            connection.sendall(b"\x00\x03abc")
            assert connection.recv(100) == b""
        # By TCP: what is still queued in the UDP socket on a busy machine may push a question out.
        query = dns.message.make_query("lb.example.test", "A")
        assert addresses(dns.query.tcp(query, HOST, port=port, timeout=TIMEOUT)) == {"192.0.2.1"}
        for _ in range(PATIENCE):
            with suppress(dns.exception.Timeout):
                assert addresses(ask(port, "lb.example.test")) == {"192.0.2.1"}
                return
        raise AssertionError("UDP was never answered again")

    def test_an_answer_is_never_answered(self, server: DnsServer) -> None:
        reply = dns.message.make_response(dns.message.make_query("lb.example.test", "A"))
        assert server.handle(reply.to_wire(), HOST) is None
        assert server.handle(b"\x00\x01\x80\x00short but a reply"[:14], HOST) is None

    def test_a_broken_question_is_told_so_under_its_id(self, server: DnsServer) -> None:
        wire = dns.message.make_query("lb.example.test", "A", id=4711).to_wire()[:-3]
        back = dns.message.from_wire(server.handle(wire, HOST) or b"")
        assert (back.id, back.rcode()) == (4711, dns.rcode.FORMERR)
