"""The DNS side's memory on disk: ``dns.json``. See ``statefile`` for its layout and its safety."""

from pathlib import Path

from pydantic import TypeAdapter

from hafleet.adapters.statefile import Kind, StateFile
from hafleet.core.dns.model import DnsMemory

_KIND = Kind(
    mark="hafleet_dns",
    type=TypeAdapter(DnsMemory),
    node=lambda memory: memory.node,
    noun="the memory of DNS",
    rebuilt="it is built anew from Route 53",
    unharmed="the records in Route 53 stay as they are",
)


class FileDnsStore:
    """Implements ``ports.DnsStore`` on ``state_dir/dns.json``."""

    def __init__(self, state_dir: Path) -> None:
        self._file = StateFile(state_dir / "dns.json", _KIND)

    def load(self, node_id: str) -> DnsMemory:
        """See ``ports.DnsStore.load``. A file that must not be trusted is renamed to ``dns.json.bad-<time>`` first."""
        return self._file.load(node_id) or DnsMemory()

    def save(self, memory: DnsMemory) -> None:
        """See ``ports.DnsStore.save``."""
        self._file.save(memory)
