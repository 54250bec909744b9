"""Decide: from settings, world and memory to the members and peers this node should have. Pure; the guard is inside.

The rules are those of DESIGN section 7. Nothing here fails: what cannot be known is ``Unknown``, what may not be done is held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from types import MappingProxyType

from hafleet.core import obeying
from hafleet.core.cfgtext import ConfigText, ServerLine
from hafleet.core.guard import FORCED, RULES, Rule
from hafleet.core.model import Desired, Groups, Held, Member, Memory, Missing, Node, Unknown, Verdict, World
from hafleet.core.peers import PeerScene, decide_peers
from hafleet.core.pool import Pool, Scene, decide_pool
from hafleet.core.settings import Backend, Settings
from hafleet.core.sources import INSTANCE_ID, STATIC_PREFIX, Question, question

__all__ = ["FORCED", "RULES", "Decision", "Known", "Question", "decide", "from_installed", "question"]

Known = Mapping[str, tuple[Member, ...]]
NOTHING_KNOWN: Known = MappingProxyType({})

GONE_FOR = 86400.0  # seconds a terminated instance is remembered; EC2 itself shows it for about an hour
_BLACKOUT = 600.0  # seconds without a complete read that are never an ordinary gap, however short hold_max is


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of one pass's thinking.

    ``verdicts`` tell of every instance that is not plainly serving: those that drain, are held, stay away, or serve only because
    nobody replaces them.
    """

    desired: Desired | Unknown
    memory: Memory
    held: tuple[Held, ...] = ()
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class _Read:
    """The membership read as far as it may be used."""

    groups: Groups | None
    fresh: bool = False
    held: tuple[Held, ...] = ()


def decide(
    settings: Settings,
    world: World,
    memory: Memory,
    *,
    rules: Sequence[Rule] = RULES,
    known: Known = NOTHING_KNOWN,
) -> Decision:
    """What this node should serve, and what to remember.

    Args:
        settings: the settings.
        world: what this pass has seen.
        memory: what the last pass remembered.
        rules: the guard's rules; ``FORCED`` for an operator's ``--force``.
        known: members of the installed file, taken as last known good when the memory was lost.
    """
    node = memory.node if isinstance(world.node, Unknown) else world.node
    if node is None:
        reason = world.node.reason if isinstance(world.node, Unknown) else ""
        return Decision(Unknown(f"this node is not known: {reason}"), memory)
    if not memory.members and known:
        memory = replace(memory, members=known)
    read = _usable(world.groups, memory)
    memory = replace(memory, node=node, gone=_gone(read.groups, memory.gone, world.at))
    if isinstance(world.groups, Groups):
        memory = replace(memory, read_started=world.groups.started)
    memory, ordered = _ordered(memory, read.groups, node, world.at)
    if read.fresh and world.at - memory.read_at >= _long_gap(settings):
        memory = replace(memory, missing=_restarted(memory.missing, world.at))
    worker = None if isinstance(world.worker, Unknown) else world.worker
    scene = Scene(world.at, read.groups, read.fresh, memory.gone, worker, memory, settings.safety, tuple(rules))
    pools = {backend.name: decide_pool(scene, backend) for backend in settings.backends}
    peers = decide_peers(settings, memory, PeerScene(world.at, node, read.groups, read.fresh, memory.gone))
    held = (*read.held, *ordered, *(held for pool in pools.values() for held in pool.held), *peers.held)
    verdicts = tuple(verdict for pool in pools.values() for verdict in pool.verdicts)
    unread = [b.name for b in settings.backends if _from_groups(b) and b.name not in memory.members]
    if read.groups is None and unread:  # a new or renamed backend: rendered now, it would be empty
        what = f"backend {', '.join(unread)} was never read" if memory.members else "no membership was ever read"
        return Decision(Unknown(f"{what}: {read.held[0].reason}"), memory, (*held, *_unread(unread)), verdicts)
    after = _remember(memory, pools, scene, settings)
    after = replace(
        after, peers=peers.peers, missing={**after.missing, **peers.missing}, confirmed_peers=peers.confirmed
    )
    members = {name: pool.rendered for name, pool in pools.items()}
    return Decision(Desired(node, members, peers.peers), after, held, verdicts)


