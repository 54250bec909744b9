"""What doctor says about files and folders that are closed to the agent."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hafleet.findings import closed, shut

NOBODY = 65534
STRANGE = 54321  # a group without a name


@contextmanager
def as_nobody(group: int) -> Iterator[None]:
    """Root can become somebody without rights; anybody else has few enough."""
    if os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(group, group, 0)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are below one that is closed
        path = Path(made)
        (path / "locked/in").mkdir(parents=True)
        path.chmod(0o755)
        yield path
        (path / "locked").chmod(0o755)


def test_the_first_folder_that_may_not_be_entered_is_named(folder: Path) -> None:
    socket = folder / "locked/in/master.sock"
    with as_nobody(NOBODY):
        assert shut(socket) is None
    (folder / "locked").chmod(0)
    with as_nobody(NOBODY):
        assert shut(socket) == folder / "locked"
        assert shut(folder / "locked") is None  # it can be looked at, if not into


def test_what_is_not_there_is_not_shut(folder: Path) -> None:
    assert shut(folder / "nowhere/at/all") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another group")
def test_who_is_not_in_the_group_is_told_which(folder: Path) -> None:
    os.chown(folder / "locked", 0, STRANGE)
    with as_nobody(NOBODY):
        outside = closed("master socket", folder / "locked")
    assert (outside.state, outside.about) == ("fail", "master socket")
    assert outside.what == f"{folder / 'locked'} is closed to uid {NOBODY}, which is not in group {STRANGE}"
    assert outside.fix == f"add the agent's user to group {STRANGE}, then start the agent again"
    with as_nobody(STRANGE):
        member = closed("master socket", folder / "locked")
    assert member.what == f"{folder / 'locked'} is closed to uid {NOBODY}"
    assert member.fix == f"let group {STRANGE} use it"


def test_groups_have_names(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder / "locked", 0, 0)
        with as_nobody(NOBODY):
            assert closed("config folder", folder / "locked").what.endswith("which is not in group root")
    else:
        assert closed("config folder", folder / "locked").what.endswith(f"is closed to uid {os.getuid()}")
