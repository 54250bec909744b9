"""One process answers for every instance: a listener on all loopback addresses, each answering with its own address."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    server: "Servers"

    def do_GET(self) -> None:
        body = self.connection.getsockname()[0].encode()
        if self.path == "/slow":
            self.server.release.wait(30)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Silence."""


class Servers(socketserver.ThreadingTCPServer):
    """The application behind every instance. ``/slow`` answers when ``release`` is set."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self) -> None:
        self.release = threading.Event()
        super().__init__(("0.0.0.0", 0), _Answer)
        self.port = int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A health check that closes early is no error."""


@contextlib.contextmanager
def serving() -> Iterator[Servers]:
    """The servers, until the end of the block."""
    servers = Servers()
    thread = threading.Thread(target=servers.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield servers
    finally:
        servers.release.set()
        servers.shutdown()
        thread.join(30)
        servers.server_close()


@contextlib.contextmanager
def squatter(address: str, port: int) -> Iterator[None]:
    """Another program that listens on an address HAProxy wants."""
    with socket.socket() as other:
        other.bind((address, port))
        other.listen()
        yield
