"""The words of the core: frozen values that every other module passes around. No behaviour beyond small views.

Read order: what is observed (``Node``, ``Instance``, ``Group``, ``Worker``, ``World``), what is wanted (``Member``, ``Peer``,
``Desired``, ``Rendered``), what is remembered (``Memory``), what is held (``Held``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Literal

from hafleet.core.notices import QUIET
from hafleet.core.notices import Door as Door  # noqa: PLC0414  # this and the next three are words of the model, kept apart
from hafleet.core.notices import Notice as Notice  # noqa: PLC0414
from hafleet.core.notices import Notices as Notices  # noqa: PLC0414
from hafleet.core.oldworker import OldWorker as OldWorker  # noqa: PLC0414
from hafleet.core.orders import Order, Verb

IPAddress = IPv4Address | IPv6Address
Version = tuple[int, int, int]
Phase = Literal["joining", "serving", "leaving"]

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Unknown:
    """A port could not be read completely. Unknown is not empty: nothing may be removed because of it."""

    reason: str


# --- observed -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """This host, as IMDS or the settings tell it."""

    id: str  # EC2 instance id, e.g. i-0abc...
    address: IPAddress  # primary private address (DeviceIndex 0)
    zone: str  # availability zone, e.g. eu-west-1a; "" when not known
    region: str  # "" when not known
    group: str = ""  # own Auto Scaling group; "" when the node is in none
    public: IPv4Address | None = None  # public IPv4 address; None when it has none
    ipv6: IPv6Address | None = None  # first IPv6 address; None when it has none


@dataclass(frozen=True, slots=True)
class Hook:
    """A lifecycle hook of an Auto Scaling group."""

    name: str
    transition: str  # "launch" or "terminate"
    timeout: float  # seconds without a heartbeat until AWS takes ``default``
    default: str = "ABANDON"  # or CONTINUE


@dataclass(frozen=True, slots=True)
class Instance:
    """A member of an Auto Scaling group as AWS reports it."""

    id: str
    state: str  # lifecycle state, verbatim: InService, Terminating:Wait, Standby, ...
    zone: str
    address: IPAddress | None  # primary private address of the chosen family; None while it has none
    capacity: int = 1  # WeightedCapacity, 1 where the group has none

    @property
    def serves(self) -> bool:
        """True for the one state that takes new traffic."""
        return self.state == "InService"

    @property
    def leaves(self) -> bool:
        """True on positive evidence that the instance must leave rotation now."""
        return self.terminates or self.state in {"EnteringStandby", "Standby", "Detaching", "Detached"}

    @property
    def terminates(self) -> bool:
        """True when the instance is on its way out for good (there is no way back from these states)."""
        return self.state.startswith(("Terminating", "Terminated"))

    @property
    def comes(self) -> bool:
        """True when the instance lives and is on its way into service, or waits for that in a warm pool."""
        return self.state.startswith(("Pending", "Warmed")) and "Terminat" not in self.state


@dataclass(frozen=True, slots=True)
class Group:
    """One Auto Scaling group of a complete read."""

    name: str
    desired: int  # DesiredCapacity
    instances: tuple[Instance, ...]  # sorted by id
    tags: Mapping[str, str] = field(
        default_factory=lambda: EMPTY
    )  # Python 3.11 takes a mappingproxy for a mutable default


@dataclass(frozen=True, slots=True)
class Groups:
    """The outcome of one complete membership read: the groups asked for by name, and those found by tag."""

    by_name: Mapping[str, Group]  # every group read, by name; a group asked for that AWS does not know is absent
    started: float  # monotonic seconds at which the read began; orders two reads


@dataclass(frozen=True, slots=True)
class RunningServer:
    """One server of the running worker, from ``show servers state`` and ``show stat``."""

    backend: str
    name: str
    id: int
    address: str  # as HAProxy prints it: "10.0.0.1", "fd00::1", "-" when unresolved
    port: int
    maint: bool  # any admin MAINT flag
    drain: bool  # admin DRAIN flag (weight 0 is not this)
    weight: int  # the weight in force (user weight)
    up: bool  # operational state: takes or could take traffic
    checked: bool  # health checks are enabled
    sessions: int  # current sessions in this worker (scur)
    proven: bool = True  # its last health check passed; True where it has no check


@dataclass(frozen=True, slots=True)
class Worker:
    """The HAProxy that takes new connections now, and what surrounds it."""

    version: Version
    master_pid: int
    pid: int
    master_uptime: float  # seconds since HAProxy cold-started
    uptime: float  # seconds since this worker was loaded (= since the last good reload)
    stamp: str  # HAFLEET_STRUCTURE in the worker's environment; "" when it has none
    servers: Mapping[tuple[str, str], RunningServer]  # by (backend, name)
    map_stamps: Mapping[str, str]  # map file name -> digest of the entries it runs with; "" when it has none
    old_workers: int  # workers of earlier loads that still hold connections
    failed_reloads: int = 0  # master's [failed: N]
    learned: bool = True  # its stick tables came from its peers, or it gave up waiting for them
    old: tuple[OldWorker, ...] = ()  # the old workers one by one, as far as the master could tell


@dataclass(frozen=True, slots=True)
class Silent(Unknown):
    """The master answers, but its worker's runtime socket does not: only a reload can change what is served."""

    worker: Worker  # what the master tells of it: without servers, stamp and maps
    hangs: bool  # it does not answer through the master either
    passes: int = 1  # so many passes in a row saw it silent


