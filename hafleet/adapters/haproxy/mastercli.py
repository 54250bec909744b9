"""The master's CLI: which workers live, and the reload.

The master never closes a connection by itself, so the write side is closed after the command. While it executes itself anew its
socket refuses connections for some milliseconds (12 to 35 times in 100 reloads on 2.6).
"""

import socket
import threading
from pathlib import Path

from hafleet.adapters.haproxy.runtimeapi import REPLY_TIMEOUT, connect
from hafleet.core import serverstate
from hafleet.core.serverstate import Processes
from hafleet.errors import ProxyUnavailable
from hafleet.ports import Clock

_REFUSED_FOR = 2.0  # seconds for which a refusal may be the master on its way to its next load
_AGAIN = 0.02  # seconds between tries
_CEILING = 4 * 1024 * 1024  # bytes; a start-up log of 10,000 warnings is 2 MB


class MasterCli:
    """The master socket at ``path``."""

    def __init__(self, path: Path, clock: Clock, timeout: float = REPLY_TIMEOUT) -> None:
        self._path = path
        self._clock = clock
        self._timeout = timeout

    def processes(self) -> Processes:
        """The master, its worker and the workers of earlier loads.

        A connection that the master drops on its way to its next load is tried again.

        Raises:
            ProxyUnavailable: no usable answer for longer than a reload takes.
        """
        end = self._clock.monotonic() + _REFUSED_FOR
        never = threading.Event()
        while True:
            try:
                return serverstate.processes(self.ask("show proc"))
            except ProxyUnavailable as error:
                dropped = error.__cause__ is None or isinstance(error.__cause__, ConnectionError)
                if not dropped or self._clock.monotonic() > end:
                    raise
            self._clock.wait(never, _AGAIN)

    def ask(self, command: str, *, timeout: float | None = None) -> str:
        """One command to the master (prefix ``@1`` for the worker), and its whole answer.

        Raises:
            ProxyUnavailable: refused for longer than a reload takes, no answer, or too much of it.
        """
        with self._connect() as connection:
            connection.settimeout(timeout or self._timeout)
            chunks: list[bytes] = []
            size = 0
            try:
                connection.sendall(f"{command}\n".encode())
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65_536):
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > _CEILING:
                        raise ProxyUnavailable(f"the reply to `{command}` does not end", where=str(self._path))
            except OSError as error:
                what = (
                    "is not answered in time"
                    if isinstance(error, TimeoutError)
                    else f"fails: {error.strerror or error}"
                )
                raise ProxyUnavailable(
                    f"`{command}` {what}", where=str(self._path), fix="is the HAProxy master alive?"
                ) from error
        return b"".join(chunks).decode(errors="replace")

    def _connect(self) -> socket.socket:
        end = self._clock.monotonic() + _REFUSED_FOR
        never = threading.Event()
        while True:
            try:
                return connect(self._path, self._timeout)
            except ProxyUnavailable as error:
                refused = isinstance(error.__cause__, ConnectionRefusedError | BlockingIOError)
                if not refused or self._clock.monotonic() > end:
                    raise
            self._clock.wait(never, _AGAIN)
