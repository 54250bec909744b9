"""The DNS side's memory on disk: its own file, as safe as the other one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafleet.adapters.dns_store import FileDnsStore
from hafleet.adapters.store import FileStore
from hafleet.core.dns.model import CheckConfig, CheckMemo, DnsMemory
from hafleet.core.model import Memory
from hafleet.errors import StateCorrupt, StoreError

NODE = "i-0123456789abcdef0"
CONFIG = CheckConfig("HTTP", "198.51.100.7", 8405, "/health", "lb.example.test", regions=("eu-west-1", "us-east-1"))
MEMORY = DnsMemory(
    node=NODE,
    checks={"A/endpoint": CheckMemo("hf1:0123456789:i-0123456789abcdef0:ae:01234567:89abcdef", CONFIG, "0-1-2")},
    old_checks=("3-4-5",),
    change="C123",
    changed_at=55.5,
    refused={"digest": "[Invalid]"},
    suspects={"i-0fffffffffffffff0": 44.0},
    orphans={"6-7-8": 33.0},
    reaped_at=22.0,
)


def test_what_is_saved_is_loaded_by_another_process(tmp_path: Path) -> None:
    FileDnsStore(tmp_path).save(MEMORY)
    assert FileDnsStore(tmp_path).load(NODE) == MEMORY


def test_no_file_is_an_empty_memory(tmp_path: Path) -> None:
    assert FileDnsStore(tmp_path).load(NODE) == DnsMemory()


def test_the_two_memories_are_two_files(tmp_path: Path) -> None:
    FileDnsStore(tmp_path).save(MEMORY)
    FileStore(tmp_path).save(Memory(frozen="rollback"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dns.json", "memory.json"]
    assert FileDnsStore(tmp_path).load(NODE) == MEMORY


def test_a_memory_of_another_node_is_put_aside(tmp_path: Path) -> None:
    FileDnsStore(tmp_path).save(MEMORY)
    with pytest.raises(StateCorrupt, match=f"of DNS is of node {NODE}, and this is i-0f.*built anew from Route 53"):
        FileDnsStore(tmp_path).load("i-0fffffffffffffff0")
    assert list(tmp_path.glob("dns.json.bad-*"))
    assert FileDnsStore(tmp_path).load("i-0fffffffffffffff0") == DnsMemory()


def test_a_memory_of_nobody_yet_is_anybodys(tmp_path: Path) -> None:
    FileDnsStore(tmp_path).save(DnsMemory(reaped_at=5.0))
    assert FileDnsStore(tmp_path).load(NODE) == DnsMemory(reaped_at=5.0)


def test_the_other_memory_in_its_place_is_not_taken(tmp_path: Path) -> None:
    FileStore(tmp_path).save(Memory())
    (tmp_path / "memory.json").rename(tmp_path / "dns.json")
    with pytest.raises(StateCorrupt, match="no readable header"):
        FileDnsStore(tmp_path).load(NODE)


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
def test_any_flipped_bit_or_cut_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("state")
    FileDnsStore(folder).save(MEMORY)
    path = folder / "dns.json"
    content = bytearray(path.read_bytes())
    position %= len(content) - 1
    if cut:
        content = content[:position]
    else:
        content[position] ^= 1 << bit
    path.write_bytes(content)
    try:
        loaded = FileDnsStore(folder).load(NODE)
    except StateCorrupt:
        assert not path.exists()
    else:
        assert loaded == MEMORY  # a flip in the header's copy of the node


def test_a_disk_that_refuses_says_so_and_keeps_the_old_file(tmp_path: Path) -> None:
    FileDnsStore(tmp_path).save(MEMORY)
    (tmp_path / ".dns.json.new").mkdir()  # the temp file cannot be made
    with pytest.raises(StoreError, match=r"dns.json: cannot be written: Is a directory.*records .* stay as they are"):
        FileDnsStore(tmp_path).save(DnsMemory())
    assert FileDnsStore(tmp_path).load(NODE) == MEMORY


def test_a_file_that_cannot_be_looked_at_says_so(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="cannot be read: Not a directory"):
        FileDnsStore(place).load(NODE)