@dataclass(frozen=True, slots=True)
class Installed:
    """The files that HAProxy would load if it cold-started now. ``text`` is None when there is none."""

    text: str | None
    maps: Mapping[str, str]  # map file name (no folder) -> content


@dataclass(frozen=True, slots=True)
class World:
    """Everything one pass has seen. Each part is either complete or Unknown."""

    at: float  # wall clock, seconds since the epoch
    node: Node | Unknown
    groups: Groups | Unknown
    worker: Worker | Unknown
    installed: Installed | Unknown
    notices: Notices | Unknown = QUIET
    door: Door | None = None  # None: nobody listens there, or HAProxy itself does


# --- wanted ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Member:
    """One server that a backend should have. Frozen into the last known good as it stands here."""

    name: str  # instance id, + "-port" where the backend has several ports; static-... for static servers
    instance: str  # instance id, or the address of a static server
    address: IPAddress
    port: int
    zone: str
    weight: int = 100  # 0..256; what the balancing uses when the server does not drain
    draining: bool = False  # rendered as weight 0: no new sessions, present ones go on
    group: str = ""  # the Auto Scaling group it came from; "" for a static server, or when not known
    capacity: int = 1  # WeightedCapacity, 1 where the group has none
    order: Verb | None = None  # what an operator ordered for it; one in maint is not rendered at all

    @property
    def rendered_weight(self) -> int:
        """The weight that goes into the file and the worker."""
        return 0 if self.draining or self.order else self.weight


@dataclass(frozen=True, slots=True)
class Peer:
    """One line of the peers section."""

    name: str
    address: IPAddress
    port: int


@dataclass(frozen=True, slots=True)
class Desired:
    """What this node should serve: members by backend name (sorted by name), peers (sorted, self always in)."""

    node: Node
    members: Mapping[str, tuple[Member, ...]]
    peers: tuple[Peer, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished configuration: the text with header, stamp and end mark, and the map files it refers to."""

    text: str
    maps: Mapping[str, str]  # map file name (no folder) -> content


# --- remembered -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Missing:
    """A member that a complete read no longer lists, without evidence why."""

    reads: int  # consecutive complete reads without it
    since: float  # wall clock of the first


@dataclass(frozen=True, slots=True)
class Claim:
    """One source's word that this node leaves."""

    reason: str
    since: float  # wall clock
    final: bool = False  # the instance terminates: being in service again takes a new start


@dataclass(frozen=True, slots=True)
class Memory:
    """What the world cannot tell, kept on disk between passes. Keys of the maps of servers are ``backend/name``."""

    node: Node | None = None  # whose memory this is, and the identity to use while IMDS is silent
    members: Mapping[str, tuple[Member, ...]] = field(default_factory=dict)  # last known good
    peers: tuple[Peer, ...] = ()
    missing: Mapping[str, Missing] = field(default_factory=dict)
    draining: Mapping[str, float] = field(default_factory=dict)  # wall clock at which the drain began
    gone: Mapping[str, float] = field(default_factory=dict)  # instance id -> wall clock it was seen to terminate
    confirmed_peers: tuple[tuple[str, ...], float] | None = None  # a peers list that settles: names, since when
    frozen: str = ""  # reason for a freeze (rollback); "" when not frozen
    reload_failures: int = 0  # consecutive failed reloads
    reload_failed_at: float = 0.0  # wall clock of the last of them
    read_at: float = 0.0  # wall clock of the last complete membership read; 0 when there was none
    read_started: float = 0.0  # ``Groups.started`` of that read
    phase: Phase = "joining"
    leaving: Mapping[str, Claim] = field(default_factory=dict)  # source -> its claim; none: the node does not leave
    red_since: float = 0.0  # wall clock at which the health endpoint was first seen red; 0 while it is not
    orders: tuple[Order, ...] = ()  # of the whole fleet, as last read; the oldest first


# --- held -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """A step that the guard keeps back. Data, not an error: it is logged, counted and shown."""

    rule: str  # short stable word, the metric's label: confirm_reads, max_removal, last_server, empty, ceiling, ...
    subject: str  # backend/name, backend, "peers" or "reload"
    reason: str  # a sentence with the figures


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why one instance is, or is not, in one backend: a line of ``hafleet explain``."""

    backend: str
    instance: str
    outcome: str  # serving, draining, held, absent
    reason: str
