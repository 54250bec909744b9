"""A region whose instances are machines: the local AWS in a network namespace, and a booted tree for every node that EC2 runs.

The code of the tests is inside AWS's namespace meanwhile. The machines reach AWS, IMDS and each other over wires of their own. What
AWS does to a real instance is done here: IMDS tells of it, and the machine is powered off when EC2 has terminated it.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3
import yaml

from hafleet.lab import cloud as aws
from hafleet.lab import proxy
from hafleet.lab.founding import make_events
from hafleet.lab.imds import Desk, Identity, Metadata
from hafleet.lab.network import Network
from hafleet.lab.plan import DNS_NAME, EDGE, FLEET, JOIN_HOOK, LEAVE_HOOK, ZONE, shop_dns
from hafleet.lab.processes import Processes
from hafleet.lab.registered import Leaf, leaves
from hafleet.lab.servers import PORT, Servers
from hafleet.lab.traffic import ByName
from tests.ansible.ground import Ground, inside
from tests.ansible.machine import Machine, copy_tree, remove_tree, until

HOME, IMDS = "203.0.113.254", "169.254.169.254"  # of AWS; addresses for documentation are the lab's public ones
APP = "app"  # group of the servers
HOOK = 3600  # seconds: no hook ends by waiting here
LOOK = 0.2  # seconds between two looks at EC2
ROLE = "edge"  # of the instances
STICK = "x-user"  # the header by which a client stays with its server
ENVIRONMENT = {"AWS_ENDPOINT_URL": f"http://{HOME}:{aws.PORT}"}
SETTINGS: dict[str, Any] = {
    "fleet": FLEET,
    "peers": {"settle": "1s"},
    "frontends": [{"name": "web", "bind": ":80", "default_backend": "site"}],
    "backends": [
        {
            "name": "site",
            "port": PORT,
            "sources": [{"asg": APP}],
            "check": {"path": "/healthz", "interval": "1s"},
            "stick": {"on": f"req.hdr({STICK})", "type": "string", "size": "10k", "expire": "10m"},
            "drain": "2s",
        }
    ],
    "dns": shop_dns(),
    "lifecycle": {"join_timeout": "30m", "peers_timeout": "20s", "drain": {"quiet": "4s", "max": "5m"}},
    "events": {"queue": "auto"},
}


class Place(Network):
    """The addresses of this region. A namespace of its own needs no lock."""

    @property
    def cidr(self) -> str:
        """The whole of it, the VPC."""
        return "203.0.113.0/24"

    @property
    def home(self) -> str:
        """The address of AWS itself, outside of the subnets."""
        return HOME

    def subnet(self, zone: int) -> str:
        """The part of a zone, 0 or 1."""
        return f"203.0.113.{zone * 64}/26"


@dataclass(slots=True)
class Booted:
    """A node: an instance, its machine, and what IMDS tells it."""

    id: str
    address: str
    machine: Machine
    told: Metadata
    said: str = ""  # the last of its journal, once EC2 has terminated it

    def asked(self, command: str) -> str:
        """What its HAProxy answers over the Runtime API. Raises OSError."""
        return proxy.ask(self.machine.path("/run/haproxy/admin.sock"), command)

    def stuck(self) -> dict[str, str]:
        """User -> server, as its stick table has it; nothing while HAProxy does not answer."""
        try:
            return proxy.stick_entries(self.machine.path("/run/haproxy/admin.sock"), "site")
        except OSError:
            return {}

    def command(self, *words: str, group: str = "haproxy") -> str:
        """What a command says as the agent: as its user, with its environment, and in this group."""
        service = ("User=hafleet", f"Group={group}", "EnvironmentFile=/etc/default/hafleet")
        options = (word for line in service for word in ("--property", line))
        return self.machine.run(
            "systemd-run", "--quiet", "--pipe", "--wait", "--collect", *options, *words, check=False
        )

    def status(self) -> str:
        """What ``hafleet status`` prints on it."""
        return self.machine.run_as("hafleet", "hafleet", "status", check=False)


class Region:
    """The region. ``with Region(tree, folder) as region: region.scale(2)``.

    Args:
        tree: an image with this module's SETTINGS and ENVIRONMENT.
        folder: where copies of it may lie.
        user_data: what IMDS tells each node of its launch template; "": nothing.
    """

    def __init__(self, tree: Path, folder: Path, user_data: str = "") -> None:
        self.nodes: list[Booted] = []  # the oldest first, powered on
        self.trouble: Exception | None = None  # why the region stopped to follow EC2, if it did
        self._tree, self._folder, self._user_data = tree, folder, user_data
        self._begun: set[str] = set()  # instances whose machine was made, gone ones too
        self._ended: set[str] = set()  # those whose machine was told to power off
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """AWS with the groups, hooks, zone and topic of the fleet, and two servers; no node yet."""
        with self._stack as stack:
            self.ground = Ground(HOME, IMDS)
            stack.callback(self.ground.close)
            stack.enter_context(inside(self.ground.name))
            logs = Path(tempfile.mkdtemp(prefix="hfa-"))
            stack.callback(shutil.rmtree, logs, ignore_errors=True)
            self.processes = Processes(logs)
            stack.callback(self.processes.close)
            place = Place(1, stack.enter_context(socket.socket()))
            self.cloud = aws.Cloud(place, self.processes, self._folder / "aws.log")
            self.servers = Servers(self.processes)
            self.desk = Desk(IMDS, 80)
            stack.callback(self.desk.close)
            stack.callback(self._end)
            self._thread(self._follow)
            self._found()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Power all off, and leave nothing."""
        self._stack.close()

    @property
    def by_name(self) -> ByName:
        """How clients find the nodes."""
        return ByName(DNS_NAME, self.cloud.dns, 80)

    def scale(self, nodes: int) -> list[Booted]:
        """So many nodes. Waits until all of them are in service and the others are powered off; returns them."""
        self.cloud.scale(EDGE, nodes)
        self.until(lambda: len(self.in_service()) == nodes == len(self.nodes), f"{nodes} nodes in service")
        return list(self.nodes)

    def in_service(self) -> tuple[aws.Machine, ...]:
        """The nodes that their group counts as serving."""
        return tuple(m for m in self.cloud.machines() if m.group == EDGE and m.in_service)

    def records(self) -> tuple[Leaf, ...]:
        """The nodes' records in Route 53."""
        return leaves(self.cloud)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for it, for as long as a fleet on a busy machine may take."""

        def look() -> bool:
            if self.trouble is not None:
                raise self.trouble
            return holds()

        try:
            until(look, what, 600)
        except AssertionError as error:
            said = "\n".join(f"{node.id} {node.address}\n{node.status()}\n{journal(node)}" for node in self.nodes)
            raise AssertionError(f"{error}\n{said}") from error

    def allow(self, *words: str) -> None:
        """From now on the instances' role has the policy that ``hafleet iam-policy`` prints with these words, and no other."""
        settings = self._folder / "settings.yaml"
        settings.write_text(yaml.safe_dump(SETTINGS))
        narrow = ("--account", "123456789012", "--region", aws.REGION, "--group", EDGE)
        command = (sys.executable, "-m", "hafleet.cli", "iam-policy", "-c", str(settings), *narrow, *words)
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        self.cloud.enforce(json.loads(printed))

    def queues(self) -> set[str]:
        """The instances that have an event queue."""
        session: Any = boto3.session.Session("lab", "lab", region_name=aws.REGION)
        prefix = f"hafleet-{FLEET}-"
        listed = session.client("sqs", endpoint_url=self.cloud.url).list_queues(QueueNamePrefix=f"{prefix}i-")
        return {url.rpartition(prefix)[2] for url in listed.get("QueueUrls", ())}

    # --- what AWS does ---

    def _found(self) -> None:
        """What an operator makes once."""
        self.cloud.control("POST", "physics", {"terminating": 1.0})
        self.allow()
        self.cloud.create_zone(ZONE)
        make_events(self.cloud, {EDGE, APP})
        self.cloud.create_group(APP, 2, {})
        self.cloud.create_group(EDGE, 0, {})
        for name, transition, result in ((JOIN_HOOK, "LAUNCHING", "ABANDON"), (LEAVE_HOOK, "TERMINATING", "CONTINUE")):
            self.cloud.autoscaling.put_lifecycle_hook(
                AutoScalingGroupName=EDGE,
                LifecycleHookName=name,
                LifecycleTransition=f"autoscaling:EC2_INSTANCE_{transition}",
                HeartbeatTimeout=HOOK,
                DefaultResult=result,
            )

    def _thread(self, work: Callable[..., None], *given: object) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True, name="region")
        self._threads.append(thread)
        thread.start()

    def _follow(self) -> None:
        while not self._stop.wait(LOOK):
            try:
                self._step([machine for machine in self.cloud.machines() if machine.ec2 == "running"])
            except Exception as error:
                self.trouble = error
                return

    def _step(self, running: list[aws.Machine]) -> None:
        edge = {machine.id: machine for machine in running if machine.group == EDGE}
        servers = tuple(machine for machine in running if machine.group == APP)
        for machine in servers:
            if machine.id not in self.servers.running:
                self.ground.house(machine.address)
        self.servers.follow(servers)
        for node in tuple(self.nodes):
            if node.id in edge:
                node.told.follow(edge[node.id].told)
            elif node.id not in self._ended:
                self._ended.add(node.id)
                self._thread(self._retire, node)
        for machine in edge.values():
            if machine.id not in self._begun:
                self._begun.add(machine.id)
                self._thread(self._boot, machine)

    def _boot(self, machine: aws.Machine) -> None:
        """EC2 runs this instance: IMDS knows it, and it is powered on."""
        try:
            told = Metadata(Identity(machine.id, machine.address, machine.zone, aws.REGION))
            told.put(f"meta-data/iam/security-credentials/{ROLE}", credentials(machine.id))
            told.put("user-data", self._user_data or None)
            told.follow(machine.told)
            self.desk.nodes[machine.address] = told
            space = self.ground.plug(machine.address, IMDS)
            tree = copy_tree(self._tree, self._folder / machine.id)
            node = Booted(machine.id, machine.address, Machine(tree, space), told)
            node.machine.on()
            self.nodes.append(node)
        except Exception as error:
            self.trouble = error

    def _retire(self, node: Booted) -> None:
        """EC2 has terminated this instance: its machine is powered off, and its disk and wire are gone."""
        try:
            node.said = journal(node)
            node.machine.off()
            self.desk.nodes.pop(node.address, None)
            self.ground.unplug(node.address)
            remove_tree(node.machine.root)
            self.nodes.remove(node)
        except Exception as error:
            self.trouble = error

    def _end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(200)
        for node in self.nodes:
            node.machine.off()
            remove_tree(node.machine.root)


def credentials(instance: str) -> str:
    """What IMDS hands out: the nodes' access key, and the name of the role's session for a token."""
    told = {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "LastUpdated": "2020-01-01T00:00:00Z",
        "Expiration": "2099-01-01T00:00:00Z",
        "AccessKeyId": aws.NODES,
        "SecretAccessKey": "secret",
        "Token": instance,
    }
    return json.dumps(told)


def journal(node: Booted) -> str:
    """The last that the agent and HAProxy said."""
    units = ("--unit", "hafleet", "--unit", "haproxy")
    return node.machine.run("journalctl", "--no-pager", "--lines", "40", *units, check=False)
