"""The lab's own paths beside the AWS API, all JSON.

GET    /_lab/health      {} once the server answers
GET    /_lab/instances   every instance: id, group, lifecycle, ec2, address, zone, tags, metadata (what IMDS says of its future)
GET    /_lab/faults      the rules in force; POST adds one (see aws_faults), DELETE ?id=N ends one, or all
GET    /_lab/calls       calls and faulted calls by service.Operation; DELETE begins to count again
GET    /_lab/physics     how long things take; POST {"boot": 1, "groups": {"name": {"terminating": 3}}} changes it
GET    /_lab/hooks       every lifecycle action that an instance waits for
POST   /_lab/notices     {"instance": id, "spot": {"seconds": 120}} and other notices of IMDS (see aws_notices)
GET    /_lab/policies    callers with an IAM policy, and what it refused; POST {"caller": access key, "policy": {...}} (see iam_guard)
GET    /_lab/route53     Route 53's limits and times, its calls and refusals; POST {"insync": 1, "throttling": false} changes it
GET    /_lab/zones       every hosted zone with its record sets, those included that are not INSYNC yet
GET    /_lab/checks      every health check, with what its checkers saw
GET    /_lab/dns         the name server's port, and who its clients are taken for; POST changes that (see dns_physics)
GET    /_lab/checkers    what every health check says, and why; POST {"speed": 10, "alarms": {"region/name": "ok"}} changes it
"""

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from moto.autoscaling.models import autoscaling_backends
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

from hafleet.lab import aws_events
from hafleet.lab.aws_asg import LabAutoScaling
from hafleet.lab.aws_ec2 import ADDRESSES
from hafleet.lab.aws_faults import App, Faults, parse_rule
from hafleet.lab.aws_group import LabGroup
from hafleet.lab.aws_notices import ANNOUNCED
from hafleet.lab.aws_state import FIGURES, PHYSICS
from hafleet.lab.route53_engine import Engine


def every_instance(region: str) -> list[dict[str, Any]]:
    """All instances of the region that still run or leave, as JSON data. Call it under the lock."""
    groups = autoscaling_backends[DEFAULT_ACCOUNT_ID][region].autoscaling_groups
    members = {s.instance.id: (g.name, s.lifecycle_state) for g in groups.values() for s in _everyone(g)}
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
                    "metadata": ANNOUNCED.of(instance),
                }
            )
    return found


def every_action(region: str) -> list[dict[str, Any]]:
    """All lifecycle actions that are not over, as JSON data. Call it under the lock."""
    return [
        {
            "group": group.name,
            "instance": state.instance.id,
            "hook": action.hook.name,
            "token": action.token,
            "heartbeats": action.heartbeats,
            "left": max(0.0, action.deadline - time.monotonic()),
        }
        for group in autoscaling_backends[DEFAULT_ACCOUNT_ID][region].autoscaling_groups.values()
        for state in _everyone(group)
        if state.wait is not None
        for action in state.wait.actions.values()
        if not action.result
    ]


def _everyone(group: Any) -> list[Any]:
    """The members of a group and of its warm pool."""
    return [*group.members, *group.warm] if isinstance(group, LabGroup) else []


class ControlLayer:
    """WSGI: answers /_lab/..., hands everything else on."""

    def __init__(self, app: App, paths: "Paths") -> None:
        self._app = app
        self._paths = paths

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
        answer = self._paths.all.get(path)
        if answer is None:
            return "404 Not Found", {"error": f"no such path; see {__name__}"}
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            return "200 OK", answer(Asked(environ["REQUEST_METHOD"], body, environ.get("QUERY_STRING", "")))
        except ValueError as error:
            return "400 Bad Request", {"error": str(error)}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of a control path."""

    method: str
    body: bytes
    query: str

    def change(self) -> dict[str, Any]:
        """What a POST wants changed; nothing for other methods. Raises ValueError when it is no JSON."""
        found: dict[str, Any] = json.loads(self.body) if self.method == "POST" else {}
        return found


class Paths:
    """What each control path answers. ``all`` may be given more of them."""

    def __init__(self, faults: Faults, lock: threading.RLock, region: str, route53: Engine) -> None:
        self._faults = faults
        self._lock = lock
        self._region = region
        self._route53 = route53
        self.all: dict[str, Callable[[Asked], Any]] = {
            "health": lambda _: {},
            "instances": self._instances,
            "faults": lambda asked: self._rule(asked.method, asked.body, asked.query),
            "calls": self._calls,
            "hooks": self._hooks,
            "notices": lambda asked: self._notices(asked.change()),
            "physics": lambda asked: self._physics(asked.change()),
            "route53": self._route53_figures,
            "zones": lambda _: route53.dump(),
            "checks": self._checks,
        }

    def _instances(self, _: Asked) -> list[dict[str, Any]]:
        with self._lock:
            return every_instance(self._region)

    def _hooks(self, _: Asked) -> list[dict[str, Any]]:
        with self._lock:
            return every_action(self._region)

    def _notices(self, change: dict[str, Any]) -> dict[str, str]:
        with self._lock:
            return ANNOUNCED.announce(ec2_backends[DEFAULT_ACCOUNT_ID][self._region], change)

    def _calls(self, asked: Asked) -> dict[str, Any]:
        if asked.method == "DELETE":
            self._faults.reset_counts()
        return self._faults.counts()

    def _route53_figures(self, asked: Asked) -> dict[str, Any]:
        engine = self._route53
        engine.limits.set(asked.change())
        return {"limits": engine.limits.show(), "calls": dict(engine.calls), "refusals": dict(engine.refusals)}

    def _checks(self, _: Asked) -> list[dict[str, Any]]:
        engine = self._route53
        return [{**check, "Seen": plain(engine.observe(check["Id"]))} for check in engine.checks()]

    def _rule(self, method: str, body: bytes, query: str) -> dict[str, Any]:
        if method == "POST":
            return asdict(self._faults.add(parse_rule(body)))
        if method == "DELETE":
            ids = parse_qs(query).get("id")
            self._faults.clear(int(ids[0]) if ids else None)
        return self._faults.show()

    def _physics(self, change: dict[str, Any]) -> dict[str, Any]:
        for name, value in change.items():
            if name == "groups":
                for group, own in value.items():
                    PHYSICS.groups.setdefault(group, {}).update({k: float(own[k]) for k in FIGURES & own.keys()})
            elif name == "quarantine":
                ADDRESSES.quarantine = float(value)
            elif name in FIGURES:
                setattr(PHYSICS, name, float(value))
            else:
                raise ValueError(
                    f"{name!r} is no figure of the physics; choose {', '.join(sorted(FIGURES))}, quarantine"
                )
        return {**asdict(PHYSICS), "quarantine": ADDRESSES.quarantine}


def plain(value: Any) -> Any:
    """botocore's shape as JSON data: moments as ISO 8601."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def tick(region: str, now: float) -> None:
    """One step of the region's physics. Call it under the lock."""
    backend = autoscaling_backends[DEFAULT_ACCOUNT_ID][region]
    assert isinstance(backend, LabAutoScaling)  # set by aws_asg.install
    backend.tick(now)
    aws_events.tick(DEFAULT_ACCOUNT_ID, region, now)
