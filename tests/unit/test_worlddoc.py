"""The world as a document, and back."""

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from hafleet.core.model import Group, Groups, Instance, Node, RunningServer, Unknown, Worker, World
from hafleet.core.worlddoc import ProxyDoc, WorldDoc, from_doc, to_doc
from hafleet.errors import HafleetError
from hafleet.rendering import parse_version, read_world, world_json

NODE = Node("i-0123456789abcdef0", IPv4Address("10.0.0.1"), "eu-west-1a", "eu-west-1", "edge")
GROUP = Group(
    "blue", 1, (Instance("i-0aaaaaaaaaaaaaaaa", "InService", "eu-west-1a", IPv4Address("10.0.0.9")),), {"k": "v"}
)
SERVER = RunningServer("site", "i-0aaaaaaaaaaaaaaaa", 7, "10.0.0.9", 80, False, False, 100, True, True, 3)
WORKER = Worker((3, 2, 26), 1, 2, 50.0, 20.0, "stamp", {("site", SERVER.name): SERVER}, {}, 1)
KNOWN = World(5.0, NODE, Groups({"blue": GROUP}, 5.0), WORKER, Unknown("no file"))


def test_a_world_survives_the_way_through_json(tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    path.write_text(world_json(KNOWN))
    doc = read_world(path)
    assert doc == to_doc(KNOWN)
    back = from_doc(doc)
    assert back.node == NODE
    assert isinstance(back.groups, Groups) and back.groups.by_name == {"blue": GROUP}
    assert doc.haproxy and doc.haproxy.version == (3, 2, 26) and doc.haproxy.servers == (SERVER,)
    assert doc.unknown == {"files": "no file"}


def test_haproxy_in_a_world_document(tmp_path: Path) -> None:
    found = json.loads(world_json(KNOWN))["haproxy"]
    assert found.pop("servers")[0]["name"] == SERVER.name
    assert found == {
        "version": [3, 2, 26],
        "pid": 2,
        "master_pid": 1,
        "uptime": 20.0,
        "master_uptime": 50.0,
        "structure": "stamp",
        "old_workers": 1,
        "old_sessions": 0,
        "failed_reloads": 0,
    }
    path = tmp_path / "world.json"
    path.write_text('{"haproxy": {"version": [3, 0, 11]}}')
    assert read_world(path).haproxy == ProxyDoc((3, 0, 11))


def test_the_public_addresses_of_a_node_survive_and_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    node = replace(NODE, public=IPv4Address("198.51.100.7"), ipv6=IPv6Address("2001:db8::7"))
    path.write_text(world_json(replace(KNOWN, node=node)))
    assert from_doc(read_world(path)).node == node
    path.write_text('{"node": {"id": "n", "address": "10.0.0.1", "zone": "", "region": ""}}')
    assert read_world(path).node == Node("n", IPv4Address("10.0.0.1"), "", "")


def test_unknown_stays_unknown() -> None:
    world = World(5.0, Unknown("a"), Unknown("b"), Unknown("c"), Unknown("d"))
    doc = to_doc(world)
    assert doc == WorldDoc(5.0, None, None, None, {"node": "a", "groups": "b", "haproxy": "c", "files": "d"})
    back = from_doc(doc)
    assert isinstance(back.node, Unknown) and isinstance(back.groups, Unknown)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "is not a world document"), ('{"node": {"id": 5}}', "node.id"), ('{"groups": 7}', "groups")],
)
def test_a_bad_document_says_where(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "world.json"
    path.write_text(text)
    with pytest.raises(HafleetError, match=words):
        read_world(path)
    with pytest.raises(HafleetError, match="cannot be read"):
        read_world(tmp_path / "none.json")


def test_versions() -> None:
    assert parse_version("3.0") == (3, 0, 0)
    assert parse_version("2.6.12") == (2, 6, 12)
    with pytest.raises(HafleetError, match=r"'next' is not an HAProxy version; write it as 3\.0\.11"):
        parse_version("next")
