"""What is kept on disk."""

from typing import Protocol

from hafleet.core.dns.model import DnsMemory
from hafleet.core.life import LifeMemory
from hafleet.core.model import Memory, Rendered


class Store(Protocol):
    """The memory between passes, on disk."""

    def load(self, node_id: str | None) -> Memory:
        """The memory of this node (None: whoever wrote it, while IMDS is silent); an empty one when there is none yet.

        Raises:
            StateCorrupt: the file is unreadable, of another node or of a later version (it was put aside).
        """
        ...

    def save(self, memory: Memory) -> None:
        """Write atomically, with a checksum. Raises StoreError."""
        ...


class DnsStore(Protocol):
    """The DNS side's memory, on disk."""

    def load(self, node_id: str) -> DnsMemory:
        """The memory of this node; an empty one when there is none yet. Raises StateCorrupt (the file was put aside)."""
        ...

    def save(self, memory: DnsMemory) -> None:
        """Write atomically, with a checksum. Raises StoreError."""
        ...


class LifeStore(Protocol):
    """The memory of the lifecycle hooks, on disk."""

    def load(self, node_id: str) -> LifeMemory:
        """The memory of this node; an empty one when there is none yet. Raises StateCorrupt (the file was put aside)."""
        ...

    def save(self, memory: LifeMemory) -> None:
        """Write atomically, with a checksum. Raises StoreError."""
        ...


class History(Protocol):
    """Earlier configurations, for rollback."""

    def keep(self, rendered: Rendered, structure: str, at: float) -> None:
        """Remember what is now live. Raises StoreError."""
        ...
