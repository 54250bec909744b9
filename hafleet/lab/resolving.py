"""How a client of the load generator finds its server: real questions to a name server, kept for as long as the TTL says.

Each client is a household of its own: it asks by itself and keeps its own answer. While the answer holds, a client stays with
the connection it has kept; a new connection goes to the first address, as in most programs. It tries no second address and
asks no question twice: when there is no answer, its request has failed. After the TTL it asks again before the next
request, and closes what it kept to addresses that the new answer lacks.
"""

import asyncio
import ipaddress
import random
import struct
import time
from collections.abc import Collection
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

TIMEOUT = 5.0  # seconds for one question, as by default in resolv.conf(5)


class NoAddress(OSError):
    """The name did not resolve; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Where:
    """What to resolve and whom to ask. ``type`` is A or AAAA."""

    name: str
    server: str  # host:port
    port: int  # of the addresses that are found
    type: str = "A"


class Resolver:
    """One client's view of the name.

    Args:
        where: what to resolve.
        source: address to ask from; "": the system's choice.
    """

    def __init__(self, where: Where, source: str = "") -> None:
        self.targets: tuple[str, ...] = ()  # host:port of the last answer, in its order
        self._where = where
        self._source = (source, 0) if source else None
        self._until = 0.0  # monotonic time until which the answer holds

    async def target(self, kept: Collection[str]) -> str:
        """host:port to use now; one of ``kept``, to which there is a connection, if the answer has it.

        Raises:
            NoAddress: the name server is silent, or has no address for the name.
        """
        if time.monotonic() >= self._until:
            self.targets = ()
            asked = time.monotonic()
            message = await self._ask()
            addresses, ttl = _addresses(message, self._where.type)
            if not addresses:
                raise NoAddress(f"{self._where.name}: {dns.rcode.to_text(message.rcode())}, no {self._where.type}")
            self.targets = tuple(_with_port(address, self._where.port) for address in addresses)
            self._until = asked + ttl
        return next((target for target in self.targets if target in kept), self.targets[0])

    async def _ask(self) -> dns.message.Message:
        host, _, port = self._where.server.rpartition(":")
        query = dns.message.make_query(self._where.name, self._where.type, use_edns=0, payload=1232)
        query.id = random.randrange(65536)
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await self._over_udp(query, host, int(port))
                if answer.flags & dns.flags.TC:
                    answer = await self._over_tcp(query, host, int(port))
        except (OSError, TimeoutError, dns.exception.DNSException, asyncio.IncompleteReadError) as error:
            raise NoAddress(f"{self._where.name}: {type(error).__name__} {error}".strip()) from error
        return answer

    async def _over_udp(self, query: dns.message.Message, host: str, port: int) -> dns.message.Message:
        loop = asyncio.get_running_loop()
        waiting = _Answer(query, loop.create_future())
        transport, _ = await loop.create_datagram_endpoint(
            lambda: waiting, local_addr=self._source, remote_addr=(host, port)
        )
        try:
            transport.sendto(query.to_wire())
            return await waiting.answer
        finally:
            transport.close()

    async def _over_tcp(self, query: dns.message.Message, host: str, port: int) -> dns.message.Message:
        reader, writer = await asyncio.open_connection(host, port, local_addr=self._source)
        try:
            wire = query.to_wire()
            writer.write(struct.pack("!H", len(wire)) + wire)
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            return dns.message.from_wire(await reader.readexactly(length))
        finally:
            writer.close()


class _Answer(asyncio.DatagramProtocol):
    """Waits for the datagram that answers a question."""

    def __init__(self, query: dns.message.Message, answer: asyncio.Future[dns.message.Message]) -> None:
        self.answer = answer
        self._query = query

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        """Something came; only the answer counts."""
        try:
            message = dns.message.from_wire(data, ignore_trailing=True)
        except dns.exception.DNSException as error:
            if not self.answer.done():
                self.answer.set_exception(error)
            return
        if self._query.is_response(message) and not self.answer.done():
            self.answer.set_result(message)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there."""
        if not self.answer.done():
            self.answer.set_exception(exc)


def _addresses(message: dns.message.Message, type_: str) -> tuple[list[str], float]:
    """The addresses in the order of the answer, and how long all of it holds, in seconds."""
    wanted = dns.rdatatype.from_text(type_)
    found = [item.to_text() for rrset in message.answer if rrset.rdtype == wanted for item in rrset]
    return found, float(min((rrset.ttl for rrset in message.answer), default=0))


def _with_port(address: str, port: int) -> str:
    host = f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    return f"{host}:{port}"
