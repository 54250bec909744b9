"""A stage for tests of rendering: a rendered configuration in a real HAProxy, with tiny servers that say their name."""

import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from hafleet.adapters.templates import JinjaRenderer
from hafleet.core.model import Rendered
from hafleet.core.settings import Settings
from hafleet.lab.haproxies import Haproxy
from tests.renderings import write_maps

SERVER_PORT = 8080


def render(settings: Settings, desired: Any, haproxy: Haproxy) -> Rendered:
    return JinjaRenderer(settings, source="/etc/hafleet/hafleet.yaml", digest="0" * 64).render(desired, haproxy.version)


def check(haproxy: Haproxy, config: Path) -> str:
    """What ``haproxy -c -dW`` has against the file; "" when nothing."""
    command = (haproxy.binary, "-c", "-dW", "-f", config)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stderr.decode(errors="replace") or f"exit code {done.returncode}"


def write(rendered: Rendered, folder: Path, settings: Settings) -> Path:
    """The files where HAProxy looks for them. The server-state file is there, as an agent leaves it."""
    write_maps(Path(settings.haproxy.maps_dir), rendered.maps)
    Path(settings.haproxy.server_state).write_text("1\n")
    config = folder / "haproxy.cfg"
    config.write_text(rendered.text)
    return config


@contextmanager
def running(haproxy: Haproxy, config: Path, socket_path: str) -> Iterator[None]:
    """HAProxy on this configuration until the end of the block; its log is beside the file."""
    with (config.parent / "haproxy.log").open("ab") as log:
        process = subprocess.Popen(
            (haproxy.binary, "-db", "-f", config), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            wait_for(lambda: process.poll() is not None or answers(socket_path), f"HAProxy on {config}")
            assert process.poll() is None, (config.parent / "haproxy.log").read_text(errors="replace")
            yield
        finally:
            process.terminate()
            process.wait(60)


def wait_for(condition: Any, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def answers(socket_path: str) -> bool:
    try:
        return "Name: HAProxy" in command(socket_path, "show info")
    except OSError:
        return False


def command(socket_path: str, line: str) -> str:
    """One command of the Runtime API."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(socket_path)
        connection.sendall(f"{line}\n".encode())
        return receive(connection).decode()


def receive(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


class _Answer(socketserver.BaseRequestHandler):
    """An HTTP request is answered by the server's name; anything else by the name alone."""

    def handle(self) -> None:
        server: Any = self.server
        self.request.settimeout(10)
        try:
            first: bytes = self.request.recv(65536)
            body = server.label.encode()
            if first.startswith((b"GET ", b"HEAD ")):
                head = f"HTTP/1.1 {server.status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                body = head.encode() + body
            if first:
                self.request.sendall(body)
        except OSError:
            pass  # the other side went away: a check that ended, or HAProxy that stopped


class Server(socketserver.ThreadingTCPServer):
    """A server that says ``label``; ``status`` may be changed while it runs."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: str, label: str) -> None:
        self.address = address
        self.label = label
        self.status = 200
        super().__init__((address, SERVER_PORT), _Answer)


@contextmanager
def serving(*servers: Server) -> Iterator[None]:
    threads = [threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.05}) for each in servers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join(10)
            server.server_close()


def get(address: str, port: int, path: str = "/", host: str | None = "example.com", **headers: str) -> tuple[int, str]:
    """Status and body of one request."""
    connection = HTTPConnection(address, port, timeout=30)
    try:
        connection.putrequest("GET", path, skip_host=True)
        for name, value in ({} if host is None else {"Host": host}).items() | headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()
