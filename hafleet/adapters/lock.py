"""Locks between processes of one node: one agent for life, one pass at a time."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil

from hafleet.errors import LockHeld, StoreError

PASS_WAIT = 60.0  # seconds: longer than any pass whose calls all time out


class NodeLocks:
    """Implements ``ports.Locks`` in ``state_dir``."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir

    def agent(self) -> AbstractContextManager[None]:
        """The agent's lock for life; a second agent is refused at once."""
        return locked(self._folder / "agent.lock")

    def one_pass(self) -> AbstractContextManager[None]:
        """The lock of one pass; waits for a pass that runs."""
        return locked(self._folder / "pass.lock", wait=PASS_WAIT)

    def agent_pid(self) -> int | None:
        """The agent that runs; None when none does, as far as this user can see.

        To try the lock could cost an agent that starts just now its own try, so the file's pid is believed if that process
        has the file open.
        """
        path = (self._folder / "agent.lock").resolve()
        try:
            pid = int(path.read_text())
            holds = str(path) in {file.path for file in psutil.Process(pid).open_files()}
        except (OSError, ValueError, psutil.Error):
            return None
        return pid if holds else None


@contextmanager
def locked(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold an exclusive flock on ``path`` inside the block.

    Args:
        path: the lock file; made when missing, and never removed (removing it would let two in).
        wait: seconds to wait for it.

    Raises:
        LockHeld: somebody else kept it all that time; the message names the pid.
        StoreError: the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StoreError(
            f"the lock file cannot be made: {error.strerror}",
            where=str(path),
            fix="check that state_dir exists and belongs to the agent's user",
        ) from error
    try:
        _take(handle, path, time.monotonic() + wait)
        _sign(handle)
        yield
    finally:
        os.close(handle)  # closing releases the flock


def _sign(handle: int) -> None:
    """Leave our pid for the messages of others. The lock holds without it, so a full disk must not cost a pass."""
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        return


def _take(handle: int, path: Path, until: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= until:
                pid = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
                raise LockHeld(
                    f"another hafleet (pid {pid}) holds the lock",
                    where=str(path),
                    fix="wait for it, or stop that process",
                ) from error
        time.sleep(0.02)
