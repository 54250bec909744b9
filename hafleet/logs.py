"""Logging: one JSON object per line for journald and collectors, coloured lines for a person at a terminal."""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_COLOURS = {"debug": "\033[2m", "warning": "\033[33m", "error": "\033[31m", "critical": "\033[31m"}
_PLAIN = "\033[0m"
_FIRST = ("timestamp", "level", "event")  # what the eye looks for in a line of JSON


def _journal_priority(_logger: Any, method: str, line: str) -> str:
    """Prefix ``<N>``, which journald takes as the line's priority (sd-daemon(3))."""
    return f"<{_PRIORITIES.get(method, 6)}>{line}"


def _render_json(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    text = structlog.processors.JSONRenderer()(logger, method, {**{key: event[key] for key in _FIRST}, **event})
    line = text if isinstance(text, str) else text.decode()
    return _journal_priority(logger, method, line) if os.environ.get("JOURNAL_STREAM") else line


def _render_human(colours: bool) -> structlog.typing.Processor:
    """``04:03:29 warning held  rule=empty  subject=site``; the text of a fault or problem stands as it is."""

    def render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        head = f"{event['timestamp']} {event['level']:<7} {event['event']}"
        rest = (str(v) if k in {"fault", "problem"} else f"{k}={v}" for k, v in event.items() if k not in _FIRST)
        line = "  ".join((head, *rest))
        colour = _COLOURS.get(event["level"], "") if colours else ""
        return f"{colour}{line}{_PLAIN}" if colour else line

    return render


def set_up(level: str = "info", form: str = "auto") -> None:
    """Route hafleet's log to stderr.

    Args:
        level: debug, info, warning or error.
        form: json, human, or auto (human on a terminal).
    """
    human = form == "human" or (form == "auto" and sys.stderr.isatty())
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human)
    colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    last = _render_human(colours) if human else _render_json
    structlog.configure(
        processors=[structlog.processors.add_log_level, stamp, last],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
