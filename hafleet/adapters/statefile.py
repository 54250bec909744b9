"""One file of ``state_dir``: atomic, checksummed, bound to the node that wrote it.

A header line ``{"<mark>": 1, "sha256": ..., "node": ...}`` and a body line. The header's number is the format: a file of a later
format is put aside and never overwritten, so that a rollback of the package finds it again.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError

from hafleet.adapters.files import write_atomic
from hafleet.errors import StateCorrupt, StoreError

FORMAT = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What a state file holds."""

    mark: str  # key of the format's number in the header
    type: TypeAdapter[T]
    node: Callable[[T], str]  # id of the node whose content it is; "" when nobody's yet
    noun: str  # in messages: "the memory"
    rebuilt: str  # in messages: what becomes of a content that is lost
    unharmed: str  # in messages: what goes on although the disk does not


class StateFile(Generic[T]):
    """One content on disk."""

    def __init__(self, path: Path, kind: Kind[T]) -> None:
        self._path = path
        self._kind = kind
        self._cached: tuple[tuple[int, int, int], T] | None = None  # (inode, mtime, size) -> what it held

    def load(self, node_id: str | None) -> T | None:
        """The content of this node (None: whoever wrote it); None when there is no file.

        Raises:
            StateCorrupt: the file must not be trusted; it was renamed to ``<name>.bad-<time>``.
            StoreError: it cannot be read.
        """
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable("cannot be read", error) from error
        key = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._cached is None or self._cached[0] != key:
            self._cached = (key, self._read())
        content = self._cached[1]
        owner = self._kind.node(content)
        if node_id is not None and owner and owner != node_id:
            self._put_aside(f"is of node {owner}, and this is {node_id}")
        return content

    def save(self, content: T) -> None:
        """Temp file beside it, fsync, rename, fsync of the folder. Same content: no write. Raises StoreError."""
        if self._cached is not None and self._cached[1] == content and self._path.exists():
            return
        body = self._kind.type.dump_json(content)
        digest = hashlib.sha256(body).hexdigest()
        header = {self._kind.mark: FORMAT, "sha256": digest, "node": self._kind.node(content)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, json.dumps(header).encode() + b"\n" + body + b"\n", mode=0o640)
            found = os.stat(self._path)
        except OSError as error:
            raise self._unusable("cannot be written", error) from error
        self._cached = ((found.st_ino, found.st_mtime_ns, found.st_size), content)

    def _read(self) -> T:
        try:
            head, _, body = self._path.read_bytes().partition(b"\n")
        except OSError as error:
            raise self._unusable("cannot be read", error) from error
        body = body.removesuffix(b"\n")
        try:
            header = json.loads(head)
            format_ = header[self._kind.mark]
            digest = header["sha256"]
        except (ValueError, KeyError, TypeError):
            self._put_aside("has no readable header")
        if format_ != FORMAT:
            self._put_aside(f"is of format {format_}, and this hafleet writes {FORMAT}")
        if digest != hashlib.sha256(body).hexdigest():
            self._put_aside("fails its checksum")
        try:
            return self._kind.type.validate_json(body)
        except ValidationError as error:
            self._put_aside(f"does not read as a memory ({error.error_count()} faults)")

    def _put_aside(self, why: str) -> NoReturn:
        aside = self._path.with_name(f"{self._path.name}.bad-{time.strftime('%Y%m%dT%H%M%S')}")
        self._cached = None
        try:
            os.rename(self._path, aside)
        except OSError as error:
            raise self._unusable(f"{why}, and cannot be put aside", error) from error
        what = f"{self._kind.noun} {why}; it was put aside"
        raise StateCorrupt(what, where=str(aside), fix=f"nothing to do: {self._kind.rebuilt}")

    def _unusable(self, what: str, error: OSError) -> StoreError:
        fix = f"check the disk and that the agent's user owns state_dir; {self._kind.unharmed}"
        return StoreError(f"{what}: {error.strerror or error}", where=str(self._path), fix=fix)
