"""The composition root: from a settings file to the parts of a pass. Knows both sides of every port."""

import hashlib
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hafleet import config
from hafleet.adapters.asg import AsgMembership
from hafleet.adapters.aws import Account
from hafleet.adapters.clock import SystemClock
from hafleet.adapters.haproxy import HaproxyProxy
from hafleet.adapters.history import History
from hafleet.adapters.imds import ImdsMetadata, StaticMetadata
from hafleet.adapters.lock import NodeLocks
from hafleet.adapters.notices import NoticeWatch
from hafleet.adapters.store import FileStore
from hafleet.adapters.templates import JinjaRenderer
from hafleet.adapters.wakeup import FileWatch, Wakeups
from hafleet.agent import Assembly
from hafleet.announcer import Sides
from hafleet.core import endings
from hafleet.core.events import Heard
from hafleet.core.model import Node
from hafleet.core.settings import Settings
from hafleet.core.used_files import used_files
from hafleet.errors import HafleetError
from hafleet.ports import NodeMetadata, Tally, Tidings
from hafleet.reconcile import Plan, Ports, Reconciler

if TYPE_CHECKING:
    from hafleet.eventing import Ears, Leaving
    from hafleet.lifecycle import HookKeeper
    from hafleet.registration import DnsPorts, Registrar
    from hafleet.registration.addressed import Addressed
    from hafleet.speaking import Speaker

OnCall = Callable[[str, float, str], None]


def _ignore(operation: str, seconds: float, outcome: str) -> None:
    """Where nobody counts AWS calls."""


def _unheard(heard: Heard) -> None:
    """Where nobody reads what the event queue brings."""


@dataclass(frozen=True, slots=True)
class EventOutlet:
    """Where it goes what the event queue brings."""

    tell: Callable[[Heard], None] = _unheard  # what is for nobody, and failures
    tally: Tally | None = None  # everything, counted


NO_OUTLET = EventOutlet()


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that one command, or the agent for one set of settings, works with."""

    loaded: config.Loaded
    ports: Ports
    renderer: JinjaRenderer
    membership: AsgMembership
    proxy: HaproxyProxy
    history: History
    locks: NodeLocks
    account: Account

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.loaded.settings

    def reconciler(self) -> Reconciler:
        """The pass over these parts."""
        return Reconciler(self.settings, self.ports)

    def joining(self, wakeups: Wakeups, tidings: Tidings | None) -> Reconciler:
        """The agent's pass: HAProxy's first start waits for a peer, where the settings have a lifecycle section."""
        ports = replace(self.ports, tidings=tidings)
        if self.settings.lifecycle is not None:
            from hafleet.adapters.peerwatch import PeerListener

            ports = replace(ports, listen=lambda own: PeerListener(own, wakeups))
        return Reconciler(self.settings, ports)

    def hook_keeper(self, wakeups: Wakeups, farewell: Callable[[], None] | None = None) -> "HookKeeper | None":
        """This node's hand in its lifecycle hooks; None where the settings have no lifecycle section.

        Args:
            wakeups: woken by what was done.
            farewell: called before the node's last word to Auto Scaling.
        """
        if self.settings.lifecycle is None:
            return None
        from hafleet.adapters.hooks import AsgHooks
        from hafleet.adapters.life_store import FileLifeStore
        from hafleet.core.life_acts import Rules
        from hafleet.lifecycle import HookKeeper, LifePorts

        dns = (
            self.settings.dns if self.settings.eip is None else None
        )  # with an Elastic IP its release waits for resolvers
        rules = Rules(self.settings.lifecycle, ttl=dns.ttl if dns else 0.0)
        store = FileLifeStore(Path(self.settings.state_dir))
        ports = LifePorts(AsgHooks(self.account), store, self.ports.clock, random.Random(), wakeups.wake)
        return HookKeeper(rules, replace(ports, farewell=farewell) if farewell else ports)

    def speaker(self, wakeups: Wakeups) -> "Speaker | None":
        """This node's part in the terminate hooks of servers; None where the settings name none."""
        if not endings.named(self.settings):
            return None
        from hafleet.adapters.hooks import AsgHooks
        from hafleet.adapters.node_tags import Ec2NodeTags
        from hafleet.speaking import Speaker, SpeakerPorts

        hooks, tags = AsgHooks(self.account), Ec2NodeTags(self.account)
        return Speaker(SpeakerPorts(hooks, tags, self.ports.clock, random.Random(), wakeups.wake))

    def dns_ports(self) -> "DnsPorts":
        """What the DNS side talks to. Imported here: a node without a dns section does not carry Route 53's tables in memory.

        Raises:
            HafleetError: the settings have no dns section.
        """
        from hafleet.adapters.asg.instances import Ec2Instances
        from hafleet.adapters.dns_store import FileDnsStore
        from hafleet.adapters.route53 import Route53Dns
        from hafleet.registration import DnsPorts

        if self.settings.dns is None:
            raise HafleetError(
                "the settings have no dns section", where=str(self.loaded.path), fix="add one: see docs/dns.md"
            )
        clock = self.ports.clock
        dns = Route53Dns(self.settings.dns, self.account.route53, clock)
        store = FileDnsStore(Path(self.settings.state_dir))
        return DnsPorts(dns, Ec2Instances(self.account), store, clock, partial(secrets.token_hex, 4), random.Random())

    def registrar(self) -> "Registrar | Addressed | None":
        """This node's hand in Route 53 and in the pool of Elastic IPs; None where the settings have neither section."""
        if self.settings.dns is None and self.settings.eip is None:
            return None
        from hafleet.registration import Registrar

        registrar = Registrar(self.settings, self.dns_ports()) if self.settings.dns else None
        if self.settings.eip is None:
            return registrar
        from hafleet.adapters.eip import Ec2Addresses
        from hafleet.registration.addressed import Addressed, PoolPorts

        ports = PoolPorts(Ec2Addresses(self.account), self.ports.clock, random.Random())
        ttl = float(self.settings.dns.ttl) if self.settings.dns else 0.0
        return Addressed(self.settings.eip.pool_tag, ports, registrar, ttl)

    def plan(self) -> Plan:
        """What a pass would do now; applies nothing. Waits for a pass that runs: the two would see each other half-done.

        Raises:
            LockHeld: a pass has been running for too long.
        """
        with self.locks.one_pass():
            reconciler = self.reconciler()
            return reconciler.plan(reconciler.observe())


