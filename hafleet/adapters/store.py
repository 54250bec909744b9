"""The memory between passes, on disk: ``memory.json``. See ``statefile`` for its layout and its safety."""

from pathlib import Path

from pydantic import TypeAdapter

from hafleet.adapters.statefile import Kind, StateFile
from hafleet.core.model import Memory

_KIND = Kind(
    mark="hafleet_memory",
    type=TypeAdapter(Memory),
    node=lambda memory: memory.node.id if memory.node else "",
    noun="the memory",
    rebuilt="it is built anew from the running HAProxy and AWS",
    unharmed="HAProxy keeps serving",
)


class FileStore:
    """Implements ``ports.Store`` on ``state_dir/memory.json``."""

    def __init__(self, state_dir: Path) -> None:
        self._file = StateFile(state_dir / "memory.json", _KIND)

    def load(self, node_id: str | None) -> Memory:
        """See ``ports.Store.load``. A file that must not be trusted is renamed to ``memory.json.bad-<time>`` first."""
        return self._file.load(node_id) or Memory()

    def save(self, memory: Memory) -> None:
        """See ``ports.Store.save``."""
        self._file.save(memory)
