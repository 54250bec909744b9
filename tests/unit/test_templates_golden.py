import os

import pytest

from hafleet.adapters.templates import JinjaRenderer
from hafleet.core.cfgtext import complete
from tests.goldens import FOLDER, NAMES, desired_of, settings_of

NEW = (3, 2, 26)


def lasting(text: str) -> list[str]:
    """The lines that a new release of hafleet leaves as they are: all but its name at the top, and the digest at the end."""
    return text.splitlines()[1:-1]


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    settings = settings_of(name)
    rendered = JinjaRenderer(settings, source="hafleet.yaml", digest="0" * 64).render(desired_of(name, settings), NEW)
    complete(rendered.text)
    path = FOLDER / f"{name}.cfg"
    if os.environ.get("HAFLEET_GOLDEN") == "write":
        path.write_text(rendered.text)
    assert lasting(rendered.text) == lasting(path.read_text()), "the text changed: tests/goldens.py says what to do"


def test_there_are_goldens() -> None:
    assert {path.stem for path in FOLDER.glob("*.cfg")} == set(NAMES)
    assert len(NAMES) >= 8
