"""Clearing, carried out: what a fleet that is gone for good left in Route 53, taken away by an operator's hand."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from hafleet.core.dns.checks import Author, fleet_prefix
from hafleet.core.dns.clearing import Clearing, Remains, clearing
from hafleet.core.dns.plan import describe
from hafleet.core.settings import Settings
from hafleet.errors import AwsThrottled, HafleetError
from hafleet.registration.carrying import DnsPorts

T = TypeVar("T")

_AT_ONCE = 50  # changes in one batch: far below Route 53's limits
_TRIES = 12  # of one call that AWS throttles
_BACKOFF_FIRST, _BACKOFF_MOST = 1.0, 20.0  # seconds; full jitter below them
_POLL = 2.0  # seconds between two looks whether a change is in force
_PATIENCE = 600.0  # seconds until that is given up

Rest = Callable[[float, str], None]  # waits so many seconds; told what for


class Clearer:
    """Takes away what a fleet left in one region.

    Args:
        settings: of the fleet.
        region: of its nodes.
        ports: the store among them is not used: nothing is remembered from one run to the next.
        rest: waits.
    """

    def __init__(self, settings: Settings, region: str, ports: DnsPorts, rest: Rest) -> None:
        if settings.dns is None:
            raise HafleetError("the settings have no dns section", where="dns", fix="add one: see docs/dns.md")
        self._dns = settings.dns
        self._author = Author(settings.fleet, "operator", region)
        self._ports = ports
        self._rest = rest

    def look(self) -> Clearing:
        """What would go. Nothing is written.

        Raises:
            HafleetError: something could not be read, completely, or AWS throttles for too long.
        """
        dns, name = self._ports.dns, self._dns.name
        zone = self._patiently(dns.zone_id)
        records = self._patiently(lambda: dns.tree(name))
        checks = self._patiently(lambda: dns.checks(fleet_prefix(self._author.fleet)))
        remains = Remains(self._author, self._dns, zone, records, checks)
        nodes = frozenset(remains.nodes.values())
        states = self._patiently(lambda: self._ports.instances.states(nodes)) if nodes else {}
        return clearing(remains, states)

    def clear(self) -> tuple[str, ...]:
        """Take it away; what was done, line by line. What EC2 calls alive stays.

        Raises:
            HafleetError: something could not be read or written, or AWS throttles for too long. What was done stays done.
        """
        found, dns, done = self.look(), self._ports.dns, list[str]()
        for start in range(0, len(found.batch), _AT_ONCE):
            batch = found.batch[start : start + _AT_ONCE]
            change = self._patiently(partial(dns.change, batch))
            done += describe(batch)
            self._await(change)
        for check in found.checks:
            self._patiently(partial(dns.delete_check, check))
            done.append(f"delete health check {check}")
        return tuple(done)

    def _await(self, change: str) -> None:
        """Wait until a change is in force everywhere: only then may its health checks go."""
        end = self._ports.clock.monotonic() + _PATIENCE
        while not self._patiently(lambda: self._ports.dns.insync(change)):
            if self._ports.clock.monotonic() >= end:
                fix = "run it again: what is done is done, and the health checks are left"
                raise HafleetError(f"change {change} is not in force", where="route53:GetChange", fix=fix)
            self._rest(_POLL, "Route 53 to answer by the change")

    def _patiently(self, call: Callable[[], T]) -> T:
        """Make a call, and again while AWS throttles it."""
        for tried in range(_TRIES):
            try:
                return call()
            except AwsThrottled:
                if tried == _TRIES - 1:
                    raise
                most = min(_BACKOFF_MOST, _BACKOFF_FIRST * 2.0**tried)
                self._rest(self._ports.chance.uniform(0.0, most), "AWS throttles")
        raise AssertionError  # the loop returns or raises
