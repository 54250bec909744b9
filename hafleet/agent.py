"""The loop: wait for a reason, let it settle, run one pass, report. It ends on SIGTERM without touching traffic.

Sources of wake-ups block in their own threads and put a reason on one queue; this thread alone runs passes. A pass that fails
does not end the loop: its error is reported, and the next pass observes afresh.
"""

import math
import random
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from hafleet.core import cuts, endings, situation, waking
from hafleet.core import report as core_report
from hafleet.core.cfgtext import parse
from hafleet.core.dns.model import Situation
from hafleet.core.dns.report import DnsReport
from hafleet.core.endings import EndingReport, EndingSituation
from hafleet.core.life import LifeReport, LifeSituation
from hafleet.core.model import Unknown
from hafleet.core.report import Report
from hafleet.core.settings import Settings
from hafleet.errors import HafleetError, SettingsError
from hafleet.ports import Clock, History, Locks, Notifier, Wakeups, Watch
from hafleet.reconcile import Outcome, Plan, Reconciler, cut_by

_TRY_AGAIN = "?"  # the digest of no file
_BACKOFF_MOST = 60.0  # seconds added to the interval at most while AWS does not answer


def nobody(_situation: object) -> None:
    """A side that the settings have no section for."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """The agent's parts for one set of settings."""

    settings: Settings
    digest: str  # of the settings file; a change builds the parts anew
    reconciler: Reconciler
    history: History
    watch_paths: tuple[Path, ...]
    announce: Callable[[Situation | None], DnsReport | None] = nobody  # tells the DNS side, and what that reported last
    attend: Callable[[LifeSituation | None], LifeReport | None] = nobody  # the same of the hooks' side
    usher: Callable[[EndingSituation | None], EndingReport | None] = nobody  # and of the servers' side


class Workshop(Protocol):
    """Builds the parts from the settings file: the composition root's side of the agent."""

    def digest(self) -> str:
        """What the settings file holds now; "" when it cannot be read."""
        ...

    def assemble(self) -> Assembly:
        """The parts. Raises SettingsError."""
        ...

    def watch(self, paths: tuple[Path, ...]) -> Watch:
        """Start to watch these paths."""
        ...


