"""One agent per node, one pass at a time: real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hafleet.adapters.lock import NodeLocks, locked
from hafleet.errors import LockHeld, StoreError

HOLD = "import sys; from pathlib import Path; from hafleet.adapters.lock import locked\nwith locked(Path(sys.argv[1])):\n print('held', flush=True); sys.stdin.read()"


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin and holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockHeld, match=f"another hafleet \\(pid {holder.pid}\\)"), NodeLocks(tmp_path).agent():
            pass
        holder.kill()
    with NodeLocks(tmp_path).agent():  # the kernel gives a dead holder's lock away
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_pass_waits_for_the_one_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "pass.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin and holder.stdout
        assert holder.stdout.readline() == "held\n"
        holder.stdin.close()
        with NodeLocks(tmp_path).one_pass():
            assert path.read_text() == f"{os.getpid()}\n"


def test_a_place_that_cannot_hold_a_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(StoreError, match=r"/x: the lock file cannot be made"), locked(tmp_path / "x"):
        pass
