"""Files on a disk that refuses, and what a reader sees meanwhile."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hafleet.adapters.files import write_atomic
from hafleet.adapters.haproxy.disk import Disk
from hafleet.core.cfgtext import finish
from hafleet.core.model import Installed, Rendered
from hafleet.core.settings import Haproxy as Settings
from hafleet.errors import StoreError


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow past 4 kB: writes fail half-way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)


def disk(folder: Path) -> Disk:
    return Disk(
        Settings(
            config=str(folder / "haproxy.cfg"), maps_dir=str(folder / "maps"), server_state=str(folder / "var/state")
        )
    )


def test_files_are_put_in_place_and_read_back(tmp_path: Path) -> None:
    files = disk(tmp_path)
    assert files.installed() == Installed(None, {})
    files.install(Rendered("text\n", {"a.map": "k v\n"}))
    assert files.installed() == Installed("text\n", {"a.map": "k v\n"})
    assert disk(tmp_path).installed() == files.installed()
    assert (tmp_path / "var/state").read_text() == "1\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["haproxy.cfg", "maps", "var"]


def test_a_file_that_somebody_changes_is_read_again(tmp_path: Path) -> None:
    files = disk(tmp_path)
    files.install(Rendered("text\n", {}))
    assert files.installed().text == "text\n"
    (tmp_path / "haproxy.cfg").write_bytes(b"t\xffxt\n")
    assert files.installed().text == "t�xt\n"


def test_a_text_that_is_not_ours_is_kept_aside_before_it_is_replaced(tmp_path: Path) -> None:
    files, aside = disk(tmp_path), tmp_path / "haproxy.cfg.replaced"
    (tmp_path / "haproxy.cfg").write_text("# written by a person\n")
    ours = [finish(f"global\n  maxconn {n}\n", source="test", author="test") for n in (10, 20, 30)]
    files.install(Rendered(ours[0], {}))
    assert aside.read_text() == "# written by a person\n"
    files.install(Rendered(ours[1], {}))
    assert aside.read_text() == "# written by a person\n"
    (tmp_path / "haproxy.cfg").write_text(edited := ours[1].replace("maxconn 20", "maxconn 21"))
    files.install(Rendered(ours[2], {}))
    assert aside.read_text() == edited


def test_a_file_that_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    files = disk(tmp_path)
    files.install(Rendered("text\n", {"a.map": "k v\n"}))
    before = [(tmp_path / name).stat().st_ino for name in ("haproxy.cfg", "maps/a.map", "var/state")]
    files.install(Rendered("text\n", {"a.map": "k v\n"}))
    assert before == [(tmp_path / name).stat().st_ino for name in ("haproxy.cfg", "maps/a.map", "var/state")]


def test_mode_of_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    files = disk(tmp_path)
    (tmp_path / "haproxy.cfg").write_text("old\n")
    (tmp_path / "haproxy.cfg").chmod(0o604)
    files.install(Rendered("new\n", {}))
    assert (tmp_path / "haproxy.cfg").stat().st_mode & 0o777 == 0o604


@pytest.mark.parametrize("large", ["text", "map"])
def test_a_full_disk_leaves_the_live_files_whole(tmp_path: Path, large: str) -> None:
    files = disk(tmp_path)
    files.install(Rendered("old\n", {"a.map": "k v\n"}))
    big = "x" * 10_000
    candidate = Rendered(big, {"a.map": "k v\n"}) if large == "text" else Rendered("new\n", {"a.map": big})
    with full_disk(), pytest.raises(StoreError, match="File too large") as error:
        files.install(candidate)
    assert error.value.fix
    assert files.installed() == Installed("old\n", {"a.map": "k v\n"})
    assert not list(tmp_path.rglob("*.new"))
    files.install(candidate)
    assert files.installed().text == candidate.text


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".target.new").write_text("left behind, and longer than what comes now")
    write_atomic(tmp_path / "target", b"now")
    assert (tmp_path / "target").read_bytes() == b"now"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".target.new").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic"):
        write_atomic(tmp_path / "target", b"evil")
    assert (tmp_path / "victim").read_text() == "precious"


def test_folders_and_files_in_each_others_place_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "maps").write_text("a file")
    with pytest.raises(StoreError, match="cannot be read") as error:
        disk(tmp_path).installed()
    assert error.value.where == str(tmp_path / "maps")
    (tmp_path / "maps").unlink()
    (tmp_path / "haproxy.cfg").mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        disk(tmp_path).installed()
    with pytest.raises(StoreError, match="cannot be"):
        disk(tmp_path).install(Rendered("x", {}))


def test_restoring_nothing_removes_what_was_installed(tmp_path: Path) -> None:
    files = disk(tmp_path)
    files.install(Rendered("text\n", {}))
    files.restore(Installed(None, {}))
    assert files.installed().text is None


def test_the_mark_of_a_reload_under_way(tmp_path: Path) -> None:
    files = disk(tmp_path)
    assert files.loading_pid() is None
    files.mark_loading(123)
    assert disk(tmp_path).loading_pid() == 123
    files.loading.write_text("nonsense")
    assert files.loading_pid() is None
    files.unmark_loading()
    files.unmark_loading()
    assert not files.loading.exists()
