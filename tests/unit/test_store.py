"""The memory on disk: atomic, checksummed, bound to its node."""

import os
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafleet.adapters.store import FileStore
from hafleet.core.model import Member, Memory, Missing, Node, Peer
from hafleet.errors import StateCorrupt, StoreError

NODE = Node("i-0123456789abcdef0", IPv4Address("10.0.0.1"), "eu-west-1a", "eu-west-1", "edge")
MEMORY = Memory(
    node=NODE,
    members={"site": (Member("i-0aaaaaaaaaaaaaaaa", "i-0aaaaaaaaaaaaaaaa", IPv6Address("fd00::1"), 80, "z", 5, True),)},
    peers=(Peer(NODE.id, NODE.address, 10000),),
    missing={"site/i-0b": Missing(2, 5.5)},
    draining={"site/i-0a": 77.0},
    gone={"i-0c": 12.0},
    confirmed_peers=(("a", "b"), 3.0),
    frozen="rollback",
    reload_failures=2,
    reload_failed_at=99.0,
    read_at=98.0,
)


def test_what_is_saved_is_loaded_by_another_process(tmp_path: Path) -> None:
    FileStore(tmp_path).save(MEMORY)
    assert FileStore(tmp_path).load(NODE.id) == MEMORY
    assert FileStore(tmp_path).load(None) == MEMORY


def test_no_file_is_an_empty_memory(tmp_path: Path) -> None:
    assert FileStore(tmp_path).load("i-0123456789abcdef0") == Memory()


def test_an_unchanged_memory_is_not_written_again(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.save(MEMORY)
    before = os.stat(tmp_path / "memory.json").st_ino
    store.save(MEMORY)
    assert os.stat(tmp_path / "memory.json").st_ino == before
    store.save(Memory())
    assert os.stat(tmp_path / "memory.json").st_ino != before


def test_what_another_process_wrote_is_seen(tmp_path: Path) -> None:
    mine, other = FileStore(tmp_path), FileStore(tmp_path)
    mine.save(Memory())
    other.save(MEMORY)
    assert mine.load(NODE.id) == MEMORY


def test_a_memory_of_another_node_is_put_aside(tmp_path: Path) -> None:
    FileStore(tmp_path).save(MEMORY)
    with pytest.raises(StateCorrupt, match="of node i-0123456789abcdef0, and this is i-0fffffffffffffff0"):
        FileStore(tmp_path).load("i-0fffffffffffffff0")
    assert list(tmp_path.glob("memory.json.bad-*"))
    assert FileStore(tmp_path).load("i-0fffffffffffffff0") == Memory()


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
def test_any_flipped_bit_or_cut_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("state")
    FileStore(folder).save(MEMORY)
    path = folder / "memory.json"
    content = bytearray(path.read_bytes())
    position %= len(content) - 1
    if cut:
        content = content[:position]
    else:
        content[position] ^= 1 << bit
    path.write_bytes(content)
    try:
        loaded = FileStore(folder).load(NODE.id)
    except StateCorrupt:
        assert not path.exists()
    else:
        assert loaded == MEMORY  # a flip that changes nothing that counts, such as the header's copy of the node


def test_a_later_format_is_put_aside_not_overwritten(tmp_path: Path) -> None:
    FileStore(tmp_path).save(MEMORY)
    path = tmp_path / "memory.json"
    later = path.read_bytes().replace(b'"hafleet_memory": 1', b'"hafleet_memory": 2')
    path.write_bytes(later)
    with pytest.raises(StateCorrupt, match="format 2"):
        FileStore(tmp_path).load(NODE.id)
    aside = list(tmp_path.glob("memory.json.bad-*"))
    assert aside and aside[0].read_bytes() == later


def test_a_full_or_missing_place_says_so_and_keeps_the_old_file(tmp_path: Path) -> None:
    FileStore(tmp_path).save(MEMORY)
    (tmp_path / ".memory.json.new").mkdir()  # the temp file cannot be made
    store = FileStore(tmp_path)
    with pytest.raises(StoreError, match=r"memory.json: cannot be written: Is a directory; check the disk"):
        store.save(Memory())
    assert FileStore(tmp_path).load(NODE.id) == MEMORY
