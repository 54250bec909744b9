"""The stage of the behaviour tests: a fleet in memory, application servers as processes, and nodes with a real HAProxy.

The passes are the product's own: real reconciler, renderer, store and adapters. Only Auto Scaling is replaced, by an account in
memory, so that a hundred changes take seconds; and the passes are called by the test, so that it knows when one is over.
"""

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from hafleet.adapters.clock import SystemClock
from hafleet.adapters.haproxy import HaproxyProxy
from hafleet.adapters.imds import StaticMetadata
from hafleet.adapters.store import FileStore
from hafleet.adapters.templates import JinjaRenderer
from hafleet.core.cfgtext import parse
from hafleet.core.model import Desired, Group, Groups, Instance, World
from hafleet.core.settings import Settings
from hafleet.lab import proxy as eye
from hafleet.lab.processes import LIGHT, Processes, wait_until
from hafleet.lab.servers import PORT, SCRIPT, tell
from hafleet.reconcile import Outcome, Plan, Ports, Reconciler
from tests.resources import Loopback, allow

EDGE = "edge"  # the nodes' own group
ZONE = "eu-west-1a"
HTTP, HEALTH, STATS, PEERS = 8080, 8403, 8404, 10000
LONG = os.environ.get("HAFLEET_LONG") == "1"  # longer runs and a heavier load, by hand
# Milliseconds an application server takes to answer: a client without pauses then always has a request on its way, and 20 of
# them leave some of two cores to the passes.
SLOW = 15 if LONG else 30


class Account:
    """Auto Scaling in memory; implements ``ports.Membership``. A group wants what it lists, less what terminates."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, Instance]] = {}
        self._launched = 0

    def launch(self, group: str, address: str) -> str:
        """A new instance, InService at once; returns its id."""
        self._launched += 1
        name = f"i-{self._launched:017x}"
        self.put(group, Instance(name, "InService", ZONE, ip_address(address)))
        return name

    def put(self, group: str, instance: Instance) -> None:
        """List this instance, instead of an earlier one of its id."""
        self.groups.setdefault(group, {})[instance.id] = instance

    def state(self, name: str, state: str) -> None:
        """Move an instance to a lifecycle state."""
        group = self.group_of(name)
        old = self.groups[group][name]
        self.put(group, Instance(old.id, state, old.zone, old.address, old.capacity))

    def forget(self, name: str) -> None:
        """The instance is no longer listed."""
        del self.groups[self.group_of(name)][name]

    def group_of(self, name: str) -> str:
        """The group that lists this instance."""
        return next(group for group, listed in self.groups.items() if name in listed)

    def in_service(self, *groups: str) -> list[str]:
        """Ids of the instances in service in these groups, sorted."""
        return sorted(i.id for group in groups for i in self.groups.get(group, {}).values() if i.serves)

    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        """See ``ports.Membership.read``; a read is always whole."""
        began = time.monotonic()
        found = {}
        for name in names & self.groups.keys():
            listed = tuple(sorted(self.groups[name].values(), key=lambda i: i.id))
            found[name] = Group(name, sum(i.capacity for i in listed if not i.leaves), listed)
        return Groups(found, began)


class Apps:
    """Application servers: one real process per instance, which dies with it."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, group: str, address: str, *, slow: int = SLOW, boot: float = 0.0) -> None:
        """Start the server of an instance. Without a boot time, wait until it answers."""
        argv = [sys.executable, *LIGHT, str(SCRIPT), address, str(PORT), name, group, str(boot)]
        self._running[name] = self._processes.start(argv)
        if not boot:
            wait_until(lambda: _answers(address, slow), 60, f"the application server of {name}", every=0.02)

    def kill(self, name: str) -> None:
        """The process is gone at once, with what it had begun."""
        self._processes.kill(self._running.pop(name))


def _answers(address: str, slow: int) -> bool:
    try:
        tell(address, f"/_app/slow/{slow}")
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Parts:
    """The parts of a pass."""

    settings: Settings
    proxy: HaproxyProxy
    store: FileStore
    reconciler: Reconciler


def assemble(document: Mapping[str, Any], account: Account) -> Parts:
    """The product's own parts for this hafleet.yaml (as plain data), over this account."""
    settings = Settings.model_validate(document)
    static = settings.node.static
    assert static is not None
    clock = SystemClock()
    digest = sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    renderer = JinjaRenderer(settings, source="a test", digest=digest)
    proxy = HaproxyProxy(settings.haproxy, clock)
    allow(proxy, runtime=20.0, master=20.0)
    store = FileStore(Path(settings.state_dir))
    ports = Ports(account, StaticMetadata(static), renderer, proxy, store, clock)
    return Parts(settings, proxy, store, Reconciler(settings, ports))


