"""A real HAProxy master and worker in a folder of its own, with small servers behind it. Shared by the tests of the proxy."""

import http.client
import os
import signal
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil

from hafleet.adapters.clock import SystemClock
from hafleet.adapters.haproxy import HaproxyProxy
from hafleet.core import cfgtext, mapplan, proxyplan
from hafleet.core.features import features
from hafleet.core.model import Rendered, Worker
from hafleet.core.settings import Haproxy as Settings
from hafleet.errors import ProxyUnavailable
from hafleet.lab.haproxies import Haproxy
from tests.resources import allow

CHECK = "check inter 100ms fall 2 rise 1"


@dataclass(frozen=True)
class Srv:
    """One server of a test configuration."""

    name: str
    address: str
    port: int = 8080
    weight: int = 100
    options: str = CHECK

    @property
    def id(self) -> int:
        return int.from_bytes(self.name.encode()[-3:], "big") + 1


@dataclass(frozen=True)
class Config:
    """A test configuration: backends with servers, a map from path to backend, and free lines."""

    backends: Mapping[str, tuple[Srv, ...]]
    paths: Mapping[str, str] = field(default_factory=dict)
    globals: tuple[str, ...] = ()
    frontend: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    directives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # backend -> option strings it may have


def map_file(entries: Mapping[str, str]) -> str:
    """A map file with its stamp, in the form that the agent's own maps have."""
    body = "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))
    return f"{mapplan.STAMP_KEY} {cfgtext.digest(body)[:16]}\n{body}"


class Rig:
    """HAProxy in ``folder`` on the loopback network ``prefix``. ``proxy`` is the adapter under test."""

    def __init__(self, haproxy: Haproxy, folder: Path, address: str) -> None:
        self.haproxy = haproxy
        self.folder = folder
        self.address = address
        self.settings = Settings(
            binary=str(haproxy.binary),
            config=str(folder / "haproxy.cfg"),
            maps_dir=str(folder / "maps"),
            runtime_socket=str(folder / "admin.sock"),
            master_socket=str(folder / "master.sock"),
            server_state=str(folder / "server-state"),
        )
        self.proxy = HaproxyProxy(self.settings, SystemClock())
        allow(self.proxy, runtime=20.0, master=20.0)
        self.features = features(haproxy.version)
        self.process: subprocess.Popen[bytes] | None = None

    def render(self, config: Config) -> Rendered:
        """The configuration as the agent's templates would finish it."""
        maps = {"paths.map": map_file(config.paths)}
        lines = [
            "global",
            f"    stats socket {self.settings.runtime_socket} mode 600 level admin",
            f"    server-state-file {self.settings.server_state}",
            "    maxconn 200",
            "    nbthread 1",
            *(f"    {line}" for line in config.globals),
            "defaults",
            "    mode http",
            "    load-server-state-from-file global",
            "    option redispatch 1",
            "    option idle-close-on-response",
            "    retries 3",
            "    timeout connect 10s",
            "    timeout client 60s",
            "    timeout server 60s",
            "    timeout check 5s",
            "frontend web",
            f"    bind {self.address}:8000",
            f"    use_backend %[path,map({self.settings.maps_dir}/paths.map,site)]",
            *(f"    {line}" for line in config.frontend),
        ]
        for backend, servers in config.backends.items():
            lines += [f"backend {backend}", "    balance roundrobin"]
            lines += [f"    {cfgtext.OPTIONS_MARK} {text}" for text in config.directives.get(backend, (CHECK,))]
            lines += [
                f"    server {s.name} {s.address}:{s.port} id {s.id} weight {s.weight} {s.options}" for s in servers
            ]
        lines += [*config.extra, "backend never", "    server never 127.0.0.1:9", ""]
        return Rendered(cfgtext.finish("\n".join(lines), source="a test", author="a test"), maps)

    def start(self, config: Config) -> Worker:
        """Install and cold-start."""
        rendered = self.render(config)
        self.proxy.check(rendered)
        self.proxy.install(rendered)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.settings.binary,
                    "-W",
                    "-S",
                    f"{self.settings.master_socket},mode,600",
                    "-f",
                    self.settings.config,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait(self.answers)
        return self.observe()

    def answers(self) -> bool:
        """True once both sockets do."""
        try:
            self.observe()
        except ProxyUnavailable:
            return False
        return True

    def observe(self) -> Worker:
        return self.proxy.observe(())

    def plan(self, wanted: Rendered) -> proxyplan.ProxyPlan:
        return proxyplan.plan(self.proxy.installed(), wanted, self.observe(), self.features)

    def apply(self, wanted: Rendered) -> proxyplan.ProxyPlan:
        """One pass as the agent makes it. Returns the plan that was carried out."""
        worker = self.observe()
        plan = proxyplan.plan(self.proxy.installed(), wanted, worker, self.features)
        self.proxy.run(worker.pid, plan.commands)
        if plan.reload:
            self.proxy.check(wanted)
            self.proxy.reload(wanted, worker)
        elif plan.write:
            self.proxy.check(wanted)
            self.proxy.install(wanted)
        return plan

    def get(self, path: str = "/", timeout: float = 20.0) -> tuple[int, str]:
        """(status, body) of one request on a connection of its own."""
        connection = http.client.HTTPConnection(self.address, 8000, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def seen(self, count: int = 40, path: str = "/") -> set[str]:
        """Which servers answered so many requests."""
        return {self.get(path)[1] for _ in range(count)}

    def stop(self) -> None:
        """End the master and its workers."""
        if self.process is None:
            return
        try:
            children = psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            children = []
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for child in children:
            try:
                os.kill(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process = None


@contextmanager
def rigged(haproxy: Haproxy, folder: Path, address: str) -> Iterator[Rig]:
    """A rig that is stopped at the end."""
    rig = Rig(haproxy, folder, address)
    try:
        yield rig
    finally:
        rig.stop()


def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until the condition holds; the time is an upper bound for a slow machine, not a measurement."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("what the test waits for did not come")
        time.sleep(0.02)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20

    def do_GET(self) -> None:
        body = self.connection.getsockname()[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Silence."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A health check that closes early is no error."""


@contextmanager
def servers(addresses: Iterable[str], port: int = 8080) -> Iterator[None]:
    """Small HTTP servers; each answers with its own address."""
    running = [_Server((address, port), _Answer) for address in addresses]
    for server in running:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield
    finally:
        for server in running:
            server.shutdown()
            server.server_close()
