"""The memory of the lifecycle hooks on disk: ``life.json``. See ``statefile`` for its layout and its safety."""

from pathlib import Path

from pydantic import TypeAdapter

from hafleet.adapters.statefile import Kind, StateFile
from hafleet.core.life import LifeMemory

_KIND = Kind(
    mark="hafleet_life",
    type=TypeAdapter(LifeMemory),
    node=lambda memory: memory.node,
    noun="the memory of the lifecycle hooks",
    rebuilt="it is built anew from what Auto Scaling says of the node",
    unharmed="the hooks go on as they are",
)


class FileLifeStore:
    """Implements ``ports.LifeStore`` on ``state_dir/life.json``."""

    def __init__(self, state_dir: Path) -> None:
        self._file = StateFile(state_dir / "life.json", _KIND)

    def load(self, node_id: str) -> LifeMemory:
        """See ``ports.LifeStore.load``. A file that must not be trusted is renamed to ``life.json.bad-<time>`` first."""
        return self._file.load(node_id) or LifeMemory()

    def save(self, memory: LifeMemory) -> None:
        """See ``ports.LifeStore.save``."""
        self._file.save(memory)
