"""The stage of the fault tests: the agent's own pass, on a real HAProxy, over HTTP to the local AWS. Time is the test's."""

import contextlib
import dataclasses
import http.client
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from hafleet import compose
from hafleet.adapters.lock import NodeLocks
from hafleet.adapters.systemd import Notifier
from hafleet.adapters.wakeup import FileWatch, Wakeups
from hafleet.agent import Agent, Assembly
from hafleet.announcer import Sides
from hafleet.core.model import Memory
from hafleet.core.report import Report
from hafleet.lab import proxy as eye
from hafleet.lab.cloud import NODES, Cloud
from hafleet.lab.haproxies import Haproxy
from hafleet.publish import Publisher, status_path
from hafleet.reconcile import Ports, Reconciler
from hafleet.web.metrics import Metrics
from tests.faults.servers import Servers
from tests.loglines import Kept, logged
from tests.resources import Loopback, allow

HTTP, HEALTH, PEERS = 8000, 8403, 10000
NODE = "i-0000000000000aaa0"


class HandClock:
    """``ports.Clock`` whose time passes only while somebody waits, or when the test says so."""

    def __init__(self) -> None:
        self._wall = 1_800_000_000.0
        self._monotonic = 1000.0

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.advance(seconds)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._wall += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._wall += seconds


@dataclasses.dataclass(frozen=True)
class Picture:
    """What must not change while a fault is in force, seen without the agent's help."""

    text: bytes
    rotation: tuple[tuple[str, str, int], ...]  # backend, server, weight
    reloads: int
    worker: int


