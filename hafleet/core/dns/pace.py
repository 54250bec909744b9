"""Who begins when, so that a fleet that starts at once stays within Route 53's token buckets. No node asks another.

Nodes are ranked by their ids among those that do the same, so their turns differ, and add up to what the buckets give back.
"""

from hafleet.core.dns_settings import DnsLimits

CALLS = 4  # of one joining node with one check: list, create the check, create the record, ask whether it is in force
FIRST_POLL = 5.0  # seconds after a change before it is asked for: seldom is it in force sooner everywhere
LAST_POLL = 20.0  # seconds between two questions at most
SLOW_POLL = 120.0  # the same, after so many questions that Route 53 must be in trouble
PATIENT_POLLS = 8


def look_delay(limits: DnsLimits, rank: int, calls: int) -> float:
    """Seconds from the start of its agent before the node of this rank lists the records.

    Half the burst is for listings; then they take half of what comes back, and those that join the other half.

    Args:
        limits: the account's buckets.
        rank: 0 for the first of the group's members.
        calls: pages of one listing, and what goes before it.
    """
    spare = limits.requests.burst / 2
    return max(0.0, ((rank + 1) * calls - spare) / (limits.requests.rate / 2))


def join_delay(limits: DnsLimits, rank: int, checks: int) -> float:
    """Seconds from the start before the node of this rank among those that join makes its checks and its record.

    Args:
        limits: the account's buckets.
        rank: 0 for the first of those that have no record yet.
        checks: health checks that each of them makes.
    """
    each = CALLS + checks - 1
    account = (
        rank * each / (limits.requests.rate / 2)
    )  # the burst is left to listings, and to the account's other users
    checked = ((rank + 1) * checks - 0.9 * limits.create_check.burst) / limits.create_check.rate
    return max(account, checked)


def turn(limits: DnsLimits, rank: int, checks: int, waited: float, registered: int) -> float:
    """Seconds from now to a node's turn.

    While it waited to look, others have taken their turns, and with them tokens: as many of the registered as can have done so
    count as if they stood before it.

    Args:
        limits: the account's buckets.
        rank: as above.
        checks: as above.
        waited: seconds since the start of its agent.
        registered: members of the group that have a record.
    """
    meanwhile = min(registered, int(waited * limits.requests.rate / 2 / CALLS) + 1) if waited else 0
    return max(0.0, join_delay(limits, rank + meanwhile, checks) - waited)


def poll_most(polls: int) -> float:
    """Seconds that the next question for a change waits at most; full jitter below it, but for the first."""
    return min(LAST_POLL if polls < PATIENT_POLLS else SLOW_POLL, FIRST_POLL * 2.0**polls)
