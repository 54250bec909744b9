"""Who begins when, so that a fleet that starts at once stays within Route 53's token buckets. No node asks another.

Nodes are ranked by their ids among those that do the same, so their turns differ, and add up to what the buckets give back.
"""

from hafleet.core.dns_settings import DnsLimits

CALLS = 4  # of one joining node: list, create the check, create the record, ask whether it is in force
FIRST_POLL = 5.0  # seconds after a change before it is asked for: seldom is it in force sooner everywhere
LAST_POLL = 20.0  # seconds between two questions at most


def look_delay(limits: DnsLimits, rank: int, calls: int) -> float:
    """Seconds before the node of this rank lists the records: half the burst is for listings, then one at a time.

    Args:
        limits: the account's buckets.
        rank: 0 for the first of the group's members.
        calls: pages of one listing.
    """
    spare = limits.requests.burst / 2
    return max(0.0, ((rank + 1) * calls - spare) / limits.requests.rate)


def join_delay(limits: DnsLimits, rank: int, checks: int) -> float:
    """Seconds before the node of this rank among the joining ones makes its checks and its record.

    Args:
        limits: the account's buckets.
        rank: 0 for the first of those that have no record yet.
        checks: health checks that each of them makes.
    """
    account = rank * (CALLS + checks - 1) / limits.requests.rate  # the burst is left to the others of the account
    return max(account, ((rank + 1) * checks - limits.create_check.burst) / limits.create_check.rate)


def poll_most(polls: int) -> float:
    """Seconds that the next question for a change waits at most; full jitter below it, but for the first."""
    return min(LAST_POLL, FIRST_POLL * 2.0**polls)
