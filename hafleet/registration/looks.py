"""When one node looks at what in Route 53, and when its turn to join comes. Every time here is monotonic seconds."""

from dataclasses import replace
from math import ceil

from hafleet.core.dns import pace
from hafleet.core.dns.model import Situation
from hafleet.core.dns.plan import Want
from hafleet.core.dns.shared import joining, repairs
from hafleet.core.dns_settings import Dns
from hafleet.core.model import Group
from hafleet.registration.carrying import Carrier, DnsPorts, Walk

_PAGE = 300  # records that one call lists
_CHECK_EVERY = 60  # looks: so seldom is the health check looked at instead of the record


class Looks:
    """One node's looks. It makes one call an interval, whatever it looks at."""

    def __init__(self, dns: Dns, ports: DnsPorts, carrier: Carrier) -> None:
        self._dns = dns
        self._ports = ports
        self._carrier = carrier
        self._started = ports.clock.monotonic()
        self._due: float | None = None  # None before the first pass
        self._count = 0
        self._tree = False  # the next look must be at the tree
        self._turn: float | None = None  # this node's turn to join; None while it does not join

    @property
    def left(self) -> float:
        """Seconds to the next look; 0 when it is due."""
        return max(0.0, (self._due or 0.0) - self._ports.clock.monotonic())

    def begin(self, situation: Situation) -> float:
        """Seconds to wait before the first look of this agent's life, so that the nodes of a group do not look at once."""
        if self._due is None:
            self._due = self._started + self._first_delay(situation)
        return self.left if self._carrier.blind and not self._count else 0.0

    def now(self) -> None:
        """The next look is due at once."""
        self._due = self._ports.clock.monotonic()

    def later(self, calls: int) -> None:
        """Put the next look off by so many intervals: that many calls were made."""
        pause = self._dns.interval * self._ports.chance.uniform(1.0, 1.2) * calls
        self._due = max(self._due or 0.0, self._ports.clock.monotonic()) + pause

    def look(self, want: Want) -> Walk:
        """Look, if it is time: at the tree, at the own record, or at its health check."""
        if not self._carrier.blind and (self._joins() or self.left):
            return None
        self._count += 1
        seen = self._carrier.seen
        leaves = [leaf for type_ in want.layout.types if (leaf := seen.leaf(want, type_))]
        calls = 1
        if self._carrier.blind or want.leads or want.leaving or self._tree or len(leaves) < len(want.layout.types):
            yield from self._carrier.look(self._dns.name)
            calls = max(1, ceil(len(self._carrier.seen.records) / _PAGE))
            self._after_tree(want)
        else:
            leaf = leaves[self._count % len(leaves)]
            if self._count % _CHECK_EVERY == 0 and leaf.check:
                yield from self._carrier.look_at_check(leaf.check)
            else:
                yield from self._carrier.look_at_record(leaf.key)
        self.later(calls)
        return None

    def turn(self, want: Want) -> float:
        """Wall clock of this node's turn to join; 0 when it need not wait."""
        clock, seen = self._ports.clock, self._carrier.seen
        if self._carrier.blind:
            return 0.0
        if all(seen.leaf(want, type_) for type_ in want.layout.types):
            if self._turn is not None:  # it has just joined: what it saw is new
                self.now()
                self.later(1)
            self._turn = None
        elif self._turn is None and want.serves and not want.leaving:
            others = joining(want, seen)
            checks = max(1, sum(len(checks) for checks in want.checks.values()))
            rank, registered = others.index(want.node), len(want.members - set(others))
            now = clock.monotonic()
            self._turn = now + pace.turn(self._dns.limits, rank, checks, now - self._started, registered)
        return 0.0 if self._turn is None else clock.wall() + self._turn - clock.monotonic()

    def note(self, want: Want) -> None:
        """Aliases that others were to make are looked for at the next look."""
        own = replace(want, leads=False)
        self._tree = self._tree or any(repairs(own, self._carrier.seen, type_) for type_ in want.layout.types)

    def _joins(self) -> bool:
        """True while a node waits for its turn, or it has just come: what it saw will do, and where not, Route 53 refuses."""
        return self._turn is not None and self._ports.clock.monotonic() < self._turn + self._dns.interval

    def _after_tree(self, want: Want) -> None:
        """What is missing above a record that stood already, or beside a node that does not join, is nobody's work in progress."""
        seen, self._tree = self._carrier.seen, False
        joins = want.serves and not want.leaving
        stood = all(seen.leaf(want, type_) for type_ in want.layout.types)
        self._carrier.seen = replace(seen, repair=stood or not joins)

    def _first_delay(self, situation: Situation) -> float:
        """Seconds that this node lets others of its group look first. One that leaves waits for nobody."""
        group = (
            situation.group.instances if isinstance(situation.group, Group) else ()
        )  # of all leaf groups: one account
        ids = {i.id for i in group if i.serves or i.comes} | {situation.node.id}
        rank = 0 if situation.leaving else sorted(ids).index(situation.node.id)
        return pace.look_delay(self._dns.limits, rank, 1 + ceil(len(ids) / _PAGE))
