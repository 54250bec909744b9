"""One backend in one pass: from its last known good members and its candidates to its members now.

Every member of the last pass is one of four: still in service (stays), out on evidence or already draining (leaves), odd (stays
as it is), or merely missing (the guard decides). Then come the new ones, and the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hafleet.core import obeying
from hafleet.core.drains import Leave, Moment, idle, step, takes_traffic
from hafleet.core.guard import Absence, Case, Proposal, Rule, judge
from hafleet.core.model import Groups, Held, Member, Memory, Missing, RunningServer, Verdict, Worker
from hafleet.core.settings import Backend, Safety
from hafleet.core.sources import PLAIN, STATIC_PREFIX, Candidates, gather, static_members, wants_zero
from hafleet.core.weights import weigh

_OUTCOMES = {"drain": "draining", "maint": "in maintenance"}  # of an order, in a verdict


@dataclass(frozen=True, slots=True)
class Scene:
    """What one pass knows that holds for every backend."""

    at: float  # wall clock
    groups: Groups | None  # None: there is no usable read
    fresh: bool  # the read is newer than the last one taken: it counts for what is missing
    gone: Mapping[str, float]
    worker: Worker | None
    memory: Memory
    safety: Safety
    rules: tuple[Rule, ...]


@dataclass(slots=True)
class Pool:
    """One backend's outcome, filled in by ``decide_pool``. Maps are keyed by ``backend/name``."""

    members: dict[str, Member] = field(default_factory=dict)
    missing: dict[str, Missing] = field(default_factory=dict)
    draining: dict[str, float] = field(default_factory=dict)
    held: tuple[Held, ...] = ()
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def sorted_members(self) -> tuple[Member, ...]:
        """By name."""
        return tuple(self.members[name] for name in sorted(self.members))

    @property
    def rendered(self) -> tuple[Member, ...]:
        """By name, without those that an operator put into maintenance: HAProxy has no such servers."""
        return tuple(member for member in self.sorted_members if member.order != "maint")


def decide_pool(scene: Scene, backend: Backend) -> Pool:
    """The backend's members after this pass."""
    known = {member.name: member for member in scene.memory.members.get(backend.name, ())}
    turn = _Turn(scene, backend, known)
    if scene.groups is None:
        turn.without_read()
    else:
        turn.with_read(gather(backend, scene.groups, known, scene.gone))
    return turn.pool


