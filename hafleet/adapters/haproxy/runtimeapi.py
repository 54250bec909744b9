"""The Runtime API: commands to the running worker over its stats socket.

A connection that outlives a reload stays with the old worker and still answers that all went well. So each batch has a fresh
connection, and the worker's pid is compared before and after it.

In ``prompt`` mode a reply ends in a prompt. HAProxy before 3.2 prints one after each command of a line, 3.2 one per line.
"""

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hafleet.core import mapplan, replies, serverstate
from hafleet.core.command import Command
from hafleet.core.features import Features, features
from hafleet.errors import ProxyUnavailable, UnexpectedReply

REPLY_TIMEOUT = 2.0  # seconds without a byte, for connect and for a reply
_WINDOW = 100  # lines sent before their replies are read
_CEILING = 64 * 1024 * 1024  # bytes in the replies to one window; 10,000 servers need 4 MB
_PROMPT = b"\n> "
_LONGEST = 30.0  # seconds for the replies to one window, however busily they drip
_WAIT = 1.5  # seconds more for each `wait` of a window


class Connection:
    """One connection to the Runtime API in prompt mode. A context manager."""

    def __init__(self, path: Path, timeout: float = REPLY_TIMEOUT) -> None:
        self._path = path
        self._timeout = timeout
        self._rest = b""
        self._socket = connect(path, timeout)

    def __enter__(self) -> Self:
        try:
            self._send("prompt\n")
            self._read(1, self._timeout)
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, *lines: str) -> list[str]:
        """Send lines of one command each, and return their replies.

        Raises:
            ProxyUnavailable: no or too much answer.
        """
        return self.ask_parts(lines, [1] * len(lines))

    def ask_parts(self, lines: Sequence[str], prompts: Sequence[int]) -> list[str]:
        """As ``ask``, for lines of which each is answered by so many prompts; replies of one line are joined."""
        self._send("".join(f"{line}\n" for line in lines))
        waits = sum(line.startswith("wait ") for line in lines)
        parts = self._read(sum(prompts), self._timeout + waits * _WAIT)
        found: list[str] = []
        at = 0
        for count in prompts:
            found.append("\n".join(parts[at : at + count]))
            at += count
        return found

    def _send(self, text: str) -> None:
        try:
            self._socket.sendall(text.encode())
        except OSError as error:
            raise self._broken(error) from error

    def _read(self, prompts: int, timeout: float) -> list[str]:
        """The texts before the next so many prompts."""
        chunks = [self._rest]
        count, size, tail = self._rest.count(_PROMPT), len(self._rest), self._rest[-2:]
        end = time.monotonic() + max(_LONGEST, timeout)
        self._socket.settimeout(timeout)
        while count < prompts:
            try:
                chunk = self._socket.recv(262_144)
            except OSError as error:
                raise self._broken(error) from error
            if not chunk:
                raise ProxyUnavailable("HAProxy closed the connection in the middle of a reply", where=str(self._path))
            chunks.append(chunk)
            count += (tail + chunk).count(_PROMPT)
            tail = (tail + chunk)[-2:]
            size += len(chunk)
            if size > _CEILING or time.monotonic() > end:
                raise ProxyUnavailable(
                    f"the reply does not end ({size} bytes so far)",
                    where=str(self._path),
                    fix="is this HAProxy's socket?",
                )
        parts = b"".join(chunks).split(_PROMPT, prompts)
        self._rest = parts.pop()
        return [part.decode(errors="replace") for part in parts]

    def _broken(self, error: OSError) -> ProxyUnavailable:
        what = (
            "does not answer in time" if isinstance(error, TimeoutError) else f"breaks off: {error.strerror or error}"
        )
        return ProxyUnavailable(f"HAProxy's runtime socket {what}", where=str(self._path), fix="is HAProxy alive?")


class RuntimeApi:
    """The stats socket at ``path``."""

    def __init__(self, path: Path, timeout: float = REPLY_TIMEOUT) -> None:
        self._path = path
        self._timeout = timeout

    def open(self) -> Connection:
        """A fresh connection. Raises ProxyUnavailable when there is none to have."""
        return Connection(self._path, self._timeout)

    def pid(self) -> int:
        """The worker that takes new connections to the socket. Raises ProxyUnavailable."""
        with self.open() as connection:
            return serverstate.info(connection.ask("show info")[0]).pid

    def run(self, pid: int, commands: Sequence[Command]) -> None:
        """Send commands in order over one fresh connection; stop at the first reply that is not good.

        Commands are sent in windows. Removals never share a window with what must come before them.

        Raises:
            UnexpectedReply: a reply is not on its whitelist. Later windows were not sent.
            ProxyUnavailable: no answer, or the worker is not, or no longer, the one of this pid.
        """
        if not commands:
            return
        with self.open() as connection:
            info = serverstate.info(connection.ask("show info")[0])
            self._same(pid, info.pid)
            row = features(info.version)
            version = ""
            for window in _windows(commands):
                lines = [command.text.replace(mapplan.VERSION, version) for command in window]
                counts = [1 if row.prompt_per_line else line.count(";") + 1 for line in lines]
                answers = connection.ask_parts(lines, counts)
                for command, line, answer in zip(window, lines, answers, strict=True):
                    self._judge(command, line, answer, row)
                    if command.kind == "map-prepare":
                        version = answer.strip().rpartition(" ")[2]
        self._same(pid, self.pid())

    def _judge(self, command: Command, line: str, answer: str, row: Features) -> None:
        if not replies.good(command.kind, answer, row.version):
            text = " ".join(answer.split())[:200] or "nothing"
            raise UnexpectedReply(
                f"`{line[:200]}` was answered by {text!r}", where=str(self._path), fix="a reload follows"
            )

    def _same(self, wanted: int, found: int) -> None:
        if wanted != found:
            raise ProxyUnavailable(
                f"the worker changed: {found} answers instead of {wanted}",
                where=str(self._path),
                fix="the next pass looks at the new one",
            )


def connect(path: Path, timeout: float) -> socket.socket:
    """A connected unix socket. Raises ProxyUnavailable."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(timeout)
    try:
        made.connect(str(path))
    except OSError as error:
        made.close()
        raise ProxyUnavailable(
            f"cannot connect to HAProxy: {error.strerror or error}",
            where=str(path),
            fix="is HAProxy running, and may this user write to its socket?",
        ) from error
    return made


def _windows(commands: Sequence[Command]) -> list[list[Command]]:
    """Cut at a change into or out of removals, after a `prepare map` (its answer is needed), and at the window's size."""
    found: list[list[Command]] = []
    last = ""
    for command in commands:
        cut = command.kind != last and "remove" in {command.kind, last}
        if not found or cut or last == "map-prepare" or len(found[-1]) >= _WINDOW:
            found.append([])
        found[-1].append(command)
        last = command.kind
    return found
