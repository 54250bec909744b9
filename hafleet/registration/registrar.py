"""The DNS pass of one node: when to look at what, whose turn it is, and how long to wait after a failure."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from math import ceil
from typing import TypeVar

from hafleet.core.dns import pace
from hafleet.core.dns.layout import Blocked
from hafleet.core.dns.model import Situation
from hafleet.core.dns.plan import Move, Scene, Wait, Want
from hafleet.core.dns.report import DnsPlan, DnsReport
from hafleet.core.dns.shared import joining, repairs
from hafleet.core.dns.steps import next_step
from hafleet.core.dns.want import Timing, make_want
from hafleet.core.model import Group, Held
from hafleet.core.settings import Settings
from hafleet.errors import HafleetError
from hafleet.registration.carrying import Carrier, DnsPorts, Walk
from hafleet.registration.reaper import Search, pause, search
from hafleet.registration.rehearsal import rehearse

T = TypeVar("T")

_MOST_STEPS = 500  # of one pass; a plan that does not end is a fault of ours
_PAGE = 300  # records that one call lists
_BACKOFF_FIRST, _BACKOFF_MOST = 1.0, 30.0  # seconds; full jitter below them
_SHORTEST = 1.0  # seconds to the next pass while nothing is pending
_CHECK_EVERY = 60  # looks: so seldom is the health check looked at instead of the record

Steps = Generator[str, None, DnsReport]  # yields the name of a call before it is made


@dataclass(slots=True)
class _Times:
    """When what is due. Monotonic seconds, but where it says otherwise."""

    started: float = 0.0
    look_at: float | None = None  # None before the first pass
    retry_at: float = 0.0
    failures: int = 0  # passes in a row that AWS broke off
    looks: int = 0
    tree: bool = False  # the next look must be at the tree
    left_at: float = 0.0  # wall clock of the first pass that was told to leave
    join_at: float | None = None  # this node's turn


@dataclass(frozen=True, slots=True)
class _End:
    """How the steps of a pass ended."""

    move: Move
    wait: float | None = None  # seconds; None: nothing is pending
    held: tuple[Held, ...] = ()  # of reaping


class Registrar:
    """One node's registration. Used by one thread; lives as long as its settings do."""

    def __init__(self, settings: Settings, ports: DnsPorts) -> None:
        if settings.dns is None:
            raise HafleetError("the settings have no dns section", where="dns", fix="add one, or do not ask for it")
        self._settings = settings
        self._dns = settings.dns
        self._ports = ports
        self._carrier = Carrier(ports)
        self._times = _Times()
        self._zone = ""

    # --- public -----------------------------------------------------------------------------------------------------

    def run(self, situation: Situation) -> DnsReport:
        """One pass: all that can be done now. Never raises a HafleetError: problems are in the report."""
        return exhaust(self.walk(situation))

    def walk(self, situation: Situation) -> Steps:
        """The same pass as a generator that stops before each call to AWS and yields its name."""
        now = self._ports.clock.monotonic()
        if now < self._times.retry_at:
            return self._report(situation, None, "AWS did not answer", self._times.retry_at - now)
        try:
            report = yield from self._pass(situation)
        except HafleetError as error:
            return self._failed(situation, error)
        self._times.failures = 0
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
        if situation.leaving and not self._times.left_at:
            self._times.left_at, self._times.look_at = situation.at, self._ports.clock.monotonic()
        elif not situation.leaving:
            self._times.left_at = 0.0
        if self._idle(situation):
            return self._report(situation, None, "", self._dns.interval)
        if self._times.look_at is None:
            self._times.started = self._ports.clock.monotonic()
            self._times.look_at = self._times.started + self._first_delay(situation)
        if self._carrier.blind and not self._times.looks and self._left():
            return self._report(situation, None, "other nodes look first", self._left())
        if not self._zone:
            yield "GetHostedZone"
            self._zone = self._ports.dns.zone_id()
        want = self._want(situation)
        if isinstance(want, Blocked):
            self._carrier.log.problems.append(_text(want))
            return self._report(situation, None, "", self._dns.interval)
        yield from self._look(want)
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
            self._noted(want)
            if wait is not None:
                return _End(move, wait, held)
        raise HafleetError("the plan does not come to an end", where="dns", fix="report it, with `hafleet dns plan`")

    def _want(self, situation: Situation) -> Want | Blocked:
        times = self._times
        timing = Timing(times.left_at or situation.at, 0.0, self._ports.nonce())
        want = make_want(self._settings, self._dns, situation, self._zone, timing)
        if isinstance(want, Blocked) or self._carrier.blind:
            return want
        if all(self._carrier.seen.leaf(want, type_) for type_ in want.layout.types):
            if times.join_at is not None:
                self._next_look(1)
            times.join_at = None
        elif times.join_at is None and want.serves and not want.leaving:
            others = joining(want, self._carrier.seen)
            checks = sum(len(checks) for checks in want.checks.values())
            waited = self._ports.clock.monotonic() - times.started
            rank, registered = others.index(want.node), len(want.members - set(others))
            delay = pace.turn(self._dns.limits, rank, max(1, checks), waited, registered)
            times.join_at = self._ports.clock.monotonic() + delay
        if times.join_at is None:
            return want
        return replace(want, join_at=self._ports.clock.wall() + times.join_at - self._ports.clock.monotonic())

    def _noted(self, want: Want) -> None:
        """Aliases that others were to make are looked for at the next look."""
        seen = self._carrier.seen
        own = replace(want, leads=False)
        self._times.tree = self._times.tree or any(repairs(own, seen, type_) for type_ in want.layout.types)

    # --- looking ----------------------------------------------------------------------------------------------------

    def _idle(self, situation: Situation) -> bool:
        """True for a node that has nothing in Route 53, and nothing to do there: not yet, or not any more."""
        memory, carrier = self._carrier.memory, self._carrier
        if memory.checks or memory.old_checks or memory.change:
            return False
        if situation.leaving:
            return not carrier.blind and not carrier.seen.own(situation.node.id) and not _leads(situation)
        return carrier.blind and not situation.serves and not memory.changed_at

    def _look(self, want: Want) -> Walk:
        """Look, if it is time: at the tree, at the own record, or at its health check."""
        times = self._times
        begun = self._ports.clock.monotonic() - self._dns.interval
        joins = times.join_at is not None and begun < times.join_at
        if not self._carrier.blind and (joins or self._left()):
            return None  # what a joining node saw before its turn will do: what has changed since, Route 53 will tell
        times.looks += 1
        seen = self._carrier.seen
        leaves = [leaf for type_ in want.layout.types if (leaf := seen.leaf(want, type_))]
        calls = 1
        if self._carrier.blind or want.leads or want.leaving or times.tree or len(leaves) < len(want.layout.types):
            yield from self._carrier.look(self._dns.name)
            calls = max(1, ceil(len(self._carrier.seen.records) / _PAGE))
            self._after_tree(want)
        else:
            leaf = leaves[times.looks % len(leaves)]
            if times.looks % _CHECK_EVERY == 0 and leaf.check:
                yield from self._carrier.look_at_check(leaf.check)
            else:
                yield "ListResourceRecordSets"
                found = self._ports.dns.record(*leaf.key)
                rest = tuple(record for record in seen.records if record.key != leaf.key)
                records = rest if found is None else (*rest, found)
                self._carrier.seen = replace(seen, records=records, fresh=False, repair=False)
        self._next_look(calls)
        return None

    def _after_tree(self, want: Want) -> None:
        """What is missing above a record that stood already, or beside a node that does not join, is nobody's work in progress."""
        seen, self._times.tree = self._carrier.seen, False
        joins = want.serves and not want.leaving
        stood = all(seen.leaf(want, type_) for type_ in want.layout.types)
        self._carrier.seen = replace(seen, repair=stood or not joins)

    def _next_look(self, calls: int) -> None:
        """Looks are so far apart that a node makes one call an interval, whatever it looks at."""
        pause = self._dns.interval * self._ports.chance.uniform(1.0, 1.2) * calls
        self._times.look_at = max(self._times.look_at or 0.0, self._ports.clock.monotonic()) + pause

    def _first_delay(self, situation: Situation) -> float:
        """Seconds that this node lets others of its group look first. One that leaves waits for nobody."""
        group = situation.group.instances if isinstance(situation.group, Group) else ()
        ids = {i.id for i in group if i.serves or i.comes} | {situation.node.id}
        rank = 0 if situation.leaving else sorted(ids).index(situation.node.id)
        return pace.look_delay(self._dns.limits, rank, 1 + ceil(len(ids) / _PAGE))

    def _left(self) -> float:
        """Seconds to the next look."""
        return max(0.0, (self._times.look_at or 0.0) - self._ports.clock.monotonic())

    def _reaps(self, situation: Situation, want: Want) -> bool:
        """True when this node should look for dead nodes' things now."""
        memory, now = self._carrier.memory, self._ports.clock.wall()
        if not want.leads or not self._carrier.seen.fresh or memory.change or not isinstance(situation.group, Group):
            return False
        return now >= min(memory.reaped_at, now) + pause(self._dns.reap, memory)

    def _reap(self, want: Want, situation: Situation) -> Generator[str, None, tuple[Held, ...]]:
        """Look for dead nodes' things, and take away what may go."""
        found = yield from search(self._carrier, self._ports, Search(self._settings, self._dns, want, situation))
        self._next_look(1)
        if found.step is not None:
            yield from self._carrier.carry(found.step, self._dns.name)
        self._carrier.log.problems += [_text(blocked) for blocked in found.blocked]
        return found.held

    # --- the end of a pass ------------------------------------------------------------------------------------------

    def _ended(self, situation: Situation, end: _End) -> DnsReport:
        self._carrier.log.problems += [_text(blocked) for blocked in end.move.blocked]
        step = end.move.step
        waiting = step.reason if isinstance(step, Wait) else "the change to be in force" if step else ""
        want = self._want(situation)
        pending = max(_SHORTEST, self._left()) if end.wait is None else min(end.wait, self._left() or end.wait)
        report = self._report(situation, want if isinstance(want, Want) else None, waiting, pending)
        return replace(report, held=(*end.move.held, *end.held))

    def _failed(self, situation: Situation, error: HafleetError) -> DnsReport:
        """AWS broke the pass off: full jitter, longer each time, for ever."""
        times = self._times
        most = min(_BACKOFF_MOST, _BACKOFF_FIRST * 2.0**times.failures)
        times.failures = min(times.failures + 1, 10)
        wait = self._ports.chance.uniform(0.0, most)
        times.retry_at = self._ports.clock.monotonic() + wait
        self._carrier.log.problems.append(str(error))
        return self._report(situation, None, "AWS to answer", wait)

    def _report(self, situation: Situation, want: Want | None, waiting: str, wait: float) -> DnsReport:
        seen, log = self._carrier.seen, self._carrier.log
        done = want is not None and all(seen.leaf(want, type_) for type_ in want.layout.types)
        return DnsReport(
            at=situation.at,
            registered=done and not self._carrier.blind and not self._carrier.memory.change,
            records=seen.own(situation.node.id),
            leads=want is not None and want.leads,
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


def _leads(situation: Situation) -> bool:
    """True for the node in service with the lowest id of its group."""
    group = situation.group
    return isinstance(group, Group) and situation.node.id == min(
        (i.id for i in group.instances if i.serves), default=""
    )


def _text(blocked: Blocked) -> str:
    return str(HafleetError(blocked.what, where=blocked.where, fix=blocked.fix))
