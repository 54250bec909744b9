"""Settings and members for tests of rendering, short to write."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from hafleet.core.model import Desired, Member, Node, Peer
from hafleet.core.settings import Settings

NODE = Node(id="i-0aaa", address=ip_address("10.0.0.1"), zone="eu-west-1a", region="eu-west-1")
ASG = [{"asg": "site"}]


def make_settings(**sections: Any) -> Settings:
    """A fleet with one http frontend and one backend; sections replace those of the same name."""
    return Settings.model_validate(
        {
            "fleet": "edge",
            "frontends": [{"name": "web", "bind": ":80"}],
            "backends": [{"name": "site", "domains": ["example.com"], "port": 8080, "sources": ASG}],
            **sections,
        }
    )


def make_backend(**fields: Any) -> Settings:
    """The fleet of ``make_settings`` whose one backend has these fields besides."""
    return make_settings(backends=[{"name": "site", "port": 8080, "sources": ASG, **fields}])


def member(name: str, address: str = "10.0.1.1", zone: str = "eu-west-1a", **fields: Any) -> Member:
    return Member(name=name, instance=name, address=ip_address(address), zone=zone, **{"port": 8080, **fields})


def peer(name: str, address: str, port: int = 10000) -> Peer:
    return Peer(name=name, address=ip_address(address), port=port)


def node_at(address: str, name: str = "i-0aaa") -> Node:
    """A node of NODE's zone at this address, so that HAProxy can bind its peers port there."""
    return Node(id=name, address=ip_address(address), zone=NODE.zone, region=NODE.region)


def make_desired(
    members: Mapping[str, Sequence[Member]] | None = None, peers: Sequence[Peer] = (), node: Node = NODE
) -> Desired:
    return Desired(node=node, members={k: tuple(v) for k, v in (members or {}).items()}, peers=tuple(peers))


def write_maps(folder: Path, maps: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in maps.items():
        (folder / name).write_text(content)
