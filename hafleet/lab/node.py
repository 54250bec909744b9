"""One load balancer node of the lab: a folder, an IMDS, a real HAProxy master-worker and a real agent process."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import yaml

from hafleet.lab import proxy
from hafleet.lab.imds import Identity, Imds
from hafleet.lab.processes import Processes, Supervised
from hafleet.lab.proxy import Master, ServerRow

HTTP_PORT = 8080
PEER_PORT = 10000
HEALTH_PORT = 8403
STATS_PORT = 8404
STATUS_PORT = 8405
IMDS_PORT = 1338
HEALTH_URI = "/hafleet-health"


class Node:
    """A node, from its birth by the lab's EC2 until the instance is terminated."""

    def __init__(self, folder: Path, identity: Identity, processes: Processes, binary: str) -> None:
        self.folder = folder
        self.id = identity.instance_id
        self.address = identity.address
        self.zone = identity.zone
        self.binary = binary
        for name in ("maps", "state", "templates"):
            (folder / name).mkdir(parents=True, exist_ok=True)  # a stopped instance keeps its disk
        self.config = folder / "haproxy.cfg"
        self.settings = folder / "hafleet.yaml"
        self.templates = folder / "templates"
        self.runtime_socket = folder / "admin.sock"
        self.master_socket = folder / "master.sock"
        self.imds = Imds(identity, identity.address, IMDS_PORT)
        self._processes = processes
        self._reloads_before = 0  # of masters that have ended
        self._last_master: Master | None = None
        self._lock = threading.Lock()
        argv = [binary, "-W", "-S", f"{self.master_socket},mode,600", "-f", str(self.config)]
        self.haproxy = Supervised(processes, argv, log=folder / "haproxy.log")
        self.haproxy.ready = self.config.exists
        self.agent: Supervised | None = None
        self._environment: dict[str, str] = {}  # that points a command to the lab as this node

    @property
    def http(self) -> str:
        """host:port of its HTTP frontend."""
        return f"{self.address}:{HTTP_PORT}"

    def start(self, environment: Mapping[str, str] | None) -> None:
        """Start the agent with these variables (None: no agent, a test writes the configuration), then HAProxy after it."""
        if environment is not None:
            argv = [sys.executable, "-m", "hafleet.cli", "agent", "-c", str(self.settings)]
            self._environment = {**environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url}
            log = self.folder / "agent.log"
            self.agent = Supervised(self._processes, argv, log=log, environment=self._environment)
            self.agent.delay = 0.5
            self.agent.start()
        self.haproxy.start()

    def stop(self, grace: float = 0.0) -> None:
        """End the agent, HAProxy and IMDS."""
        if self.agent is not None:
            self.agent.stop()
        self.haproxy.stop(grace)
        self.imds.close()

    def fail(self) -> None:
        """SIGKILL for its HAProxy, which is not started again before ``recover``."""
        self.haproxy.ready = lambda: False
        self.haproxy.kill()

    def recover(self) -> None:
        """HAProxy may start again."""
        self.haproxy.ready = self.config.exists

    def command(self, *words: str, timeout: float = 300.0) -> "subprocess.CompletedProcess[str]":
        """Run ``hafleet WORDS`` as on this node.

        Raises:
            subprocess.TimeoutExpired: it took longer than ``timeout`` seconds.
        """
        argv = [sys.executable, "-m", "hafleet.cli", *words, "-c", str(self.settings)]
        env = {**os.environ, **self._environment}
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False, env=env)

    def health(self) -> int:
        """Status of its health listener, as a checker of Route 53 sees it; 0 while nobody answers."""
        connection = HTTPConnection(self.address, HEALTH_PORT, timeout=10)
        try:
            connection.request("GET", HEALTH_URI)
            return connection.getresponse().status
        except (OSError, HTTPException):
            return 0
        finally:
            connection.close()

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Replace hafleet.yaml in one step, as configuration management does."""
        beside = self.settings.with_suffix(".new")
        plain = json.loads(json.dumps(settings))  # parts that two backends share would be written as YAML anchors
        beside.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
        os.replace(beside, self.settings)

    def own_settings(self) -> dict[str, Any]:
        """The sections of hafleet.yaml that differ between nodes: paths, addresses, listeners."""
        return {
            "node": {"source": "imds"},
            "haproxy": {
                "binary": self.binary,
                "config": str(self.config),
                "maps_dir": str(self.folder / "maps"),
                "templates_dir": str(self.templates),
                "runtime_socket": str(self.runtime_socket),
                "master_socket": str(self.master_socket),
                "server_state": str(self.folder / "state" / "server-state"),
                "threads": 1,
                "maxconn": 2000,
                "hard_stop_after": "20s",
                "stats": f"{self.address}:{STATS_PORT}",
                "health": f"{self.address}:{HEALTH_PORT}",
            },
            "status": {"listen": f"{self.address}:{STATUS_PORT}"},
            "state_dir": str(self.folder / "state"),
        }

    def servers(self) -> tuple[ServerRow, ...]:
        """The servers of its worker; none while HAProxy does not answer."""
        try:
            return proxy.servers(self.runtime_socket)
        except OSError:
            return ()

    def in_rotation(self, backend: str) -> frozenset[str]:
        """Names of the servers of this backend that get new requests."""
        return frozenset(row.name for row in self.servers() if row.backend == backend and row.in_rotation)

    def stuck(self, table: str) -> dict[str, str]:
        """Key -> server of a stick table; empty while HAProxy does not answer."""
        try:
            return proxy.stick_entries(self.runtime_socket, table)
        except OSError:
            return {}

    def master(self) -> Master | None:
        """The state of its master; None while HAProxy does not answer."""
        try:
            return proxy.master(self.master_socket)
        except (OSError, ValueError):
            return None

    def reloads(self) -> int:
        """Reloads since the node started, over all starts of its HAProxy as far as this was asked in between."""
        with self._lock:
            now = self.master()
            if now is not None:
                before = self._last_master
                if before is not None and before.pid != now.pid:
                    self._reloads_before += before.reloads
                self._last_master = now
            last = self._last_master
            return self._reloads_before + (last.reloads if last is not None else 0)

    def agent_log(self) -> str:
        """Everything its agent has written."""
        path = self.folder / "agent.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def status(self) -> dict[str, Any]:
        """The state of the node as JSON data."""
        now = self.master()
        backends: dict[str, list[str]] = {}
        for row in self.servers():
            if row.in_rotation:
                backends.setdefault(row.backend, []).append(row.name)
        return {
            "id": self.id,
            "address": self.address,
            "zone": self.zone,
            "http": f"http://{self.http}/",
            "folder": str(self.folder),
            "haproxy_pid": now.pid if now else None,
            "agent_pid": self.agent.pid if self.agent else None,
            "reloads": self.reloads(),
            "in_rotation": backends,
        }
