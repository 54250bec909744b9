"""Logging: one JSON object per line for journald and collectors, coloured lines for a person at a terminal.

The standard library's logging underneath. A log library that imports a terminal library and asyncio would cost the agent a
tenth of its memory (docs/decisions.md).
"""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime

_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3}
_COLOURS = {"DEBUG": "\033[2m", "WARNING": "\033[33m", "ERROR": "\033[31m"}
_PLAIN = "\033[0m"
_VALUES = "values"  # attribute of a record: what came with the event


class Log:
    """Events with named values: ``log.warning("held", rule="empty", subject="site")``."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("hafleet")

    def log(self, level: int, event: str, **values: object) -> None:
        """An event of a level of the standard library's logging."""
        self._logger.log(level, event, extra={_VALUES: values})

    def info(self, event: str, **values: object) -> None:
        """Something was done, or is over."""
        self.log(logging.INFO, event, **values)

    def warning(self, event: str, **values: object) -> None:
        """Something is held, or somebody should know."""
        self.log(logging.WARNING, event, **values)

    def error(self, event: str, **values: object) -> None:
        """Something failed."""
        self.log(logging.ERROR, event, **values)


def values_of(record: logging.LogRecord) -> Mapping[str, object]:
    """What came with the event of a record."""
    return getattr(record, _VALUES, {})


class JsonLines(logging.Formatter):
    """``{"timestamp": ..., "level": ..., "event": ..., ...}``; values that JSON does not know as their text."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; under journald with the prefix ``<N>``, which it takes as the line's priority (sd-daemon(3))."""
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = {"timestamp": stamp, "level": record.levelname.lower(), "event": record.getMessage()}
        line = json.dumps({**head, **values_of(record)}, default=str)
        return f"<{_PRIORITIES.get(record.levelname, 6)}>{line}" if os.environ.get("JOURNAL_STREAM") else line


class HumanLines(logging.Formatter):
    """``04:03:29 warning held  rule=empty  subject=site``; the text of a fault or problem stands as it is."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = _COLOURS if colours else {}

    def format(self, record: logging.LogRecord) -> str:
        """One line, in local time."""
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        rest = (str(v) if k in {"fault", "problem"} else f"{k}={v}" for k, v in values_of(record).items())
        line = "  ".join((f"{at} {record.levelname.lower():<7} {record.getMessage()}", *rest))
        colour = self._colours.get(record.levelname, "")
        return f"{colour}{line}{_PLAIN}" if colour else line


def set_up(level: str = "info", form: str = "auto") -> None:
    """Route hafleet's log to stderr. A closed or full stderr stops nobody.

    Args:
        level: debug, info, warning or error.
        form: json, human, or auto (human on a terminal).
    """
    human = form == "human" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        HumanLines(colours=sys.stderr.isatty() and not os.environ.get("NO_COLOR")) if human else JsonLines()
    )
    logging.raiseExceptions = False
    logger = logging.getLogger("hafleet")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(level.upper())
