"""From what a pass has seen and decided to what the sides beside it are told: does this node serve, does it leave, is it red.

Nothing of DNS or of lifecycle hooks is decided here, and nothing of them comes back: what HAProxy serves never depends on either.
"""

from collections.abc import Mapping
from dataclasses import replace

from hafleet.core import phase, switch
from hafleet.core.cfgtext import parse
from hafleet.core.cuts import old_sessions
from hafleet.core.dns.model import Situation
from hafleet.core.dns.report import DnsReport
from hafleet.core.drains import takes_traffic
from hafleet.core.later_settings import Lifecycle, LifecycleDrain
from hafleet.core.life import LifeSituation, Record
from hafleet.core.membership import Decision
from hafleet.core.model import Claim, Group, Memory, Notices, Unknown, Worker, World

_DRAIN_MOST = LifecycleDrain().max  # seconds, without a lifecycle section
_SETTLING = 1.0  # seconds after a load in which the figures of the worker are not its own yet


def settle(world: World, decision: Decision, life: Lifecycle | None = None) -> Memory:
    """The decision's memory with phase, claims and colour after what this pass has seen.

    Args:
        world: what the pass has seen.
        decision: what it decided.
        life: how the settings want the node to join and leave.
    """
    memory = decision.memory
    rebalance = life is not None and life.rebalance == "drain"
    claims = _claims(world, decision)
    if isinstance(world.notices, Unknown):
        claims = phase.vouched(memory.leaving, claims)
    claims = phase.noticed(claims, world.notices, world.at, rebalance=rebalance)
    memory = replace(memory, leaving=phase.timed(claims, world.at))
    memory = replace(memory, phase=phase.step(memory, serves=_ready(world, memory, life)))
    return replace(memory, red_since=_red_since(world, memory))


def situation(world: World, decision: Decision, life: Lifecycle | None = None) -> Situation | None:
    """What the DNS side is told after a pass; None while nobody knows which node this is.

    Args:
        world: what the pass has seen.
        decision: what it decided, its memory settled.
        life: how the settings want the node to join.
    """
    memory = decision.memory
    if memory.node is None:
        return None
    return Situation(
        at=world.at,
        node=memory.node,
        serves=_ready(world, memory, life),
        leaving=memory.phase == "leaving",
        red_since=memory.red_since,
        group=_group(world, decision),
        busy=_busy(world, memory, life.drain.max if life else _DRAIN_MOST),
    )


def life(world: World, decision: Decision, dns: DnsReport | None, *, registers: bool) -> LifeSituation | None:
    """What the hooks' side is told after a pass; None while nobody knows which node this is.

    Args:
        world: what the pass has seen.
        decision: what it decided, its memory settled.
        dns: what the DNS side reported last; None when it did not yet.
        registers: the settings have a dns section.
    """
    memory, worker, group = decision.memory, world.worker, _group(world, decision)
    if memory.node is None:
        return None
    known = group if isinstance(group, Group) else None
    states = [instance.state for instance in known.instances if instance.id == memory.node.id] if known else []
    notices = None if isinstance(world.notices, Unknown) else world.notices
    return LifeSituation(
        at=world.at,
        node=memory.node,
        state=states[0] if states else _unlisted(notices),
        ready=memory.phase == "serving" and serves(world, memory),
        leaving=memory.phase == "leaving",
        sessions=None if isinstance(worker, Unknown) else sum(server.sessions for server in worker.servers.values()),
        old_workers=0 if isinstance(worker, Unknown) else worker.old_workers,
        record=_record(memory, dns) if registers else "none",
        spot_at=notices.spot.at if notices and notices.spot else 0.0,
        alone=known is None or phase.last_node(memory.node.id, known) is not None,
        kept_out=phase.kept_out(memory.leaving),
        old_sessions=0 if isinstance(worker, Unknown) else old_sessions(worker.old),
    )


