"""The DNS pass of one node: look, decide and do, report; and how long to wait after a failure."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TypeVar

from hafleet.core.dns.layout import Blocked
from hafleet.core.dns.model import Situation
from hafleet.core.dns.plan import Move, Scene, Wait, Want
from hafleet.core.dns.report import DnsPlan, DnsReport
from hafleet.core.dns.steps import next_step
from hafleet.core.dns.want import Timing, leaf_group, make_want
from hafleet.core.model import Group, Held
from hafleet.core.settings import Settings
from hafleet.errors import AwsThrottled, HafleetError
from hafleet.registration.carrying import Carrier, DnsPorts
from hafleet.registration.looks import Looks
from hafleet.registration.reaper import Search, pause, search
from hafleet.registration.rehearsal import rehearse

T = TypeVar("T")

_MOST_STEPS = 500  # of one pass; a plan that does not end is a fault of ours
_BACKOFF_FIRST = 1.0  # seconds; full jitter below it, and below twice as much after each failure, up to:
_BACKOFF_BUSY = 30.0  # where Route 53 throttles, and for a node that leaves
_BACKOFF_MOST = (
    300.0  # where it denies or does not answer, or throttles for long: a whole fleet may be asking so for days
)
_LONG = 10  # failures in a row
_SHORTEST = 1.0  # seconds to the next pass while nothing is pending

Steps = Generator[str, None, DnsReport]  # yields the name of a call before it is made


@dataclass(frozen=True, slots=True)
class _End:
    """How the steps of a pass ended."""

    move: Move
    wait: float | None = None  # seconds; None: nothing is pending
    held: tuple[Held, ...] = ()  # of reaping


@dataclass(frozen=True, slots=True)
class _Told:
    """What the last whole pass knew."""

    registered: bool = False
    leads: bool = False


class Registrar:
    """One node's registration. Used by one thread; lives as long as its settings do."""

    def __init__(self, settings: Settings, ports: DnsPorts) -> None:
        if settings.dns is None:
            raise HafleetError("the settings have no dns section", where="dns", fix="add one, or do not ask for it")
        self._settings = settings
        self._dns = settings.dns
        self._ports = ports
        self._carrier = Carrier(ports)
        self._looks = Looks(self._dns, ports, self._carrier)
        self._zone = ""
        self._left_at = 0.0  # wall clock of the first pass that was told to leave; 0 while none is
        self._retry_at = 0.0  # monotonic
        self._failures = 0  # passes in a row that AWS broke off
        self._told = _Told()
        self._reap_at = 0.0  # monotonic; after a look for dead nodes' things that failed
        self._reap_trouble = ""  # why it did

    # --- public -----------------------------------------------------------------------------------------------------

    def run(self, situation: Situation) -> DnsReport:
        """One pass: all that can be done now. Never raises a HafleetError: problems are in the report."""
        return exhaust(self.walk(situation))

    def walk(self, situation: Situation) -> Steps:
        """The same pass as a generator that stops before each call to AWS and yields its name."""
        now = self._ports.clock.monotonic()
        self._carrier.log.done.clear()
        if situation.leaving and not self._left_at:
            self._retry_at, self._failures = 0.0, 0
        if now < self._retry_at:
            return self._report(situation, "AWS to answer", self._retry_at - now)
        try:
            report = yield from self._pass(situation)
        except HafleetError as error:
            return self._failed(situation, error)
        self._failures = 0
        return report

    def plan(self, situation: Situation) -> DnsPlan:
        """Every step to what is wanted, each taken to succeed. Reads, and writes nothing.

        Raises:
            HafleetError: the zone, the tree, a check or the memory cannot be read.
        """
        self._carrier.load(situation.node.id)
        self._zone = self._zone or self._ports.dns.zone_id()
        exhaust(self._carrier.look(self._dns.name))
        want = self._want(situation)
        if isinstance(want, Blocked):
            raise HafleetError(want.what, where=want.where, fix=want.fix)
        seen = replace(self._carrier.seen, repair=True)
        scene = Scene(want, seen, self._carrier.memory, situation.at)
        return rehearse(scene, self._ports.dns.check)

    # --- the pass ---------------------------------------------------------------------------------------------------

    def _pass(self, situation: Situation) -> Steps:
        self._carrier.load(situation.node.id)
        if situation.leaving and not self._left_at:
            self._left_at = situation.at
            self._looks.now()
        elif not situation.leaving:
            self._left_at = 0.0
        if self._idle(situation):
            self._told = _Told()
            return self._report(situation, "", self._dns.interval)
        wait = self._looks.begin(situation)
        if wait:
            return self._report(situation, "its turn to look", wait)
        if not self._zone:
            yield "GetHostedZone"
            self._zone = self._ports.dns.zone_id()
        want = self._want(situation)
        if isinstance(want, Blocked):
            self._carrier.log.problems.append(_text(want))
            return self._report(situation, "", self._dns.interval)
        yield from self._looks.look(want)
        end = yield from self._steps(situation)
        return self._ended(situation, end)

    def _steps(self, situation: Situation) -> Generator[str, None, _End]:
        """Decide and do, until nothing is left or it must wait."""
        held: tuple[Held, ...] = ()
        for _ in range(_MOST_STEPS):
            if self._carrier.blind:
                yield from self._carrier.look(self._dns.name)
            want = self._want(situation)
            if isinstance(want, Blocked):
                return _End(Move(blocked=(want,)))
            scene = Scene(want, self._carrier.seen, self._carrier.memory, self._ports.clock.wall())
            move = next_step(scene)
            if (move.step is None or isinstance(move.step, Wait)) and self._reaps(situation, want):
                held = yield from self._reap(want, situation)
                continue
            if move.step is None:
                return _End(move, held=held)
            wait = yield from self._carrier.carry(move.step, self._dns.name)
            self._looks.note(want)
            if wait is not None:
                return _End(move, wait, held)
        raise HafleetError("the plan does not come to an end", where="dns", fix="report it, with `hafleet dns plan`")

    def _want(self, situation: Situation) -> Want | Blocked:
        timing = Timing(self._left_at or situation.at, nonce=self._ports.nonce())
        want = make_want(self._settings, self._dns, situation, self._zone, timing)
        return want if isinstance(want, Blocked) else replace(want, join_at=self._looks.turn(want))

    def _idle(self, situation: Situation) -> bool:
        """True for a node that has nothing in Route 53, and nothing to do there: not yet, or not any more."""
        memory, carrier = self._carrier.memory, self._carrier
        if memory.checks or memory.old_checks or memory.change:
            return False
        if situation.leaving:
            live = [i.id for i in leaf_group(self._dns, situation) if i.serves]
            leads = situation.node.id == min(live, default="")
            return not carrier.blind and not carrier.seen.own(situation.node.id) and not leads
        return carrier.blind and not situation.serves and not memory.changed_at

    def _reaps(self, situation: Situation, want: Want) -> bool:
        """True when this node should look for dead nodes' things now."""
        memory, now = self._carrier.memory, self._ports.clock.wall()
        if not want.leads or not self._carrier.seen.fresh or memory.change or not isinstance(situation.group, Group):
            return False
        since = now - memory.reaped_at  # below zero: the clock went back
        return self._ports.clock.monotonic() >= self._reap_at and not 0 <= since < pause(self._dns.reap, memory)

    def _reap(self, want: Want, situation: Situation) -> Generator[str, None, tuple[Held, ...]]:
        """Look for dead nodes' things, and take away what may go. A look that fails keeps this node from nothing else."""
        self._looks.later(1)
        try:
            found = yield from search(self._carrier, self._ports, Search(self._settings, self._dns, want, situation))
        except HafleetError as error:
            self._reap_at = self._ports.clock.monotonic() + self._dns.reap.interval
            self._reap_trouble = str(error)
            return ()
        self._reap_trouble = ""
        if found.step is not None:
            yield from self._carrier.carry(found.step, self._dns.name)
        self._carrier.log.problems += [_text(blocked) for blocked in found.blocked]
        return found.held

    # --- the end of a pass ------------------------------------------------------------------------------------------

    def _ended(self, situation: Situation, end: _End) -> DnsReport:
        self._carrier.log.problems += [_text(blocked) for blocked in end.move.blocked]
        if self._reap_trouble and self._told.leads:
            self._carrier.log.problems.append(self._reap_trouble)
        step = end.move.step
        waiting = step.reason if isinstance(step, Wait) else "the change to be in force" if step else ""
        want, seen, left = self._want(situation), self._carrier.seen, self._looks.left
        if isinstance(want, Want):
            stands = all(seen.leaf(want, type_) for type_ in want.layout.types)
            self._told = _Told(stands and not self._carrier.blind and not self._carrier.memory.change, want.leads)
        pending = max(_SHORTEST, left) if end.wait is None else min(end.wait, left or end.wait)
        return replace(self._report(situation, waiting, pending), held=(*end.move.held, *end.held))

    def _failed(self, situation: Situation, error: HafleetError) -> DnsReport:
        """AWS broke the pass off: full jitter, longer each time, for ever."""
        hurries = situation.leaving or (isinstance(error, AwsThrottled) and self._failures < _LONG)
        most = min(_BACKOFF_BUSY if hurries else _BACKOFF_MOST, _BACKOFF_FIRST * 2.0**self._failures)
        self._failures = min(self._failures + 1, _LONG)
        wait = self._ports.chance.uniform(0.0, most)
        self._retry_at = self._ports.clock.monotonic() + wait
        self._carrier.log.problems.append(str(error))
        return self._report(situation, "AWS to answer", wait)

    def _report(self, situation: Situation, waiting: str, wait: float) -> DnsReport:
        """What is not known now is told as it was known last: AWS away is no reason to call a node unregistered."""
        log = self._carrier.log
        return DnsReport(
            at=situation.at,
            registered=self._told.registered,
            records=self._carrier.seen.own(situation.node.id),
            leads=self._told.leads,
            done=tuple(log.done),
            problems=tuple(dict.fromkeys(log.problems)),
            waiting=waiting,
            next_at=max(0.0, wait),
        )


def exhaust(walk: Generator[str, None, T]) -> T:
    """Run a walk through; what it returns."""
    while True:
        try:
            next(walk)
        except StopIteration as end:
            found: T = end.value
            return found


def _text(blocked: Blocked) -> str:
    return str(HafleetError(blocked.what, where=blocked.where, fix=blocked.fix))
