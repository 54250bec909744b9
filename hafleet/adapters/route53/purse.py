"""What this node may spend at Route 53: it never asks for more than the account is granted, whoever else may."""

import threading

from hafleet.core.dns import bucket
from hafleet.core.dns_settings import Bucket, DnsLimits
from hafleet.errors import SourceUnavailable
from hafleet.ports import Clock


class Purse:
    """The token buckets of the account, as far as this process has drawn on them. For one thread.

    Args:
        limits: what the account is granted.
        clock: how it waits.
        stop: ends a wait early, for the process is to end.
    """

    def __init__(self, limits: DnsLimits, clock: Clock, stop: threading.Event) -> None:
        self._clock = clock
        self._stop = stop
        self._requests = _short(limits.requests)
        self._own = {
            "CreateHealthCheck": _short(limits.create_check),
            "DeleteHealthCheck": _short(limits.delete_check),
            "ChangeResourceRecordSets": _short(limits.changes),
        }
        self._levels: dict[str, bucket.Level] = {}

    def pay(self, operation: str, tokens: int = 1) -> None:
        """Wait until the call is granted, then count it.

        Args:
            operation: such as CreateHealthCheck; one that has no bucket of its own costs a request only.
            tokens: what it takes from its own bucket.

        Raises:
            SourceUnavailable: the process is to end.
        """
        costs: dict[str, tuple[Bucket, int]] = {"": (self._requests, 1)}
        if operation in self._own:
            costs[operation] = (self._own[operation], tokens)
        now = self._clock.monotonic()
        for name, (limits, _) in costs.items():
            self._levels.setdefault(name, bucket.full(limits, now))
        pause = max(bucket.wait(limits, self._levels[name], cost, now) for name, (limits, cost) in costs.items())
        if pause > 0 and self._clock.wait(self._stop, pause):
            raise SourceUnavailable("stopped while it waited for its turn", where=f"route53:{operation}")
        now = self._clock.monotonic()
        for name, (limits, cost) in costs.items():
            self._levels[name] = bucket.taken(limits, self._levels[name], cost, now)


def _short(limits: Bucket) -> Bucket:
    """The bucket without its last token: calls evenly sent do not arrive evenly."""
    return Bucket(burst=max(1.0, limits.burst - 1.0), rate=limits.rate)
