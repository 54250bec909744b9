"""The product's log, kept for a test."""

import itertools
import logging

from hafleet.logs import Log, values_of

_NUMBERS = itertools.count()


class Kept(logging.Handler):
    """What was logged, as mappings with ``event``, ``level`` and what came with the event."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        head = {"event": record.getMessage(), "level": record.levelname.lower()}
        self.entries.append({**head, **values_of(record)})


def logged(handler: logging.Handler, level: int = logging.INFO) -> Log:
    """A log of its own that goes to this handler alone."""
    logger = logging.getLogger(f"hafleet-test-{next(_NUMBERS)}")
    logger.propagate = False
    logger.setLevel(level)
    logger.addHandler(handler)
    return Log(logger)
