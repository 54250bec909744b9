"""Connections that this node cut, as far as it can tell: how many, where and why.

Three things cut connections. A server whose drain is over is removed with the sessions that it still has. A node that leaves goes
when its ``drain.max`` is over. And an old worker, which keeps the connections that it had when a reload replaced it, is ended by
HAProxy itself after ``hard_stop_after`` or ``max_reloads``: nobody tells of that, so it is taken from when the worker was
last seen, and with how many. Connections that wait for a next request count for nothing: who closes them loses nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from hafleet.core.life import LifeReport
from hafleet.core.model import OldWorker, Unknown, Verdict, Worker

Kind = Literal["server", "node", "reload"]

_KEPT = 20  # cuts that are told
_ROUGH = 2.0  # seconds by which the age of an old worker may be wrong: HAProxy tells whole ones


@dataclass(frozen=True, slots=True)
class Cut:
    """Connections that ended before their time, or that will when their server's machine goes."""

    number: int  # counts from 1 since the agent started
    at: float  # wall clock
    kind: Kind  # what cut them
    where: str  # backend/server, the node, or the old worker
    connections: int  # that were cut; of an old worker: at most so many
    left: int  # to this server, in old workers: nothing reaches them, they go on until the worker or the machine ends
    reason: str

    @property
    def sentence(self) -> str:
        """For people."""
        left = f"; {self.left} more go on in old workers" if self.left else ""
        return f"{self.connections} connections of {self.where} cut ({self.reason}){left}"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one pass knows of it."""

    at: float  # wall clock
    node: str
    worker: Worker | Unknown  # as it was before the pass changed anything
    removed: Sequence[tuple[str, str]] = ()  # servers that the pass removed, with the sessions they had
    verdicts: Sequence[Verdict] = ()
    life: LifeReport | None = None
    hard_stop: float = 0.0  # seconds that an old worker may live
    max_reloads: int = 0  # reloads that it may survive


@dataclass(frozen=True, slots=True)
class _Doomed:
    """An old worker as it was last seen."""

    until: float  # wall clock at which HAProxy ends it
    connections: int
    loads: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is known of cut connections since the agent started."""

    cuts: tuple[Cut, ...] = ()  # the last ones
    number: int = 0  # of the last
    deed_at: float = 0.0  # wall clock of the last deed of the hooks' side that was looked at
    master: int = 0  # pid
    worker: int = 0  # pid
    old: Mapping[int, _Doomed] = field(default_factory=dict)  # by pid


def after(ledger: Ledger, seen: Seen) -> Ledger:
    """The ledger after a pass."""
    ledger = _of_servers(ledger, seen)
    ledger = _of_node(ledger, seen)
    if isinstance(seen.worker, Unknown):
        return ledger
    if seen.worker.master_pid == ledger.master:  # or HAProxy was started anew, and no worker outlived that
        ledger = _of_old_workers(ledger, seen, seen.worker)
    old = {found.pid: _doomed(found, ledger.old.get(found.pid), seen) for found in seen.worker.old}
    return replace(ledger, master=seen.worker.master_pid, worker=seen.worker.pid, old=old)


def old_sessions(old: Sequence[OldWorker], server: tuple[str, str] | None = None) -> int:
    """Connections of old workers to a server, or to all; those of a worker that did not answer are not known."""
    counts = (found.sessions or {} for found in old)
    return sum(sum(count.values()) if server is None else count.get(server, 0) for count in counts)


def _add(ledger: Ledger, cut: Cut) -> Ledger:
    """The ledger with one more; none for nothing."""
    if not cut.connections and not cut.left:
        return ledger
    number = ledger.number + 1
    return replace(ledger, number=number, cuts=(*ledger.cuts, replace(cut, number=number))[-_KEPT:])


def _of_servers(ledger: Ledger, seen: Seen) -> Ledger:
    if isinstance(seen.worker, Unknown):
        return ledger
    for key in seen.removed:
        server = seen.worker.servers.get(key)
        cut = server.sessions if server else 0
        left = old_sessions(seen.worker.old, key)
        ledger = _add(ledger, Cut(0, seen.at, "server", "/".join(key), cut, left, _reason(seen.verdicts, key)))
    return ledger


def _reason(verdicts: Sequence[Verdict], key: tuple[str, str]) -> str:
    """Why a server was removed. Its name is the instance's id, with a port where the backend has several."""
    backend, name = key
    of_it = (v for v in verdicts if v.backend == backend and (name == v.instance or name.startswith(f"{v.instance}-")))
    return next((verdict.reason for verdict in of_it), "it was removed")


def _of_node(ledger: Ledger, seen: Seen) -> Ledger:
    deeds = [deed for deed in seen.life.done if deed.at > ledger.deed_at] if seen.life else []
    for deed in deeds:
        ledger = _add(ledger, Cut(0, deed.at, "node", seen.node, deed.cut, 0, deed.what))
    return replace(ledger, deed_at=max([ledger.deed_at, *(deed.at for deed in deeds)]))


def _of_old_workers(ledger: Ledger, seen: Seen, worker: Worker) -> Ledger:
    """Those that are gone, and were due to be ended. The last connection of one that was not due ended by itself."""
    here = {found.pid for found in worker.old}
    for pid, last in ledger.old.items():
        if pid in here:
            continue
        reason = ""
        if seen.at + _ROUGH >= last.until:
            reason = f"hard_stop_after of {seen.hard_stop:g} s is over"
        elif worker.pid != ledger.worker and last.loads >= seen.max_reloads:
            reason = f"it had survived {last.loads} reloads, and max_reloads is {seen.max_reloads}"
        if reason:
            ledger = _add(ledger, Cut(0, seen.at, "reload", f"old worker {pid}", last.connections, 0, reason))
    return ledger


def _doomed(found: OldWorker, before: _Doomed | None, seen: Seen) -> _Doomed:
    """What is known of a living old worker now. One that does not answer keeps the connections that it had."""
    until = seen.at - found.age + seen.hard_stop
    known = before.connections if before else 0
    count = known if found.sessions is None else sum(found.sessions.values())
    return _Doomed(min(until, before.until) if before else until, count, found.loads)
