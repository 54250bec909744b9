"""Tests that share a lab, or that follow each other, run in one worker: what the others rely on."""

import pytest


@pytest.mark.xdist_group("kept together")
@pytest.mark.parametrize("number", [1, 2])
def test_the_id_of_a_test_names_its_group_where_groups_are_dealt_out(
    request: pytest.FixtureRequest, number: int
) -> None:
    wanted = "@kept together" if request.config.getoption("loadgroup", default=False) else f"[{number}]"
    assert request.node.nodeid.endswith(wanted)