class NodeIdentity:
    """IMDS (or the settings) for who this node is, and Auto Scaling for its group where IMDS does not tell tags."""

    def __init__(self, metadata: NodeMetadata, membership: AsgMembership) -> None:
        self._metadata = metadata
        self._membership = membership

    def identity(self) -> Node:
        """See ``ports.NodeMetadata``."""
        node = self._metadata.identity()
        return node if node.group else replace(node, group=self._membership.own_group(node.id))


def build(path: Path, on_call: OnCall = _ignore) -> Parts:
    """Read the settings and build every adapter. No call leaves the process yet.

    Raises:
        SettingsError: with every problem of the file.
    """
    loaded = config.load(path)
    settings = loaded.settings
    static = settings.node.static if settings.node.source == "static" else None
    host: StaticMetadata | ImdsMetadata = StaticMetadata(static) if static else ImdsMetadata()
    account = Account(settings.aws, on_call, region=lambda: host.identity().region)
    membership = AsgMembership(account)
    metadata: NodeMetadata = host if static else NodeIdentity(host, membership)
    state = Path(settings.state_dir)
    clock = SystemClock()
    renderer = JinjaRenderer(settings, source=str(path), digest=loaded.digest)
    proxy = HaproxyProxy(settings.haproxy, clock)
    ports = Ports(membership, metadata, renderer, proxy, FileStore(state), clock, host)
    return Parts(loaded, ports, renderer, membership, proxy, History(state), NodeLocks(state), account)


class AgentWorkshop:
    """Implements ``agent.Workshop`` for one settings file."""

    def __init__(
        self, path: Path, wakeups: Wakeups, sides: Sides, on_call: OnCall, outlet: EventOutlet = NO_OUTLET
    ) -> None:
        self._path = path
        self._wakeups = wakeups
        self._sides = sides
        self._on_call = on_call
        self._outlet = outlet
        self._ears: Ears | None = None
        self._reconciler: Reconciler | None = None  # of the settings in use

    def digest(self) -> str:
        """What the file holds now; "" when it cannot be read."""
        try:
            return hashlib.sha256(self._path.read_bytes()).hexdigest()
        except OSError:
            return ""

    def assemble(self) -> Assembly:
        """The agent's parts. Raises SettingsError."""
        parts = build(self._path, self._on_call)
        hooks = self._hooks(parts)
        if self._reconciler is not None:
            self._reconciler.shut()  # two cannot listen at one peers address
        self._reconciler = parts.joining(self._wakeups, self._ears.prover if self._ears else None)
        return Assembly(
            settings=parts.settings,
            digest=parts.loaded.digest,
            reconciler=self._reconciler,
            history=parts.history,
            watch_paths=watch_paths(self._path, parts),
            announce=partial(self._sides.dns.announce, parts.registrar()),
            attend=partial(self._sides.life.announce, hooks),
            usher=partial(self._sides.servers.announce, parts.speaker(self._wakeups)),
        )

    def _hooks(self, parts: Parts) -> "HookKeeper | Leaving | None":
        """The hooks' side, once the event queue of these settings is heard. Imported here, for most nodes have no such queue."""
        if self._ears is None and parts.settings.events is None:
            return parts.hook_keeper(self._wakeups)
        from hafleet.eventing import Around, Ears, Leaving, QueueEnd

        self._ears = self._ears or Ears(self._outlet.tell, self._outlet.tally)
        ports = parts.ports
        around = Around(parts.account, parts.membership, ports.metadata, self._wakeups, ports.clock)
        own = self._ears.listen(parts.settings, around)
        if own is None:
            return parts.hook_keeper(self._wakeups)
        end = QueueEnd(own, self._outlet.tell)
        keeper = parts.hook_keeper(self._wakeups, end.farewell)
        return Leaving(keeper, end) if keeper else None

    def stop(self) -> None:
        """End what was started for the settings in use."""
        if self._ears is not None:
            self._ears.stop()
        if self._reconciler is not None:
            self._reconciler.shut()

    def watch(self, paths: tuple[Path, ...]) -> FileWatch:
        """Watch these paths."""
        return FileWatch(self._wakeups, paths)


def notice_watch(settings: Settings, wakeups: Wakeups, clock: SystemClock) -> NoticeWatch | None:
    """Starts to watch what EC2 announces for this node; None for one that the settings describe."""
    if settings.node.source == "static":
        return None
    return NoticeWatch(ImdsMetadata(), wakeups, clock, random.Random())


def watch_paths(path: Path, parts: Parts) -> tuple[Path, ...]:
    """Files and folders whose change should wake a pass: settings, templates, maps and certificates."""
    used = (Path(name) for name in used_files(parts.settings))
    found = (path, Path(parts.settings.haproxy.maps_dir), *parts.renderer.watch_paths(), *used)
    return tuple(dict.fromkeys(found))