class _Turn:
    """The working state of one backend's decision."""

    def __init__(self, scene: Scene, backend: Backend, known: Mapping[str, Member]) -> None:
        self.scene = scene
        self.backend = backend
        self.known = known
        self.pool = Pool()

    def with_read(self, found: Candidates) -> None:
        """Decide by a complete read."""
        leaving, absences = self._sort(found)
        adds = tuple(name for name in found.members if name not in self.known)
        case = Case(
            subject=self.backend.name,
            at=self.scene.at,
            safety=self.scene.safety,
            groups=found.groups,
            absent=found.absent,
            last=len(self.known) if self.backend.name in self.scene.memory.members else None,
            rotation=sum(not member.draining for member in self.known.values()),
            missing=len(absences),
            serving=self._serving(found),
            zero=wants_zero(self.backend, found),
        )
        proposal = Proposal(adds, absences if self.scene.fresh else ())
        ruling = judge(case, proposal, self.scene.rules)
        self.pool.held += ruling.held
        released = {absence.name for absence in ruling.proposal.removals}
        for absence in absences:
            if absence.name in released:
                leaving[absence.name] = Leave(f"missing from {absence.reads} reads in a row", yields=False)
            else:
                held = ruling.reasons.get(absence.name)
                self._keep_missing(absence, held.reason if held else "missing from the last read")
        for name in ruling.proposal.adds:
            self.pool.members[name] = found.members[name]
        for name in set(adds) - set(ruling.proposal.adds):
            self._say(found.members[name].instance, "held", ruling.reasons[name].reason)
        self._leave(leaving, replaced=case.zero or self._serving(found) > 0)
        self._obey()
        self._weigh(found)
        self._explain_others(found)

    def without_read(self) -> None:
        """Members stay as they are; drains that run go on; static servers are the settings' own and follow them."""
        static = {member.name: member for _, member in static_members(self.backend)}
        leaving: dict[str, Leave] = {}
        rest = [m for m in self.known.values() if not m.draining]
        for name, member in self.known.items():
            if name.startswith(STATIC_PREFIX) and name not in static:
                leaving[name] = Leave("no longer in the settings", there=True)
            elif member.draining:
                leaving[name] = Leave("draining since an earlier pass")
            else:
                self._carry(name, member)
        weight = max((member.weight for member in rest), default=PLAIN)
        for name in static.keys() - self.known.keys():
            self.pool.members[name] = replace(static[name], weight=weight)
        others = [m for m in self.pool.members.values() if m.weight > 0 and self._takes(m)]
        self._leave(leaving, replaced=bool(others))
        self._obey()

    # --- sorting --------------------------------------------------------------------------------------------------

    def _sort(self, found: Candidates) -> tuple[dict[str, Leave], tuple[Absence, ...]]:
        """Put the members of the last pass in their place: kept ones into the pool, the others by how they go."""
        leaving: dict[str, Leave] = {}
        absences: list[Absence] = []
        changed = not self.known.keys() <= found.members.keys()
        taken = {(m.address, m.port): m.instance for m in found.members.values()} if changed else {}
        present = {m.instance for m in found.members.values()} if changed else set()
        for name, member in self.known.items():
            now = found.members.get(name)
            if now is not None:
                self.pool.members[name] = replace(now, draining=False) if now.draining else now
                continue
            owner = taken.get((member.address, member.port), member.instance)
            leave = self._evidence(member, found, present)
            # A static server and an instance of one address are one host under two names: that drains like any other.
            if owner != member.instance and owner.startswith("i-") and member.instance.startswith("i-"):
                leaving[name] = Leave(f"its address {member.address} belongs to {owner} now", at_once=True)
            elif leave is not None:
                leaving[name] = leave
            elif member.draining or self._key(name) in self.scene.memory.draining:
                leaving[name] = Leave("left service in an earlier pass")
            elif member.instance in found.odd:
                self.pool.members[name] = member
                self._say(member.instance, "held", found.odd[member.instance])
            else:
                absences.append(self._absence(member))
        self._report_odd(found)
        absences.sort(key=lambda a: (a.since, a.name))
        return leaving, tuple(absences)

    def _absence(self, member: Member) -> Absence:
        """Count one more read without this member, when this read is a new one."""
        before = self.scene.memory.missing.get(self._key(member.name))
        reads = (before.reads if before else 0) + (1 if self.scene.fresh else 0)
        since = min(before.since, self.scene.at) if before else self.scene.at
        return Absence(member.name, member.group, reads, since)

    def _evidence(self, member: Member, found: Candidates, present: set[str]) -> Leave | None:
        """Positive evidence that a member must leave, or None when it is merely missing. ``present``: ids in service."""
        listed = found.leaving.get(member.instance)
        if listed is not None:
            return Leave(f"AWS says {listed.state}", there=listed.state.startswith("Terminating"))
        if member.instance in self.scene.gone:
            return Leave("it was seen to terminate")
        if member.name.startswith(STATIC_PREFIX):
            return Leave("no longer in the settings", there=True)
        if member.instance in present:
            return Leave(f"port {member.port} is no longer in the settings", there=True)
        named = {source.asg for source in self.backend.sources}
        tagged = any(source.asg_tag for source in self.backend.sources)
        if member.group and not tagged and member.group not in named:
            return Leave(f"group {member.group} is no longer a source of this backend", there=True)
        return None

    def _report_odd(self, found: Candidates) -> None:
        if found.odd:
            first = next(iter(found.odd.values()))
            more = f" (and {len(found.odd) - 1} more)" if len(found.odd) > 1 else ""
            self.pool.held += (Held("quarantine", self.backend.name, first + more),)

    # --- outcome --------------------------------------------------------------------------------------------------

    def _keep_missing(self, absence: Absence, reason: str) -> None:
        member = self.known[absence.name]
        self.pool.members[absence.name] = member
        self.pool.missing[self._key(absence.name)] = Missing(absence.reads, absence.since)
        self._say(member.instance, "held", reason)

    def _carry(self, name: str, member: Member) -> None:
        """Keep a member and what is remembered of it."""
        key = self._key(name)
        memory = self.scene.memory
        self.pool.members[name] = member
        if key in memory.missing:
            self.pool.missing[key] = memory.missing[key]
        if key in memory.draining:
            self.pool.draining[key] = memory.draining[key]

    def _leave(self, leaving: Mapping[str, Leave], *, replaced: bool) -> None:
        for name, leave in leaving.items():
            quiet = idle(self.scene.worker, self._running(name))
            moment = Moment(self.scene.at, self.backend.drain, replaced, quiet)
            stepped = step(self.known[name], leave, self.scene.memory.draining.get(self._key(name)), moment)
            outcome = "absent"
            if stepped.member is not None:
                self.pool.members[name] = stepped.member
                self.pool.draining[self._key(name)] = stepped.start
                outcome = "draining" if stepped.member.draining else "serving"
            self._say(self.known[name].instance, outcome, stepped.reason)

    def _obey(self) -> None:
        """What the fleet's orders say of the members. Without one a member is as AWS has it."""
        members = tuple(self.pool.members.values())
        found = obeying.servers(self.backend.name, members, self.scene.memory.orders, self.scene.worker)
        for member in members:
            verb = found.verb(member.name)
            if verb != member.order:
                self.pool.members[member.name] = replace(member, order=verb)
            if verb is not None:
                self._say(member.instance, _OUTCOMES[verb], found.orders[member.name].sentence)
        self.pool.held += tuple(held for _, held in found.held)

    def _weigh(self, found: Candidates) -> None:
        """Weights of all members in rotation; what drains keeps its own."""
        rotation = [member for member in self.pool.members.values() if not member.draining and not member.order]
        for member in weigh(self.backend, rotation, lambda m: found.places.get(m.group or m.name), self.known):
            self.pool.members[member.name] = member

    def _explain_others(self, found: Candidates) -> None:
        """A verdict for each instance that AWS lists and that is not a member."""
        inside = {m.instance for m in self.known.values()} if found.leaving or found.odd or found.stale else set()
        for instance in found.leaving.keys() - inside:
            self._say(instance, "absent", f"AWS says {found.leaving[instance].state}; only InService takes traffic")
        for instance in found.odd.keys() - inside:
            self._say(instance, "absent", found.odd[instance])
        for instance in found.stale - inside:
            self._say(instance, "absent", "listed as InService, but it was seen to terminate: a stale answer")

    # --- small views ----------------------------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        return f"{self.backend.name}/{name}"

    def _say(self, instance: str, outcome: str, reason: str) -> None:
        self.pool.verdicts.append(Verdict(self.backend.name, instance, outcome, reason))

    def _running(self, name: str) -> RunningServer | None:
        return self.scene.worker.servers.get((self.backend.name, name)) if self.scene.worker else None

    def _takes(self, member: Member) -> bool:
        """True when new sessions reach the member now; by AWS's word alone while no worker is seen."""
        if self.scene.worker is None:
            return member.order is None
        return takes_traffic(self._running(member.name))

    def _serving(self, found: Candidates) -> int:
        """1 when some member in service takes traffic now, so that a leaving one may rely on it; else 0."""
        shares = [source.weight for source in self.backend.sources]
        inside = (m for name, m in found.members.items() if name in self.pool.members)
        return int(any(shares[found.places[m.group or m.name]] != 0 and self._takes(m) for m in inside))