def edit_template(folder: Path, number: int) -> None:
    """Put a template of the user's into this folder, in one step: it adds a backend of this number."""
    extra = f"backend note_{number}\n    mode http\n    http-request deny\n"
    text = f'{{% extends "haproxy.cfg.j2" %}}\n{{% block extra %}}\n{extra}{{% endblock %}}\n'
    beside = folder.parent / "edited.j2"  # outside: a file that comes and goes would be a change of the folder too
    beside.write_text(text)
    beside.rename(folder / "haproxy.cfg.j2")


@dataclass(frozen=True)
class Turn:
    """One pass: what it saw, planned and did."""

    world: World
    plan: Plan
    outcome: Outcome

    @property
    def draining(self) -> bool:
        """True while some member is on its way out."""
        desired = self.plan.decision.desired
        assert isinstance(desired, Desired), desired
        return any(member.draining for members in desired.members.values() for member in members)


@dataclass
class Node:
    """A load balancer node: a real HAProxy, and the passes of an agent for it. ``plan`` is its hafleet.yaml as plain data."""

    binary: str
    folder: Path
    id: str
    address: str
    account: Account
    processes: Processes
    plan: dict[str, Any]
    haproxy: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for name in ("maps", "state", "templates"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.plan = copy.deepcopy(self.plan)
        self.configure()

    @property
    def http(self) -> str:
        """host:port of its frontend."""
        return f"{self.address}:{HTTP}"

    @property
    def config(self) -> Path:
        """The live file."""
        return self.folder / "haproxy.cfg"

    @property
    def runtime_socket(self) -> Path:
        return self.folder / "admin.sock"

    @property
    def master_socket(self) -> Path:
        return self.folder / "master.sock"

    def own_sections(self) -> dict[str, Any]:
        """The sections of hafleet.yaml that are this node's alone."""
        static = {"id": self.id, "private_ip": self.address, "zone": ZONE, "region": "eu-west-1", "asg": EDGE}
        return {
            "node": {"static": static},
            "frontends": [{"name": "web", "bind": self.http, "mode": "http", "default_backend": "site"}],
            "haproxy": {
                "binary": self.binary,
                "config": str(self.config),
                "maps_dir": str(self.folder / "maps"),
                "templates_dir": str(self.folder / "templates"),
                "runtime_socket": str(self.runtime_socket),
                "master_socket": str(self.master_socket),
                "server_state": str(self.folder / "state" / "server-state"),
                "threads": 1,
                "stats": f"{self.address}:{STATS}",
                "health": f"{self.address}:{HEALTH}",
                **self.plan.get("haproxy", {}),
            },
            "state_dir": str(self.folder / "state"),
        }

    def configure(self) -> None:
        """Build the parts of a pass from ``plan`` as it is now, as the agent does when hafleet.yaml has changed."""
        self.parts = assemble(self.document(), self.account)
        self.proxy, self.reconciler = self.parts.proxy, self.parts.reconciler

    def document(self) -> dict[str, Any]:
        """The whole of its hafleet.yaml, as plain data."""
        return {**self.plan, **self.own_sections()}

    def edit_template(self, number: int) -> None:
        """The user's own template adds a backend of this number."""
        edit_template(self.folder / "templates", number)

    def set_haproxy(self, **settings: Any) -> None:
        """Change settings of the section haproxy."""
        self.plan.setdefault("haproxy", {}).update(settings)
        self.configure()

    def turn(self) -> Turn:
        """One pass."""
        world = self.reconciler.observe()
        plan = self.reconciler.plan(world)
        return Turn(world, plan, self.reconciler.apply(plan))

    def good_turn(self) -> Turn:
        """One pass that must have met no fault."""
        turn = self.turn()
        assert (turn.plan.errors, turn.outcome.errors) == ((), ()), self.log()
        return turn

    def start(self) -> None:
        """The first pass writes the file; then HAProxy starts; then its servers answer their checks."""
        first = self.turn()
        assert first.outcome.wrote, (first.plan.errors, first.outcome.errors)
        argv = [self.binary, "-W", "-S", f"{self.master_socket},mode,600", "-f", str(self.config)]
        self.haproxy = self.processes.start(argv, log=self.folder / "haproxy.log")
        try:
            wait_until(self.serves, 60, f"HAProxy in {self.folder}", every=0.02)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.in_rotation()} of {self.expected()}; its log: {self.log()}") from error

    def serves(self) -> bool:
        """True when its worker has exactly the instances in service in rotation."""
        return self.in_rotation() == self.expected()

    def expected(self) -> frozenset[str]:
        """The instances that should take traffic, by the account and the shares of the plan."""
        groups = [s["asg"] for b in self.plan["backends"] for s in b["sources"] if s.get("weight") != 0]
        return frozenset(self.account.in_service(*groups))

    def in_rotation(self) -> frozenset[str]:
        """The servers that take new requests, by HAProxy's own word; none while it does not answer."""
        try:
            rows = eye.servers(self.runtime_socket)
        except OSError:
            return frozenset()
        return frozenset(row.name for row in rows if row.in_rotation and row.backend != "hafleet_ready")

    def settle(self, timeout: float = 30.0) -> Turn:
        """Run passes until one finds nothing left to do and HAProxy serves as it should; returns that one."""
        end = time.monotonic() + timeout
        while True:
            turn = self.good_turn()
            done = not (turn.plan.pending or turn.plan.held or turn.draining)
            if done and self.serves():
                return turn
            assert time.monotonic() < end, f"it does not settle: {turn.plan.proxy.lines()} {turn.plan.held}"
            time.sleep(0.05)

    def master(self) -> eye.Master:
        """The state of its master, which must be alive."""
        found: list[eye.Master] = []

        def ask() -> bool:
            try:
                found.append(eye.master(self.master_socket))
            except (OSError, ValueError):  # on its way to its next load it refuses for some milliseconds
                return False
            return True

        wait_until(ask, 60, f"an answer of the master; its log: {self.log()}", every=0.02)
        return found[0]

    def structure(self) -> str:
        """The structure of the live file."""
        return parse(self.config.read_text()).structure

    def log(self) -> str:
        """The end of what HAProxy has written."""
        path = self.folder / "haproxy.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else "(none)"


