"""A graceful reload with proof: state file, new files, ``reload``, and the stamp seen in a new worker; or everything back."""

import os
import re
import signal
import threading
from dataclasses import dataclass

from hafleet.adapters.haproxy.binds import try_binds
from hafleet.adapters.haproxy.disk import Disk
from hafleet.adapters.haproxy.mastercli import MasterCli
from hafleet.adapters.haproxy.runtimeapi import RuntimeApi
from hafleet.core import cfgtext, serverstate
from hafleet.core.features import features
from hafleet.core.listeners import Listener
from hafleet.core.model import Installed, Rendered, Worker
from hafleet.errors import HafleetError, ProxyUnavailable, ReloadFailed, StoreError
from hafleet.ports import Clock

PROOF = 10.0  # seconds within which the new worker must show the stamp; 10,000 servers need 2
_PER_SERVER = 0.002  # seconds more for each: 2.6 and 3.0 read a backend in time quadratic to its size
_AGAIN = 0.02
_NOTICE = re.compile(r"^\[NOTICE\].*$\n?", re.MULTILINE)
_WORDS = 600


@dataclass(frozen=True, slots=True)
class _Goal:
    """What proves the reload: this structure in another worker than the former one, in time."""

    structure: str
    former: int  # pid
    loads: int  # how often the master had loaded before; each try counts, good or bad
    end: float  # monotonic seconds


class Loader:
    """Reloads HAProxy through its master socket."""

    def __init__(self, disk: Disk, runtime: RuntimeApi, master: MasterCli, clock: Clock) -> None:
        self._disk = disk
        self._runtime = runtime
        self._master = master
        self._clock = clock

    def stamp(self, pid: int, stamp: str) -> str:
        """The stamp of the worker of this pid; UNFINISHED while it is the one that a broken-off reload was to replace.

        Two texts of one structure can still need a reload (an option moved from one server to another). A crash between
        the rename and the reload would hide that; the mark on disk tells it.
        """
        return serverstate.UNFINISHED if self._disk.loading_pid() == pid else stamp

    def reload(self, candidate: Rendered, worker: Worker) -> None:
        """See ``ports.Proxy.reload``."""
        wanted = cfgtext.parse(candidate.text)
        previous = self._disk.installed()
        try_binds(wanted.listeners, _listeners(previous, worker), worker.pid, str(self._disk.config))
        self._hand_over(wanted, worker)
        loads = self._master.processes().master.reloads
        self._disk.mark_loading(worker.pid)
        try:
            self._disk.install(candidate)
        except StoreError:
            self._put_back(previous)
            raise
        allowed = PROOF + _PER_SERVER * wanted.server_lines
        goal = _Goal(wanted.structure, worker.pid, loads, self._clock.monotonic() + allowed)
        reason = self._load(goal, allowed, answers=features(worker.version).reload_answers)
        if reason:
            raise self._failed(reason, previous)
        if worker.stamp == serverstate.HANGS and any(old.pid == worker.pid for old in self._master.processes().old):
            _end(worker.pid)
        self._disk.write_state(serverstate.STATE_HEADER)
        self._disk.unmark_loading()

    def _hand_over(self, wanted: cfgtext.ConfigText, worker: Worker) -> None:
        """Write health, drain and weight of the servers that stay, so that the new worker need not guess them."""
        text = serverstate.STATE_HEADER
        if worker.stamp != serverstate.HANGS:
            try:
                about, state = self._ask("show servers state")
            except ProxyUnavailable:
                pass  # a worker that hangs is one more reason to reload: every server then starts as up
            else:
                if about.pid != worker.pid:
                    raise ProxyUnavailable(
                        f"the worker changed from {worker.pid} to {about.pid}", fix="the next pass looks again"
                    )
                text = serverstate.state_file(state, wanted.servers)
        self._disk.write_state(text)

    def _ask(self, line: str) -> tuple[serverstate.Info, str]:
        """Who answers as the worker, and its answer; through the master where its own socket does not answer.

        A reload does not make a lost socket anew, so the way around it is needed for the proof too.
        """
        try:
            with self._runtime.open() as connection:
                about, answer = connection.ask("show info", line)
            return serverstate.info(about), answer
        except ProxyUnavailable:
            return serverstate.info(self._master.ask("@1 show info")), self._master.ask(f"@1 {line}")

    def _load(self, goal: _Goal, allowed: float, *, answers: bool) -> str:
        """Ask for the reload and wait for its proof. Returns why it failed, or "" when it is proven."""
        try:
            reply = self._master.ask("reload", timeout=allowed if answers else None)
        except ProxyUnavailable as error:
            reply = ""
            reason = error.render()
        else:
            reason = ""
        if answers and reply.startswith("Success=0"):
            return _words(reply)
        return "" if self._wait(goal) else reason or "no new worker showed the new structure"

    def _wait(self, goal: _Goal) -> bool:
        """True when the proof came."""
        never = threading.Event()
        while self._clock.monotonic() < goal.end:
            try:
                processes = self._master.processes()
                current = processes.worker
                if current is not None and current.pid != goal.former and self._proven(goal, current.pid):
                    return True
                if processes.failed and current is None and processes.master.reloads > goal.loads:
                    return False
            except ProxyUnavailable:
                pass  # the master executes itself anew; the end of the time is the judge
            self._clock.wait(never, _AGAIN)
        return False

    def _proven(self, goal: _Goal, pid: int) -> bool:
        about, env = self._ask(f"show env {cfgtext.STAMP}")
        return about.pid == pid and env.strip() == f"{cfgtext.STAMP}={goal.structure}"

    def _failed(self, reason: str, previous: Installed) -> ReloadFailed:
        try:
            self._put_back(previous)
            after = "the files that are loaded are back on disk"
        except HafleetError as error:
            after = f"the loaded files could not be put back ({error.render()})"
        return ReloadFailed(
            f"HAProxy did not load the new configuration: {reason}; {after}",
            where=str(self._disk.config),
            fix="see HAProxy's log; the old worker keeps serving",
        )

    def _put_back(self, previous: Installed) -> None:
        self._disk.restore(previous)
        self._disk.unmark_loading()
        self._disk.write_state(serverstate.STATE_HEADER)


def _end(pid: int) -> None:
    """End a worker that hangs: its listening sockets would go on to take connections that nobody answers.

    Only an agent that may signal HAProxy can; for another one it ends with HAProxy's next start.
    """
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _listeners(previous: Installed, worker: Worker) -> tuple[Listener, ...]:
    """What the worker surely listens on: the installed text's listeners, when that text is what it has loaded."""
    if previous.text is None:
        return ()
    text = cfgtext.parse(previous.text)
    return text.listeners if text.structure == worker.stamp else ()


def _words(reply: str) -> str:
    """The complaints of a start-up log, on one line."""
    log = _NOTICE.sub("", reply.partition("--\n")[2])
    return "; ".join(line.strip() for line in log.split("\n") if line.strip())[:_WORDS] or "it does not say why"
