"""What a pass tells the outside: one frozen value for the log, the status file, the metrics and the status command."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import BeforeValidator, PlainSerializer

from hafleet.core.cuts import Cut, old_sessions
from hafleet.core.dns.report import DnsReport
from hafleet.core.endings import EndingReport
from hafleet.core.life import LifeReport
from hafleet.core.model import (
    Held,
    Member,
    Memory,
    Notices,
    Peer,
    Phase,
    RunningServer,
    Unknown,
    Version,
    Worker,
    World,
)


def dotted(version: Version) -> str:
    """``(3, 2, 26)`` -> ``3.2.26``."""
    return ".".join(map(str, version))


def _parts(value: object) -> object:
    """``3.2.26`` -> its numbers, for pydantic to judge; anything else as it is."""
    return value.split(".") if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class BackendReport:
    """One backend: what is wanted, and what the running worker makes of it."""

    name: str
    members: int  # wanted, draining ones included
    draining: int
    up: int  # servers that HAProxy counts as up and that do not drain
    sessions: int
    parked: int  # removed servers in maint that wait for the next reload


@dataclass(frozen=True, slots=True)
class ProxyReport:
    """The HAProxy of this node."""

    version: Annotated[Version, BeforeValidator(_parts), PlainSerializer(dotted)]  # in JSON: "3.2.26"
    pid: int = 0
    uptime: float = 0.0  # seconds since the last load
    master_uptime: float = 0.0  # seconds since the cold start
    structure: str = ""  # the stamp the worker carries
    old_workers: int = 0
    failed_reloads: int = 0
    old_sessions: int = 0  # connections of the old workers to servers, as far as they are known

    @classmethod
    def of(cls, worker: Worker) -> Self:
        """The figures of a worker."""
        return cls(
            version=worker.version,
            pid=worker.pid,
            uptime=worker.uptime,
            master_uptime=worker.master_uptime,
            structure=worker.stamp,
            old_workers=worker.old_workers,
            failed_reloads=worker.failed_reloads,
            old_sessions=old_sessions(worker.old),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """One pass. Times are wall clock seconds, durations seconds."""

    at: float
    fleet: str
    node: str
    wake: tuple[str, ...]
    duration: float
    commands: int
    wrote: bool
    reloaded: tuple[str, ...]  # the reasons, when there was a reload
    held: tuple[Held, ...]
    errors: tuple[str, ...]
    backends: tuple[BackendReport, ...]
    peers: tuple[str, ...]
    proxy: ProxyReport | None
    membership_at: float  # wall clock of the last complete membership read; 0 when there was none
    frozen: str
    phase: Phase | None = None  # None: the pass broke off before it knew
    leaving: tuple[str, ...] = ()  # why this node leaves: reasons of its claims
    red_since: float = 0.0  # wall clock; 0 while the health endpoint is not red
    dns: DnsReport | None = None  # the last of the DNS side, which runs beside the passes; None without a dns section
    notices: tuple[str, ...] = ()  # what EC2 announces for this instance, a sentence each
    orders: tuple[str, ...] = ()  # what operators ordered for the fleet, a sentence each
    life: LifeReport | None = None  # the last of the hooks' side, which runs beside the passes; None without lifecycle
    endings: EndingReport | None = None  # the last of the servers' side; None without such hooks
    cuts: tuple[Cut, ...] = ()  # the last connections that were cut, since the agent started


def backend_reports(members: Mapping[str, tuple[Member, ...]], worker: Worker | Unknown) -> tuple[BackendReport, ...]:
    """One row per wanted backend, sorted by name."""
    running: dict[str, list[RunningServer]] = {}
    if isinstance(worker, Worker):
        for (backend, _), server in worker.servers.items():
            running.setdefault(backend, []).append(server)
    rows = []
    for name in sorted(members):
        wanted = {member.name for member in members[name]}
        servers = running.get(name, [])
        rows.append(
            BackendReport(
                name=name,
                members=len(members[name]),
                draining=sum(member.draining or member.order is not None for member in members[name]),
                up=sum(s.up and not s.maint and not s.drain and s.weight > 0 for s in servers if s.name in wanted),
                sessions=sum(s.sessions for s in servers),
                parked=sum(s.maint and s.name not in wanted for s in servers),
            )
        )
    return tuple(rows)


def proxy_report(worker: Worker | Unknown) -> ProxyReport | None:
    """The worker's figures; None while it is unknown."""
    return None if isinstance(worker, Unknown) else ProxyReport.of(worker)


def node_name(world: World, memory: Memory) -> str:
    """This node's id as far as it is known."""
    if not isinstance(world.node, Unknown):
        return world.node.id
    return memory.node.id if memory.node else ""


def peer_names(peers: tuple[Peer, ...]) -> tuple[str, ...]:
    """The names on the peers list, in its order."""
    return tuple(peer.name for peer in peers)


def announced(notices: Notices | Unknown) -> tuple[str, ...]:
    """What EC2 announces for this instance, soonest first. An instance's own states are the phase's matter."""
    if isinstance(notices, Unknown):
        return ()
    told = [("spot instance ends", notices.spot)] if notices.spot else []
    told += [("maintenance", notice) for notice in notices.maintenance]
    lines = [
        f"{what}: {notice.action} at {_utc(notice.at)}" for what, notice in sorted(told, key=lambda row: row[1].at)
    ]
    return (*lines, *([f"EC2 recommends to move since {_utc(notices.rebalance)}"] if notices.rebalance else []))


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def failed(fleet: str, at: float, wake: tuple[str, ...], fault: str) -> Report:
    """The report of a pass that broke off before it saw anything."""
    return Report(
        at=at,
        fleet=fleet,
        node="",
        wake=wake,
        duration=0.0,
        commands=0,
        wrote=False,
        reloaded=(),
        held=(),
        errors=(fault,),
        backends=(),
        peers=(),
        proxy=None,
        membership_at=0.0,
        frozen="",
    )
