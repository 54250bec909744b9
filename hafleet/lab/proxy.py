"""What the lab asks a node's HAProxy, over its own sockets: an eye that is independent of the agent under test."""

import csv
import io
import re
import socket
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 10.0  # seconds; a busy machine may stand still for some


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One server of ``show stat``."""

    backend: str
    name: str
    status: str  # UP, DOWN, MAINT, DRAIN, no check, "UP 1/3" while it changes
    weight: int
    sessions: int
    total: int  # sessions since the worker started

    @property
    def in_rotation(self) -> bool:
        """True when new requests go to it."""
        return self.weight > 0 and (self.status.startswith("UP") or self.status == "no check")


@dataclass(frozen=True, slots=True)
class Master:
    """The first lines of ``show proc``."""

    pid: int
    reloads: int  # all tries, failed ones too
    failed: int  # of these, in a row, up to now (2.6 starts again at 0 with a good one)
    worker: int  # pid of the newest worker; 0 when there is none
    old_workers: int


def ask(path: Path, command: str) -> str:
    """Send one command line to a HAProxy socket, and return everything it answers.

    Raises:
        OSError: the socket is missing, refuses or does not answer in 10 s.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(str(path))
        connection.sendall(command.encode() + b"\n")
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")


def servers(path: Path) -> tuple[ServerRow, ...]:
    """Every server of every backend, as this worker sees it. Raises OSError as ``ask``."""
    text = ask(path, "show stat").removeprefix("# ")
    rows = []
    for row in csv.DictReader(io.StringIO(text)):
        if row.get("type") == "2":
            figures = (int(row[key] or 0) for key in ("weight", "scur", "stot"))
            weight, current, total = figures
            rows.append(ServerRow(row["pxname"], row["svname"], row["status"], weight, current, total))
    return tuple(rows)


def master(path: Path) -> Master:
    """The state of the master. Raises OSError as ``ask``, ValueError for an answer it cannot read."""
    text = ask(path, "show proc")
    head = re.search(r"^(\d+)\s+master\s+(\d+)(?: \[failed: (\d+)\])?", text, re.MULTILINE)
    if head is None:
        raise ValueError(f"{path}: show proc answered {text[:80]!r}")
    fresh, _, old = text.partition("# old workers")
    workers = re.findall(r"^(\d+)\s+worker", fresh, re.MULTILINE)
    return Master(
        pid=int(head[1]),
        reloads=int(head[2]),
        failed=int(head[3] or 0),
        worker=int(workers[0]) if workers else 0,
        old_workers=len(re.findall(r"^(\d+)\s+worker", old, re.MULTILINE)),
    )


def stick_entries(path: Path, table: str) -> dict[str, str]:
    """Key -> server name or id of a stick table. Raises OSError as ``ask``."""
    found = {}
    for line in ask(path, f"show table {table}").splitlines():
        entry = re.search(r"key=(\S+).*?server_(?:key|id|name)=(\S+)", line)
        if entry:
            found[entry[1]] = entry[2]
    return found
