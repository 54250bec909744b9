"""What the local Route 53 grants: token buckets, quotas and the time that things take.

Figures: AWS's developer guide, "Throttling for Amazon Route 53 API requests" and "Quotas".
"""

from dataclasses import dataclass, field
from typing import Any

from hafleet.lab.route53_words import ApiError

DAY = 86400.0


@dataclass(slots=True)
class Bucket:
    """A token bucket: ``burst`` tokens at most, ``rate`` of them come back per second. It starts full."""

    burst: float
    rate: float
    spent: float = 0.0  # tokens missing at the moment ``at``
    at: float = 0.0

    def has(self, tokens: float, now: float) -> bool:
        """True when so many tokens are there; fills up to now."""
        self.spent = max(0.0, self.spent - max(0.0, now - self.at) * self.rate)
        self.at = max(self.at, now)
        return self.spent + tokens <= self.burst + 1e-9

    def take(self, tokens: float) -> None:
        """Take tokens that ``has`` found."""
        self.spent += tokens


def _action_buckets() -> dict[str, Bucket]:
    return {
        "CreateHealthCheck": Bucket(50, 0.5),
        "UpdateHealthCheck": Bucket(50, 5),
        "DeleteHealthCheck": Bucket(15, 3),
        "GetHealthCheckStatus": Bucket(4, 1),
        "GetHealthCheckLastFailureReason": Bucket(4, 1),
    }


@dataclass(slots=True)
class Limits:
    """Buckets, quotas and times of one account."""

    throttling: bool = True  # False: the buckets are bottomless
    requests: Bucket = field(default_factory=lambda: Bucket(50, 10))  # all calls together
    changes: Bucket = field(default_factory=lambda: Bucket(1500, 100))  # CREATE 1, DELETE 1, UPSERT 2
    actions: dict[str, Bucket] = field(default_factory=_action_buckets)
    insync: float = 2.0  # seconds from a change to INSYNC
    processing: float = 0.05  # seconds that a zone refuses the next change
    checks: int = 200  # health checks per account
    records: int = 10_000  # record sets per zone
    references: float = 7 * DAY  # seconds that the reference of a deleted health check is refused
    orphans: bool = True  # a record may go while an alias still names it; AWS documents neither answer

    def admit(self, operation: str, now: float) -> None:
        """Take the tokens of one call, from its own bucket and the account's.

        Raises:
            ApiError: Throttling; nothing was taken.
        """
        own = self.actions.get(operation)
        self._take(((self.requests, 1),) if own is None else ((self.requests, 1), (own, 1)), now)

    def admit_changes(self, tokens: int, now: float) -> None:
        """Take the tokens of a change batch. Raises ApiError: Throttling."""
        self._take(((self.changes, tokens),), now)

    def _take(self, wanted: tuple[tuple[Bucket, int], ...], now: float) -> None:
        if not self.throttling:
            return
        if not all(bucket.has(tokens, now) for bucket, tokens in wanted):
            raise ApiError("Throttling", "Rate exceeded")
        for bucket, tokens in wanted:
            bucket.take(tokens)

    def set(self, change: dict[str, Any]) -> None:
        """Change figures by name; a bucket is ``[burst, rate]``, under its own name or its operation's.

        Raises:
            ValueError: no such figure, or a value that is none.
        """
        for name, value in change.items():
            if name in {"requests", "changes"}:
                setattr(self, name, _bucket(name, value))
            elif name in self.actions:
                self.actions[name] = _bucket(name, value)
            elif name in {"throttling", "orphans"}:
                setattr(self, name, bool(value))
            elif name in {"checks", "records"}:
                setattr(self, name, int(value))
            elif name in {"insync", "processing", "references"}:
                setattr(self, name, float(value))
            else:
                raise ValueError(f"{name!r} is no figure of Route 53; choose {', '.join(sorted(self.show()))}")

    def show(self) -> dict[str, Any]:
        """All figures, as ``set`` takes them."""
        buckets = {"requests": self.requests, "changes": self.changes, **self.actions}
        plain = ("throttling", "orphans", "checks", "records", "insync", "processing", "references")
        return {
            **{name: [bucket.burst, bucket.rate] for name, bucket in buckets.items()},
            **{name: getattr(self, name) for name in plain},
        }


def _bucket(name: str, value: Any) -> Bucket:
    try:
        burst, rate = value
        return Bucket(float(burst), float(rate))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is a bucket: [burst, rate], not {value!r}") from error
