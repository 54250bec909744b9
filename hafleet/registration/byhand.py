"""Reaping without being a node of the fleet: by an operator's hand, and by the Lambda for a fleet that is scaled to zero."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TypeVar

from hafleet.core.dns.checksteps import clean
from hafleet.core.dns.layout import Blocked
from hafleet.core.dns.model import DnsMemory, Record, Situation
from hafleet.core.dns.places import zones
from hafleet.core.dns.plan import Apply, Move, Scene, Step, Want, describe, first
from hafleet.core.dns.steps import insync
from hafleet.core.dns.want import Timing, make_want
from hafleet.core.model import Group, Held, Node
from hafleet.core.settings import Settings
from hafleet.errors import AwsThrottled, HafleetError, SourceUnavailable
from hafleet.ports import Membership
from hafleet.registration.carrying import Carrier, DnsPorts
from hafleet.registration.reaper import Search, search
from hafleet.registration.registrar import exhaust

T = TypeVar("T")

_TRIES = 12  # of one call that AWS throttles
_BACKOFF_FIRST, _BACKOFF_MOST = 1.0, 20.0  # seconds; full jitter below them
_MOST_ROUNDS = 1000

Read = Callable[[], Group]
Rest = Callable[[float, str], None]  # waits so many seconds; told what for


@dataclass(frozen=True, slots=True)
class Found:
    """What one look found."""

    records: tuple[Record, ...]  # the whole tree
    suspects: tuple[str, ...]  # instances that EC2 says are gone; dead when it says so twice
    lines: tuple[str, ...] = ()  # what would be done now
    held: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class Reaped:
    """What was done."""

    done: tuple[str, ...]
    held: tuple[Held, ...]
    problems: tuple[str, ...]


class Reaper:
    """Looks for what dead nodes left behind, and takes it away.

    Args:
        settings: of the fleet.
        ports: the store among them is not used: nothing is remembered from one run to the next.
        group: reads the fleet's own Auto Scaling group.
        rest: waits.
        place: where the fleet's nodes are, for settings whose groups are named after region or zone.
    """

    def __init__(self, settings: Settings, ports: DnsPorts, group: Read, rest: Rest, place: Node) -> None:
        if settings.dns is None:
            raise HafleetError("the settings have no dns section", where="dns", fix="add one: see docs/dns.md")
        self._settings = settings
        self._dns = settings.dns
        self._ports = replace(ports, store=Nowhere())
        self._carrier = Carrier(self._ports)
        self._group = group
        self._rest = rest
        self._place = place

    def look(self) -> Found:
        """What would be reaped if the second proof of each death said the same as the first. Nothing is written.

        Raises:
            HafleetError: something could not be read, completely.
        """
        move = self._look()
        memory = self._carrier.memory
        if memory.suspects:
            earlier = {node: first - self._dns.reap.confirm for node, first in memory.suspects.items()}
            self._carrier.remember(replace(memory, suspects=earlier))
            move = self._look()
            memory = self._carrier.memory
        lines = describe(move.step.batch) if isinstance(move.step, Apply) else ()
        checks = tuple(f"delete health check {id_}" for id_ in memory.old_checks)
        return Found(self._carrier.seen.records, tuple(sorted(memory.suspects)), (*lines, *checks), move.held)

    def reap(self) -> Reaped:
        """Prove each death twice, ``dns.reap.confirm`` apart, and take away what the dead left.

        Raises:
            HafleetError: something could not be read, completely, or AWS throttles for too long. What was done stays done.
        """
        self._look()
        if self._carrier.memory.suspects:
            self._rest(self._dns.reap.confirm, "the second proof that these instances are gone")
        move = self._look()
        for _ in range(_MOST_ROUNDS):
            if isinstance(move.step, Apply):
                self._carry(move.step)
            self._finish()
            if move.step is None:
                break
            move = self._look()
        log = self._carrier.log
        problems = dict.fromkeys((*log.problems, *map(_text, move.blocked)))
        return Reaped(tuple(log.done), move.held, tuple(problems))

    def _carry(self, step: Step) -> float | None:
        return self._patiently(lambda: self._carrier.carry(step, self._dns.name))

    def _look(self) -> Move:
        """Read the tree, the fleet's checks and the suspects' instances."""
        ports, carrier = self._ports, self._carrier
        zone = ports.dns.zone_id()
        group = self._group()
        situation = Situation(ports.clock.wall(), self._place, False, False, 0.0, group)
        want = make_want(self._settings, self._dns, situation, zone, Timing())
        if isinstance(want, Blocked):
            raise HafleetError(want.what, where=want.where, fix=want.fix)
        self._patiently(lambda: carrier.look(self._dns.name))
        self._want: Want = want
        return self._patiently(lambda: search(carrier, ports, Search(self._settings, self._dns, want, situation)))

    def _finish(self) -> None:
        """Wait until the change is in force, then delete the checks that nothing uses any more."""
        for _ in range(_MOST_ROUNDS):
            scene = Scene(self._want, self._carrier.seen, self._carrier.memory, self._ports.clock.wall())
            step = first((insync(scene), clean(scene))).step
            if step is None:
                return
            wait = self._carry(step)
            if wait is not None:
                self._rest(wait, "Route 53 to answer by the change")

    def _patiently(self, walk: Callable[[], Generator[str, None, T]]) -> T:
        """Carry a walk out, and again while AWS throttles it."""
        for tried in range(_TRIES):
            try:
                return exhaust(walk())
            except AwsThrottled:
                if tried == _TRIES - 1:
                    raise
                most = min(_BACKOFF_MOST, _BACKOFF_FIRST * 2.0**tried)
                self._rest(self._ports.chance.uniform(0.0, most), "AWS throttles")
        raise AssertionError  # the loop returns or raises


class Nowhere:
    """Implements ``ports.DnsStore`` for one run: nothing is kept."""

    def load(self, node_id: str) -> DnsMemory:
        """An empty memory."""
        return DnsMemory(node=node_id)

    def save(self, memory: DnsMemory) -> None:
        """Forget it."""


def place(settings: Settings, region: str, group: str) -> Node:
    """Where the fleet's nodes are, for one who is none of them. Where each zone has a leaf group, any of them will do."""
    found = zones(settings.dns, region) if settings.dns else ()
    return Node("operator", IPv4Address("127.0.0.1"), found[0] if found else "", region, group)


def together(membership: Membership, names: frozenset[str]) -> Group:
    """The fleet's own Auto Scaling groups, read now, as one.

    Raises:
        SourceUnavailable: the read was not complete, or AWS does not know one of them.
    """
    read = membership.read(names, frozenset(), frozenset())
    lost = sorted(names - read.by_name.keys())
    if lost:
        fix = "name the group that the fleet's own nodes are in"
        raise SourceUnavailable(f"AWS knows no group {', '.join(lost)}", where="autoscaling", fix=fix)
    found = [read.by_name[name] for name in sorted(names)]
    instances = tuple(instance for group in found for instance in group.instances)
    return Group(", ".join(sorted(names)), sum(group.desired for group in found), instances)


def _text(blocked: Blocked) -> str:
    return str(HafleetError(blocked.what, where=blocked.where, fix=blocked.fix))
