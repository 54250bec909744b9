"""Reasons to run a pass: from threads, and from files that really change on disk."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from hafleet.adapters.clock import SystemClock
from hafleet.adapters.wakeup import FileWatch, Wakeups


def wakeups() -> Wakeups:
    return Wakeups(SystemClock())


def test_reasons_merge_in_order_and_are_taken_once() -> None:
    box = wakeups()
    for reason in ("a", "b", "a"):
        box.wake(reason)
    assert box.wait(0)
    assert box.take() == ("a", "b")
    assert not box.wait(0)
    assert box.take() == ()


def test_a_wake_from_another_thread_ends_the_wait() -> None:
    box = wakeups()
    thread = threading.Timer(0.05, box.wake, ("late",))
    thread.start()
    assert box.wait(30)
    thread.join()
    assert box.take() == ("late",)


@pytest.mark.timeout(60)
def test_a_signal_may_come_at_any_line_of_wait_and_take() -> None:
    """Its handler runs in this thread: a lock that this thread holds just then would never be free again."""
    box = wakeups()
    lines = 0

    def at_each_line(_frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal lines
        lines += 1
        if lines < 100:  # a take that is fed for ever does not end
            signal.raise_signal(signal.SIGHUP)
        return at_each_line

    before = signal.signal(signal.SIGHUP, lambda *_: box.wake("SIGHUP"))
    tracer = sys.gettrace()
    try:
        sys.settrace(at_each_line)
        heard = box.wait(0.01)
        reasons = box.take()
    finally:
        sys.settrace(tracer)
        signal.signal(signal.SIGHUP, before)
    assert heard
    assert reasons == ("SIGHUP",)
    assert lines > 10


@pytest.mark.parametrize("how", ["rewrite", "rename over", "remove"])
def test_a_changed_file_wakes_and_its_neighbours_do_not(tmp_path: Path, how: str) -> None:
    watched, other = tmp_path / "hafleet.yaml", tmp_path / "other.yaml"
    watched.write_text("a")
    box = wakeups()
    watch = FileWatch(box, [watched])
    try:
        other.write_text("not watched")
        (tmp_path / ".hafleet.yaml.swp").write_text("editor's")
        watched.read_text()
        assert not box.wait(0.3)
        if how == "rewrite":
            watched.write_text("b")
        elif how == "remove":
            watched.unlink()
        else:
            other.rename(watched)
        assert box.wait(10)
        assert box.take()[0] == "file hafleet.yaml"
    finally:
        watch.stop()


def test_a_watched_folder_wakes_for_any_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "partials").mkdir()
    box = wakeups()
    watch = FileWatch(box, [tmp_path, tmp_path / "none" / "missing.pem"])
    try:
        (tmp_path / "partials" / "global.cfg.j2").write_text("x")
        assert box.wait(10)
        assert "file global.cfg.j2" in box.take()
    finally:
        watch.stop()


def test_what_this_user_may_not_read_is_left_out() -> None:
    """As /etc/ssl/private is to most users."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own folders are closed to other users
    watched, closed = folder / "hafleet.yaml", folder / "private"
    watched.write_text("a")
    (closed / "certs").mkdir(parents=True)
    box = wakeups()
    user = os.geteuid()
    folder.chmod(0o755)
    closed.chmod(0o700 if user == 0 else 0)
    try:
        os.seteuid(65534 if user == 0 else user)  # root may read everything
        try:
            watch = FileWatch(box, [watched, closed / "site.pem", closed, closed / "certs"])
        finally:
            os.seteuid(user)
        watched.write_text("b")
        assert box.wait(10)
        assert box.take()[0] == "file hafleet.yaml"
        watch.stop()
    finally:
        closed.chmod(0o700)
        shutil.rmtree(folder)


def test_a_system_without_watches_to_give_is_told_as_such(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from hafleet.adapters.clock import SystemClock\n"
        "from hafleet.adapters.wakeup import FileWatch, Wakeups\n"
        "from hafleet.errors import StoreError\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"  # inotify_init then fails, as at its own limits
        "try: FileWatch(Wakeups(SystemClock()), [Path(sys.argv[1])])\n"
        "except StoreError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("inotify: files cannot be watched: "), done.stderr
