"""The memory between passes, on disk: one file, atomic, checksummed, bound to the node that wrote it.

Layout of ``memory.json``: a header line ``{"hafleet_memory": 1, "sha256": ..., "node": ...}`` and a body line. The header's number
is the format: a file of a later format is put aside and never overwritten, so that a rollback of the package finds it again.
"""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import NoReturn

from pydantic import TypeAdapter, ValidationError

from hafleet.adapters.files import write_atomic
from hafleet.core.model import Memory
from hafleet.errors import StateCorrupt, StoreError

FORMAT = 1
_MEMORY: TypeAdapter[Memory] = TypeAdapter(Memory)


class FileStore:
    """Implements ``ports.Store`` on ``state_dir/memory.json``."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "memory.json"
        self._cached: tuple[tuple[int, int, int], Memory] | None = None  # (inode, mtime, size) -> what it held

    def load(self, node_id: str | None) -> Memory:
        """See ``ports.Store.load``. A file that must not be trusted is renamed to ``memory.json.bad-<time>`` first."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return Memory()
        except OSError as error:
            raise self._unusable("cannot be read", error) from error
        key = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._cached is None or self._cached[0] != key:
            self._cached = (key, self._read())
        memory = self._cached[1]
        if node_id is not None and memory.node is not None and memory.node.id != node_id:
            self._put_aside(f"is of node {memory.node.id}, and this is {node_id}")
        return memory

    def save(self, memory: Memory) -> None:
        """See ``ports.Store.save``: temp file beside it, fsync, rename, fsync of the folder. Same content: no write."""
        if self._cached is not None and self._cached[1] == memory and self._path.exists():
            return
        body = _MEMORY.dump_json(memory)
        node = memory.node.id if memory.node else ""
        header = {"hafleet_memory": FORMAT, "sha256": hashlib.sha256(body).hexdigest(), "node": node}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, json.dumps(header).encode() + b"\n" + body + b"\n", mode=0o640)
            found = os.stat(self._path)
        except OSError as error:
            raise self._unusable("cannot be written", error) from error
        self._cached = ((found.st_ino, found.st_mtime_ns, found.st_size), memory)

    def _read(self) -> Memory:
        try:
            head, _, body = self._path.read_bytes().partition(b"\n")
        except OSError as error:
            raise self._unusable("cannot be read", error) from error
        body = body.removesuffix(b"\n")
        try:
            header = json.loads(head)
            format_ = header["hafleet_memory"]
            digest = header["sha256"]
        except (ValueError, KeyError, TypeError):
            self._put_aside("has no readable header")
        if format_ != FORMAT:
            self._put_aside(f"is of format {format_}, and this hafleet writes {FORMAT}")
        if digest != hashlib.sha256(body).hexdigest():
            self._put_aside("fails its checksum")
        try:
            return _MEMORY.validate_json(body)
        except ValidationError as error:
            self._put_aside(f"does not read as a memory ({error.error_count()} faults)")

    def _put_aside(self, why: str) -> NoReturn:
        aside = self._path.with_name(f"{self._path.name}.bad-{time.strftime('%Y%m%dT%H%M%S')}")
        self._cached = None
        try:
            os.rename(self._path, aside)
        except OSError as error:
            raise self._unusable(f"{why}, and cannot be put aside", error) from error
        raise StateCorrupt(
            f"the memory {why}; it was put aside",
            where=str(aside),
            fix="nothing to do: it is built anew from the running HAProxy and AWS",
        )

    def _unusable(self, what: str, error: OSError) -> StoreError:
        return StoreError(
            f"{what}: {error.strerror or error}",
            where=str(self._path),
            fix="check the disk and that the agent's user owns state_dir; HAProxy keeps serving",
        )
