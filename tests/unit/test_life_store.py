"""The memory of the lifecycle hooks on disk: its own file, as safe as the others."""

from pathlib import Path

import pytest

from hafleet.adapters.dns_store import FileDnsStore
from hafleet.adapters.life_store import FileLifeStore
from hafleet.core.dns.model import DnsMemory
from hafleet.core.life import LifeMemory
from hafleet.errors import StateCorrupt, StoreError

NODE = "i-0123456789abcdef0"
MEMORY = LifeMemory(
    node=NODE,
    state="Terminating:Wait",
    since=11.5,
    beats={"leaves": 22.0},
    done={"first": 33.0},
    result="CONTINUE",
    reason="no connection is left",
    left_at=10.0,
    record_gone_at=20.0,
    quiet_since=30.0,
)


def test_what_is_saved_is_loaded_by_another_process(tmp_path: Path) -> None:
    FileLifeStore(tmp_path).save(MEMORY)
    assert FileLifeStore(tmp_path).load(NODE) == MEMORY


def test_no_file_is_an_empty_memory(tmp_path: Path) -> None:
    assert FileLifeStore(tmp_path).load(NODE) == LifeMemory()


def test_the_memories_are_files_of_their_own(tmp_path: Path) -> None:
    FileLifeStore(tmp_path).save(MEMORY)
    FileDnsStore(tmp_path).save(DnsMemory(node=NODE))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dns.json", "life.json"]
    assert FileLifeStore(tmp_path).load(NODE) == MEMORY


def test_a_memory_of_another_node_is_put_aside(tmp_path: Path) -> None:
    FileLifeStore(tmp_path).save(MEMORY)
    with pytest.raises(StateCorrupt, match=f"lifecycle hooks is of node {NODE}, and this is i-0f.*built anew"):
        FileLifeStore(tmp_path).load("i-0fffffffffffffff0")
    assert list(tmp_path.glob("life.json.bad-*"))
    assert FileLifeStore(tmp_path).load("i-0fffffffffffffff0") == LifeMemory()


def test_the_memory_of_dns_in_its_place_is_not_taken(tmp_path: Path) -> None:
    FileDnsStore(tmp_path).save(DnsMemory())
    (tmp_path / "dns.json").rename(tmp_path / "life.json")
    with pytest.raises(StateCorrupt, match="no readable header"):
        FileLifeStore(tmp_path).load(NODE)


def test_a_disk_that_refuses_says_so_and_keeps_the_old_file(tmp_path: Path) -> None:
    FileLifeStore(tmp_path).save(MEMORY)
    (tmp_path / ".life.json.new").mkdir()  # the temp file cannot be made
    with pytest.raises(StoreError, match=r"life.json: cannot be written: Is a directory.*hooks go on"):
        FileLifeStore(tmp_path).save(LifeMemory())
    assert FileLifeStore(tmp_path).load(NODE) == MEMORY
