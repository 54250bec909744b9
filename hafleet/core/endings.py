"""The words of servers' terminate hooks: which instances end, what this node tells of them, and what the fleet knows together.

An application group may have a terminate hook that the settings name (``terminate_hook`` of a source). An instance that waits in it
goes on once every live node has drained it. Each node tells what it has drained by a tag of its own instance; the live node with the
lowest id reads the tags and completes the hook. Times are wall clock seconds.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from hafleet.core import phase
from hafleet.core.life import Deed
from hafleet.core.membership import Decision
from hafleet.core.model import Group, Groups, Memory, Node, Unknown, Worker, World
from hafleet.core.settings import Settings
from hafleet.core.sources import groups_of

DRAINED = "hafleet:drained"  # tag of a node's own instance
MOST = 28  # instances in its value: 28 times 8 digits and the blanks between are 251 of EC2's 256 characters
WAITS = "Terminating:Wait"

_ENDING = frozenset({"Terminating", WAITS})  # not Proceed: whoever is there has been let go
_DIGITS = 8  # of an instance id, from its end: enough to tell apart what ends in one hour


@dataclass(frozen=True, slots=True)
class Ending:
    """An instance of an application group on its way out, where the settings name a hook for it."""

    instance: str
    group: str
    hooks: tuple[str, ...]  # sorted
    waits: bool  # it waits in its hooks; False: it soon will
    drained: bool  # this node's HAProxy sends it nothing any more
    parting: bool = False  # it has ended its drain, and HAProxy was not seen without it yet


@dataclass(frozen=True, slots=True)
class EndingSituation:
    """What the servers' side is told after each pass."""

    at: float
    node: Node
    nodes: tuple[str, ...]  # the live ones, sorted; () while the own group is not known
    endings: tuple[Ending, ...]  # sorted by instance

    @property
    def speaks(self) -> bool:
        """True for the one node that completes the hooks."""
        return self.nodes[:1] == (self.node.id,)

    @property
    def others(self) -> tuple[str, ...]:
        """The live nodes besides this one."""
        return tuple(name for name in self.nodes if name != self.node.id)

    @property
    def value(self) -> str:
        """What the own tag should say; "" for nothing. A node that nobody else asks needs to say nothing."""
        return written(ending.instance for ending in self.endings if ending.drained) if self.others else ""


@dataclass(frozen=True, slots=True)
class EndingRow:
    """How it stands with one instance, as far as this node knows."""

    instance: str
    group: str
    waiting: str  # for what


@dataclass(frozen=True, slots=True)
class EndingReport:
    """One run of the servers' side. ``at`` is wall clock, ``next_at`` seconds from now."""

    at: float
    rows: tuple[EndingRow, ...] = ()
    done: tuple[Deed, ...] = ()  # the last ones, of earlier runs too
    problems: tuple[str, ...] = ()
    next_at: float = 0.0


@dataclass(frozen=True, slots=True)
class WantedHook:
    """A hook that the settings name, and whose it should be."""

    hook: str
    group: str
    backend: str = ""  # whose servers wait in it; "" for a hook of the nodes' own group
    drain: float = 0.0  # seconds that the drain there may take; 0 for the own group


# --- the tag --------------------------------------------------------------------------------------------------------


def short(instance: str) -> str:
    """How the tag names an instance."""
    return instance[-_DIGITS:]


def written(instances: Iterable[str]) -> str:
    """The tag's value for these instances, the lowest ids first. What does not fit follows as those end."""
    return " ".join(short(instance) for instance in sorted(instances)[:MOST])


def missing(instance: str, nodes: Collection[str], tags: Mapping[str, str]) -> tuple[str, ...]:
    """The nodes that do not tell that they have drained this instance, sorted.

    Args:
        instance: its id.
        nodes: the nodes that are asked.
        tags: node -> value of its tag; a node without one is absent.
    """
    return tuple(sorted(node for node in nodes if short(instance) not in tags.get(node, "").split()))


# --- what a pass tells ----------------------------------------------------------------------------------------------


def named(settings: Settings) -> bool:
    """True when the settings name a hook of servers."""
    return any(source.terminate_hook for backend in settings.backends for source in backend.sources)


def wanted_hooks(settings: Settings, groups: Groups, own: str) -> tuple[WantedHook, ...]:
    """Every hook that the settings name, with each group that should have it; ``own`` is the nodes' group."""
    mine = settings.lifecycle.hooks or () if settings.lifecycle and own else ()
    found = [WantedHook(hook, own) for hook in mine]
    for backend in settings.backends:
        for source in backend.sources:
            hook = source.terminate_hook
            if hook is not None:
                found += [WantedHook(hook, g.name, backend.name, backend.drain) for g in groups_of(source, groups)]
    return tuple(found)


def situation(settings: Settings, world: World, decision: Decision) -> EndingSituation | None:
    """What the servers' side is told after a pass; None while the node or its groups are not known.

    Args:
        settings: their sources name the hooks.
        world: what the pass has seen, before it applied anything.
        decision: what it decided.
    """
    node, groups = decision.memory.node, world.groups
    if node is None or isinstance(groups, Unknown) or any(held.rule == "stale" for held in decision.held):
        return None
    ending = _listed(settings, groups)
    members = {m.instance for found in decision.memory.members.values() for m in found} if ending else set[str]()
    running = _running(world.worker, ending.keys()) if ending else None
    endings = tuple(
        Ending(
            instance=instance,
            group=group.name,
            hooks=tuple(sorted(hooks)),
            waits=waits,
            drained=running is not None and instance not in members | running,
            parting=running is not None and instance in running - members,
        )
        for instance, (group, hooks, waits) in sorted(ending.items())
    )
    return EndingSituation(world.at, node, _live(node, groups, decision.memory), endings)


def _listed(settings: Settings, groups: Groups) -> dict[str, tuple[Group, set[str], bool]]:
    """Instances on their way out, by id: their group, the hooks that are ours, whether they wait."""
    found: dict[str, tuple[Group, set[str], bool]] = {}
    for source in (source for backend in settings.backends for source in backend.sources):
        if source.terminate_hook is None:
            continue
        for group in groups_of(source, groups):
            for instance in group.instances:
                if instance.state in _ENDING:
                    entry = found.setdefault(instance.id, (group, set(), instance.state == WAITS))
                    entry[1].add(source.terminate_hook)
    return found


def _running(worker: Worker | Unknown, ids: Collection[str]) -> frozenset[str] | None:
    """Those instances that the worker could still send something; None while nobody knows."""
    if isinstance(worker, Unknown):
        return None
    names = ("-".join(key[1].split("-", 2)[:2]) for key, server in worker.servers.items() if not server.maint)
    return frozenset(ids).intersection(names)


def _live(node: Node, groups: Groups, memory: Memory) -> tuple[str, ...]:
    """The nodes whose word counts: in service, or on their way out and still with clients.

    A node that is Pending has no clients yet and one in Standby has been taken aside: either may be without an agent, and would
    hold every hook until its timeout. One that the group does not list is live while the guard keeps it among the peers.
    """
    group = phase.own_group(node.group, groups)
    if isinstance(group, Unknown):
        return ()
    listed = {instance.id: instance for instance in group.instances} if group else {}
    live = {key for key, instance in listed.items() if instance.serves or instance.state in _ENDING}
    if group:
        live |= {peer.name for peer in memory.peers} - listed.keys() - memory.gone.keys() - {node.id}
    return tuple(sorted(live or {node.id}))
