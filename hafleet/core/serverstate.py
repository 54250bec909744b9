"""What HAProxy prints about itself, read into values: ``show servers state``, ``show stat``, ``show proc``, ``show info``.

Every parser is strict about what it needs and blind to the rest, so that a later version may append columns.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hafleet.core.cfgtext import ServerLine
from hafleet.core.model import RunningServer, Version
from hafleet.errors import ProxyUnavailable

HANGS = "hangs"  # stands for the stamp of a worker that answers nobody
UNFINISHED = "unfinished"  # stands for the stamp of a worker whose reload was broken off: nothing tells what it runs
STATE_HEADER = "1\n"  # a state file without servers: a missing or empty one is a warning on 2.6

# Forced, inherited, by name resolution (two kinds). Not 0x04, "from the file": `state ready` ends the maint of a `disabled`
# server and leaves that flag (2.6.12, 3.0.11, 3.2.26).
_ADMIN_MAINT = 0x01 | 0x02 | 0x20 | 0x40
_ADMIN_DRAIN = 0x08 | 0x10
_CHECK_ENABLED = 0x04
_CHECK_PASSED = frozenset("34")  # passed, passed on condition (404 under disable-on-404); 0 is "none ended yet"
_UNTIL_PORT = 19  # columns up to srv_port
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+)|-dev(\d+))?")
_PEERS = re.compile(r"^0x[0-9a-f]+: .*\bflags=0x([0-9a-f]+)", re.MULTILINE)  # the line of a peers section
_LEARNED = 0x3  # of its flags: nothing more to learn from the old worker, and from other nodes (2.6.12, 3.0.11, 3.2.26)
_UPTIME = re.compile(r"(\d+)d(\d+)h(\d+)m(\d+)s")
_PROC = re.compile(r"(\d+) +(master|worker) +(\d+) *(?:\[failed: (\d+)\])? +(\d+d\d+h\d+m\d+s) +(\S+)")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of ``show proc``."""

    pid: int
    reloads: int  # loads since this process started: 0 is the worker that serves
    uptime: float  # seconds


@dataclass(frozen=True, slots=True)
class Processes:
    """The answer of ``show proc``: the master, the worker that serves (if any), workers of earlier loads."""

    master: Process
    worker: Process | None
    old: tuple[Process, ...]
    failed: int  # failed reloads since the last good one


@dataclass(frozen=True, slots=True)
class Info:
    """The lines of ``show info`` that matter."""

    version: Version
    pid: int
    uptime: float  # seconds


def version(text: str) -> Version:
    """(2, 6, 12) of "2.6.12-1+deb12u4"; a development version counts as patch 0."""
    found = _VERSION.match(text)
    if not found:
        raise ProxyUnavailable(f"HAProxy names a version that cannot be read: {text[:40]!r}")
    return int(found[1]), int(found[2]), int(found[3] or 0)


def info(text: str) -> Info:
    """Read ``show info``.

    Raises:
        ProxyUnavailable: a line that is needed is missing.
    """
    pairs = dict(line.partition(": ")[::2] for line in text.split("\n"))
    try:
        return Info(version(pairs["Version"]), int(pairs["Pid"]), float(pairs["Uptime_sec"]))
    except (KeyError, ValueError) as error:
        raise ProxyUnavailable(
            f"`show info` answered without a usable {error}", fix="is this HAProxy's socket?"
        ) from error


def processes(text: str) -> Processes:
    """Read ``show proc`` of the master.

    Raises:
        ProxyUnavailable: there is no master line in it.
    """
    masters: list[tuple[Process, int]] = []
    workers: list[Process] = []
    old = False
    for line in text.split("\n"):
        old = (old or line.startswith("# old")) and not line.startswith("# programs")
        found = _PROC.match(line)
        if found:
            process = Process(int(found[1]), int(found[3]), _seconds(found[5]))
            if found[2] == "master":
                masters.append((process, int(found[4] or 0)))
            else:
                workers.append(process)
    if not masters:
        raise ProxyUnavailable("the master did not list its processes", fix="is this HAProxy's master socket?")
    current = [worker for worker in workers if worker.reloads == 0]
    return Processes(
        master=masters[0][0],
        worker=current[0] if current else None,
        old=tuple(worker for worker in workers if worker.reloads > 0),
        failed=masters[0][1],
    )


def _seconds(text: str) -> float:
    found = _UPTIME.fullmatch(text)
    days, hours, minutes, seconds = (int(part) for part in found.groups()) if found else (0, 0, 0, 0)
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def sessions(stat: str) -> dict[tuple[str, str], int]:
    """Current sessions by (backend, server), of the CSV of ``show stat -1 4 -1`` (servers only)."""
    found: dict[tuple[str, str], int] = {}
    for line in stat.split("\n"):
        columns = line.split(",", 5)  # pxname, svname, qcur, qmax, scur, ...
        if len(columns) == 6 and not line.startswith("#"):
            found[columns[0], columns[1]] = int(columns[4] or 0)
    return found


def servers(state: str, current: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], RunningServer]:
    """Every server of ``show servers state``.

    Args:
        state: the answer, with its version line and its column names.
        current: sessions by server; one that is not in it has none.

    Raises:
        ProxyUnavailable: the answer is cut off or of an unknown format.
    """
    found: dict[tuple[str, str], RunningServer] = {}
    for columns in _rows(state):
        backend, name, address = columns[1], columns[3], columns[4]
        admin = int(columns[6])
        key = (backend, name)
        checked = int(columns[13]) & _CHECK_ENABLED != 0
        found[key] = RunningServer(
            backend,
            name,
            int(columns[2]),
            address,
            int(columns[18]),
            admin & _ADMIN_MAINT != 0,
            admin & _ADMIN_DRAIN != 0,
            int(columns[7]),
            columns[5] != "0",
            checked,
            current.get(key, 0),
            not checked or columns[11] in _CHECK_PASSED,
        )
    return found


def state_file(state: str, wanted: Mapping[tuple[str, str], ServerLine]) -> str:
    """The state to hand to the next worker: health, maint, drain and weight of servers that stay where they are.

    A port in the state file beats the one in the configuration, so a server that moved must not be in it. One that is wanted
    but in maint or drain starts ready in the new worker, so it is left out too, and so is one without a check: if it were
    down, nothing would ever bring it up. The weight is the wanted one.
    """
    lines = [STATE_HEADER.rstrip(), state.split("\n", 2)[1]]
    for columns in _rows(state):
        line = wanted.get((columns[1], columns[3]))
        if line is None or not line.checked or int(columns[18]) != line.port:
            continue
        if columns[4] == line.address and columns[6] == "0":
            columns[7] = columns[8] = str(line.weight)
            lines.append(" ".join(columns))
    return "\n".join(lines) + "\n"


def _rows(state: str) -> Iterable[list[str]]:
    lines = state.split("\n")
    if lines[0] != "1" or len(lines) < 2 or not lines[1].startswith("# be_id be_name srv_id srv_name srv_addr "):
        raise ProxyUnavailable(
            "`show servers state` answered in a format that is not known", fix="is HAProxy 2.6 to 3.2?"
        )
    rows = [line.split(" ", _UNTIL_PORT) for line in lines[2:] if line]
    if any(len(row) < _UNTIL_PORT for row in rows):
        raise ProxyUnavailable("the answer of `show servers state` is cut off")
    return rows


def learned(text: str) -> bool:
    """True when the worker has learned its stick tables, or has given up to: the answer of ``show peers``."""
    return all(int(flags, 16) & _LEARNED == _LEARNED for flags in _PEERS.findall(text))
