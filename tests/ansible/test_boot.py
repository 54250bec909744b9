"""A fleet of booted machines in the local AWS: they join, serve, share what they know, drain and are powered off. In this order."""

import pytest

from tests.ansible.cloud import Region
from tests.ansible.conftest import lacking

pytestmark = [
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
    pytest.mark.timeout(3600),  # a whole image is made for the first test
]


def test_a_node_joins_the_fleet(region: Region) -> None:
    (node,) = region.scale(1)
    (record,) = region.records()
    assert (record.node, record.address) == (node.id, node.address)
    assert node.machine.running and region.cloud.waiting() == []
