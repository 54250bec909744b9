"""The table of HAProxy versions."""

import pytest

from hafleet.core.features import features
from hafleet.core.model import Version


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ((2, 6, 12), {"pool_options", "slow_set_map"}),
        ((2, 8, 0), {"pool_options", "slow_set_map", "reload_answers"}),
        ((3, 0, 11), {"reload_answers", "add_cookie", "wait_removable", "async_addr", "stats_file"}),
        (
            (3, 2, 21),
            {
                "reload_answers",
                "add_cookie",
                "wait_removable",
                "async_addr",
                "stats_file",
                "prompt_per_line",
                "init_state",
            },
        ),
        (
            (3, 2, 22),
            {
                "reload_answers",
                "add_cookie",
                "wait_removable",
                "async_addr",
                "stats_file",
                "prompt_per_line",
                "init_state",
                "safe_del",
            },
        ),
    ],
)
def test_each_version_has_just_these(version: Version, names: set[str]) -> None:
    row = features(version)
    flags = {name for name in row.__slots__ if getattr(row, name) is True}
    assert flags == names
    assert row.version == version
