"""An Elastic IP of the fleet's pool: taken before this node is registered, given back once its record is gone.

A straight line before and after the registrar's. Nothing is remembered on disk: EC2 tells whose an address is, so a start after a
crash finds what was taken. An instance that dies gives its address back by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from hafleet.core.dns.model import Situation
from hafleet.core.dns.report import DnsPlan, DnsReport
from hafleet.core.eip import Address, free, mine
from hafleet.errors import AddressTaken, HafleetError
from hafleet.ports import Addresses, Chance, Clock

_BELIEVED = 60.0  # seconds between two looks at the pool by a node that has its address
_BACKOFF_FIRST, _BACKOFF_MOST = 1.0, 60.0  # seconds; full jitter, twice as much after each failure
_EMPTY = 10.0  # seconds, about: until a pool without a free address is looked at again


class Registration(Protocol):
    """What registers the node under its address."""

    def run(self, situation: Situation) -> DnsReport:
        """One pass."""
        ...

    def plan(self, situation: Situation) -> DnsPlan:
        """What it would do."""
        ...


@dataclass(frozen=True, slots=True)
class PoolPorts:
    """What the pool is reached by."""

    addresses: Addresses
    clock: Clock
    chance: Chance


class Addressed:
    """One node's hand in the pool. Used by one thread; lives as long as its settings do.

    Args:
        tags: what marks the addresses of the pool.
        ports: what it talks to.
        inner: what comes between taking and giving back; None for settings without a dns section.
        ttl: seconds that resolvers may know the address after its record is gone.
    """

    def __init__(self, tags: Mapping[str, str], ports: PoolPorts, inner: Registration | None, ttl: float = 0.0) -> None:
        self._ttl = ttl
        self._unnamed_at: float | None = None  # monotonic; since when no record names the address of a node that leaves
        self._tags = tags
        self._ports = ports
        self._inner = inner
        self._own: Address | None = None  # as it was last known
        self._looked_at: float | None = None  # monotonic; of the last look that succeeded, or of the association
        self._retry_at = 0.0  # monotonic
        self._failures = 0
        self._done: list[str] = []
        self._trouble = ""

    def run(self, situation: Situation) -> DnsReport:
        """One pass. Never raises a HafleetError: problems are in the report."""
        self._done = []
        if situation.leaving:
            return self._leave(situation)
        self._unnamed_at = None
        self._attempt(situation, takes=situation.serves)
        if self._own is None:
            waits = "an Elastic IP of the pool" if situation.serves else ""
            return self._finish(DnsReport(situation.at, registered=False, waiting=waits, next_at=_BELIEVED))
        return self._finish(self._registered(situation))

    def plan(self, situation: Situation) -> DnsPlan:
        """What the registration would do with the address that this node has. Raises HafleetError."""
        self._own = mine(self._ports.addresses.pool(self._tags), situation.node.id)
        if self._inner is None or (self._own is None and not situation.leaving):
            lacks = () if self._own or situation.leaving else ("this node has no Elastic IP of the pool yet",)
            return DnsPlan((), (), problems=lacks)
        return self._inner.plan(self._placed(situation))

    # --- the two ways -----------------------------------------------------------------------------------------------

    def _leave(self, situation: Situation) -> DnsReport:
        """Deregister first; the address goes when nobody can know it any more, and no connection goes over it.

        EC2 cuts the connections of an address that is taken away.
        """
        if self._looked_at is None:  # a start in the middle of leaving: the record is of the address that is still ours
            self._attempt(situation, takes=False)
        elif self._own is None:
            self._trouble = ""  # of a pool that had none for it
        report = self._registered(situation)
        if report.records or report.waiting or report.problems:
            return self._finish(report)
        left = self._named(self._ports.clock.monotonic())
        if self._own is not None and (situation.busy or left > 0):
            waits = "resolvers to forget the Elastic IP" if left > 0 else "connections over the Elastic IP to end"
            return self._finish(replace(report, waiting=waits, next_at=min(report.next_at, left or report.next_at)))
        if self._own is not None:
            self._attempt(situation, takes=False, gives=self._own)
        waits = "" if self._own is None and not self._trouble else "the Elastic IP to go back to the pool"
        return self._finish(replace(report, waiting=waits))

    def _named(self, now: float) -> float:
        """Seconds for which resolvers may still know the address. Called once nothing in DNS names it."""
        self._unnamed_at = now if self._unnamed_at is None else self._unnamed_at
        return max(0.0, self._unnamed_at + self._ttl - now)

    def _registered(self, situation: Situation) -> DnsReport:
        if self._inner is not None:
            return self._inner.run(self._placed(situation))
        return DnsReport(situation.at, registered=not situation.leaving, next_at=_BELIEVED)

    def _placed(self, situation: Situation) -> Situation:
        """The situation with the address that was associated: IMDS tells of it minutes later."""
        if self._own is None:
            return situation
        return replace(situation, node=replace(situation.node, public=self._own.ip))

    # --- the pool ---------------------------------------------------------------------------------------------------

    def _attempt(self, situation: Situation, *, takes: bool, gives: Address | None = None) -> None:
        """Look at the pool where that is due, take an address or give it back. A failure is told, and tried again later."""
        now = self._ports.clock.monotonic()
        fresh = self._looked_at is not None and now - self._looked_at < _BELIEVED
        if now < self._retry_at or (fresh and not gives and (self._own is not None or not takes)):
            return
        self._trouble = ""
        try:
            if gives:
                self._give(gives)
            else:
                self._look(situation.node.id, takes=takes)
            self._failures = 0
        except HafleetError as error:
            self._trouble = str(error)
            if self._own is None:
                self._looked_at = None  # an answer that was lost may have given it one
            wait = self._ports.chance.uniform(0.0, min(_BACKOFF_MOST, _BACKOFF_FIRST * 2.0**self._failures))
            self._failures = min(self._failures + 1, 10)
            self._retry_at = now + wait

    def _look(self, node: str, *, takes: bool) -> None:
        pool = self._ports.addresses.pool(self._tags)
        self._own = mine(pool, node)
        self._looked_at = self._ports.clock.monotonic()
        if self._own is not None or not takes:
            return
        open_ones = free(pool, node)
        turn = self._failures % max(1, len(open_ones))  # one that EC2 refuses must not keep the others from being tried
        open_ones = (*open_ones[turn:], *open_ones[:turn])
        for address in open_ones:
            try:
                association = self._ports.addresses.associate(address, node)
            except AddressTaken:
                continue
            self._own = replace(address, association=association, instance=node)
            self._looked_at = self._ports.clock.monotonic()
            self._done.append(f"took the Elastic IP {address.ip}")
            return
        self._trouble = f"none of the pool's {len(pool)} Elastic IPs is free"
        wait = _EMPTY if not open_ones else _BACKOFF_FIRST
        self._retry_at = self._ports.clock.monotonic() + self._ports.chance.uniform(wait / 2, wait * 1.5)

    def _give(self, own: Address) -> None:
        self._ports.addresses.release(own)
        self._done.append(f"gave the Elastic IP {own.ip} back")
        self._own = None

    def _finish(self, report: DnsReport) -> DnsReport:
        """The report with what became of the address."""
        next_at = report.next_at
        if self._retry_at and self._trouble:
            next_at = min(next_at, max(0.1, self._retry_at - self._ports.clock.monotonic()))
        problems = (self._trouble, *report.problems) if self._trouble else report.problems
        return replace(report, done=(*self._done, *report.done), problems=problems, next_at=min(next_at, _BELIEVED))