def _ordered(memory: Memory, groups: Groups | None, node: Node, at: float) -> tuple[Memory, tuple[Held, ...]]:
    """The memory after what operators ordered for the fleet and for this node's zone."""
    memory, odd = obeying.hear(memory, groups, node.group, at)
    memory, held = obeying.leave_zone(memory, groups, node)
    return memory, (*odd, *held)


def from_installed(settings: Settings, text: ConfigText) -> Known:
    """The members that an installed configuration tells of: what a lost memory is rebuilt from.

    Group, zone and capacity are not in the text; the next complete read fills them in. A server with a name that hafleet does
    not give is of somebody else's file.
    """
    found: dict[str, list[Member]] = {}
    backends = {backend.name: backend for backend in settings.backends}
    for line in text.servers.values():
        if line.backend in backends and (line.name.startswith(STATIC_PREFIX) or INSTANCE_ID.match(line.name)):
            found.setdefault(line.backend, []).append(_member(backends[line.backend], line))
    return {name: tuple(sorted(members, key=lambda m: m.name)) for name, members in found.items()}


def _member(backend: Backend, line: ServerLine) -> Member:
    instance = line.name.removesuffix(f"-{line.port}") if len(backend.ports) > 1 else line.name
    if line.name.startswith(STATIC_PREFIX):
        instance = line.address
    return Member(line.name, instance, ip_address(line.address), line.port, "", line.weight)


def _usable(groups: Groups | Unknown, memory: Memory) -> _Read:
    """Tell a new read from the same one again, from an older one, and from none.

    A read that began before the last one taken is stale and is held, once: after a reboot the monotonic clock starts anew, and
    then the second read is taken.
    """
    if isinstance(groups, Unknown):
        return _Read(None, held=(Held("unknown", "membership", f"{groups.reason}; every backend stays as it is"),))
    if memory.read_at and groups.started < memory.read_started:
        late = memory.read_started - groups.started
        return _Read(
            None, held=(Held("stale", "membership", f"the read began {late:.1f} s before the last one taken"),)
        )
    return _Read(groups, fresh=not memory.read_at or groups.started > memory.read_started)


def _gone(groups: Groups | None, gone: Mapping[str, float], at: float) -> dict[str, float]:
    """Instances that terminate or did so within a day. A time in the future means that the clock went back: it starts anew.

    A group with a warm pool may take an instance back that left through ``Terminating``: it is seen there, or ``Pending`` anew.
    """
    after = {instance: min(when, at) for instance, when in gone.items() if at - when < GONE_FOR}
    for group in groups.by_name.values() if groups else ():
        for instance in group.instances:
            if instance.terminates:
                after[instance.id] = at
            elif instance.id in after and instance.comes:
                del after[instance.id]
    return after


def _restarted(missing: Mapping[str, Missing], at: float) -> dict[str, Missing]:
    """After a long blackout, a paused host or a jump of the clock, no wait is over merely because time has passed."""
    return {key: replace(entry, since=at) for key, entry in missing.items()}


def _long_gap(settings: Settings) -> float:
    """Seconds after which a read comes after a blackout, and not merely in its turn."""
    return max(settings.safety.hold_max, _BLACKOUT, 10 * settings.passes.interval)


def _unread(names: Sequence[str]) -> tuple[Held, ...]:
    reason = "it was never read, and unknown is not empty: everything stays as it is until AWS answers"
    return tuple(Held("unread", name, reason) for name in names)


def _from_groups(backend: Backend) -> bool:
    return any(source.static is None for source in backend.sources)


def _remember(memory: Memory, pools: Mapping[str, Pool], scene: Scene, settings: Settings) -> Memory:
    """The memory after this pass. A backend that was never read is not remembered as an empty one."""
    read = {
        backend.name
        for backend in settings.backends
        if scene.groups is not None or backend.name in memory.members or not _from_groups(backend)
    }
    memory = replace(
        memory,
        members={name: pools[name].sorted_members for name in pools if name in read},
        missing={key: entry for pool in pools.values() for key, entry in pool.missing.items()},
        draining={key: start for pool in pools.values() for key, start in pool.draining.items()},
    )
    return replace(memory, read_at=scene.at) if scene.groups is not None and scene.fresh else memory
