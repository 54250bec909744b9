"""One way to write a file that must never be seen half-written: beside the target, fsync, rename, fsync of the folder."""

import os
from pathlib import Path


def write_atomic(path: Path, data: bytes, *, mode: int = 0o640) -> None:
    """Replace ``path`` by ``data`` so that every reader, and a machine that loses power, sees the old or the new content.

    The owner and group of a file that is there are kept where the process may set them.

    Raises:
        OSError: nothing was changed.
    """
    temporary = stage(path, data, mode=mode)
    try:
        put(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def stage(path: Path, data: bytes, *, mode: int = 0o640) -> Path:
    """Write ``data`` to a new file in the folder of ``path``, on the disk for good, and return its path.

    Raises:
        OSError: no file is left.
    """
    staged = path.with_name(f".{path.name}.new")  # a fixed name: what a killed writer left is written over
    try:
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            _keep_owner(descriptor, path)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    return staged


def put(staged: Path, path: Path) -> None:
    """Rename a staged file over its target and make the rename last. Raises OSError."""
    os.rename(staged, path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make renames in this folder last. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep_owner(descriptor: int, path: Path) -> None:
    try:
        there = os.stat(path)
        os.fchown(descriptor, there.st_uid, there.st_gid)
    except OSError:  # no file there yet, or not ours to give away: the folder's own rules decide
        return
