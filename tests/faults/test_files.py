"""Rows 32 to 36: full, read-only and broken disks. The old worker and the old file keep serving; recovery needs no human."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hafleet.core.cfgtext import complete
from hafleet.core.membership import Known
from hafleet.core.model import Memory, World
from hafleet.errors import ConfigRejected, HafleetError
from hafleet.reconcile import Reconciler
from tests.faults.disks import fill, no_file_above, remount, small_disk, take_inodes
from tests.faults.stage import Stage, held

pytestmark = pytest.mark.xdist_group("faults-files")

EDIT = (
    '{{% extends "shipped/haproxy.cfg.j2" %}}{{% block extra %}}\n# {}\nbackend {}\n    mode http\n{{% endblock %}}\n'
)


def edit_template(stage: Stage, name: str) -> None:
    """A structural change: one more backend."""
    (stage.templates / "haproxy.cfg.j2").write_text(EDIT.format("x" * 40, name))


# --- row 32: the disk of the state ------------------------------------------------------------------------------------


def test_f32_with_a_full_state_disk_changes_are_applied_and_the_old_memory_stays(stage: Stage) -> None:
    with small_disk(stage.state, "size=64k"):
        group = stage.group(2)
        stage.boot({"asg": group})
        before = (stage.state / "memory.json").read_bytes()
        filler = fill(stage.state)
        stage.scale(group, 3)
        report = stage.turn()
        assert any("memory.json" in error and "No space left" in error for error in report.errors)
        assert stage.rotation() == stage.members(group)
        assert (stage.state / "memory.json").read_bytes() == before
        assert stage.metric("errors") >= 1
        assert stage.said("fault", "memory.json", "No space left")
        again = stage.turn()
        assert (again.commands, again.wrote) == (0, False)  # the memory goes on in the process
        filler.unlink()
        stage.settle()
        assert len(stage.memory.members["site"]) == 3


def test_f32_control_an_agent_that_stops_at_an_unsaved_memory_does_not_follow(stage: Stage) -> None:
    class Stops(Reconciler):
        def _remember(self, memory: Memory) -> tuple[HafleetError, ...]:
            faults = super()._remember(memory)
            if faults:
                raise faults[0]
            return ()

    with small_disk(stage.state, "size=64k"):
        group = stage.group(2)
        stage.boot({"asg": group})
        stage.reconciler = Stops
        stage.birth()
        stage.turn()
        fill(stage.state)
        stage.scale(group, 3)
        stage.turn()
        assert len(stage.rotation()) == 2


def test_f32_a_state_disk_that_was_full_before_the_agent_started(stage: Stage) -> None:
    with small_disk(stage.state, "size=64k"):
        group = stage.group(2)
        stage.boot({"asg": group})
        for path in stage.state.glob("*.lock"):
            path.unlink()
        filler = fill(stage.state)
        stage.birth()
        stage.scale(group, 3)
        report = stage.turn()
        assert not any("internal error" in error for error in report.errors), report.errors
        assert stage.rotation() == stage.members(group)
        filler.unlink()
        stage.settle()


def test_f32_a_reload_waits_for_the_state_disk_and_then_comes_by_itself(stage: Stage) -> None:
    with small_disk(stage.state, "size=64k"):
        stage.boot({"asg": stage.group(1)})
        before = stage.picture()
        filler = fill(stage.state)
        edit_template(stage, "fresh")
        report = stage.turn()
        assert any("server-state" in error for error in report.errors)
        assert stage.picture() == before
        assert stage.healthy()
        filler.unlink()
        assert stage.turn().reloaded


# --- rows 33 and 34: the disk of the configuration --------------------------------------------------------------------


class Broken:
    """A way in which the configuration's disk fails, and how it is mended."""

    def __init__(self, options: str, harm: Callable[[Path], Callable[[], None]], words: str) -> None:
        self.options, self.harm, self.words = options, harm, words


def _full(folder: Path) -> Callable[[], None]:
    return fill(folder).unlink


def _inodes(folder: Path) -> Callable[[], None]:
    taken = take_inodes(folder)

    def mend() -> None:
        for path in taken:
            path.unlink()

    return mend


def _read_only(folder: Path) -> Callable[[], None]:
    remount(folder, "ro")
    return lambda: remount(folder, "rw")


