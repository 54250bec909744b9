"""A whole AWS and a fleet of load balancers on this machine: ``with Lab() as lab: ...``.

The lab owns a loopback /16, a local AWS, and whatever EC2 says should run: an application server for every running
instance, and a node (HAProxy, agent, IMDS) for every instance of the group ``edge``. One thread follows EC2.
"""

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hafleet.lab.cloud import NODES, REGION, Cloud, Machine
from hafleet.lab.founding import make_groups, make_hooks
from hafleet.lab.imds import Identity
from hafleet.lab.network import claim
from hafleet.lab.node import Node
from hafleet.lab.plan import EDGE, Plan
from hafleet.lab.processes import Processes, wait_until
from hafleet.lab.registered import Leaf, ask, leaves
from hafleet.lab.servers import Servers

FOLLOW = 0.1  # seconds between two looks at EC2


class Lab:
    """The lab. Create it with ``with``; groups and nodes are added once it is open.

    Args:
        plan: the settings of the nodes; None: those of the demo.
        binary: the HAProxy that the nodes run.
        agents: False when a test writes haproxy.cfg itself.
        environment: variables for the agents, on top of those that point them to the lab.
    """

    def __init__(
        self,
        plan: Plan | None = None,
        *,
        binary: str = "haproxy",
        agents: bool = True,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.plan = plan or Plan()
        self.binary = shutil.which(binary) or binary
        self.agents = agents
        self.environment = environment or {}
        self.nodes: list[Node] = []
        self._reloads_before = 0  # of nodes that have gone
        self._stack = contextlib.ExitStack()
        self._stop = threading.Event()
        self._lock = threading.RLock()
        self.trouble: Exception | None = None  # why the follower stopped, if it did

    def __enter__(self) -> Self:
        """Start AWS and begin to follow it."""
        with self._stack as stack:
            self.network = stack.enter_context(claim())
            # Short on purpose: the path of a unix socket holds 107 bytes, and HAProxy adds its pid while it binds.
            self.folder = Path(tempfile.mkdtemp(prefix="hfl-", dir="/tmp"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.processes = Processes(self.folder)
            stack.callback(self.processes.close)
            self.cloud = Cloud(self.network, self.processes, self.folder / "aws.log")
            self.servers = Servers(self.processes)
            follower = threading.Thread(target=self._follow, daemon=True, name="lab")
            stack.callback(self._end_follower, follower)
            follower.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process and remove the folder."""
        self._stack.close()

    # --- the cloud ---

    def group(self, name: str, desired: int = 0, tags: dict[str, str] | None = None) -> None:
        """Create an Auto Scaling group."""
        self.cloud.create_group(name, desired, tags or {})

    def scale(self, name: str, desired: int) -> None:
        """Set a group's DesiredCapacity."""
        self.cloud.scale(name, desired)

    def members(self, name: str, *, in_service: bool = True) -> tuple[Machine, ...]:
        """The instances of a group, oldest first; only those InService unless asked otherwise."""
        return tuple(m for m in self.cloud.machines() if m.group == name and (m.in_service or not in_service))

    def kill(self, instance: str) -> None:
        """The machine breaks: its process is gone at once, EC2 says terminated, its group replaces it."""
        with self._lock:
            self.servers.crash(instance)
        self.cloud.ec2.terminate_instances(InstanceIds=[instance])

    def crash(self, instance: str) -> None:
        """Only the application dies; AWS does not notice."""
        with self._lock:
            self.servers.crash(instance)

    def revive(self, instance: str) -> None:
        """The application of a crashed instance starts again."""
        with self._lock:
            self.servers.revive(instance)

    def terminate(self, instance: str, *, decrement: bool = False) -> None:
        """Let a group retire one instance through its lifecycle."""
        self.cloud.autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=instance, ShouldDecrementDesiredCapacity=decrement
        )

    # --- the nodes ---

    def start_nodes(self, count: int, timeout: float = 60.0, *, hooks: bool = False) -> None:
        """Create the edge group, and the zone they register in, and wait until its nodes exist (not until they serve)."""
        if self.plan.dns is not None:
            self.cloud.create_zone(self.plan.dns["zone"])
        self.group(EDGE)
        if hooks:
            make_hooks(self.cloud)
        self.scale(EDGE, count)
        self.wait_until(lambda: len(self.nodes) == count, timeout, f"{count} nodes")

    def open_shop(self, nodes: int, timeout: float = 120.0) -> None:
        """The groups of the demo's plan, and nodes that serve them and, where the plan says so, stand in DNS.

        Raises:
            TimeoutError: they do not serve in time; the message ends with what the agents said last.
        """
        make_groups(self.cloud, self.plan)
        self.start_nodes(nodes, hooks="lifecycle" in self.plan.extra)
        try:
            self.wait_converged(timeout)
            self.wait_registered(timeout)
        except TimeoutError as error:
            said = "\n".join(line for node in self.nodes for line in node.agent_log().splitlines()[-5:])
            raise TimeoutError(f"{error}\n{said}") from error

    def keep_evidence(self) -> Path:
        """Copy logs, settings and configurations to a folder that outlives the lab."""
        kept = Path(tempfile.mkdtemp(prefix="hafleet-lab-kept-"))
        for source in [self.folder / "aws.log", *self.folder.glob("n*/*.*")]:
            if source.suffix in {".log", ".cfg", ".yaml"}:
                shutil.copy(source, kept / f"{source.parent.name}-{source.name}")
        return kept

    def apply(self, nodes: Iterable[Node] | None = None) -> None:
        """Write hafleet.yaml of these nodes (all) from the plan as it is now."""
        with self._lock:
            for node in self.nodes if nodes is None else nodes:
                node.write_settings(self.plan.settings(node))

    def set_weight(self, backend: str, group: str, weight: int) -> None:
        """Change the share of a group in a backend on every node."""
        self.plan.set_weight(backend, group, weight)
        self.apply()

    def expected(self, backend: str) -> frozenset[str]:
        """The instances that should be in rotation: InService, in a group that has a share, in no drained zone."""
        return self._expected(self.cloud.machines(), backend)

    def _expected(self, machines: Iterable[Machine], backend: str) -> frozenset[str]:
        shares, away = self.plan.groups(backend), self.plan.away
        return frozenset(m.id for m in machines if m.in_service and shares.get(m.group, 0) != 0 and m.zone not in away)

    def converged(self, *, joined: bool = False) -> bool:
        """True when the worker of every node has exactly the expected servers in rotation.

        Args:
            joined: nodes that are still on their way into service do not count.
        """
        machines = self.cloud.machines()
        coming = {m.id for m in machines if joined and m.lifecycle.startswith("Pending")}
        nodes = [node for node in self.nodes if node.id not in coming]
        wanted = {backend: self._expected(machines, backend) for backend in self.plan.names}
        return bool(nodes) and all(_instances(n.in_rotation(b)) == wanted[b] for b in wanted for n in nodes)

    def wait_converged(self, timeout: float = 60.0, *, joined: bool = False) -> float:
        """Wait for ``converged``; returns the seconds it took. Raises TimeoutError."""
        what = "every node to have exactly the servers in service"
        try:
            return self.wait_until(lambda: self.converged(joined=joined), timeout, what)
        except TimeoutError as error:
            state = {b: {n.id: sorted(n.in_rotation(b)) for n in self.nodes} for b in self.plan.names}
            wanted = {b: sorted(self.expected(b)) for b in self.plan.names}
            raise TimeoutError(f"{error}: wanted {wanted}, in rotation {state}") from error

    def registered(self) -> tuple[Leaf, ...]:
        """The nodes' records in Route 53, lowest instance id first."""
        return tuple(sorted(leaves(self.cloud), key=lambda leaf: leaf.node))

    def wait_registered(self, timeout: float = 60.0) -> float:
        """Wait until DNS has answered with every node; returns the seconds it took. Raises TimeoutError."""
        if self.plan.dns is None:
            return 0.0
        name, seen = str(self.plan.dns["name"]), set[str]()

        def answered() -> bool:
            seen.update(ask(self.cloud.dns, name))
            return seen >= {node.address for node in self.nodes}

        return self.wait_until(answered, timeout, "DNS to answer with every node")

    def reloads(self) -> int:
        """Reloads of all nodes so far, of those that have gone too."""
        with self._lock:
            return self._reloads_before + sum(node.reloads() for node in self.nodes)

    def status(self) -> dict[str, Any]:
        """The whole lab as JSON data."""
        groups: dict[str, list[str]] = {name: [] for name in self.cloud.groups()}
        for machine in self.cloud.machines():
            groups.setdefault(machine.group or "(none)", []).append(
                f"{machine.id} {machine.address} {machine.lifecycle}"
            )
        nodes = [node.status() for node in self.nodes]
        records = [leaf.line() for leaf in self.registered()]
        ways = {"aws": self.cloud.environment, "dns": self.cloud.dns, "dig": self.dig()}
        return {**ways, "records": records, "groups": groups, "nodes": nodes}

    def dig(self) -> str:
        """The command that asks DNS for the nodes; "" where they stay out of it."""
        return f"dig +short @127.0.0.1 -p {self.cloud.dns_near} {self.plan.dns['name']}" if self.plan.dns else ""

    def wait_until(self, predicate: Callable[[], bool], timeout: float, what: str) -> float:
        """As ``processes.wait_until``, but fails at once when the follower has stopped."""

        def check() -> bool:
            if self.trouble is not None:
                raise self.trouble
            return predicate()

        return wait_until(check, timeout, what)

    # --- following EC2 ---

    def _follow(self) -> None:
        missed = 0.0
        while not self._stop.wait(FOLLOW):
            try:
                machines = self.cloud.machines()
                missed = 0.0
                with self._lock:
                    self._step([m for m in machines if m.ec2 == "running"])
            except OSError as error:
                missed = missed or time.monotonic()
                if time.monotonic() - missed > 30:  # busy is not dead
                    self.trouble = error
                    return
            except Exception as error:
                self.trouble = error
                return

    def _step(self, running: list[Machine]) -> None:
        known = {node.id for node in self.nodes}
        edge = {m.id: m for m in running if m.group == EDGE or m.id in known}  # a detached node runs on
        self.servers.follow(tuple(m for m in running if m.id not in edge))
        for node in [node for node in self.nodes if node.id not in edge]:
            self.nodes.remove(node)
            self._reloads_before += node.reloads()
            node.stop()
        for node in self.nodes:
            node.imds.follow(edge[node.id].told)
        for machine in edge.values():
            if machine.id not in known:
                self.nodes.append(self._birth(machine))

    def _birth(self, machine: Machine) -> Node:
        identity = Identity(machine.id, machine.address, machine.zone, REGION)
        node = Node(self.folder / f"n{machine.id[-8:]}", identity, self.processes, self.binary)
        node.imds.follow(machine.told)
        node.write_settings(self.plan.settings(node))
        node.start(self.variables(node.id) if self.agents else None)
        return node

    def variables(self, instance: str) -> dict[str, str]:
        """The environment of an instance's agent: the nodes' access key, and its id for its session of their role. A test that
        tells agents apart replaces this.
        """
        own = {"AWS_ACCESS_KEY_ID": NODES, "AWS_SESSION_TOKEN": instance}
        return {**self.cloud.environment, **own, **self.environment}

    def _end_follower(self, follower: threading.Thread) -> None:
        self._stop.set()
        follower.join(10)
        for node in self.nodes:
            node.stop()


def _instances(names: frozenset[str]) -> frozenset[str]:
    """Instance ids of server names, which may carry a port: i-0abc-8080."""
    return frozenset("-".join(name.split("-")[:2]) for name in names)
