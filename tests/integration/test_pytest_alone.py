"""scripts/pytest-alone: what fails beside others gets one more chance, what fails again fails, and nobody is silent about it."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLAKY = """
import pathlib
import pytest

@pytest.mark.parametrize("name", {names})
def test_it(name):
    seen = pathlib.Path(__file__).with_name(name)
    if name.startswith("once") and seen.exists():
        return
    seen.touch()
    assert name == "good"
"""
AGAIN, TOLD = "== once more, alone: ", "FAILED BESIDE OTHERS, PASSED ALONE: "


def alone(folder: Path, *names: str) -> "subprocess.CompletedProcess[str]":
    """Run tests of these names: good ones, those that fail once, and bad ones."""
    (folder / "test_some.py").write_text(FLAKY.format(names=list(names)))
    argv = (ROOT / "scripts/pytest-alone", "-n", "0", folder)
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def test_what_passes_runs_once(tmp_path: Path) -> None:
    done = alone(tmp_path, "good")
    assert done.returncode == 0, done.stdout
    assert AGAIN not in done.stdout


def test_what_passes_alone_is_named(tmp_path: Path) -> None:
    done = alone(tmp_path, "good", "once-a", "once-b")
    assert done.returncode == 0, done.stdout
    assert f"{AGAIN}2 failed" in done.stdout
    told = [line.rpartition("::")[2] for line in done.stdout.splitlines() if line.startswith(TOLD)]
    assert told == ["test_it[once-a]", "test_it[once-b]"]


def test_what_fails_again_is_a_failure(tmp_path: Path) -> None:
    done = alone(tmp_path, "once", "bad")
    assert done.returncode == 1
    assert f"{AGAIN}2 failed" in done.stdout
    assert TOLD not in done.stdout


def test_many_are_a_failure_at_once(tmp_path: Path) -> None:
    done = alone(tmp_path, "once-a", "once-b", "once-c", "once-d")
    assert done.returncode == 1
    assert AGAIN not in done.stdout


def test_what_cannot_run_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("1 +")
    argv = (ROOT / "scripts/pytest-alone", "-n", "0", tmp_path)
    assert subprocess.run(argv, capture_output=True, timeout=120, check=False).returncode == 2
