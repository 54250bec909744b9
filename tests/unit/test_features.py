"""The table of HAProxy versions."""

import pytest

from hafleet.core.features import features
from hafleet.core.model import Version


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ((2, 6, 12), {"pool_options"}),
        ((2, 8, 0), {"pool_options", "reload_answers"}),
        ((3, 0, 11), {"reload_answers", "add_cookie"}),
        (
            (3, 2, 21),
            {
                "reload_answers",
                "add_cookie",
                "prompt_per_line",
            },
        ),
        (
            (3, 2, 22),
            {
                "reload_answers",
                "add_cookie",
                "prompt_per_line",
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
