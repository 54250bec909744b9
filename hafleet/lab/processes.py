"""Starting, supervising and ending the lab's processes, so that none outlives it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

LIGHT = ("-S", "-E")  # Python without site packages and environment: a process is up in 20 ms


class Processes:
    """Every process group the lab started; a warden process ends them should the lab be killed."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        script = str(Path(__file__).with_name("warden.py"))
        self._warden = subprocess.Popen(
            [sys.executable, *LIGHT, script, str(folder)], stdin=subprocess.PIPE, start_new_session=True
        )

    def start(
        self, argv: Sequence[str], *, log: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process in a group of its own. Its standard input is a pipe that ends with the lab.

        Args:
            argv: the command.
            log: file that takes its output; None: nowhere.
            environment: variables on top of the lab's own.
        """
        with (log or Path(os.devnull)).open("ab") as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self.adopt(process)
        return process

    def adopt(self, process: subprocess.Popen[bytes]) -> None:
        """Watch over a process that was started elsewhere as the leader of its own group."""
        with self._lock:
            self._running[process.pid] = process
            self._tell(f"+{process.pid}\n")

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """The process and its group have ended and were waited for."""
        with self._lock:
            self._running.pop(process.pid, None)
            self._tell(f"-{process.pid}\n")
        if process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL the whole group, and wait for its leader."""
        signal_group(process, signal.SIGKILL)
        process.wait()
        self.forget(process)

    def close(self) -> None:
        """End everything that still runs."""
        with self._lock:
            left = list(self._running.values())
        for process in left:
            signal_group(process, signal.SIGKILL)
        for process in left:
            process.wait()
            self.forget(process)
        if self._warden.stdin:
            self._warden.stdin.close()
        self._warden.wait()

    def _tell(self, line: str) -> None:
        assert self._warden.stdin is not None  # it was started with a pipe
        with contextlib.suppress(OSError):
            self._warden.stdin.write(line.encode())
            self._warden.stdin.flush()


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a process group, if it still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class Supervised:
    """One command that is started again whenever it ends, as systemd does with Restart=always."""

    def __init__(
        self, processes: Processes, argv: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.argv = tuple(argv)
        self.starts = 0
        self.ready: Callable[[], bool] = lambda: True  # it is not started before this holds
        self.delay = 0.1  # seconds between an end and the next start
        self._processes = processes
        self._log = log
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = self._new_thread()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._follow, daemon=True, name=f"supervise {Path(self.argv[0]).name}")

    @property
    def pid(self) -> int | None:
        """Its pid while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Begin to supervise, or begin again after a stop."""
        if self._stopping.is_set():
            self._stopping.clear()
            self._thread = self._new_thread()
        self._thread.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to its children."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end; the supervision starts it again."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL the process and its children; the supervision starts it again."""
        process = self._process
        if process is not None:
            signal_group(process, signal.SIGKILL)

    def stop(self, grace: float = 0.0) -> None:
        """End it for good: SIGTERM, then after ``grace`` seconds SIGKILL."""
        self._stopping.set()
        self.signal(signal.SIGTERM)
        if grace:
            self._thread.join(grace)
        with self._lock:
            self.kill()
        if self._thread.is_alive():
            self._thread.join(30)

    def _follow(self) -> None:
        while not self._stopping.is_set():
            if not self.ready():
                self._stopping.wait(0.02)
                continue
            with self._lock:
                if self._stopping.is_set():
                    return
                process = self._processes.start(self.argv, log=self._log, environment=self._environment)
                self._process = process
                self.starts += 1
            process.wait()
            signal_group(process, signal.SIGKILL)  # what a dead master leaves behind
            self._processes.forget(process)
            self._stopping.wait(self.delay)


def wait_until(predicate: Callable[[], bool], timeout: float, what: str, *, every: float = 0.05) -> float:
    """Poll until the predicate holds; returns the seconds it took.

    Raises:
        TimeoutError: it did not hold within ``timeout`` seconds; the message names ``what``.
    """
    began = time.monotonic()
    while not predicate():
        if time.monotonic() - began > timeout:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(every)
    return time.monotonic() - began


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside, SIGINT, SIGTERM and SIGHUP are KeyboardInterrupt, so that a lab of the main thread is closed in order.

    SIGINT too: a shell starts its background jobs with SIGINT ignored, and Python keeps that.
    """

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