BROKEN = {
    "f33-full": Broken("size=96k", _full, "No space left on device"),
    "f34-inodes": Broken("size=1m,nr_inodes=24", _inodes, "No space left on device"),
    "f34-read-only": Broken("size=1m", _read_only, "Read-only file system"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=list(BROKEN))
def test_a_disk_that_takes_no_file_leaves_the_live_one_intact(stage: Stage, broken: Broken) -> None:
    with small_disk(stage.etc, broken.options):
        group = stage.group(2)
        stage.boot({"asg": group})
        before = stage.config.read_bytes()
        mend = broken.harm(stage.etc)
        stage.scale(group, 3)
        report = stage.turn()
        assert any(broken.words in error and str(stage.etc) in error for error in report.errors), report.errors
        assert stage.config.read_bytes() == before  # no rename
        assert stage.rotation() == stage.members(group)  # runtime commands need no disk
        edit_template(stage, "fresh")
        stage.turn()
        assert (stage.config.read_bytes(), stage.reloads) == (before, 0)
        assert stage.healthy()
        assert stage.said("fault", broken.words)
        mend()
        assert stage.turn().reloaded  # nobody had to help it
        complete(stage.config.read_text())
        stage.settle()


def test_f33_where_no_file_may_grow_the_live_one_is_intact_too(stage: Stage) -> None:
    group = stage.group(2)
    stage.boot({"asg": group})
    before = stage.config.read_bytes()
    assert len(before) > 2048
    stage.scale(group, 3)
    with no_file_above(2048):
        report = stage.turn()
    assert any("File too large" in error for error in report.errors)
    assert stage.config.read_bytes() == before
    assert stage.rotation() == stage.members(group)
    stage.settle()
    assert stage.installed() == set(stage.members(group))


def test_f33_control_a_writer_of_the_live_path_leaves_half_a_file(stage: Stage) -> None:
    stage.boot({"asg": stage.group(2)})
    text = stage.config.read_bytes()
    with no_file_above(2048), pytest.raises(OSError, match="File too large"):
        stage.config.write_bytes(text)
    with pytest.raises(ConfigRejected):
        complete(stage.config.read_text())


# --- row 35: a state file that cannot be trusted ----------------------------------------------------------------------

Harm = Callable[[bytes], bytes]
HARMS: dict[str, Harm] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "a byte flipped": lambda data: data[:-40] + bytes([data[-40] ^ 1]) + data[-39:],
    "zeros": lambda data: bytes(len(data)),
    "a body of another kind": lambda data: _sealed(b'{"members": 7}', 1),
}


def _sealed(body: bytes, number: int) -> bytes:
    """A state file with a good checksum."""
    head = {"hafleet_memory": number, "sha256": hashlib.sha256(body).hexdigest(), "node": ""}
    return json.dumps(head).encode() + b"\n" + body + b"\n"


def test_f35_a_damaged_memory_is_put_aside_and_built_anew_while_aws_lies(stage: Stage) -> None:
    stage.boot({"asg": stage.group(3)})
    before = stage.picture()
    good = (stage.state / "memory.json").read_bytes()
    for count, (name, harm) in enumerate(HARMS.items(), 1):
        (stage.state / "memory.json").write_bytes(harm(good))
        stage.birth()
        with stage.fault("no_instances", service="autoscaling"):
            report = stage.turn()
            assert any("put aside" in error for error in report.errors), name
            stage.turns(3)
        assert stage.picture() == before, name
        assert len(list(stage.state.glob("memory.json.bad-*"))) >= min(count, 1)
        stage.settle()
    assert stage.picture() == before


def test_f35_a_damaged_memory_and_no_aws(stage: Stage) -> None:
    stage.boot({"asg": stage.group(3)})
    before = stage.picture()
    (stage.state / "memory.json").write_bytes(b"\0" * 100)
    stage.birth()
    with stage.fault("unreachable"):
        reports = stage.turns(3)
    assert held(reports[-1]) == ["unknown"]
    assert stage.picture() == before


def test_f35_control_an_agent_that_starts_from_nothing_obeys_the_lie(stage: Stage) -> None:
    class Forgets(Reconciler):
        def _known(self, world: World, memory: Memory) -> Known:
            return {}

    stage.boot({"asg": stage.group(3)})
    (stage.state / "memory.json").write_bytes(b"\0" * 100)
    stage.reconciler = Forgets
    stage.birth()
    with stage.fault("no_instances", service="autoscaling"):
        stage.turns(2)
    assert stage.rotation() == []


# --- row 36: a state file of another release --------------------------------------------------------------------------


def test_f36_a_memory_of_a_later_release_is_kept_aside_and_serving_goes_on(stage: Stage) -> None:
    stage.boot({"asg": stage.group(3)})
    before = stage.picture()
    later = _sealed(b'{"members": {}, "something": "new"}', 2)
    (stage.state / "memory.json").write_bytes(later)
    stage.birth()
    report = stage.turn()
    assert any("is of format 2" in error for error in report.errors)
    (aside,) = stage.state.glob("memory.json.bad-*")
    assert aside.read_bytes() == later  # a rollback of the rollback finds it again
    assert stage.picture() == before
    stage.settle()


def test_f36_control_the_number_in_the_header_alone_decides(stage: Stage) -> None:
    stage.boot({"asg": stage.group(3)})
    body = (stage.state / "memory.json").read_bytes().split(b"\n")[1]
    for number, trusted in ((1, True), (2, False)):
        (stage.state / "memory.json").write_bytes(_sealed(body, number))
        stage.birth()
        assert (stage.turn().errors == ()) is trusted


def test_f36_the_memory_that_each_release_wrote_can_still_be_read(stage: Stage) -> None:
    """One file per format of the state, written by the release that made it: never edit one, add the next."""
    fixtures = sorted((Path(__file__).parent / "data").glob("memory-format-*.json"))
    assert [path.stem for path in fixtures] == ["memory-format-1"]
    for path in fixtures:
        stage.state.mkdir(exist_ok=True)
        (stage.state / "memory.json").write_bytes(path.read_bytes())
        stage.feed({"asg": "blue"})
        memory = stage.memory
        assert memory.node is not None
        assert [member.name for member in memory.members["site"]] == ["i-0000000000000001", "i-0000000000000002"]
        assert memory.draining == {"site/i-0000000000000002": 1700000000.0}
        assert memory.missing["site/i-0000000000000001"].reads == 2
