"""The workers of earlier loads, asked through the master: which live, and what they still hold.

The master hands a command that begins with ``@!PID`` to the worker of this pid, an old one too, in less than a millisecond (2.6.12,
3.0.11, 3.2.26). Who looks at the connections of the process instead must be HAProxy's own user, or root.
"""

import psutil

from hafleet.adapters.haproxy.mastercli import MasterCli
from hafleet.core import serverstate
from hafleet.core.model import OldWorker
from hafleet.core.serverstate import Process, Processes
from hafleet.errors import ProxyUnavailable

_PATIENCE = 0.5  # seconds for an answer; the passes go on without it


def outlived(master: MasterCli, processes: Processes, worker: int) -> tuple[OldWorker, ...]:
    """The old workers that are alive, youngest first. Once one does not answer, the others are not asked any more.

    Args:
        master: the master of them all.
        processes: what it has just said.
        worker: pid of the worker that answers now, which may be in the list while a reload is under way.
    """
    found: list[OldWorker] = []
    asks = True
    for process in sorted(processes.old, key=lambda process: process.reloads):
        if process.pid == worker or not alive(process.pid):
            continue
        sessions = _sessions(master, process.pid) if asks else None
        asks = sessions is not None
        found.append(OldWorker(process.pid, process.reloads, _age(process, processes), sessions))
    return tuple(found)


def alive(pid: int) -> bool:
    """False for a process that has ended: the master lists some for a moment after that."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _sessions(master: MasterCli, pid: int) -> dict[tuple[str, str], int] | None:
    try:
        answer = master.ask(f"@!{pid} show stat -1 4 -1", timeout=_PATIENCE)
    except ProxyUnavailable:
        return None
    if not answer.startswith("#"):  # it has just ended, and the master no longer knows it
        return None
    return {server: count for server, count in serverstate.sessions(answer).items() if count}


def _age(process: Process, processes: Processes) -> float:
    """Seconds since it was replaced: the life of the oldest worker that came after it."""
    later = [other for other in processes.old if other.reloads < process.reloads]
    if processes.worker is not None:
        later.append(processes.worker)
    return max((other.uptime for other in later), default=0.0)