def plan_of(groups: Mapping[str, int | None], **sections: Any) -> dict[str, Any]:
    """Settings of one backend over these groups (name -> share), with times short enough for a test."""
    backend = {
        "name": "site",
        "port": PORT,
        "sources": [{"asg": name} | ({} if share is None else {"weight": share}) for name, share in groups.items()],
        # The interval would be the time an answer may take as well, which a busy machine does not always keep.
        "check": {
            "path": "/healthz",
            "expect": "200",
            "interval": "200ms",
            "timeout": "3s",
            "fast": "50ms",
            "rise": 1,
            "fall": 3,
        },
        "drain": "600ms",
        **sections.pop("backend", {}),
    }
    return {
        "fleet": "test",
        "backends": [backend],
        "peers": {"port": PEERS, "settle": 0},
        "safety": {"reload_min_interval": 0, "cold_start_quiet": 0},
        **sections,
    }


@dataclass
class Stage:
    """Where a test builds its fleet: an account, application servers, and what it needs of the machine."""

    folder: Path
    loopback: Loopback
    processes: Processes
    account: Account
    apps: Apps
    left: list[str] = field(default_factory=list)  # addresses of instances that are gone

    def launch(self, group: str, *, slow: int = SLOW) -> str:
        """A new instance of an application group that answers; returns its id. Addresses are used again, as AWS does."""
        address = self.left.pop(0) if self.left else self.loopback.address()
        name = self.account.launch(group, address)
        self.apps.start(name, group, address, slow=slow)
        return name

    def bury(self, name: str) -> None:
        """An instance of an application group is gone for good."""
        address = self.account.groups[self.account.group_of(name)][name].address
        self.account.forget(name)
        self.apps.kill(name)
        self.left.append(str(address))

    def node(self, binary: Path, plan: dict[str, Any]) -> Node:
        """A new node of the edge group, listed by it, not started."""
        address = self.loopback.address()
        name = self.account.launch(EDGE, address)
        return Node(str(binary), self.folder / name[-4:], name, address, self.account, self.processes, plan)


@contextmanager
def staged(loopback: Loopback) -> Iterator[Stage]:
    """A stage; every process on it ends with the block."""
    # Short on purpose: the path of a unix socket holds 107 bytes, and HAProxy adds its pid while it binds.
    folder = Path(tempfile.mkdtemp(prefix="hft-", dir="/tmp"))
    processes = Processes(folder)
    try:
        yield Stage(folder, loopback, processes, Account(), Apps(processes))
    finally:
        processes.close()
        shutil.rmtree(folder, ignore_errors=True)
