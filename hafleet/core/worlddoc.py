"""The document that ``hafleet observe --json`` prints and ``hafleet render --world`` reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hafleet.core.model import Group, Groups, Node, RunningServer, Unknown, Version, Worker, World
from hafleet.core.report import ProxyReport


@dataclass(frozen=True, slots=True)
class ProxyDoc(ProxyReport):
    """The running HAProxy: what a report tells of it, and more."""

    version: Version  # in JSON: [3, 2, 26]
    master_pid: int = 0
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
    servers = tuple(server for _, server in sorted(worker.servers.items()))
    return replace(ProxyDoc.of(worker), master_pid=worker.master_pid, servers=servers)


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
