"""The lab's handle on a running load generator."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from hafleet.lab.processes import Processes, wait_until


@dataclass(frozen=True, slots=True)
class Count:
    """Totals at one moment, or between two."""

    sent: int = 0
    failed: int = 0
    groups: Mapping[str, int] = field(default_factory=dict)
    instances: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    targets: Mapping[str, int] = field(default_factory=dict)  # by host:port of the node

    def since(self, before: "Count") -> "Count":
        """What came after ``before``."""
        return Count(
            self.sent - before.sent,
            self.failed - before.failed,
            _minus(self.groups, before.groups),
            _minus(self.instances, before.instances),
            _minus(self.errors, before.errors),
            _minus(self.targets, before.targets),
        )


def _minus(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {key: value - before.get(key, 0) for key, value in now.items() if value != before.get(key, 0)}


@dataclass(frozen=True, slots=True)
class ByName:
    """Clients find the nodes by DNS."""

    name: str
    dns: str  # host:port of the name server
    port: int  # of the nodes


class Traffic:
    """A load generator process. ``with Traffic(...) as traffic: ... traffic.count()``.

    Args:
        processes: what ends it should the lab be killed.
        targets: host:port of each node, used in turn; or the name by which each client finds one.
        rate: requests per second over all clients.
        clients: how many; every second one keeps its connections.
        more: further options of hafleet.lab.load.
    """

    def __init__(
        self,
        processes: Processes,
        targets: Iterable[str] | ByName,
        *,
        rate: float = 200,
        clients: int = 20,
        **more: str,
    ) -> None:
        argv = [sys.executable, "-m", "hafleet.lab.load", "--listen"]
        if isinstance(targets, ByName):
            argv += ["--resolve", targets.name, "--dns", targets.dns, "--port", str(targets.port)]
        else:
            argv += ["--targets", ",".join(targets)]
        argv += ["--rate", str(rate), "--clients", str(clients)]
        for key, value in more.items():
            argv += [f"--{key}", value]
        self._processes = processes
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False, start_new_session=True
        )
        processes.adopt(self._process)
        self._last = Count()
        self._reports = 0
        self._reader = threading.Thread(target=self._read, daemon=True, name="traffic")
        self._reader.start()

    def __enter__(self) -> Self:
        """Wait until it sends."""
        wait_until(lambda: self._last.sent > 0 or self._process.poll() is not None, 60, "the first request")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def count(self) -> Count:
        """Totals up to now: waits for a report that was made after this call."""
        seen = self._reports
        wait_until(lambda: self._reports >= seen + 2 or self._process.poll() is not None, 60, "a report of the load")
        return self._last

    @property
    def latest(self) -> Count:
        """The last report, without waiting for a new one."""
        return self._last

    def aim(self, targets: Iterable[str]) -> None:
        """Send to these from now on."""
        self._tell({"targets": list(targets)})

    def stop(self) -> Count:
        """Let the requests in flight finish, end it, and return the totals."""
        if self._process.poll() is None:
            self._tell({"stop": True})
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(30)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._processes.forget(self._process)
        return self._last

    def _tell(self, wish: dict[str, Any]) -> None:
        assert self._process.stdin is not None  # it was started with a pipe
        self._process.stdin.write(json.dumps(wish).encode() + b"\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None  # it was started with a pipe
        for line in self._process.stdout:
            found = json.loads(line)
            kinds = (found["groups"], found["instances"], found["errors"], found["targets"])
            self._last = Count(found["sent"], found["failed"], *kinds)
            self._reports += 1
