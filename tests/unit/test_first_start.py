"""A node that joins listens at its peers address until its HAProxy may start, and leaves the address to it in time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from hafleet.core.model import Groups, Installed, Node, Peer, Worker
from hafleet.errors import MetadataUnavailable, ProxyUnavailable
from hafleet.observing import Observer, Ports
from tests.fakes.worlds import NODE, make_settings

WORKER = Worker((3, 2, 26), 1, 2, 50.0, 20.0, "", {}, {}, 0)


@dataclass
class Stage:
    """Every port of a pass in one, and the listener."""

    now: float = 100.0
    text: str | None = None
    running: bool = False
    known: bool = True
    came: bool = False
    problem: str = ""
    opened: list[Peer] = field(default_factory=list)
    closed: int = 0

    def identity(self) -> Node:
        if not self.known:
            raise MetadataUnavailable("no answer")
        return NODE

    def read(self, names: Any, tags: Any, ipv6: Any) -> Groups:
        return Groups({}, self.now)

    def installed(self) -> Installed:
        return Installed(self.text, {})

    def observe(self, map_names: Sequence[str]) -> Worker:
        if not self.running:
            raise ProxyUnavailable("no socket")
        return WORKER

    def silent(self, reason: str) -> Any:
        raise ProxyUnavailable("no master")

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def contacted(self) -> bool:
        return self.came

    def close(self) -> None:
        self.closed += 1

    def listen(self, own: Peer) -> "Stage":
        self.opened.append(own)
        return self

    def observer(self, *, listens: bool = True) -> Observer:
        me: Any = self
        return Observer(make_settings(), Ports(me, me, me, me, me, me, listen=self.listen if listens else None))


def test_it_listens_from_the_first_look_and_tells_how_long_and_since_when_somebody_came() -> None:
    stage = Stage()
    observer = stage.observer()
    door = observer.observe().door
    assert stage.opened == [Peer(NODE.id, IPv4Address("10.9.0.1"), 10000)]
    assert door and (door.waited, door.heard, door.problem) == (0.0, None, "")
    stage.now, stage.came = 107.0, True
    door = observer.observe().door
    assert door and (door.waited, door.heard) == (7.0, 0.0)
    stage.now, stage.problem = 110.0, "busy"
    door = observer.observe().door
    assert door and (door.waited, door.heard, door.problem) == (10.0, 3.0, "busy")
    assert len(stage.opened) == 1


def test_a_node_that_nobody_knows_yet_has_no_address_to_listen_at() -> None:
    stage = Stage(known=False)
    observer = stage.observer()
    assert observer.observe().door is None
    stage.known = True
    assert observer.observe().door


def test_the_address_is_haproxy_s_from_the_first_file_on() -> None:
    for change in ({"text": "x"}, {"running": True}):
        stage = Stage()
        observer = stage.observer()
        assert observer.observe().door
        for name, value in change.items():
            setattr(stage, name, value)
        assert observer.observe().door is None
        assert stage.closed == 1
        stage.text, stage.running = None, False
        assert observer.observe().door is None  # somebody took the file away: no first start any more
        assert len(stage.opened) == 1


def test_it_is_left_before_the_file_is_written() -> None:
    stage = Stage()
    observer = stage.observer()
    observer.observe()
    observer.shut()
    assert stage.closed == 1
    observer.shut()
    assert stage.closed == 1
    assert observer.observe().door is None


def test_without_a_lifecycle_section_nobody_listens() -> None:
    assert Stage().observer(listens=False).observe().door is None