class Agent:
    """One node's agent. ``publish`` is called with every report (log, status file, metrics)."""

    def __init__(
        self, workshop: Workshop, clock: Clock, wakeups: Wakeups, notifier: Notifier, publish: Callable[[Report], None]
    ) -> None:
        self._workshop = workshop
        self._clock = clock
        self._wakeups = wakeups
        self._notifier = notifier
        self._publish = publish
        self._stopping = False
        self._refused: tuple[str, HafleetError] | None = None  # digest of settings that were refused, and why
        self._unwatched: HafleetError | None = None  # why no file is watched
        self._failures = 0  # passes in a row that could not read the groups
        self._ledger = cuts.Ledger()
        self._woken = -math.inf  # monotonic; the end of the last pass that something woke
        self._calm = False  # nothing of the last pass waits for AWS

    def run(self, locks: Locks, passes: int | None = None) -> None:
        """Run until SIGTERM or SIGINT (or ``passes`` passes). The caller holds the agent's lock.

        Raises:
            SettingsError: the settings are unusable at the start; later ones are reported and the old ones stay.
        """
        self.hear_signals()
        assembly = self._workshop.assemble()
        watch = self._watch(assembly.watch_paths)
        wake: tuple[str, ...] = ("start",)
        done = 0
        try:
            while not self._stopping and done != passes:
                fresh = self._current(assembly)
                if watch is None or fresh.watch_paths != assembly.watch_paths:
                    if watch is not None:
                        watch.stop()
                    watch = self._watch(fresh.watch_paths)
                assembly = fresh
                fault = self._told(self._guarded_pass(assembly, wake, locks))
                done += 1
                self._woken = self._woken if waking.by_timer(wake) else self._clock.monotonic()
                self._notifier.tell("READY=1", f"STATUS=pass {done} done{fault}")
                if done != passes:
                    wake = self._sleep(assembly.settings)
        finally:
            if watch is not None:
                watch.stop()
            self._notifier.tell("STOPPING=1")

    def hear_signals(self) -> None:
        """From now on signals are obeyed, before the first pass too: unheard, they would end the process where it stands."""
        for number, reason in ((signal.SIGTERM, ""), (signal.SIGINT, ""), (signal.SIGHUP, "SIGHUP")):
            signal.signal(number, self._hear(reason))

    def _hear(self, reason: str) -> Callable[[int, FrameType | None], None]:
        def handler(_signal: int, _frame: FrameType | None) -> None:
            if not reason:
                self._stopping = True
            self._wakeups.wake(reason or "stop")

        return handler

    def _watch(self, paths: tuple[Path, ...]) -> Watch | None:
        """A watch of these files. Without one (a system out of inotify watches) the timer finds changes; each pass tries anew."""
        self._unwatched = None
        try:
            return self._workshop.watch(paths)
        except HafleetError as error:
            self._unwatched = error
            return None

    def _told(self, report: Report) -> str:
        """Publish a report. One that cannot be told (a log on a full disk) stops no pass: the supervisor's status says so."""
        try:
            self._publish(report)
        except Exception as error:
            return f"; its report could not be published: {type(error).__name__} {error}".replace("\n", " ")
        return ""

    def _current(self, assembly: Assembly) -> Assembly:
        """The parts for what the settings file holds now; refused settings leave the old parts in use."""
        digest = self._workshop.digest()
        if digest == assembly.digest:
            self._refused = None
            return assembly
        if self._refused is not None and self._refused[0] == digest:
            return assembly
        try:
            fresh = self._workshop.assemble()
        except SettingsError as error:
            self._refused = (digest, error)
            return assembly
        except (
            Exception
        ) as error:  # such as a package that is being replaced: the parts in use go on, and it is tried again
            fault = HafleetError(f"the changed settings cannot be taken up: {type(error).__name__} {error}")
            self._refused = (_TRY_AGAIN, fault)
            return assembly
        self._refused = None
        return fresh

    def _guarded_pass(self, assembly: Assembly, wake: tuple[str, ...], locks: Locks) -> Report:
        """One pass that cannot end the loop: whatever it throws becomes a report, and the next pass observes afresh."""
        try:
            with locks.one_pass():
                return self._pass(assembly, wake)
        except HafleetError as error:
            fault = str(error)
        except Exception:  # a fault of our own must not stop the loop: it is reported with its trace
            fault = f"internal error, please report it: {traceback.format_exc()}"
        return core_report.failed(assembly.settings.fleet, self._clock.wall(), wake, fault)

    def _pass(self, assembly: Assembly, wake: tuple[str, ...]) -> Report:
        started = self._clock.monotonic()
        reconciler = assembly.reconciler
        rests, self._calm = self._calm and waking.by_timer(wake), False
        world = reconciler.observe(rests=rests)
        self._notifier.feed()
        plan = reconciler.plan(world)
        outcome = reconciler.apply(plan)
        self._notifier.feed()
        faults = keep_history(assembly.history, plan, outcome)
        self._failures = self._failures + 1 if isinstance(world.groups, Unknown) else 0
        self._calm = not (plan.errors or outcome.errors) and waking.calm(plan.decision.memory, plan.held)
        faults += tuple(f for f in (self._refused and self._refused[1], self._unwatched) if f is not None)
        dns = assembly.announce(situation.situation(world, plan.decision, assembly.settings.lifecycle))
        registers = assembly.settings.dns is not None or assembly.settings.eip is not None
        life = assembly.attend(situation.life(world, plan.decision, dns, registers=registers))
        ending = assembly.usher(endings.situation(assembly.settings, world, plan.decision))
        self._ledger = cuts.after(self._ledger, cut_by(assembly.settings, plan, outcome, life))
        around = Circumstances(
            wake, self._clock.monotonic() - started, faults, dns, life, ending, cut=self._ledger.cuts
        )
        return make_report(assembly.settings, plan, outcome, around)

    def _sleep(self, settings: Settings) -> tuple[str, ...]:
        """Wait for the timer or a reason; let a burst of reasons settle; feed the watchdog meanwhile.

        The first reason after a quiet time is acted on at once; those that follow become one pass ``settle_max`` later. Files
        always settle: several change together, and half of a change is worth nothing.
        """
        until = self._clock.monotonic() + self._pause(settings)
        woken = False
        while not self._stopping and not woken:
            left = until - self._clock.monotonic()
            if left <= 0:
                return (waking.TIMER,)
            woken = self._wakeups.wait(min(left, self._notifier.watchdog / 3 or left))
            self._notifier.feed()
        reasons, timing = self._wakeups.take(), settings.passes
        files = all(map(waking.settles, reasons))
        latest = (self._clock.monotonic() if files else self._woken) + timing.settle_max
        while not self._stopping and (left := latest - self._clock.monotonic()) > 0:
            if not self._wakeups.wait(min(timing.settle_min, left) if files else left):
                break
            reasons += self._wakeups.take()
        return tuple(dict.fromkeys(reasons))

    def _pause(self, settings: Settings) -> float:
        """Seconds to the next timer: the interval with jitter, and full-jitter backoff while AWS does not answer."""
        timing = settings.passes
        pause = timing.interval * (1 + timing.jitter * random.uniform(-1, 1))
        if self._failures:
            pause += random.uniform(0, min(_BACKOFF_MOST, timing.interval * 2 ** min(self._failures, 10)))
        return pause


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a pass does not know of itself: why it ran, how long it took, what else went wrong around it."""

    wake: tuple[str, ...]
    duration: float
    faults: tuple[HafleetError, ...] = ()
    dns: DnsReport | None = None
    life: LifeReport | None = None
    endings: EndingReport | None = None
    cut: tuple[cuts.Cut, ...] = ()


def keep_history(history: History, plan: Plan, outcome: Outcome) -> tuple[HafleetError, ...]:
    """After a pass that changed the live file: keep it for ``hafleet rollback``. A full disk is a fault, not a stop."""
    if not outcome.wrote or plan.wanted is None:
        return ()
    try:
        history.keep(plan.wanted, parse(plan.wanted.text).structure, plan.world.at)
    except HafleetError as error:
        return (error,)
    return ()


def make_report(settings: Settings, plan: Plan, outcome: Outcome, around: Circumstances) -> Report:
    """The pass as one value for the log, the status file and the metrics."""
    world, memory = plan.world, plan.decision.memory
    errors = (*plan.errors, *outcome.errors, *around.faults)
    return Report(
        at=world.at,
        fleet=settings.fleet,
        node=core_report.node_name(world, memory),
        wake=around.wake,
        duration=round(around.duration, 6),
        commands=outcome.commands,
        wrote=outcome.wrote,
        reloaded=outcome.reloaded,
        held=plan.held,
        errors=tuple(str(error) for error in errors),
        backends=core_report.backend_reports(memory.members, world.worker),
        peers=core_report.peer_names(memory.peers),
        proxy=core_report.proxy_report(world.worker),
        membership_at=memory.read_at,
        frozen=memory.frozen,
        phase=memory.phase,
        leaving=tuple(claim.reason for _, claim in sorted(memory.leaving.items())),
        red_since=memory.red_since,
        notices=core_report.announced(world.notices),
        orders=tuple(order.sentence for order in memory.orders),
        dns=around.dns,
        life=around.life,
        cuts=around.cut,
        endings=around.endings,
    )
