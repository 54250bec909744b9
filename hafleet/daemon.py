"""``hafleet agent``: the parts around the loop, put together."""

import os
from functools import partial
from pathlib import Path

from hafleet import compose, config
from hafleet.adapters.clock import SystemClock
from hafleet.adapters.lock import NodeLocks
from hafleet.adapters.memory import give_back
from hafleet.adapters.systemd import Notifier
from hafleet.adapters.wakeup import Wakeups
from hafleet.agent import Agent
from hafleet.announcer import Sides
from hafleet.core.events import Heard
from hafleet.core.report import Report
from hafleet.logs import Log
from hafleet.publish import Publisher, status_path
from hafleet.web.metrics import Metrics


def run(path: Path) -> None:
    """Run the agent until it is told to stop.

    Raises:
        SettingsError: the settings are unusable at the start.
        LockHeld: another agent lives on this node.
        HafleetError: the status listener cannot be bound.
    """
    loaded = config.load(path)
    settings = loaded.settings
    log = Log()
    for problem in loaded.problems:
        log.warning("settings", problem=problem.render())
    metrics = Metrics()
    clock = SystemClock()
    wakeups = Wakeups(clock)
    sides = Sides.of(clock)
    workshop = compose.AgentWorkshop(
        path, wakeups, sides, metrics.called, compose.EventOutlet(partial(_told, log), metrics.events)
    )
    publisher = Publisher(metrics, status_path(settings.state_dir), log)

    def publish(report: Report) -> None:
        publisher(report)
        give_back()  # what the pass took to read AWS: until the next one nobody needs it

    agent = Agent(workshop, clock, wakeups, Notifier(os.environ), publish)
    locks = NodeLocks(Path(settings.state_dir))
    agent.hear_signals()
    with locks.agent():
        metrics.listen(settings.status.listen)
        log.info("agent starts", settings=str(path), fleet=settings.fleet, pid=os.getpid())
        notices = compose.notice_watch(settings, wakeups, clock)
        try:
            agent.run(locks)
        finally:
            workshop.stop()
            sides.stop()
            if notices is not None:
                notices.stop()
    log.info("agent stops; HAProxy keeps serving")


def _told(log: Log, heard: Heard) -> None:
    """A message of the event queue that woke nobody: one line."""
    tell = log.warning if heard.odd else log.info
    tell("event", message=heard.text)
