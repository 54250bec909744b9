"""An authoritative name server over UDP and TCP that answers as Route 53 would, in an event loop of its own thread.

``dig @127.0.0.1 -p 5300 lb.example.test`` works, and so does any resolver. Who asks is found by the EDNS client subnet, or
else by the address that the question came from, in a table of networks; what it does not name is the default client.
Nobody has to be waited for: zones, verdicts and the table are whole values that are replaced from other threads.
"""

import asyncio
import contextlib
import functools
import ipaddress
import random
import socket
import struct
from collections.abc import Callable, Mapping
from typing import cast

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from hafleet.lab.dns_answers import Client, Found, Reply, Zone, answer
from hafleet.lab.loops import LoopThread

IDLE = 10.0  # seconds after which a TCP connection without a question is closed
LARGEST = 65535  # bytes of an answer over TCP
PLAIN = 512  # bytes of an answer over UDP to a client without EDNS
SOA = "ns-1.lab.invalid. hostmaster.lab.invalid. 1 7200 900 1209600 86400"  # of a zone without one
SOA_TTL = 900

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class DnsServer:
    """The server. ``zones``, ``healthy``, ``clients`` and ``default`` may be replaced at any time, from any thread."""

    def __init__(self, host: str, port: int, healthy: Callable[[str], bool], seed: int | None = None) -> None:
        self.zones: tuple[Zone, ...] = ()
        self.healthy = healthy
        self.clients: Mapping[Network, Client] = {}
        self.default = Client()
        self.asked = 0  # questions so far
        self.chance = random.Random(seed)
        self._loop = LoopThread("dns")
        self._tcp: list[asyncio.Server] = []
        self._udp: list[asyncio.DatagramTransport] = []
        self.listen(host, port)

    def listen(self, host: str, port: int) -> None:
        """Answer there too, over UDP and TCP. Raises OSError when the address is taken."""
        self._loop.run(self._listen(host, port))

    def close(self) -> None:
        """Stop answering."""
        self._loop.run(self._leave())
        self._loop.close()

    def handle(self, wire: bytes, source: str, largest: int | None = None) -> bytes | None:
        """The answer to one message; None when it is not even a question.

        Args:
            wire: the message.
            source: address it came from.
            largest: bytes of the answer at most, over TCP; None: what UDP and EDNS of the question allow.
        """
        self.asked += 1
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return _malformed(wire)
        if query.flags & dns.flags.QR:
            return None
        response = dns.message.make_response(query, our_payload=1232)
        client, subnet = self._client(query, source)
        self._fill(response, query, client)
        if subnet is not None:
            scoped = dns.edns.ECSOption(subnet.address, subnet.srclen, subnet.srclen)
            response.use_edns(0, 0, 1232, options=[scoped])
        most = largest or (max(PLAIN, query.payload) if query.edns >= 0 else PLAIN)
        return response.to_wire(max_size=most, prefer_truncation=largest is None)

    def _fill(self, response: dns.message.Message, query: dns.message.Message, client: Client) -> None:
        if query.opcode() != dns.opcode.QUERY:
            response.set_rcode(dns.rcode.NOTIMP)
            return
        if len(query.question) != 1:
            response.set_rcode(dns.rcode.FORMERR)
            return
        question = query.question[0]
        if (
            question.rdtype >= dns.rdatatype.TKEY and question.rdtype <= dns.rdatatype.ANY
        ):  # transfers, ANY and the like
            response.set_rcode(dns.rcode.NOTIMP)
            return
        if question.rdclass != dns.rdataclass.IN:
            response.set_rcode(dns.rcode.REFUSED)
            return
        asked = question.name.to_text(omit_final_dot=True).lower()
        reply = answer(self.zones, (asked, dns.rdatatype.to_text(question.rdtype)), client, self.healthy, self.chance)
        response.set_rcode(dns.rcode.from_text(reply.code))
        if reply.zone is None:
            return
        response.flags |= dns.flags.AA
        for number, found in enumerate(reply.found):
            # The first owner is written as it was asked: some resolvers play with upper and lower case and compare.
            response.answer.append(_rrset(found, question.name if number == 0 else _name(found.name)))
        if not reply.found or reply.found[-1].type != dns.rdatatype.to_text(question.rdtype):
            response.authority.append(_soa(reply))

    def _client(self, query: dns.message.Message, source: str) -> tuple[Client, dns.edns.ECSOption | None]:
        subnet = next((option for option in query.options if isinstance(option, dns.edns.ECSOption)), None)
        address = ipaddress.ip_address(subnet.address if subnet is not None and subnet.srclen else source)
        return self.client_at(address), subnet

    def client_at(self, address: Address) -> Client:
        """What the table says about an address; the smallest network counts."""
        around = [network for network in self.clients if address in network]
        return self.clients[max(around, key=lambda network: network.prefixlen)] if around else self.default

    async def _listen(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._tcp.append(await asyncio.start_server(self._talk, host, port, family=family))
        transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(host, port), family=family)
        self._udp.append(transport)

    async def _leave(self) -> None:
        for transport in self._udp:
            transport.close()
        for server in self._tcp:
            server.close()
        await asyncio.sleep(0)  # transports close in the loop's next round

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP connection: any number of questions, each after its length (RFC 7766)."""
        source = writer.get_extra_info("peername")[0]
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            while True:
                async with asyncio.timeout(IDLE):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = await reader.readexactly(length)
                back = self.handle(wire, source, LARGEST)
                if back is None:
                    break
                writer.write(struct.pack("!H", len(back)) + back)
                await writer.drain()
        writer.close()


class _Udp(asyncio.DatagramProtocol):
    """Answers datagrams."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast("asyncio.DatagramTransport", transport)  # what an endpoint for datagrams gets

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """One question."""
        back = self._server.handle(data, addr[0])
        if back is not None and self._transport is not None:
            self._transport.sendto(back, addr)


def _malformed(wire: bytes) -> bytes | None:
    """FORMERR under the id of the question, if it is a question and has an id."""
    if len(wire) < 12 or wire[2] & 0x80:
        return None
    flags = dns.flags.QR | dns.rcode.FORMERR.value
    return wire[:2] + struct.pack("!HHHHH", flags, 0, 0, 0, 0)


def _soa(reply: Reply) -> dns.rrset.RRset:
    """The SOA of a negative answer, whose TTL says how long the "no" holds (RFC 2308)."""
    assert reply.zone is not None
    kept = reply.zone.sets.get((reply.zone.name, "SOA"), ())
    value, ttl = (kept[0].values[0], kept[0].ttl or 0) if kept else (SOA, SOA_TTL)
    ttl = min(ttl, int(value.split()[-1]))
    return _rrset(Found(reply.zone.name, "SOA", ttl, (value,)), _name(reply.zone.name))


def _rrset(found: Found, owner: dns.name.Name) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(owner, found.ttl, [_rdata(found.type, value) for value in found.values])


@functools.lru_cache(4096)
def _rdata(type_: str, value: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text("IN", type_, value)


@functools.lru_cache(4096)
def _name(text: str) -> dns.name.Name:
    return dns.name.from_text(text)
