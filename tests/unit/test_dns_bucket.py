"""Token buckets: what they grant, and that waiting as long as they say is enough and no more than enough."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafleet.core.dns.bucket import Level, full, level, taken, wait
from hafleet.core.dns_settings import Bucket

CHECKS = Bucket(burst=50, rate=0.5)


def test_a_full_bucket_grants_its_burst_and_then_its_rate() -> None:
    seen, now, waited = full(CHECKS, 100.0), 100.0, []
    for _ in range(53):
        pause = wait(CHECKS, seen, 1, now)
        waited.append(pause)
        now += pause
        seen = taken(CHECKS, seen, 1, now)
    assert waited == [0.0] * 50 + [2.0] * 3


def test_it_refills_up_to_its_burst() -> None:
    assert level(CHECKS, Level(0.0, 0.0), 10.0) == Level(5.0, 10.0)
    assert level(CHECKS, Level(0.0, 0.0), 10_000.0) == Level(50.0, 10_000.0)


def test_what_it_can_never_hold_is_granted_when_it_is_full_and_leaves_a_debt() -> None:
    small = Bucket(burst=10, rate=1)
    assert wait(small, Level(4.0, 0.0), 25, 0.0) == 6.0
    after = taken(small, Level(4.0, 0.0), 25, 6.0)
    assert after == Level(-15.0, 6.0)
    assert wait(small, after, 1, 6.0) == 16.0


def test_a_clock_that_goes_back_adds_no_token() -> None:
    seen = Level(0.0, 100.0)
    assert level(CHECKS, seen, 40.0) == seen
    assert wait(CHECKS, seen, 1, 40.0) == 62.0
    assert taken(CHECKS, seen, 1, 40.0) == Level(-1.0, 100.0)


@given(
    burst=st.integers(1, 100),
    rate=st.floats(0.1, 100),
    costs=st.lists(st.tuples(st.integers(1, 100), st.floats(0, 50)), min_size=1, max_size=30),
)
def test_who_waits_as_told_never_passes_the_bucket(burst: int, rate: float, costs: list[tuple[int, float]]) -> None:
    bucket, now = Bucket(burst=burst, rate=rate), 0.0
    seen = full(bucket, now)
    spent = 0.0
    for cost, idle in costs:
        cost = min(cost, burst)
        now += idle
        now += wait(bucket, seen, cost, now)
        assert level(bucket, seen, now).tokens >= cost - 1e-6
        seen = taken(bucket, seen, cost, now)
        spent += cost
        assert spent <= burst + rate * now + 1e-6


@given(tokens=st.floats(-50, 50), cost=st.integers(1, 50))
def test_a_moment_less_than_told_is_too_little(tokens: float, cost: int) -> None:
    pause = wait(CHECKS, Level(tokens, 0.0), cost, 0.0)
    if pause == 0.0:
        assert tokens >= cost
    else:
        assert level(CHECKS, Level(tokens, 0.0), pause).tokens == pytest.approx(cost)
        assert level(CHECKS, Level(tokens, 0.0), pause * 0.9).tokens < cost
