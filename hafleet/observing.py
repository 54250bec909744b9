"""What a pass talks to, and its first step: each port is read once, into a ``World``."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from hafleet.core import membership, proof, proxyplan
from hafleet.core.model import Door, Groups, Installed, Node, Notices, Peer, Silent, Unknown, Worker, World
from hafleet.core.settings import Settings
from hafleet.core.sources import Question
from hafleet.errors import HafleetError, ProxyUnavailable, SourceUnavailable, StoreError
from hafleet.ports import Clock, Membership, NodeMetadata, NodeNotices, PeerWatch, Proxy, Renderer, Store, Tidings

T = TypeVar("T")


class NoNotices:
    """Implements ``ports.NodeNotices`` for a node of which nobody announces anything."""

    def notices(self) -> Notices:
        """None."""
        return Notices()


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything a pass talks to."""

    membership: Membership
    metadata: NodeMetadata
    renderer: Renderer
    proxy: Proxy
    store: Store
    clock: Clock
    notices: NodeNotices = NoNotices()  # noqa: RUF009  # it has no state
    listen: Callable[[Peer], PeerWatch] | None = (
        None  # at the own peers address; None: HAProxy's first start waits for no peer
    )
    tidings: Tidings | None = None  # what events are worth; None: nobody hears any


class Observer:
    """Reads the ports. A failed or partial read is Unknown."""

    def __init__(self, settings: Settings, ports: Ports) -> None:
        self._settings = settings
        self._ports = ports
        self._silences = 0  # passes in a row in which the master answered, and its worker did not
        self._watch: PeerWatch | None = None
        self._opened = 0.0  # monotonic; of the watch
        self._heard: float | None = None  # monotonic; when a peer was first seen to have come
        self._shut = ports.listen is None  # for good: a node starts its HAProxy for the first time once
        self._last: tuple[Question, Groups] | None = None  # the last complete read, and what was asked

    def observe(self, *, rests: bool = False) -> World:
        """Each port read once.

        Args:
            rests: nothing but the timer woke the pass, and nothing waits for AWS: where events would have told of a change, the
                groups of the last read are taken again, as what they are, with the time of that read.
        """
        ports = self._ports
        node = _read(ports.metadata.identity)
        worker, installed = self._worker(), _read(ports.proxy.installed)
        return World(
            at=ports.clock.wall(),
            node=node,
            groups=_read(lambda: self._groups(node, rests=rests)),
            worker=worker,
            installed=installed,
            notices=_read(ports.notices.notices),
            door=self._door(node, worker, installed),
        )

    def shut(self) -> None:
        """Leave the peers address to HAProxy, from now on."""
        self._shut = True
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _door(self, node: Node | Unknown, worker: Worker | Unknown, installed: Installed | Unknown) -> Door | None:
        """What came to the peers address of a node without HAProxy and without a file for it; listens there from the first time."""
        if self._shut or isinstance(installed, Unknown):
            return None
        if installed.text is not None or isinstance(worker, Worker):
            self.shut()
            return None
        now = self._ports.clock.monotonic()
        if self._watch is None:
            if isinstance(node, Unknown) or self._ports.listen is None:
                return None
            self._watch = self._ports.listen(Peer(node.id, node.address, self._settings.peers.port))
            self._opened = now
        if self._heard is None and self._watch.contacted():
            self._heard = now
        return Door(now - self._opened, None if self._heard is None else now - self._heard, self._watch.problem)

    def _worker(self) -> Worker | Unknown:
        """The running worker; where it does not answer, what the master tells of it."""
        found = _read(lambda: self._ports.proxy.observe(proxyplan.MAP_NAMES))
        told = _read(lambda: self._ports.proxy.silent(found.reason)) if isinstance(found, Unknown) else found
        self._silences = self._silences + 1 if isinstance(told, Silent) else 0
        return replace(told, passes=self._silences) if isinstance(told, Silent) else found

    def _groups(self, node: Node | Unknown, *, rests: bool) -> Groups:
        ask = membership.question(self._settings, None if isinstance(node, Unknown) else node)
        tidings = self._ports.tidings
        before = self._last[1] if rests and tidings and self._last and self._last[0] == ask else None
        if before and tidings and tidings.spares(self._ports.clock.monotonic() - before.started):
            return before
        groups = self._ports.membership.read(ask.names, ask.tags, ask.ipv6)
        if before and tidings and proof.moved(before, groups):
            tidings.found()
        self._last = ask, groups
        return groups


def unknowns(world: World) -> tuple[HafleetError, ...]:
    """What could not be read, as errors to report. An HAProxy that does not run is one of them."""
    parts = (
        ("node", world.node),
        ("groups", world.groups),
        ("haproxy", world.worker),
        ("files", world.installed),
        ("notices", world.notices),
    )
    return tuple(
        HafleetError(part.reason, where=name, fix="the last good state keeps serving")
        for name, part in parts
        if isinstance(part, Unknown)
    )


def _read(source: Callable[[], T]) -> T | Unknown:
    try:
        return source()
    except (SourceUnavailable, ProxyUnavailable, StoreError) as error:
        return Unknown(str(error))
