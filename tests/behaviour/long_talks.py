"""Long connections: a server that drips downloads and echoes WebSockets, and clients that know whether theirs ended whole.

Each speaks what it needs of HTTP/1.1 and RFC 6455 and no more. The server listens on every loopback address, so that it stands for
any instance of the lab; it answers with the address that it was reached by.
"""

import base64
import hashlib
import os
import socket
import socketserver
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self

BEAT = 0.25  # seconds between two pieces of a download, and between two frames
PATIENCE = 60.0  # seconds without a byte after which something is wrong
_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_TEXT, _CLOSE = 0x1, 0x8  # RFC 6455, 5.2: opcodes
_PIECE = b"0123456789abcdef" * 64

Kind = Literal["download", "websocket"]


def accept_key(key: str) -> str:
    """What the server answers to a client's key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + _MAGIC).encode()).digest()).decode()


def frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """A whole frame with a payload of at most 125 bytes; a client's has a mask of four (RFC 6455, 5.3)."""
    body = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload)) if mask else payload
    return struct.pack("!BB", 0x80 | opcode, len(payload) | (0x80 if mask else 0)) + mask + body


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes. Raises EOFError when the other side ends before."""
    found = b""
    while len(found) < size:
        chunk = sock.recv(size - len(found))
        if not chunk:
            raise EOFError
        found += chunk
    return found


def read_frame(sock: socket.socket) -> tuple[int, bytes]:
    """Opcode and payload of the next frame. Raises EOFError."""
    first, second = read_exactly(sock, 2)
    mask = read_exactly(sock, 4) if second & 0x80 else b"\0\0\0\0"
    body = read_exactly(sock, second & 0x7F)
    return first & 0x0F, bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))


def read_head(sock: socket.socket) -> tuple[str, dict[str, str]]:
    """The first line and the fields (names in small letters) of a request or an answer. Raises EOFError."""
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        text += read_exactly(sock, 1)
    first, *lines = text.decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    return first, {name.strip().lower(): value.strip() for name, _, value in pairs}


# --- the server -----------------------------------------------------------------------------------------------------


class _Handler(socketserver.BaseRequestHandler):
    """One connection: one request."""

    def handle(self) -> None:
        """Answer, as long as somebody reads."""
        sock: socket.socket = self.request
        sock.settimeout(PATIENCE)
        with suppress(OSError, EOFError, ValueError):
            first, fields = read_head(sock)
            path = first.split(" ")[1]
            me = f"X-Server: {sock.getsockname()[0]}\r\n"
            if fields.get("upgrade", "").lower() == "websocket":
                answer = accept_key(fields["sec-websocket-key"])
                head = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {answer}\r\n"
                sock.sendall(f"HTTP/1.1 101 Switching Protocols\r\n{head}{me}\r\n".encode())
                self._echo(sock)
            else:
                self._drip(sock, int(path.removeprefix("/drip/")) if path.startswith("/drip/") else 1, me)

    def _drip(self, sock: socket.socket, pieces: int, me: str) -> None:
        length = f"Content-Length: {pieces * len(_PIECE)}\r\nConnection: close\r\n"
        sock.sendall(f"HTTP/1.1 200 OK\r\n{length}{me}\r\n".encode())
        for number in range(pieces):
            time.sleep(BEAT if number else 0.0)
            sock.sendall(_PIECE)

    def _echo(self, sock: socket.socket) -> None:
        opcode = _TEXT
        while opcode != _CLOSE:
            opcode, body = read_frame(sock)
            sock.sendall(frame(opcode, body))


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


class LongServer:
    """The server, on a port of its own. A context manager."""

    def __init__(self) -> None:
        self._server = _Server(("0.0.0.0", 0), _Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


# --- the clients ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """What a client wants: of this kind, through host:port, for so many seconds."""

    kind: Kind
    through: str
    seconds: float


class Talk(threading.Thread):
    """One long connection, from its first byte to its end."""

    def __init__(self, order: Order) -> None:
        super().__init__(daemon=True)
        self.order = order
        self.server = ""  # address of the server that it got
        self.whole = False  # it ended as it should have
        self.error = ""
        self._begun = threading.Event()
        host, _, port = order.through.rpartition(":")
        self._sock = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.start()

    def begun(self) -> Self:
        """Itself, once it has its first byte."""
        assert self._begun.wait(PATIENCE), f"{self.order}: {self.error or 'nothing came'}"
        assert not self.error, f"{self.order}: {self.error}"
        return self

    def end(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        """Talk."""
        try:
            with self._sock:
                (self._download if self.order.kind == "download" else self._converse)()
            self.whole = True
        except (OSError, EOFError, ValueError) as error:
            self.error = f"{type(error).__name__} {error}".strip()
        finally:
            self._begun.set()

    def _download(self) -> None:
        pieces = max(1, round(self.order.seconds / BEAT))
        fields = self._ask(f"/drip/{pieces}", "Connection: close\r\n", "200")
        length = int(fields["content-length"])
        if length != pieces * len(_PIECE) or read_exactly(self._sock, length) != _PIECE * pieces:
            raise ValueError("another body than was sent")

    def _converse(self) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        asked = (
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        )
        if self._ask("/echo", asked, "101")["sec-websocket-accept"] != accept_key(key):
            raise ValueError("another key's answer")
        end, number = time.monotonic() + self.order.seconds, 0
        while time.monotonic() < end:
            number += 1
            self._say(_TEXT, f"message {number}".encode())
            time.sleep(BEAT)
        self._say(_CLOSE, struct.pack("!H", 1000))

    def _say(self, opcode: int, body: bytes) -> None:
        self._sock.sendall(frame(opcode, body, os.urandom(4)))
        if read_frame(self._sock) != (opcode, body):
            raise ValueError("another echo than was said")

    def _ask(self, path: str, fields: str, status: str) -> dict[str, str]:
        self._sock.sendall(f"GET {path} HTTP/1.1\r\nHost: long.example.com\r\n{fields}\r\n".encode())
        first, found = read_head(self._sock)
        if first.split(" ")[1] != status:
            raise ValueError(first)
        self.server = found["x-server"]
        self._begun.set()
        return found
