"""Waits on this node's peers address, before its HAProxy runs, until a peer's HAProxy connects.

A peer connects to those it lists, and tries again every 5 s (measured on 2.6.12 and 3.2.26). It speaks first: ``HAProxyS 2.1``, a
line with the name of the peer it means, a line with its own. Where peers use TLS only the start of a handshake is seen. Anything
else is a port scan or a monitor, and proves nothing. Each connection is closed without an answer: nothing can be learnt or
taught here.
"""

import socket
import threading
import time
from ipaddress import IPv6Address, ip_address

from hafleet.core.model import Peer
from hafleet.ports import Wakeups

_HELLO = b"HAProxyS "
_HANDSHAKE = b"\x16\x03"  # a TLS record that begins a handshake, in any version
_MOST = 512  # bytes of a greeting; names of peers are instance ids
_PATIENCE = 1.0  # seconds for a whole greeting
_LOOK = 0.2  # seconds between two looks at whether to stop
_LONGEST_CLOSE = 3.0  # seconds; a greeting and a look


class PeerListener:
    """Implements ``ports.PeerWatch``. Begins at once, in a thread of its own.

    Args:
        own: this node as its peers list it: name, address and port.
        wakeups: woken at the first contact.
    """

    def __init__(self, own: Peer, wakeups: Wakeups) -> None:
        self._own = own
        self._wakeups = wakeups
        self._contact = threading.Event()
        self._stops = threading.Event()
        self._thread: threading.Thread | None = None
        self._problem = ""
        try:
            self._listener = _listen(own)
        except OSError as error:
            self._problem = f"{own.address} port {own.port} cannot be listened on: {error.strerror or error}"
            return
        self._thread = threading.Thread(target=self._loop, daemon=True, name="peers")
        self._thread.start()

    @property
    def problem(self) -> str:
        """See ``ports.PeerWatch.problem``."""
        return self._problem

    def contacted(self) -> bool:
        """See ``ports.PeerWatch.contacted``."""
        return self._contact.is_set()

    def close(self) -> None:
        """See ``ports.PeerWatch.close``."""
        self._stops.set()
        if self._thread is not None:
            self._thread.join(_LONGEST_CLOSE)

    def _loop(self) -> None:
        with self._listener:
            while not self._stops.is_set() and not self._contact.is_set():
                try:
                    connection, (source, *_) = self._listener.accept()
                except TimeoutError:
                    continue
                except OSError:  # gone before it was accepted, or no descriptors left: the next one may do better
                    self._stops.wait(_LOOK)
                    continue
                with connection:
                    if ip_address(source) != self._own.address and self._is_peer(_greeting(connection)):
                        self._contact.set()
                        self._wakeups.wake("peers: one has connected")

    def _is_peer(self, greeting: bytes) -> bool:
        """True for what only a HAProxy sends that lists this node."""
        if greeting.startswith(_HANDSHAKE):
            return True
        lines = greeting.split(b"\n")
        return greeting.startswith(_HELLO) and len(lines) > 2 and lines[1] == self._own.name.encode()


def _listen(own: Peer) -> socket.socket:
    """A listener that leaves the port free for HAProxy as soon as it is closed. Raises OSError."""
    six = isinstance(own.address, IPv6Address)
    listener = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(own.address), own.port))
        listener.listen(16)
        listener.settimeout(_LOOK)
    except OSError:
        listener.close()
        raise
    return listener


def _greeting(connection: socket.socket) -> bytes:
    """What a connection says first: until three lines are there, or enough of something else."""
    told, until = b"", time.monotonic() + _PATIENCE
    while len(told) < _MOST and told.count(b"\n") < 3 and not told.startswith(_HANDSHAKE):
        left = until - time.monotonic()
        if left <= 0:
            break
        connection.settimeout(left)
        try:
            more = connection.recv(_MOST)
        except OSError:  # its time is over, or it was reset
            break
        if not more:
            break
        told += more
    return told
