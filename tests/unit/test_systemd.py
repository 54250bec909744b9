"""sd_notify over a real datagram socket."""

import os
import socket
from pathlib import Path

from hafleet.adapters.systemd import Notifier


def test_tells_and_feeds(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())})
        assert notifier.watchdog == 3.0
        notifier.tell("READY=1", "STATUS=pass 1 done")
        assert systemd.recv(100) == b"READY=1\nSTATUS=pass 1 done"
        notifier.feed()
        assert systemd.recv(100) == b"WATCHDOG=1"


def test_an_abstract_address_is_understood() -> None:
    name = f"hafleet-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}")
        systemd.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).tell("STOPPING=1")
        assert systemd.recv(100) == b"STOPPING=1"


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}):
        notifier = Notifier(environ)
        notifier.tell("READY=1")
        notifier.feed()
        assert notifier.watchdog == 0.0
