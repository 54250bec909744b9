"""systemd's notification protocol (sd_notify(3)): ready, reloading, status line, watchdog."""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Talks to the socket in ``NOTIFY_SOCKET``; silent when there is none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog = int(microseconds) / 1e6 if microseconds.isdigit() and mine else 0.0

    @property
    def watchdog(self) -> float:
        """Seconds within which systemd wants to be fed; 0 when it set no watchdog."""
        return self._watchdog

    def tell(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``. A systemd that does not listen is no reason to stop: errors are dropped."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.connect(self._address)
                channel.sendall("\n".join(lines).encode())
        except OSError:
            return

    def feed(self) -> None:
        """Feed the watchdog, when systemd set one."""
        if self._watchdog:
            self.tell("WATCHDOG=1")