def _unlisted(notices: Notices | None) -> str:
    """The state of an instance that the read of its group does not list: it leaves out those of the warm pool.

    IMDS tells where such an instance goes; that it still waits in a hook is not known, so it is taken to.
    """
    target = notices.target if notices else ""
    if not target.startswith("Warmed:"):
        return ""
    return "Warmed:Terminating:Wait" if target == "Warmed:Terminated" else "Warmed:Pending:Wait"


def _record(memory: Memory, dns: DnsReport | None) -> Record:
    """How this node stands in DNS. The last record of a name stays there, and nobody waits for it.

    A report of before the node began to leave tells nothing of what goes.
    """
    if dns is None:
        return "pending"
    if memory.phase != "leaving":
        return "stands" if dns.registered else "pending"
    since = min((claim.since for claim in memory.leaving.values()), default=0.0)
    if dns.at < since:
        return "pending"
    stays = any(held.rule == "last_record" for held in dns.held)
    left = bool(dns.records) or bool(dns.waiting) or bool(dns.problems)
    return "gone" if stays or not left else "pending"


def _busy(world: World, memory: Memory, most: float) -> bool:
    """True while a leaving node may still have connections, for ``most`` seconds at most. A HAProxy that tells nothing may have some."""
    since = min((claim.since for claim in memory.leaving.values()), default=world.at)
    if memory.phase != "leaving" or world.at - since >= most:
        return False
    worker = world.worker
    return isinstance(worker, Unknown) or worker.old_workers > 0 or any(s.sessions for s in worker.servers.values())


def serves(world: World, memory: Memory) -> bool:
    """True when HAProxy runs what is installed, its health endpoint is green, and some wanted server answers.

    A server that HAProxy checks counts once its check has passed, for it is up before the first one ended. A node of which no
    server is wanted serves: it answers as its configuration says.
    """
    worker, installed = world.worker, world.installed
    if isinstance(worker, Unknown) or isinstance(installed, Unknown) or installed.text is None:
        return False
    if worker.stamp != parse(installed.text).structure or worker.uptime < _SETTLING or not switch.is_green(worker):
        return False
    keys = ((backend, member.name) for backend, members in memory.members.items() for member in members)
    return not any(memory.members.values()) or any(_answers(worker, key) for key in keys)


def _ready(world: World, memory: Memory, life: Lifecycle | None) -> bool:
    """True when the node may be announced. With a lifecycle section one that joins has learned its stick tables first."""
    learned = isinstance(world.worker, Unknown) or world.worker.learned
    return serves(world, memory) and (learned or life is None or memory.phase == "serving")


def _answers(worker: Worker, key: tuple[str, str]) -> bool:
    server = worker.servers.get(key)
    return server is not None and takes_traffic(server) and server.proven


def _claims(world: World, decision: Decision) -> Mapping[str, Claim]:
    """The claims after what the own group tells of this node. A group that does not list it tells nothing."""
    memory = decision.memory
    group = _group(world, decision)
    node = memory.node
    if node is None or group is None or isinstance(group, Unknown):
        return memory.leaving
    states = [instance.state for instance in group.instances if instance.id == node.id]
    return phase.heard(memory.leaving, states[0], world.at) if states else memory.leaving


def _group(world: World, decision: Decision) -> Group | Unknown | None:
    """The own group, unless the read was held for having begun before the last one that was taken."""
    stale = next((held for held in decision.held if held.rule == "stale"), None)
    node = decision.memory.node
    name = node.group if node else ""
    return phase.own_group(name, Unknown(stale.reason) if stale else world.groups)


def _red_since(world: World, memory: Memory) -> float:
    """Since when the endpoint is not green. For a node that leaves, one that does not answer or cannot turn red counts too."""
    worker = world.worker
    if memory.phase == "leaving":
        green = switch.is_green(worker) and not switch.lacks(worker)
    else:
        green = switch.is_green(worker) or isinstance(worker, Unknown)
    return 0.0 if green else min(memory.red_since or world.at, world.at)
