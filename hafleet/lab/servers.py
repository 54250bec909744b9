"""The application servers of the lab: one real process per instance, on the instance's address."""

import http.client
import signal
import subprocess
import sys
import time
from pathlib import Path

from hafleet.lab.cloud import Machine
from hafleet.lab.processes import LIGHT, Processes

PORT = 8000
SCRIPT = Path(__file__).with_name("appserver.py")
GRACE = 3.0  # seconds between the SIGTERM of a terminated instance and the end of its machine


class Servers:
    """Starts a process for every running instance and ends those of instances that are gone."""

    def __init__(self, processes: Processes) -> None:
        self.boot = 0.3  # seconds a server refuses connections before it answers
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.crashed: set[str] = set()  # instances whose process was killed: the machine is up, nothing answers
        self._leaving: list[tuple[float, subprocess.Popen[bytes]]] = []
        self._processes = processes

    def follow(self, machines: tuple[Machine, ...]) -> None:
        """One step: ``machines`` are those of application groups that run now."""
        wanted = {machine.id: machine for machine in machines}
        for name in [name for name in self.running if name not in wanted]:
            process = self.running.pop(name)
            process.send_signal(signal.SIGTERM)
            self._leaving.append((time.monotonic() + GRACE, process))
        for machine in wanted.values():
            if machine.id not in self.running and machine.id not in self.crashed:
                self.running[machine.id] = self._start(machine)
        self.crashed &= wanted.keys()
        self._reap()

    def crash(self, name: str) -> None:
        """SIGKILL the server of an instance; it is not started again."""
        self.crashed.add(name)
        process = self.running.pop(name, None)
        if process is not None:
            self._processes.kill(process)

    def revive(self, name: str) -> None:
        """Let a crashed server be started again."""
        self.crashed.discard(name)

    def _start(self, machine: Machine) -> subprocess.Popen[bytes]:
        figures = [machine.address, str(PORT), machine.id, machine.group, str(self.boot)]
        return self._processes.start([sys.executable, *LIGHT, str(SCRIPT), *figures])

    def _reap(self) -> None:
        left = []
        for until, process in self._leaving:
            if process.poll() is not None:
                self._processes.forget(process)
            elif time.monotonic() > until:
                self._processes.kill(process)
            else:
                left.append((until, process))
        self._leaving = left


def tell(address: str, path: str) -> str:
    """Ask an application server directly, e.g. ``/_app/slow/200``; returns the body.

    Raises:
        OSError: it does not answer.
    """
    connection = http.client.HTTPConnection(address, PORT, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()
