"""``ports.Proxy`` on a real HAProxy: observe it, check a candidate, run commands, install, reload."""

import re
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from hafleet.adapters.haproxy.candidate import Checker
from hafleet.adapters.haproxy.disk import Disk
from hafleet.adapters.haproxy.loading import Loader
from hafleet.adapters.haproxy.mastercli import MasterCli
from hafleet.adapters.haproxy.oldworkers import alive, outlived
from hafleet.adapters.haproxy.runtimeapi import RuntimeApi
from hafleet.core import cfgtext, mapplan, serverstate
from hafleet.core.command import Command
from hafleet.core.model import EMPTY, Installed, Rendered, Silent, Version, Worker
from hafleet.core.serverstate import Processes
from hafleet.core.settings import Haproxy
from hafleet.errors import ProxyUnavailable
from hafleet.ports import Clock

_MAP_LINE = re.compile(r"^-?\d+ \((/[^)]*)\)", re.MULTILINE)
_VALUE = re.compile(r'\bvalue="([^"]*)"')
_ENV = re.compile(rf"^{cfgtext.STAMP}=(.*)$", re.MULTILINE)
_BETWEEN = 2.0  # seconds for which the sockets may name two different workers, while a reload is under way
_AGAIN = 0.05
_LEARNS = 30.0  # seconds of a worker's life in which it may still learn stick tables; HAProxy itself gives up after 5 s at a stretch


