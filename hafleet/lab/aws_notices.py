"""What the instance metadata says of an instance's own future, and the lab's control over it.

Sources of the texts: EC2 user guide (spot interruption notices, rebalance recommendations, scheduled events of instances). A spot
instance's machine ends when the notice is over, whatever its group and its hooks are doing.
"""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from hafleet.lab import aws_events

TARGET = "meta-data/autoscaling/target-lifecycle-state"
SPOT_ACTION, SPOT_TIME = "meta-data/spot/instance-action", "meta-data/spot/termination-time"
REBALANCE = "meta-data/events/recommendations/rebalance"
MAINTENANCE = "meta-data/events/maintenance/scheduled"
ACTIONS = ("terminate", "stop", "hibernate")
NOTICE = 120.0  # seconds that EC2 grants


@dataclass(slots=True)
class Announced:
    """The notices in force. Call it under the lock of the local AWS."""

    texts: dict[str, dict[str, str]] = field(default_factory=dict)  # instance id -> path under /latest/ -> text
    due: dict[str, tuple[float, str]] = field(default_factory=dict)  # id -> monotonic end, what comes then

    def of(self, instance: Any) -> dict[str, str]:
        """What IMDS of this instance says beside its identity."""
        target = getattr(instance, "target_state", "")
        return {**({TARGET: target} if target else {}), **self.texts.get(instance.id, {})}

    def announce(self, backend: Any, asked: dict[str, Any]) -> dict[str, str]:
        """Put notices in force and tell EventBridge. Returns what IMDS says of this instance now.

        Args:
            backend: moto's EC2 of the region.
            asked: {"instance": id} and any of "spot": {"action": ..., "seconds": ...}, "rebalance": true,
                "maintenance": [events as IMDS lists them]; null takes a notice back.

        Raises:
            ValueError: no such instance, notice or action.
        """
        known = {"instance", "spot", "rebalance", "maintenance"}
        if unknown := sorted(asked.keys() - known):
            raise ValueError(f"{unknown[0]!r} is no notice; choose {', '.join(sorted(known - {'instance'}))}")
        instance = backend.get_instance_by_id(asked.get("instance", ""))
        if instance is None:
            raise ValueError(f"there is no instance {asked.get('instance')!r}")
        if "spot" in asked:
            self._spot(backend, instance, asked["spot"])
        if "rebalance" in asked:
            self._say(instance, REBALANCE, _json(noticeTime=_moment(time.time())) if asked["rebalance"] else None)
            if asked["rebalance"]:
                aws_events.rebalance(backend, instance)
        if "maintenance" in asked:
            self._say(instance, MAINTENANCE, json.dumps(asked["maintenance"]) if asked["maintenance"] else None)
        return self.of(instance)

    def tick(self, backend: Any, now: float) -> None:
        """End the machines whose notice is over."""
        for name in [name for name, (end, _) in self.due.items() if now >= end]:
            _, action = self.due.pop(name)
            instance = backend.get_instance_by_id(name)
            if instance is None or instance.gone:
                continue
            if action == "terminate":
                backend.terminate_instances([name])
            else:
                backend.stop_instances([name])

    def _spot(self, backend: Any, instance: Any, asked: dict[str, Any] | None) -> None:
        if asked is None:
            self.due.pop(instance.id, None)
            self._say(instance, SPOT_ACTION, None)
            self._say(instance, SPOT_TIME, None)
            return
        action, seconds = asked.get("action", "terminate"), float(asked.get("seconds", NOTICE))
        if action not in ACTIONS:
            raise ValueError(f"{action!r} is nothing that EC2 does to a spot instance; choose {', '.join(ACTIONS)}")
        if action == "hibernate":
            seconds = 0.0  # its notice comes when it begins
        end = _moment(time.time() + seconds)
        self.due[instance.id] = time.monotonic() + seconds, action
        self._say(instance, SPOT_ACTION, _json(action=action, time=end))
        if action == "terminate":
            self._say(instance, SPOT_TIME, end)
        aws_events.spot_warning(backend, instance, action)

    def _say(self, instance: Any, path: str, text: str | None) -> None:
        own = self.texts.setdefault(instance.id, {})
        if text is None:
            own.pop(path, None)
        else:
            own[path] = text


ANNOUNCED = Announced()


def _json(**what: str) -> str:
    return json.dumps(what)


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
