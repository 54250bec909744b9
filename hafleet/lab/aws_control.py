"""The lab's own paths beside the AWS API, all JSON.

GET    /_lab/health      {} once the server answers
GET    /_lab/instances   every instance: id, group, lifecycle, ec2, address, zone, tags
GET    /_lab/faults      the rules in force; POST adds one (see aws_faults), DELETE ?id=N ends one, or all
GET    /_lab/calls       calls and faulted calls by service.Operation; DELETE begins to count again
GET    /_lab/physics     how long things take; POST {"boot": 1, "groups": {"name": {"terminating": 3}}} changes it
"""

import json
import threading
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qs

from moto.autoscaling.models import autoscaling_backends
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

from hafleet.lab.aws_asg import LabAutoScaling
from hafleet.lab.aws_ec2 import ADDRESSES
from hafleet.lab.aws_faults import App, Faults, parse_rule
from hafleet.lab.aws_group import PHYSICS


def every_instance(region: str) -> list[dict[str, Any]]:
    """All instances of the region that still run or leave, as JSON data. Call it under the lock."""
    groups = autoscaling_backends[DEFAULT_ACCOUNT_ID][region].autoscaling_groups
    members = {s.instance.id: (g.name, s.lifecycle_state) for g in groups.values() for s in g.instance_states}
    found = []
    for reservation in ec2_backends[DEFAULT_ACCOUNT_ID][region].reservations.values():
        for instance in reservation.instances:
            group, lifecycle = members.get(instance.id, ("", ""))
            if instance.state == "terminated" and not group:
                continue
            found.append(
                {
                    "id": instance.id,
                    "group": group,
                    "lifecycle": lifecycle,
                    "ec2": instance.state,
                    "address": instance.private_ip or "",
                    "zone": instance.placement.zone,
                    "tags": {tag["key"]: tag["value"] for tag in instance.get_tags()},
                }
            )
    return found


class ControlLayer:
    """WSGI: answers /_lab/..., hands everything else on."""

    def __init__(self, app: App, faults: Faults, lock: threading.RLock, region: str) -> None:
        self._app = app
        self._faults = faults
        self._lock = lock
        self._region = region

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """One request."""
        path = environ.get("PATH_INFO", "")
        if not path.startswith("/_lab/"):
            return self._app(environ, start_response)
        status, data = self._dispatch(environ, path.removeprefix("/_lab/"))
        body = json.dumps(data).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _dispatch(self, environ: dict[str, Any], path: str) -> tuple[str, Any]:
        method = environ["REQUEST_METHOD"]
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            if path == "health":
                return "200 OK", {}
            if path == "instances":
                with self._lock:
                    return "200 OK", every_instance(self._region)
            if path == "faults":
                return "200 OK", self._rule(method, body, environ.get("QUERY_STRING", ""))
            if path == "calls":
                if method == "DELETE":
                    self._faults.reset_counts()
                return "200 OK", self._faults.counts()
            if path == "physics":
                return "200 OK", self._physics(json.loads(body) if method == "POST" else {})
        except ValueError as error:
            return "400 Bad Request", {"error": str(error)}
        return "404 Not Found", {"error": f"no such path; see {__name__}"}

    def _rule(self, method: str, body: bytes, query: str) -> dict[str, Any]:
        if method == "POST":
            return asdict(self._faults.add(parse_rule(body)))
        if method == "DELETE":
            ids = parse_qs(query).get("id")
            self._faults.clear(int(ids[0]) if ids else None)
        return self._faults.show()

    def _physics(self, change: dict[str, Any]) -> dict[str, Any]:
        figures = {"boot", "terminating", "dead", "standby"}
        for name, value in change.items():
            if name == "groups":
                for group, own in value.items():
                    PHYSICS.groups.setdefault(group, {}).update({k: float(own[k]) for k in figures & own.keys()})
            elif name == "quarantine":
                ADDRESSES.quarantine = float(value)
            elif name in figures:
                setattr(PHYSICS, name, float(value))
            else:
                raise ValueError(
                    f"{name!r} is no figure of the physics; choose {', '.join(sorted(figures))}, quarantine"
                )
        return {**asdict(PHYSICS), "quarantine": ADDRESSES.quarantine}


def tick(region: str, now: float) -> None:
    """One step of the region's physics. Call it under the lock."""
    backend = autoscaling_backends[DEFAULT_ACCOUNT_ID][region]
    assert isinstance(backend, LabAutoScaling)  # set by aws_asg.install
    backend.tick(now)
