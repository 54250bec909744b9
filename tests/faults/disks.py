"""Disks that fail: small ones that get full, and read-only ones. A mount needs root; without it the tests say so loudly."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs on ``folder`` until the end of the block. What the folder holds before is not seen meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"NOT TESTED: no tmpfs can be mounted here (run as root for it): {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change the options of a mount."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Fill the disk to its last byte with one file, and return it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            with pytest.raises(OSError, match="No space left"):
                _write_on(file, b"x" * size)
    return filler


def take_inodes(folder: Path) -> list[Path]:
    """Use up every inode of the disk, and return the files that do."""
    taken: list[Path] = []
    with pytest.raises(OSError, match="No space left"):
        _make_on(folder, taken)
    return taken


def _write_on(file: RawIOBase, data: bytes) -> None:
    while True:
        file.write(data)


def _make_on(folder: Path, taken: list[Path]) -> None:
    while True:
        path = folder / f"inode-{len(taken)}"
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        taken.append(path)


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes (EFBIG): the portable stand-in for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
