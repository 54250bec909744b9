"""Route 53's data plane in the lab: name server and health checkers, kept up with the control plane, and their control paths.

The control plane is looked at many times a second and taken over when it changed, never while a question or a probe is
answered: a call of the AWS API that takes its time delays no answer.
"""

import ipaddress
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Protocol, get_args

from hafleet.core.dns.model import Place
from hafleet.lab import dns_shapes
from hafleet.lab.dns_answers import Client, answer
from hafleet.lab.dns_server import DnsServer
from hafleet.lab.health import AlarmState, Health

TICK = 0.05  # seconds between two looks at the control plane
STATES = frozenset(get_args(AlarmState))


class Source(Protocol):
    """What the data plane needs of the control plane, which looks after its own lock."""

    def version(self) -> object:
        """Unequal to an earlier one when ``zones`` or ``checks`` would answer otherwise. Cheap: it is asked all the time."""
        ...

    def zones(self) -> tuple[dict[str, Any], ...]:
        """HostedZone and ResourceRecordSets, only what is INSYNC, of every hosted zone."""
        ...

    def checks(self) -> tuple[dict[str, Any], ...]:
        """Every HealthCheck."""
        ...


class DnsPhysics:
    """The data plane.

    Args:
        source: the control plane.
        host: address of the name server.
        port: its port, UDP and TCP.
        sources: first three bytes of the health checkers' addresses; "": the system's choice.
    """

    def __init__(self, source: Source, host: str, port: int, sources: str = "") -> None:
        self._source = source
        self._version: object = None
        self._port = port
        self._stop = threading.Event()
        self.health = Health(sources, self._address)
        self.dns = DnsServer(host, port, self.health.healthy)

    def close(self) -> None:
        """End both."""
        self._stop.set()
        self.dns.close()
        self.health.close()

    def follow(self) -> None:
        """Keep up with the control plane from now on, in a thread, until the process ends or ``close``."""

        def run() -> None:
            while not self._stop.wait(TICK):
                self.tick()

        threading.Thread(target=run, daemon=True, name="dns physics").start()

    def tick(self) -> None:
        """Take over what changed in the control plane."""
        version = self._source.version()
        if version == self._version:
            return
        self.dns.zones = tuple(map(dns_shapes.zone, self._source.zones()))
        self.health.watch(
            {check["Id"]: dns_shapes.config(check["HealthCheckConfig"]) for check in self._source.checks()}
        )
        self._version = version

    def status(self, check_id: str) -> list[dict[str, Any]]:
        """HealthCheckObservations of GetHealthCheckStatus."""
        return [
            {"Region": seen.region, "IPAddress": seen.address, "StatusReport": _report(seen.text, seen.at)}
            for seen in self.health.observations(check_id)
            if seen.text
        ]

    def last_failures(self, check_id: str) -> list[dict[str, Any]]:
        """HealthCheckObservations of GetHealthCheckLastFailureReason."""
        return [
            {"Region": seen.region, "IPAddress": seen.address, "StatusReport": _report(seen.failure, seen.failed_at)}
            for seen in self.health.observations(check_id)
            if seen.failure
        ]

    def _address(self, name: str) -> str | None:
        """IPv4 address of a name in the lab's own zones; a name that is an address is that."""
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            plain = dns_shapes.plain_name(name)
        reply = answer(self.dns.zones, (plain, "A"), self.dns.default, self.health.healthy, self.dns.chance)
        return next((value for found in reply.found if found.type == "A" for value in found.values), None)

    # --- the control paths ---

    def control_dns(self, change: dict[str, Any]) -> dict[str, Any]:
        """``/_lab/dns``: where the name server is, and who its clients are taken for.

        ``{"default": {"region": "eu-west-1", "place": "EU/DE", "private": true}, "clients": {"127.9.1.0/24": {...}}}``
        changes that. A place is continent, continent/country or continent/country/subdivision.

        Raises:
            ValueError: the change cannot be read.
        """
        if unknown := change.keys() - {"default", "clients"}:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}; a change has default, clients or both")
        if "default" in change:
            self.dns.default = _client(change["default"])
        if "clients" in change:
            self.dns.clients = {ipaddress.ip_network(key): _client(value) for key, value in change["clients"].items()}
        return {
            "port": self._port,
            "asked": self.dns.asked,
            "default": asdict(self.dns.default),
            "clients": {str(network): asdict(client) for network, client in self.dns.clients.items()},
        }

    def control_checkers(self, change: dict[str, Any]) -> dict[str, Any]:
        """``/_lab/checkers``: what every health check says, and why.

        ``{"speed": 10}`` divides the intervals, ``{"alarms": {"eu-west-1/name": "ok"|"alarm"|"insufficient"}}`` tells what
        the metrics of alarms say.

        Raises:
            ValueError: the change cannot be read.
        """
        if unknown := change.keys() - {"speed", "alarms"}:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}; a change has speed, alarms or both")
        if "alarms" in change:
            self.health.tell_alarms(_alarms(change["alarms"]))
        if "speed" in change:
            speed = float(change["speed"])
            if not 0 < speed <= 1000:
                raise ValueError(f"speed is {speed:g}; intervals are divided by it: more than 0, at most 1000")
            self.health.faster(speed)
        checks = {
            name: {"healthy": self.health.healthy(name), "seen": self._seen(name)} for name in self.health.names()
        }
        return {"speed": self.health.speed, "probes": self.health.probes, "checks": checks}

    def _seen(self, check_id: str) -> list[str]:
        return [
            f"{seen.region} {seen.address}: {seen.text or 'no probe yet'}"
            for seen in self.health.observations(check_id)
        ]


def _report(text: str, at: float) -> dict[str, Any]:
    return {"Status": text, "CheckedTime": datetime.fromtimestamp(at, UTC)}


def _client(data: dict[str, Any]) -> Client:
    parts = [*str(data.get("place", "")).split("/"), "", ""]
    return Client(str(data.get("region", "")), Place(*parts[:3]), bool(data.get("private", False)))


def _alarms(data: dict[str, Any]) -> dict[tuple[str, str], AlarmState]:
    found: dict[tuple[str, str], AlarmState] = {}
    for key, state in data.items():
        region, slash, name = key.partition("/")
        if not slash or state not in STATES:
            raise ValueError(f"{key!r}: {state!r}; write region/name and one of {', '.join(sorted(STATES))}")
        found[region, name] = state
    return found
