"""Can HAProxy bind what a candidate listens on? Tried before the reload, without touching the listeners that serve.

A bind that fails during a reload stops the old listeners for two seconds, and ``haproxy -c`` does not see it coming.
"""

import errno
import socket
from collections.abc import Iterable
from pathlib import Path

import psutil

from hafleet.core.listeners import Listener
from hafleet.errors import ConfigRejected


def try_binds(wanted: Iterable[Listener], loaded: Iterable[Listener], worker_pid: int, where: str) -> None:
    """Try every listener of ``wanted`` that is not in ``loaded``.

    Args:
        wanted: the candidate's listeners.
        loaded: what the running worker is known to listen on.
        worker_pid: the running worker; an address that it holds itself is free for its successor.
        where: the file the candidate came from, for the message.

    Raises:
        ConfigRejected: an address is not on this host, or is taken by another program.
    """
    held = {(listener.address, listener.port, listener.udp) for listener in loaded}
    tried: set[tuple[str, int, bool]] = set()
    for listener in wanted:
        key = (listener.address, listener.port, listener.udp)
        if key in held or key in tried or listener.foreign:
            continue
        tried.add(key)
        fault = _bind(listener)
        if fault == errno.EADDRINUSE and not _holds(worker_pid, listener):
            raise _rejected(listener, where, "is taken by another program", "stop that program, or choose another port")
        if fault == errno.EADDRNOTAVAIL:
            raise _rejected(
                listener, where, "is not an address of this host", "correct the bind or the peers port's address"
            )


def _bind(listener: Listener) -> int:
    """0, or the errno. Bound only, never listening, so that it takes no connection from anyone."""
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    kind = socket.SOCK_DGRAM if listener.udp else socket.SOCK_STREAM
    try:
        with socket.socket(family, kind) as probe:
            if not listener.udp:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not count
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((listener.address, listener.port))
    except OSError as error:
        # A port below 1024 without the right to it tells nothing: HAProxy's master may have that right.
        return error.errno or 0
    return 0


def _holds(pid: int, listener: Listener) -> bool:
    """True when the running worker listens there itself: its successor binds beside it (SO_REUSEPORT)."""
    try:
        own = psutil.Process(pid).net_connections(kind="udp" if listener.udp else "tcp")
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return _same_user_holds(pid, listener)
    states = {psutil.CONN_LISTEN, psutil.CONN_NONE}
    bound = [c.laddr for c in own if c.status in states and len(c.laddr) == 2]  # () while not bound
    return any(at.port == listener.port and _overlap(at.ip, listener.address) for at in bound)


def _overlap(one: str, other: str) -> bool:
    """True when binding both can only work side by side."""
    return one == other or not {one, other}.isdisjoint({"", "0.0.0.0", "::"})


def _same_user_holds(pid: int, listener: Listener) -> bool:
    """As above, for an agent that may not look into HAProxy: a socket of HAProxy's user counts (/proc/net tells users)."""
    try:
        user = psutil.Process(pid).uids().real
    except psutil.Error:
        return False
    kind = "udp" if listener.udp else "tcp"
    for table in (f"/proc/net/{kind}", f"/proc/net/{kind}6"):
        try:
            rows = [line.split() for line in Path(table).read_text(encoding="ascii").splitlines()[1:]]
        except OSError:
            continue
        for row in rows:
            listens = row[3] == ("07" if listener.udp else "0A")
            if listens and int(row[7]) == user and int(row[1].rpartition(":")[2], 16) == listener.port:
                return True
    return False


def _rejected(listener: Listener, where: str, what: str, fix: str) -> ConfigRejected:
    address = f"[{listener.address}]" if ":" in listener.address else listener.address
    return ConfigRejected(f"{address}:{listener.port} {what}", where=f"{where}:{listener.line}", fix=fix)
