"""The one pass: observe, decide, plan, guard, apply. A straight line; the first error of apply ends it.

Nothing here waits for the next pass or remembers what changed: the next pass observes afresh. The only memory is the ``Memory``
that the store keeps, and it is written before anything is applied, so that a drain that began is never forgotten.
"""

from dataclasses import dataclass, replace

from hafleet.core import cuts, gate, guard, membership, phase, proxyplan, situation, switch
from hafleet.core.command import Command
from hafleet.core.features import features
from hafleet.core.life import LifeReport
from hafleet.core.model import Held, Installed, Memory, Rendered, Silent, Unknown, Version, Worker, World
from hafleet.core.settings import Settings
from hafleet.errors import (
    ConfigRejected,
    HafleetError,
    ReloadFailed,
    StoreError,
    UnexpectedReply,
)
from hafleet.observing import Observer, Ports, unknowns


@dataclass(frozen=True, slots=True)
class Rules:
    """The guard of a pass: the rules that hold members back, and those that hold reloads back."""

    members: tuple[guard.Rule, ...] = membership.RULES
    reloads: tuple[gate.Rule, ...] = gate.RULES


ALL_RULES = Rules()


@dataclass(frozen=True, slots=True)
class Plan:
    """A finished plan: what was seen, what is wanted, how to get there, and what is held back."""

    world: World
    decision: membership.Decision
    wanted: Rendered | None  # None: nothing can be wanted now; ``errors`` says why
    proxy: proxyplan.ProxyPlan
    held: tuple[Held, ...]
    errors: tuple[HafleetError, ...]  # faults met while planning: unknown sources, a template, a state file
    health: tuple[Command, ...] = ()  # what turns the health endpoint: never held, for it moves no traffic by itself

    @property
    def pending(self) -> bool:
        """True when apply would change something."""
        return bool(self.health) or (self.wanted is not None and not self.proxy.empty)

    def lines(self) -> tuple[str, ...]:
        """What apply would do, for a reader, one step per line."""
        proxy = self.proxy.lines() if self.wanted is not None and not self.proxy.empty else ()
        return (*(f"runtime: {command.text}" for command in self.health), *proxy)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What apply did."""

    commands: int = 0  # runtime commands sent and answered well
    wrote: bool = False
    reloaded: tuple[str, ...] = ()  # the reasons of the reload that was done
    errors: tuple[HafleetError, ...] = ()
    removed: tuple[proxyplan.Key, ...] = ()  # servers that were removed, with the sessions that they had


class Reconciler:
    """The pass over one set of settings and ports. ``force`` (operator's ``--force``) lets held steps through."""

    def __init__(self, settings: Settings, ports: Ports, rules: Rules = ALL_RULES) -> None:
        self._settings = settings
        self._ports = ports
        self._rules = rules
        self._observer = Observer(settings, ports)
        self._unsaved: Memory | None = None  # what the disk refused to keep

    def observe(self, *, rests: bool = False) -> World:
        """Each port read once. A failed or partial read is Unknown. ``rests``: see ``Observer.observe``."""
        return self._observer.observe(rests=rests)

    def shut(self) -> None:
        """Leave the peers address to HAProxy, or to the reconciler of other settings, from now on."""
        self._observer.shut()

    # --- decide, plan, guard ----------------------------------------------------------------------------------------

    def plan(self, world: World, *, force: bool = False) -> Plan:
        """Pure but for the templates and the memory file: from what was seen to what is to be done and what is held."""
        memory, errors = self._memory(world)
        rules = membership.FORCED if force else self._rules.members
        decision = membership.decide(self._settings, world, memory, rules=rules, known=self._known(world, memory))
        decision = replace(decision, memory=situation.settle(world, decision, self._settings.lifecycle))
        health = switch.commands(world.worker, decision.memory)
        errors += (*unknowns(world), *switch.faults(world.worker, decision.memory))
        wanted, fault = self._render(world, decision)
        if wanted is None or isinstance(world.installed, Unknown):
            return Plan(world, decision, None, proxyplan.NOTHING, decision.held, (*errors, *fault), health)
        version = self._version(world.worker)
        plan = proxyplan.plan(world.installed, wanted, world.worker, features(version))
        held = decision.held
        first = None if force else self._first_start(world, decision)
        if first is not None:
            held += (first,)
            plan = proxyplan.NOTHING
        elif memory.frozen and not force:
            held += (Held("frozen", "everything", memory.frozen),)
            plan = proxyplan.NOTHING
        elif plan.reload and (target := _target(world.worker)) and not force:
            question = gate.Question(target, memory, self._settings.safety, world.at, plan.removes)
            stop = gate.hold_reload(question, self._rules.reloads)
            if stop is not None:
                held += (replace(stop, reason=f"{stop.reason} ({', '.join(plan.reload)})"),)
                plan = plan.without_reload()
        return Plan(world, decision, wanted, plan, held, errors, health)

    def _first_start(self, world: World, decision: membership.Decision) -> Held | None:
        """What holds HAProxy's first start, if anything does."""
        life, node = self._settings.lifecycle, decision.memory.node
        if life is None or node is None:
            return None
        alone = phase.last_node(node.id, phase.own_group(node.group, world.groups)) is not None or not node.group
        return gate.hold_first_start(world.door, life.peers_timeout, alone=alone)

    def _memory(self, world: World) -> tuple[Memory, tuple[HafleetError, ...]]:
        node_id = None if isinstance(world.node, Unknown) else world.node.id
        try:
            kept = self._ports.store.load(node_id)
        except StoreError as error:
            return self._unsaved or Memory(), (error,)
        return (phase.obeyed(self._unsaved, kept) if self._unsaved else kept), ()

    def _known(self, world: World, memory: Memory) -> membership.Known:
        """Members of the installed file: what a lost memory is rebuilt from (DESIGN, safety rule 3)."""
        if memory.members or isinstance(world.installed, Unknown) or world.installed.text is None:
            return {}
        return membership.from_installed(self._settings, proxyplan.parse(world.installed.text))

    def _render(self, world: World, decision: membership.Decision) -> tuple[Rendered | None, tuple[HafleetError, ...]]:
        if isinstance(decision.desired, Unknown):
            return None, ()
        try:
            rendered = self._ports.renderer.render(decision.desired, self._version(world.worker))
        except HafleetError as error:
            return None, (error,)
        return switch.coloured(rendered, decision.memory), ()

    def _version(self, worker: Worker | Unknown) -> Version:
        return self._ports.proxy.version() if isinstance(worker, Unknown) else worker.version

    # --- apply ------------------------------------------------------------------------------------------------------

    def apply(self, plan: Plan) -> Outcome:
        """Remember, then run the plan in order. Never raises a HafleetError: what went wrong is in the outcome."""
        errors = self._remember(plan.decision.memory)
        turned, faults = self._turn(plan)
        errors += faults
        if plan.wanted is None or plan.proxy.empty:
            return Outcome(turned, errors=errors)
        due = Outcome()
        try:
            due = self._send(plan, plan.wanted)
            done = self._finish(plan, plan.wanted, due)
        except HafleetError as error:  # what was sent before has been done
            done = Outcome(due.commands, errors=(error,))
        errors = (*errors, *done.errors)
        return replace(done, commands=done.commands + turned, errors=errors, removed=due.removed)

    def _turn(self, plan: Plan) -> tuple[int, tuple[HafleetError, ...]]:
        """Turn the health endpoint, before all else. Where that fails, the servers still follow their groups."""
        worker = _target(plan.world.worker)
        if not plan.health or worker is None:
            return 0, ()
        try:
            self._ports.proxy.run(worker.pid, plan.health)
        except HafleetError as error:
            return 0, (error,)
        return len(plan.health), ()

    def _send(self, plan: Plan, wanted: Rendered) -> Outcome:
        """Runtime commands first, for they reach traffic in milliseconds. The outcome tells why a reload is still due.

        A text of another structure is checked before any of its commands: a broken one may lack servers that should stay.
        """
        proxy, worker = self._ports.proxy, _target(plan.world.worker)
        due = Outcome(reloaded=plan.proxy.reload)
        if not plan.proxy.commands or not worker:
            return due
        if plan.proxy.reload or plan.proxy.held_write:
            proxy.check(wanted)
        try:
            proxy.run(worker.pid, plan.proxy.commands)
        except UnexpectedReply as error:
            return replace(due, reloaded=(*due.reloaded, f"runtime command refused: {error.what}"), errors=(error,))
        return replace(due, commands=len(plan.proxy.commands), removed=plan.proxy.removed)

    def _finish(self, plan: Plan, wanted: Rendered, due: Outcome) -> Outcome:
        """After the commands: the file, or a reload where one is due."""
        proxy, worker = self._ports.proxy, _target(plan.world.worker)
        if due.reloaded and worker:
            return self._reload(plan, wanted, worker, due)
        if plan.proxy.write and not plan.proxy.held_write:
            proxy.check(wanted)
            self._observer.shut()
            proxy.install(wanted)
            return Outcome(due.commands, True)
        return Outcome(due.commands)

    def put_back(self, earlier: Rendered, reason: str) -> Outcome:
        """Make HAProxy run an earlier configuration and freeze with this reason. The guard is not asked: a person decided."""
        world = self.observe()
        memory, errors = self._memory(world)
        if isinstance(world.installed, Unknown):
            return Outcome(errors=(*errors, *unknowns(world)))
        earlier = switch.coloured(earlier, memory)
        proxy = proxyplan.plan(world.installed, earlier, world.worker, features(self._version(world.worker)))
        frozen = replace(memory, frozen=reason)
        desired = Unknown("frozen")
        plan = Plan(world, membership.Decision(desired, frozen, (), ()), earlier, proxy, (), errors)
        return self.apply(plan)

    def _reload(self, plan: Plan, wanted: Rendered, worker: Worker, due: Outcome) -> Outcome:
        memory = plan.decision.memory
        if due.errors:  # the reason came up while applying, so the guard has not seen it yet
            question = gate.Question(worker, memory, self._settings.safety, plan.world.at, plan.proxy.removes)
            held = gate.hold_reload(question, self._rules.reloads)
            if held is not None:
                return replace(due, reloaded=())
        proxy = self._ports.proxy
        proxy.check(wanted)
        try:
            proxy.reload(wanted, worker)
        except ReloadFailed as error:
            failed = replace(
                memory, reload_failures=memory.reload_failures + 1, reload_failed_at=self._ports.clock.wall()
            )
            return Outcome(due.commands, False, (), (error, *self._remember(failed)))
        faults: tuple[HafleetError, ...] = ()
        if memory.reload_failures:
            faults = self._remember(replace(memory, reload_failures=0, reload_failed_at=0.0))
        return Outcome(due.commands, True, due.reloaded, faults)

    def _remember(self, memory: Memory) -> tuple[HafleetError, ...]:
        """Keep the memory; on a full or broken disk keep it in this process and go on."""
        try:
            self._ports.store.save(memory)
        except StoreError as error:
            self._unsaved = memory
            return (error,)
        self._unsaved = None
        return ()


def cut_by(settings: Settings, plan: Plan, done: Outcome, life: LifeReport | None = None) -> cuts.Seen:
    """What a pass knows of connections that were cut."""
    memory = plan.decision.memory
    return cuts.Seen(
        at=plan.world.at,
        node=memory.node.id if memory.node else "",
        worker=plan.world.worker,
        removed=done.removed,
        verdicts=plan.decision.verdicts,
        life=life,
        hard_stop=settings.haproxy.hard_stop_after,
        max_reloads=settings.haproxy.max_reloads,
    )


def _target(worker: Worker | Unknown) -> Worker | None:
    """The worker that a reload would replace."""
    return worker.worker if isinstance(worker, Silent) else worker if isinstance(worker, Worker) else None


__all__ = ["ConfigRejected", "Installed", "Outcome", "Plan", "Ports", "Reconciler"]
