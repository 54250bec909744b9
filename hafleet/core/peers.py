"""The peers section: every instance of this node's own group that can hold a stick table, and this node itself, always.

No HAProxy version can change its peers without a reload, so a changed list must stand a while before it is taken. A node that
is still Pending is listed already: a newcomer learns the tables only when the others list it before it starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hafleet.core.guard import PEER_RULES, Absence, Case, Proposal, judge
from hafleet.core.model import Group, Groups, Held, Memory, Missing, Node, Peer
from hafleet.core.settings import Settings
from hafleet.core.sources import INSTANCE_ID

SUBJECT = "peers"
KEY = "@peers/"  # prefix in Memory.missing; no backend can be called so


@dataclass(frozen=True, slots=True)
class PeerDecision:
    """The peers of this pass, sorted by name, and what to remember of them."""

    peers: tuple[Peer, ...]
    missing: Mapping[str, Missing]
    confirmed: tuple[tuple[str, ...], float] | None
    held: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerScene:
    """What one pass knows of the peers."""

    at: float  # wall clock
    node: Node
    groups: Groups | None  # None: there is no usable read
    fresh: bool  # the read counts for what is missing
    gone: Mapping[str, float]


def decide_peers(settings: Settings, memory: Memory, scene: PeerScene) -> PeerDecision:
    """The peers after this pass. A list without this node cannot come out of here."""
    port = settings.peers.port
    self_peer = Peer(scene.node.id, scene.node.address, port)
    known = {peer.name: replace(peer, port=port) for peer in memory.peers} | {self_peer.name: self_peer}
    own = scene.groups.by_name.get(scene.node.group) if scene.groups else None
    if own is None:
        carried = {key: value for key, value in memory.missing.items() if key.startswith(KEY)}
        return PeerDecision(_sorted(known), carried, memory.confirmed_peers)
    listed = _listed(own, scene.gone, port) | {self_peer.name: self_peer}
    absences = _absences(own, known.keys() - listed.keys(), memory, scene)
    case = Case(SUBJECT, scene.at, settings.safety, (own,), ())
    ruling = judge(case, Proposal(removals=tuple(absences.values()) if scene.fresh else ()), PEER_RULES)
    released = {absence.name for absence in ruling.proposal.removals}
    kept = {name: known[name] for name in absences if name not in released}
    missing = {KEY + name: Missing(absences[name].reads, absences[name].since) for name in kept}
    wanted = _sorted(listed | kept)
    return _settle(
        settings, memory, scene.at, (_sorted(known), wanted), PeerDecision(wanted, missing, None, ruling.held)
    )


def _listed(own: Group, gone: Mapping[str, float], port: int) -> dict[str, Peer]:
    """Instances that are not on their way out, with an address."""
    return {
        instance.id: Peer(instance.id, instance.address, port)
        for instance in own.instances
        if instance.address is not None
        and not instance.terminates
        and instance.id not in gone
        and INSTANCE_ID.fullmatch(instance.id)
    }


def _absences(own: Group, names: Sequence[str] | set[str], memory: Memory, scene: PeerScene) -> dict[str, Absence]:
    """Known peers that the group no longer lists, without evidence that they terminate."""
    ended = {instance.id for instance in own.instances if instance.terminates} | scene.gone.keys()
    found: dict[str, Absence] = {}
    for name in sorted(set(names) - ended):
        before = memory.missing.get(KEY + name)
        reads = (before.reads if before else 0) + (1 if scene.fresh else 0)
        found[name] = Absence(name, own.name, reads, min(before.since, scene.at) if before else scene.at)
    return found


def _settle(
    settings: Settings, memory: Memory, at: float, lists: tuple[tuple[Peer, ...], tuple[Peer, ...]], taken: PeerDecision
) -> PeerDecision:
    """Take a changed list only when it has stood ``peers.settle`` seconds; the very first one at once."""
    known, wanted = lists
    if wanted == known or not memory.peers:
        return taken
    names = tuple(f"{peer.name} {peer.address}" for peer in wanted)
    stood = memory.confirmed_peers
    since = min(stood[1], at) if stood is not None and stood[0] == names else at
    if at - since >= settings.peers.settle:
        return taken
    reason = f"a changed list of {len(wanted)} peers settles: {at - since:.0f} of {settings.peers.settle:g} s"
    held = (*taken.held, Held("peers_settle", SUBJECT, reason))
    return replace(taken, peers=known, confirmed=(names, since), held=held)


def _sorted(peers: Mapping[str, Peer]) -> tuple[Peer, ...]:
    return tuple(peers[name] for name in sorted(peers))
