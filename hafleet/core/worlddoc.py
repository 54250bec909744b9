"""The document that ``hafleet observe --json`` prints and ``hafleet render --world`` reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hafleet.core.model import Group, Groups, Node, RunningServer, Unknown, Version, Worker, World


@dataclass(frozen=True, slots=True)
class ProxyDoc:
    """The running HAProxy."""

    version: Version
    pid: int = 0
    master_pid: int = 0
    uptime: float = 0.0
    master_uptime: float = 0.0
    structure: str = ""
    old_workers: int = 0
    failed_reloads: int = 0
    servers: tuple[RunningServer, ...] = ()


@dataclass(frozen=True, slots=True)
class WorldDoc:
    """A ``World`` as a document. What is null was unknown; ``unknown`` says why."""

    at: float = 0.0
    node: Node | None = None
    groups: tuple[Group, ...] | None = None
    haproxy: ProxyDoc | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)


def to_doc(world: World) -> WorldDoc:
    """What was seen, in a form that JSON can hold."""
    parts = {"node": world.node, "groups": world.groups, "haproxy": world.worker, "files": world.installed}
    return WorldDoc(
        at=world.at,
        node=None if isinstance(world.node, Unknown) else world.node,
        groups=None if isinstance(world.groups, Unknown) else tuple(g for _, g in sorted(world.groups.by_name.items())),
        haproxy=_proxy_doc(world.worker),
        unknown={name: part.reason for name, part in parts.items() if isinstance(part, Unknown)},
    )


def _proxy_doc(worker: Worker | Unknown) -> ProxyDoc | None:
    if isinstance(worker, Unknown):
        return None
    return ProxyDoc(
        version=worker.version,
        pid=worker.pid,
        master_pid=worker.master_pid,
        uptime=worker.uptime,
        master_uptime=worker.master_uptime,
        structure=worker.stamp,
        old_workers=worker.old_workers,
        failed_reloads=worker.failed_reloads,
        servers=tuple(server for _, server in sorted(worker.servers.items())),
    )


def from_doc(doc: WorldDoc) -> World:
    """The world of a document, for offline rendering: its HAProxy and files stay unknown on purpose."""
    offline = Unknown("offline")
    return World(
        at=doc.at,
        node=doc.node or Unknown("the world file names no node"),
        groups=offline if doc.groups is None else Groups({group.name: group for group in doc.groups}, doc.at),
        worker=offline,
        installed=offline,
    )