class Stage:
    """One node: its files, its HAProxy, and its agent, whose passes the test runs one by one with ``turn``."""

    def __init__(self, cloud: Cloud, haproxy: Haproxy, network: Loopback, servers: Servers) -> None:
        # Short on purpose: the path of a unix socket holds 97 bytes for HAProxy.
        self.folder = Path(tempfile.mkdtemp(prefix="hff-", dir="/tmp"))
        self.cloud = cloud
        self.haproxy = haproxy
        self.address = network.address()
        self.network = network
        self.servers = servers
        self.clock = HandClock()
        self.metrics = Metrics()
        self.log = Kept()
        self.process: subprocess.Popen[bytes] | None = None
        self.state = self.folder / "state"
        self.etc = self.folder / "etc"
        self.etc.mkdir()
        self.config = self.etc / "haproxy.cfg"
        self.path = self.folder / "hafleet.yaml"
        self.templates = self.folder / "templates"
        self.templates.mkdir()
        self.runtime, self.master = self.folder / "admin.sock", self.folder / "master.sock"
        self.sections: dict[str, Any] = self._sections()
        self.ports: Callable[[Ports], Ports] = lambda ports: ports  # what a test puts in the way of the pass
        self.reconciler: Callable[[Any, Ports], Reconciler] = Reconciler
        self.environ: Mapping[str, str] = {}
        self.birth()

    # --- settings ---

    def _sections(self) -> dict[str, Any]:
        # Quick to come up and slow to go down: a busy machine must not look like a dead server.
        check = {"path": "/healthz", "interval": "500ms", "fast": "100ms", "timeout": "3s", "rise": 1, "fall": 3}
        return {
            "fleet": "edge",
            "aws": {"region": "eu-west-1", "connect_timeout": "5s", "read_timeout": "30s", "max_attempts": 1},
            "node": {"static": {"id": NODE, "private_ip": self.address, "zone": "eu-west-1a", "region": "eu-west-1"}},
            "peers": {"port": PEERS},
            "frontends": [{"name": "web", "bind": f"{self.address}:{HTTP}", "default_backend": "site"}],
            "backends": [
                {
                    "name": "site",
                    "port": self.servers.port,
                    "sources": [{"asg": "none"}],
                    "check": check,
                    "drain": "30s",
                }
            ],
            "haproxy": {
                "binary": str(self.haproxy.binary),
                "config": str(self.config),
                "maps_dir": str(self.etc / "maps"),
                "templates_dir": str(self.templates),
                "runtime_socket": str(self.runtime),
                "master_socket": str(self.master),
                "server_state": str(self.state / "server-state"),
                "threads": 1,
                "maxconn": 1000,
                "hard_stop_after": "30s",
                "stats": "127.0.0.1:8404" if self.address == "127.0.0.1" else f"{self.address}:8404",
                "health": f"{self.address}:{HEALTH}",
            },
            "safety": {"reload_min_interval": 0, "cold_start_quiet": 0},
            "passes": {"interval": "10s", "settle_min": 0, "settle_max": 0},
            "status": {"listen": f"{self.address}:8405"},
            "state_dir": str(self.state),
        }

    @property
    def site(self) -> dict[str, Any]:
        """The settings of the one backend."""
        found: dict[str, Any] = self.sections["backends"][0]
        return found

    def feed(self, *sources: Mapping[str, Any]) -> None:
        """Let the backend be fed from these sources."""
        self.site["sources"] = [dict(source) for source in sources]
        self.write()

    def write(self) -> None:
        """hafleet.yaml as ``sections`` are now."""
        beside = self.path.with_suffix(".new")
        beside.write_text(yaml.safe_dump(self.sections))
        os.replace(beside, self.path)

    # --- the agent ---

    def birth(self) -> None:
        """A new agent process, as far as memory goes: everything that is not on disk is forgotten."""
        self.wakeups = Wakeups(self.clock)
        self.publish = Publisher(self.metrics, status_path(str(self.state)), logged(self.log))
        self.agent = Agent(self, self.clock, self.wakeups, Notifier(self.environ), self._published)
        self.locks = NodeLocks(self.state)
        self.assembly: Assembly | None = None
        self.report: Report | None = None

    def digest(self) -> str:
        """``agent.Workshop.digest``."""
        return compose.AgentWorkshop(self.path, self.wakeups, Sides.of(self.clock), self.metrics.called).digest()

    def assemble(self) -> Assembly:
        """``agent.Workshop.assemble``: the product's own parts, with the test's clock."""
        parts = compose.build(self.path, self.metrics.called)
        allow(parts.ports.proxy, runtime=20.0, master=20.0)
        ports = self.ports(dataclasses.replace(parts.ports, clock=self.clock))
        made = self.reconciler(parts.settings, ports)
        return Assembly(parts.settings, parts.loaded.digest, made, parts.history, ())

    def watch(self, paths: tuple[Path, ...]) -> FileWatch:
        """``agent.Workshop.watch``."""
        return FileWatch(self.wakeups, paths)

    def turn(self, seconds: float = 10.0) -> Report:
        """One pass of the agent, so many seconds after the last one."""
        self.clock.advance(seconds)
        self.assembly = self.assemble() if self.assembly is None else self.agent._current(self.assembly)
        report = self.agent._guarded_pass(self.assembly, ("test",), self.locks)
        self._published(report)
        return report

    def turns(self, count: int, seconds: float = 10.0) -> list[Report]:
        """So many passes."""
        return [self.turn(seconds) for _ in range(count)]

    def run(self, passes: int) -> None:
        """The agent's own loop, with its own timing, on the test's clock."""
        kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            self.agent.run(self.locks, passes)
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)

    def settle(self, seconds: float = 90.0) -> Report:
        """Passes until one has nothing left to do, hold or complain of, and every server in rotation is up."""
        last: list[Report] = []

        def calm() -> bool:
            last.append(self.turn())
            quiet = not (last[-1].commands or last[-1].wrote or last[-1].held or last[-1].errors)
            return quiet and len(last) > 1 and all(row.in_rotation or row.weight == 0 for row in self.rows())

        wait(calm, seconds, lambda: f"a calm pass; the last one: {last[-1] if last else None}; {self.rows()}")
        return last[-1]

    def _published(self, report: Report) -> None:
        self.report = report
        self.publish(report)

    @property
    def memory(self) -> Memory:
        """What the agent keeps on disk."""
        return compose.build(self.path).ports.store.load(None)

    def said(self, *words: str) -> bool:
        """True when one line of the log holds all these words."""
        return any(all(word in str(entry) for word in words) for entry in self.log.entries)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 when it was never set."""
        return self.metrics.registry.get_sample_value(f"hafleet_{name}", labels) or 0.0

    # --- AWS ---

    def group(self, size: int, **physics: float) -> str:
        """A new group with so many instances in service."""
        name = f"g-{self.folder.name}-{time.monotonic_ns()}"
        self.cloud.control("POST", "physics", {"groups": {name: {"boot": 0.0, "terminating": 600.0, **physics}}})
        self.cloud.create_group(name, size, {})
        self.in_service(name, size)
        return name

    def scale(self, name: str, size: int) -> None:
        """Set DesiredCapacity, and wait for so many InService."""
        self.cloud.scale(name, size)
        self.in_service(name, size)

    def in_service(self, name: str, size: int) -> None:
        """Wait until so many instances are InService."""
        wait(lambda: len(self.members(name)) == size, 60, lambda: f"{size} in service in {name}")

    def members(self, name: str, lifecycle: str = "InService") -> list[str]:
        """Instance ids of a group in this lifecycle state, sorted."""
        return sorted(m.id for m in self.cloud.machines() if m.group == name and m.lifecycle == lifecycle)

    @contextlib.contextmanager
    def fault(self, kind: str, **what: Any) -> Iterator[None]:
        """A fault of AWS for this node's calls. Fails when it hit no call, for then it showed nothing."""
        before = self.cloud.faulted()
        number = self.cloud.fault(kind, caller=NODES, **what)
        try:
            yield
            assert self.cloud.faulted() > before, f"the fault {kind} hit no call"
        finally:
            self.cloud.heal(number)

    # --- HAProxy ---

    def boot(self, *sources: Mapping[str, Any]) -> None:
        """First pass, HAProxy's start, and passes until all is calm."""
        self.feed(*sources)
        report = self.turn()
        assert self.config.exists(), report.errors
        self.start_haproxy()
        self.settle()

    def start_haproxy(self) -> None:
        """Start the master as systemd would, on the file that is there."""
        self.runtime.unlink(missing_ok=True)
        argv = [str(self.haproxy.binary), "-W", "-S", f"{self.master},mode,600", "-f", str(self.config)]
        with (self.folder / "haproxy.log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait(lambda: self.answers("show info", self.runtime) and self.answers("show proc", self.master), 60, self.words)

    def answers(self, command: str, path: Path) -> bool:
        """True when a socket of HAProxy answers."""
        try:
            return bool(eye.ask(path, command))
        except OSError:
            return False

    def words(self) -> str:
        """HAProxy's log."""
        return (self.folder / "haproxy.log").read_text(errors="replace")[-2000:]

    def stop_haproxy(self) -> None:
        """End the master and every worker."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
        self.process.kill()
        self.process.wait()
        self.process = None

    def rows(self) -> tuple[eye.ServerRow, ...]:
        """The servers of the backends of the settings, in the running worker."""
        return tuple(row for row in eye.servers(self.runtime) if row.backend != "hafleet_ready")

    def rotation(self, backend: str = "site") -> list[str]:
        """Servers that are meant to get new requests, sorted; whether they are up is the health check's business."""
        return sorted(row.name for row in self.rows() if row.backend == backend and _wanted(row))

    def installed(self) -> set[str]:
        """Servers of the file on disk with a weight above zero."""
        found = re.findall(
            r"^\s+server (i-\S+|static-\S+) \S+ id \d+ weight (\d+)", self.config.read_text(), re.MULTILINE
        )
        return {name for name, weight in found if weight != "0"}

    @property
    def reloads(self) -> int:
        """Reloads the master has tried."""
        return eye.master(self.master).reloads

    def picture(self) -> Picture:
        """What a fault must leave as it is."""
        rows = tuple((row.backend, row.name, row.weight) for row in self.rows() if _wanted(row))
        pid = re.search(r"^Pid: (\d+)", eye.ask(self.runtime, "show info"), re.MULTILINE)
        return Picture(self.config.read_bytes(), tuple(sorted(rows)), self.reloads, int(pid[1]) if pid else 0)

    def picture_without_runtime(self) -> tuple[bytes, int, int]:
        """The file, the reloads and the worker, without the runtime socket."""
        now = eye.master(self.master)
        return self.config.read_bytes(), now.reloads, now.worker

    def get(self, path: str = "/", port: int = HTTP, timeout: float = 20.0) -> tuple[int, str]:
        """Status and body of one request to this node."""
        connection = http.client.HTTPConnection(self.address, port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Host": "site.example.com"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def healthy(self) -> bool:
        """True when traffic is served and the health listener says so."""
        return self.get()[0] == 200 and self.get("/hafleet-health", HEALTH)[0] == 200

    def close(self) -> None:
        """End HAProxy and remove the files."""
        self.stop_haproxy()
        shutil.rmtree(self.folder, ignore_errors=True)


def _wanted(row: eye.ServerRow) -> bool:
    """True when neither weight nor maintenance keeps the server out of rotation."""
    return row.weight > 0 and not row.status.startswith(("MAINT", "DRAIN"))


def wait(condition: Callable[[], object], seconds: float, what: Callable[[], str]) -> None:
    """Wait until the condition holds; the time is an upper bound for a slow machine, not a measurement."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what()}")
        time.sleep(0.02)


def held(report: Report) -> list[str]:
    """The rules that hold something."""
    return [each.rule for each in report.held]


def all_held(reports: Sequence[Report]) -> set[str]:
    """The rules that held something in any of these passes."""
    return {rule for report in reports for rule in held(report)}
