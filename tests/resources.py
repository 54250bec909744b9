"""What tests share of the machine: loopback networks and ports that no other test, worker or run uses at the same time."""

import csv
import fcntl
import io
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from hafleet.adapters.haproxy import HaproxyProxy
from hafleet.lab.proxy import ask

FIRST, COUNT = 64, 48 * 256  # the networks 127.64.0.0/24 to 127.111.255.0/24; the lab and the demo stay outside


def sessions(stats: Path, frontend: str) -> int:
    """How many a frontend of the worker behind this stats socket has now. Raises OSError as ``hafleet.lab.proxy.ask``."""
    rows = csv.DictReader(io.StringIO(ask(stats, "show stat").removeprefix("# ")))
    return sum(int(row["scur"]) for row in rows if (row["pxname"], row["svname"]) == (frontend, "FRONTEND"))


@contextmanager
def beside(work: Callable[[], None], end: Callable[[], None]) -> Iterator[None]:
    """``work`` in a thread of its own meanwhile; ``end`` has to make it return."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end()
        thread.join(30)


def answers(address: str, port: int, header: str, values: Iterable[str]) -> dict[str, str]:
    """Value -> the first word of the answer to a request with this header; each on a connection of its own."""
    found = {}
    for value in values:
        connection = HTTPConnection(address, port, timeout=30)
        connection.request("GET", "/", headers={header: value})
        answer = connection.getresponse()
        assert answer.status == 200
        found[value] = answer.read().decode().split()[0]
        connection.close()
    return found


def allow(proxy: object, *, runtime: float, master: float) -> None:
    """How many seconds the sockets of this HAProxy may take for an answer. The product's two are few on a busy machine."""
    assert isinstance(proxy, HaproxyProxy)
    proxy._runtime._timeout, proxy._master._timeout = runtime, master


@dataclass
class Loopback:
    """One /24 of 127.0.0.0/8 that is this test's alone. Every port on it is free; no root is needed to bind."""

    prefix: str  # "127.70.3"
    _next: int = field(default=1, init=False)

    @property
    def network(self) -> str:
        """In CIDR form, e.g. ``127.70.3.0/24``."""
        return f"{self.prefix}.0/24"

    def address(self) -> str:
        """The next address, from .1 on; 254 of them."""
        if self._next > 254:
            raise RuntimeError(f"all addresses of {self.network} are given out; take several loopback networks")
        self._next += 1
        return f"{self.prefix}.{self._next - 1}"


class LoopbackPool:
    """Hands out loopback networks. Record locks on one file make them unique over processes; they end with the process."""

    def __init__(self, folder: Path | None = None) -> None:
        path = (folder or Path(tempfile.gettempdir())) / f"hafleet-loopback-{os.getuid()}"
        self._file = path.open("a")
        self._taken: set[int] = set()  # record locks do not exclude their own process
        self._next = os.getpid() * 61 % COUNT  # spread the processes; a network just left may have sockets in TIME_WAIT

    def close(self) -> None:
        """Give everything back."""
        self._file.close()

    @contextmanager
    def lease(self) -> Iterator[Loopback]:
        """A network until the end of the block."""
        index = self._take()
        try:
            yield Loopback(f"127.{FIRST + index // 256}.{index % 256}")
        finally:
            self._taken.discard(index)
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, index)

    def _take(self) -> int:
        for _ in range(COUNT):
            index, self._next = self._next, (self._next + 1) % COUNT
            if index in self._taken:
                continue
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)
            except (BlockingIOError, PermissionError):  # POSIX allows either for "taken"
                continue
            self._taken.add(index)
            return index
        raise RuntimeError("every loopback network is taken")


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listened on a moment ago. Prefer a ``Loopback``, where every port is free and stays so."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
    return port
