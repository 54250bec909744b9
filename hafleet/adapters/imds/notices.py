"""What IMDS announces: the texts of its items to typed values.

Shapes as in the EC2 user guide (instance metadata categories) and, for the target state, the Auto Scaling user guide. Every
function takes the text of an item, None where this instance has none (404), and raises ValueError or TypeError for what it cannot be.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from hafleet.core.model import Notice

_STATE = re.compile(r"[A-Za-z]{1,30}(?::[A-Za-z]{1,30}){0,2}")


def target(text: str | None) -> str:
    """``autoscaling/target-lifecycle-state``: one word such as InService or Warmed:Stopped; "" when never set."""
    if text and not _STATE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a lifecycle state")
    return text or ""


def spot(text: str | None) -> Notice | None:
    """``spot/instance-action``: ``{"action": "terminate", "time": "2026-11-21T08:22:00Z"}``."""
    if text is None:
        return None
    told = _object(text)
    action = told.get("action")
    if not isinstance(action, str) or not action.isalpha():
        raise ValueError(f"{action!r:.40} is not an action")
    return Notice(action, _instant(told.get("time")))


def rebalance(text: str | None) -> float:
    """``events/recommendations/rebalance``: ``{"noticeTime": "2026-11-21T08:22:00Z"}``; 0 when there is none."""
    return 0.0 if text is None else _instant(_object(text).get("noticeTime"))


def maintenance(text: str | None) -> tuple[Notice, ...]:
    """``events/maintenance/scheduled``: the active ones, soonest first.

    They are only reported: what is odd, an item or all of it, is told with what can be read of it, and never hides a spot notice.
    """
    if not text:
        return ()
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list):
        return (Notice("unknown", 0.0),)
    items = [item for item in listed if isinstance(item, dict) and item.get("State", "active") == "active"]
    return tuple(sorted((_event(item) for item in items), key=lambda notice: (notice.at, notice.action)))


def _event(item: Mapping[str, Any]) -> Notice:
    """``{"Code": "system-reboot", "NotBefore": "21 Jan 2026 09:00:43 GMT", ...}``; a time that is none counts as 0."""
    code = item.get("Code")
    try:
        at = parsedate_to_datetime(str(item.get("NotBefore"))).timestamp()
    except (ValueError, OverflowError):
        at = 0.0
    plain = isinstance(code, str) and len(code) <= 60 and code.isascii() and code.isprintable()
    return Notice(str(code) if plain else "unknown", at)


def _object(text: str) -> Mapping[str, Any]:
    told = json.loads(text)
    if not isinstance(told, dict):
        raise TypeError(f"{text[:40]!r} is not an object")
    return told


def _instant(value: Any) -> float:
    """Wall clock seconds of an ISO 8601 time; one that names no zone is UTC."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a time")
    when = datetime.fromisoformat(value)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
