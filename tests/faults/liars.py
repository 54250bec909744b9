"""Sockets that stand between the agent and HAProxy, or in its place, and misbehave."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.resources import beside

Behave = Callable[[socket.socket], None]  # what is done with one connection


@contextmanager
def listening(path: Path, behave: Behave) -> Iterator[None]:
    """A unix socket at ``path``; each connection is handed to ``behave`` in a thread of its own."""
    stop = threading.Event()
    with socket.socket(socket.AF_UNIX) as server:
        path.unlink(missing_ok=True)
        server.bind(str(path))
        server.listen(16)
        server.settimeout(0.05)

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = server.accept()
                    threading.Thread(target=_one, args=(connection, behave), daemon=True).start()

        try:
            with beside(serve, stop.set):
                yield
        finally:
            path.unlink(missing_ok=True)


def _one(connection: socket.socket, behave: Behave) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(60)
        behave(connection)


def silent(connection: socket.socket) -> None:
    """Reads everything and says nothing."""
    while connection.recv(4096):
        pass
    time.sleep(5)


def garbage(connection: socket.socket) -> None:
    """Answers with bytes that mean nothing, and goes."""
    connection.recv(4096)
    connection.sendall(b"\x00\xff\xfe\x80garbage\n> \n> \n> ")


def endless(connection: socket.socket) -> None:
    """An answer that never ends."""
    connection.recv(4096)
    while True:
        connection.sendall(b"x" * 1_000_000)


def lying_master(real: Path, replies: bytes) -> Behave:
    """Answers ``reload`` with ``replies`` and does nothing; everything else goes to the real master."""

    def behave(connection: socket.socket) -> None:
        asked = b""
        while not asked.endswith(b"\n"):
            asked += connection.recv(4096)
        if asked.startswith(b"reload"):
            connection.sendall(replies)
            return
        with socket.socket(socket.AF_UNIX) as master:
            master.settimeout(60)
            master.connect(str(real))
            master.sendall(asked)
            master.shutdown(socket.SHUT_WR)
            while data := master.recv(65536):
                connection.sendall(data)

    return behave


@contextmanager
def late(path: Path, real: Path, moment: threading.Event) -> Iterator[None]:
    """A socket at ``path`` that refuses until this moment, as a master's does while it executes itself anew; then it is ``real``."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # never listens: connecting is refused
    beside = path.with_suffix(".real")
    beside.symlink_to(real)

    def open_it() -> None:
        moment.wait()
        os.replace(beside, path)

    thread = threading.Thread(target=open_it, daemon=True)
    thread.start()
    try:
        yield
    finally:
        moment.set()
        thread.join()
