"""What wakes a pass: a queue of reasons, fed by signals and by changed files."""

import os
import queue
import threading
from collections.abc import Iterable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from hafleet.core.waking import FILE
from hafleet.errors import StoreError
from hafleet.ports import Clock


class _Bell(threading.Event):
    """An event that a signal handler may set.

    The handler runs in the thread that waits, perhaps just while that thread holds the lock inside a plain event: setting one
    there would wait for itself for ever. A SimpleQueue's put is reentrant.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Ring."""
        self._rings.put(None)

    def is_set(self) -> bool:
        """True when it rang since the last clear."""
        return not self._rings.empty()

    def clear(self) -> None:
        """Forget what rang until now."""
        for _ in range(self._rings.qsize()):
            self._rings.get_nowait()  # one thread alone clears, so none is missing

    def wait(self, timeout: float | None = None) -> bool:
        """True when it rang in time; it stays set."""
        try:
            self._rings.get(timeout=timeout)
        except queue.Empty:
            return False
        self._rings.put(None)
        return True


class Wakeups:
    """Merges reasons to run a pass. A reason carries no truth: the pass observes for itself."""

    def __init__(self, clock: Clock) -> None:
        self._reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._set = _Bell()
        self._clock = clock

    def wake(self, reason: str) -> None:
        """Ask for a pass now. Safe from any thread and from a signal handler."""
        self._reasons.put(reason)
        self._set.set()

    def wait(self, seconds: float) -> bool:
        """Wait for a reason at most this long; True when there is one."""
        return self._clock.wait(self._set, max(0.0, seconds))

    def take(self) -> tuple[str, ...]:
        """All reasons since the last take, without repeats, in order."""
        self._set.clear()
        found: dict[str, None] = {}
        while True:
            try:
                found[self._reasons.get_nowait()] = None
            except queue.Empty:
                return tuple(found)


class _Changed(FileSystemEventHandler):
    """Calls back for a real change of content below the watched folders; opening and reading are none."""

    def __init__(self, wakeups: Wakeups, names: frozenset[str], folders: frozenset[str]) -> None:
        self._wakeups = wakeups
        self._names = names
        self._folders = folders

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in {"opened", "closed_no_write"} or event.is_directory:
            return
        for raw in (event.src_path, event.dest_path):
            path = Path(str(raw)) if raw else None
            if path is None or path.name.startswith(".") or path.name.endswith((".candidate", "~", ".swp")):
                continue
            if str(path) in self._names or any(str(path).startswith(folder) for folder in self._folders):
                self._wakeups.wake(f"{FILE}{path.name}")
                return


class FileWatch:
    """Watches single files (through their folders, so that a rename over them is seen) and whole folders.

    What this user may not read is left out: its changes are found by the timer.

    Raises:
        StoreError: the system has no watch to give (inotify limits).
    """

    def __init__(self, wakeups: Wakeups, paths: Iterable[Path]) -> None:
        files, folders, watched = set(), set(), set()
        for path in paths:
            full = path.resolve()
            if os.path.isdir(full):  # noqa: PTH112 - a Path's is_dir raises where its folder is closed to us
                folders.add(f"{full}/")
                watched |= {(full, True)} if _readable(full) else set()
            else:
                files.add(str(full))
                watched |= {(full.parent, False)} if _readable(full.parent) else set()
        handler = _Changed(wakeups, frozenset(files), frozenset(folders))
        try:
            self._observer = _observe(handler, watched)
        except OSError as error:
            raise StoreError(
                f"files cannot be watched: {error.strerror or error}",
                where="inotify",
                fix="raise fs.inotify.max_user_instances and max_user_watches; until then the timer finds changes",
            ) from error

    def stop(self) -> None:
        """End the watching threads."""
        self._observer.stop()
        self._observer.join(timeout=5)


def _observe(handler: FileSystemEventHandler, watched: Iterable[tuple[Path, bool]]) -> BaseObserver:
    """A running observer of these folders, each with all below it or not. Raises OSError, and then nothing runs."""
    observer: BaseObserver = Observer()
    try:
        for folder, deep in sorted(watched):
            observer.schedule(handler, str(folder), recursive=deep)
        observer.start()
    except OSError:
        observer.unschedule_all()
        raise
    return observer


def _readable(folder: Path) -> bool:
    """True for a folder that inotify lets this user watch."""
    return os.path.isdir(folder) and os.access(folder, os.R_OK, effective_ids=True)  # noqa: PTH112 - as above
