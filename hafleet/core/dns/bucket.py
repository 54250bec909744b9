"""Token buckets as Route 53 counts them: full at first, refilled steadily, never above their burst. Times are seconds of one clock."""

from dataclasses import dataclass

from hafleet.core.dns_settings import Bucket


@dataclass(frozen=True, slots=True)
class Level:
    """What a bucket held at a moment. Below zero: more was taken than was there."""

    tokens: float
    at: float


def full(bucket: Bucket, at: float) -> Level:
    """A bucket that nobody took from yet."""
    return Level(float(bucket.burst), at)


def level(bucket: Bucket, seen: Level, at: float) -> Level:
    """The same bucket later. A clock that went back adds nothing."""
    grown = seen.tokens + max(0.0, at - seen.at) * bucket.rate
    return Level(min(float(bucket.burst), grown), max(at, seen.at))


def wait(bucket: Bucket, seen: Level, cost: float, at: float) -> float:
    """Seconds from ``at`` until so many tokens can be taken; 0 when they are there.

    More than the bucket can ever hold is granted by a full one, which then is in debt.
    """
    now = level(bucket, seen, at)
    missing = min(float(cost), float(bucket.burst)) - now.tokens
    return max(0.0, now.at - at + missing / bucket.rate) if missing > 0 else 0.0


def taken(bucket: Bucket, seen: Level, cost: float, at: float) -> Level:
    """The bucket after so many tokens were taken at ``at``."""
    now = level(bucket, seen, at)
    return Level(now.tokens - cost, now.at)
