"""Logging: one JSON object per line for journald and collectors, coloured lines for a person at a terminal."""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def _journal_priority(_logger: Any, method: str, line: str) -> str:
    """Prefix ``<N>``, which journald takes as the line's priority (sd-daemon(3))."""
    return f"<{_PRIORITIES.get(method, 6)}>{line}"


def _render_json(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    text = structlog.processors.JSONRenderer()(logger, method, event)
    line = text if isinstance(text, str) else text.decode()
    return _journal_priority(logger, method, line) if os.environ.get("JOURNAL_STREAM") else line


def set_up(level: str = "info", form: str = "auto") -> None:
    """Route hafleet's log to stderr.

    Args:
        level: debug, info, warning or error.
        form: json, human, or auto (human on a terminal).
    """
    human = form == "human" or (form == "auto" and sys.stderr.isatty())
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    last = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if human else _render_json
    structlog.configure(
        processors=[structlog.processors.add_log_level, stamp, last],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
