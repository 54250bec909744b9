"""Fixtures of the behaviour tests."""

from collections.abc import Iterator

import pytest

from tests.behaviour.stage import Stage, staged
from tests.resources import Loopback


@pytest.fixture
def stage(loopback: Loopback) -> Iterator[Stage]:
    """A fleet without members yet, and no node."""
    with staged(loopback) as made:
        yield made