class HaproxyProxy:
    """The HAProxy that ``settings`` describes. Keeps nothing but what saves work: files and maps that did not change."""

    def __init__(self, settings: Haproxy, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._runtime = RuntimeApi(Path(settings.runtime_socket))
        self._master = MasterCli(Path(settings.master_socket), clock)
        self._disk = Disk(settings)
        self._checker = Checker(settings, self._disk)
        self._loader = Loader(self._disk, self._runtime, self._master, clock)
        self._version: Version | None = None
        self._seen: Processes | None = None  # what the master said in the last observation
        self._maps: tuple[int, tuple[str, ...]] = (0, ())  # worker's pid, the map files it has loaded

    def installed(self) -> Installed:
        """The files on disk. Raises StoreError when they cannot be read."""
        return self._disk.installed()

    def version(self) -> Version:
        """The version of the configured binary. Raises ProxyUnavailable."""
        if self._version is None:
            self._version = serverstate.version(self._binary_version())
        return self._version

    def _binary_version(self) -> str:
        binary = self._settings.binary
        fix = "install HAProxy 2.6 or later, or set haproxy.binary"
        try:
            done = subprocess.run([binary, "-v"], capture_output=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProxyUnavailable(f"`{binary} -v` cannot be run: {error}", where=binary, fix=fix) from error
        found = re.search(rb"version (\d+\.\d+\S*)", done.stdout)
        if found is None:
            raise ProxyUnavailable(f"`{binary} -v` does not name a version", where=binary, fix=fix)
        return found[1].decode(errors="replace")

    def observe(self, map_names: Sequence[str]) -> Worker:
        """The running worker, with every server and the stamps of its maps.

        Args:
            map_names: names of map files to look at; empty: every map that the worker has loaded from ``maps_dir``.

        Raises:
            ProxyUnavailable: a socket is missing or does not answer, or a reload was under way the whole time.
        """
        end = self._clock.monotonic() + _BETWEEN
        never = threading.Event()
        while True:
            self._seen = None
            self._seen = processes = self._master.processes()
            worker = self._worker(processes, map_names)
            if worker is not None:
                return worker
            if self._clock.monotonic() > end:
                raise ProxyUnavailable(
                    "the master and the runtime socket name different workers",
                    where=self._settings.runtime_socket,
                    fix="do both sockets belong to the same HAProxy?",
                )
            self._clock.wait(never, _AGAIN)

    def _worker(self, processes: Processes, map_names: Sequence[str]) -> Worker | None:
        """The worker that answers now; None when it is not the one that the master counts on."""
        with self._runtime.open() as connection:
            about, env = connection.ask("show info", f"show env {cfgtext.STAMP}")
            info = serverstate.info(about)
            known = {process.pid for process in (*processes.old, *((processes.worker,) if processes.worker else ()))}
            expected = {processes.worker.pid} if processes.worker else known
            if info.pid not in expected:
                return None
            state, stat = connection.ask("show servers state", "show stat -1 4 -1")
            if self._maps[0] != info.pid:  # the set of maps is fixed for a worker's life
                self._maps = (info.pid, tuple(_MAP_LINE.findall(connection.ask("show map")[0])))
            paths = self._paths(map_names)
            learned = info.uptime >= _LEARNS or serverstate.learned(connection.ask("show peers")[0])
            answers = connection.ask(*(f"get map {path} {mapplan.STAMP_KEY}" for path in paths))
        stamps = {Path(path).name: _value(answer) for path, answer in zip(paths, answers, strict=True)}
        stamp = _ENV.search(env)
        old = outlived(self._master, processes, info.pid)
        return Worker(
            version=info.version,
            master_pid=processes.master.pid,
            pid=info.pid,
            master_uptime=processes.master.uptime,
            uptime=info.uptime,
            stamp=self._loader.stamp(info.pid, stamp[1].strip() if stamp else ""),
            servers=serverstate.servers(state, serverstate.sessions(stat)),
            map_stamps=stamps,
            old_workers=len(old),
            failed_reloads=processes.failed,
            learned=learned,
            old=old,
        )

    def silent(self, reason: str) -> Silent:
        """See ``ports.Proxy.silent``. ``@1`` is the worker, past its own socket."""
        processes = self._seen  # of a moment ago: a master that did not answer is not asked again
        current = processes.worker if processes else None
        if processes is None or current is None:
            raise ProxyUnavailable("the master has no worker, or does not answer", where=self._settings.master_socket)
        try:
            version, hangs = serverstate.info(self._master.ask("@1 show info")).version, False
        except ProxyUnavailable:
            version, hangs = self.version(), True
        worker = Worker(
            version=version,
            master_pid=processes.master.pid,
            pid=current.pid,
            master_uptime=processes.master.uptime,
            uptime=current.uptime,
            stamp=serverstate.HANGS if hangs else "",
            servers={},
            map_stamps=EMPTY,
            old_workers=sum(alive(process.pid) for process in processes.old),
            failed_reloads=processes.failed,
        )
        return Silent(reason, worker, hangs)

    def _paths(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of the worker's maps that lie in our folder, or, of these, the ones asked for."""
        folder = Path(self._settings.maps_dir)
        ours = (path for path in self._maps[1] if Path(path).parent == folder)
        return tuple(path for path in ours if not names or Path(path).name in names)

    def run(self, worker_pid: int, commands: Sequence[Command]) -> None:
        """Send runtime commands to the worker of this pid, over one fresh connection, in order.

        Raises:
            UnexpectedReply: a reply is not on the command's whitelist; what had to come after it was not sent.
            ProxyUnavailable: no answer, or another worker answered.
        """
        self._runtime.run(worker_pid, commands)

    def check(self, candidate: Rendered) -> None:
        """Prove the candidate beside the live files: end mark, counts, ``haproxy -c -dW``. An unchanged one costs nothing.

        Raises:
            ConfigRejected: with HAProxy's own words and the line.
            StoreError: the disk refused.
        """
        self._checker.check(candidate)

    def install(self, candidate: Rendered) -> None:
        """Rename the checked candidate over the live files, maps first. Raises StoreError."""
        self._disk.install(candidate)

    def reload(self, candidate: Rendered, worker: Worker) -> None:
        """Try the addresses, install, reload gracefully, and prove by pid and stamp that it was loaded.

        Raises:
            ConfigRejected: a bind or local address is not available; nothing was touched.
            ReloadFailed: HAProxy refused; the files that were loaded are back on disk.
            StoreError: the disk refused; nothing was loaded.
            ProxyUnavailable: the worker is no longer the one that was observed.
        """
        self._loader.reload(candidate, worker)


def _value(answer: str) -> str:
    found = _VALUE.search(answer)
    return found[1] if found else ""
