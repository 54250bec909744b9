"""One probe of one health checker: real sockets, Route 53's time limits, and its words for what came back.

Limits (FACTS, from the Developer Guide): TCP 10 s to connect; HTTP and HTTPS 4 s to connect and shake hands, then 2 s for a
status of 2xx or 3xx, then 2 s for a text in the first 5,120 bytes of the body. Certificates are not validated.
"""

import asyncio
import contextlib
import functools
import http
import os
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

from hafleet.core.dns.model import CheckConfig

TCP_CONNECT, CONNECT, STATUS, BODY = 10.0, 4.0, 2.0, 2.0  # seconds
SEARCHED = 5120  # bytes of the body
HEADERS = 16384  # bytes of the answer's head, at most
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT: an own address does not take a port before it connects


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a checker saw. ``text`` is as GetHealthCheckStatus shows it."""

    good: bool
    text: str


class Bad(Exception):
    """The endpoint failed; the text says how."""


async def probe(check_id: str, config: CheckConfig, address: str, source: str) -> Outcome:
    """Ask the endpoint once.

    Args:
        check_id: named in the request, as Route 53 does.
        config: the health check.
        address: where to connect.
        source: own address; "": the system's choice.
    """
    try:
        if config.type == "TCP":
            await _tcp(config, address, source)
            return Outcome(True, "Success: TCP connection established")
        status = await _http(check_id, config, address, source)
    except Bad as bad:
        return Outcome(False, f"Failure: {bad}")
    except OSError as error:
        return Outcome(False, f"Failure: {os.strerror(error.errno) if error.errno else error}")
    except ValueError as error:
        return Outcome(False, f"Failure: cannot be asked: {error}")  # a name that no request can carry
    return Outcome(True, f"Success: HTTP Status Code {status}, {_PHRASES.get(status, '')}")


async def _tcp(config: CheckConfig, address: str, source: str) -> None:
    with await _connect(address, config.port, source, TCP_CONNECT):
        pass


async def _http(check_id: str, config: CheckConfig, address: str, source: str) -> int:
    """The status. Raises Bad, OSError."""
    connection = await _connect(address, config.port, source, CONNECT)
    writer = None
    try:
        tls = config.type.startswith("HTTPS")
        async with _limit(CONNECT, "TLS handshake timed out"):
            reader, writer = await asyncio.open_connection(
                sock=connection,
                limit=HEADERS,
                ssl=_trusting() if tls else None,
                server_hostname=(config.host if config.sni else "") if tls else None,
            )
        async with _limit(STATUS, "no HTTP status within 2 seconds"):
            writer.write(_request(check_id, config, address))
            status, body_size, chunked = await _head(reader)
        if not 200 <= status < 400:
            raise Bad(f"HTTP Status Code {status}")
        if config.search:
            async with _limit(BODY, "no body within 2 seconds"):
                body = await _body(reader, body_size, chunked)
            if config.search.encode() not in body:
                raise Bad("the text was not found in the first 5,120 bytes of the body")
        return status
    except ssl.SSLError as error:
        raise Bad(f"TLS handshake failed: {error.reason}") from error
    finally:
        if writer is None:
            connection.close()
        else:
            writer.transport.abort()  # nobody waits for a checker's good-bye


@contextlib.asynccontextmanager
async def _limit(seconds: float, what: str) -> AsyncIterator[None]:
    """A bound of time. Raises Bad."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Bad(what) from None


async def _connect(address: str, port: int, source: str, seconds: float) -> socket.socket:
    """A connected socket that does not block. Raises Bad, OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        if source and family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_IP, NO_PORT, 1)
            connection.bind((source, 0))
        async with _limit(seconds, "Connection timed out"):
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _request(check_id: str, config: CheckConfig, address: str) -> bytes:
    host = config.host or (f"[{address}]" if ":" in address else address)
    usual = 443 if config.type.startswith("HTTPS") else 80
    if config.port != usual:
        host += f":{config.port}"
    lines = (
        f"GET {config.path} HTTP/1.1",
        f"Host: {host}",
        "Connection: close",
        f"User-Agent: Amazon-Route53-Health-Check-Service (ref {check_id})",
        "Accept: */*",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


async def _head(reader: asyncio.StreamReader) -> tuple[int, int | None, bool]:
    """Status, length of the body (None: until the end), and whether it comes in chunks. Raises Bad."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError as error:
        raise Bad("the connection was closed before an HTTP status") from error
    except asyncio.LimitOverrunError as error:
        raise Bad("the headers are larger than 16 KB") from error
    first, *rest = head.split("\r\n")
    words = first.split()
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isascii() or not words[1].isdigit():
        raise Bad("the answer is not HTTP")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    length = fields.get("content-length", "")
    return int(words[1]), int(length) if length.isdigit() else None, fields.get("transfer-encoding") == "chunked"


async def _body(reader: asyncio.StreamReader, size: int | None, chunked: bool) -> bytes:
    """The first bytes of the body; what ends too early is as long as it is."""
    if chunked:
        return await _chunks(reader)
    wanted = SEARCHED if size is None else min(size, SEARCHED)
    try:
        return await reader.readexactly(wanted)
    except asyncio.IncompleteReadError as error:
        return error.partial


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        while len(body) < SEARCHED:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size == 0:
                break
            body += await reader.readexactly(min(size, SEARCHED))
            await reader.readexactly(max(0, size - SEARCHED) + 2)
    return body[:SEARCHED]


@functools.cache
def _trusting() -> ssl.SSLContext:
    """TLS that believes every certificate, as Route 53's checkers do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
