"""The hooks' side of one node: decide, call Auto Scaling, remember, report; and how long to wait after a failure.

A crash at any step repeats at most a call that was made already, and Auto Scaling answers that there is nothing to complete.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from hafleet.core import life_acts
from hafleet.core.life import Deed, LifeMemory, LifeReport, LifeSituation, beaten, decided, ended, parting, remembered
from hafleet.core.life_acts import AskReplacement, Beat, Complete, ReadHooks, Rest, Rules, Scene
from hafleet.core.model import Hook
from hafleet.errors import HafleetError, HookGone, StateCorrupt, StoreError
from hafleet.ports import Chance, Clock, Hooks, LifeStore

ABANDONED = "hafleet:abandoned"  # tag with the reason of an abandoned launch

_KEPT = 20  # deeds that are told
_MOST_ACTS = 100  # of one run; more is a fault of ours
_BACKOFF_FIRST, _BACKOFF_MOST = 1.0, 30.0  # seconds; full jitter below them


def _nothing() -> None:
    """For a node that has nothing to take away before its last word."""


@dataclass(frozen=True, slots=True)
class LifePorts:
    """Everything that the hooks' side talks to."""

    hooks: Hooks
    store: LifeStore
    clock: Clock
    chance: Chance
    wake: Callable[[str], None]  # asks for a pass: what was done is told before the instance is gone
    farewell: Callable[[], None] = (
        _nothing  # called before the last word: nobody knows how long the instance lives after it
    )


class HookKeeper:
    """One node's hooks. Used by one thread; lives as long as its settings do."""

    def __init__(self, rules: Rules, ports: LifePorts) -> None:
        self._rules = rules
        self._ports = ports
        self._ahead = ports.clock.wall() - ports.clock.monotonic()  # once: the wall clock may step, and no wait with it
        self._memory: LifeMemory | None = None
        self._hooks: tuple[Hook, ...] | None = None
        self._hooks_at = 0.0
        self._retry_at = 0.0  # monotonic
        self._failures = 0  # runs in a row that AWS broke off
        self._done: deque[Deed] = deque(maxlen=_KEPT)
        self._problems: list[str] = []  # of this run

    def run(self, situation: LifeSituation) -> LifeReport:
        """All that can be done now. Never raises a HafleetError: problems are in the report."""
        self._problems.clear()
        memory = remembered(self._load(situation.node.id), situation, self._now())
        self._keep(memory)
        left = self._retry_at - self._ports.clock.monotonic()
        if left > 0:
            return self._report(situation, Rest(left, "AWS to answer"))
        try:
            rest = self._acts(situation)
        except HafleetError as error:
            rest = self._failed(error)
        else:
            self._failures = 0
        return self._report(situation, rest)

    # --- acts -------------------------------------------------------------------------------------------------------

    def _acts(self, told: LifeSituation) -> Rest:
        """Decide and do, until nothing is due."""
        for _ in range(_MOST_ACTS):
            scene = Scene(self._now(), told, self._load(told.node.id), self._rules, self._hooks, self._hooks_at)
            act = life_acts.next_act(scene)
            if isinstance(act, Rest):
                return act
            self._carry(act, told)
        raise HafleetError("the hooks do not come to an end", where="lifecycle", fix="report it, with this log")

    def _carry(self, act: ReadHooks | Beat | Complete | AskReplacement, told: LifeSituation) -> None:
        match act:
            case ReadHooks():
                self._read_hooks(told)
            case Beat(hook):
                self._beat(hook, told)
            case Complete():
                self._complete(act, told)
            case AskReplacement(reason):
                self._ports.hooks.set_unhealthy(told.node.id)
                self._keep(replace(self._load(told.node.id), unhealthy_at=self._now()))
                self._tell(f"asked Auto Scaling to replace this instance: {reason}")

    def _read_hooks(self, told: LifeSituation) -> None:
        """Where they cannot be read again, those known before serve as well: a call on one that is gone only says so."""
        try:
            self._hooks = self._ports.hooks.hooks(told.node.group)
        except HafleetError as error:
            if self._hooks is None:
                raise
            self._problems.append(str(error))
        self._hooks_at = self._now()

    def _beat(self, hook: str, told: LifeSituation) -> None:
        memory = self._load(told.node.id)
        try:
            self._ports.hooks.heartbeat(told.node.group, hook, told.node.id)
        except HookGone as error:
            self._gone(hook, told, error)
            return
        self._keep(beaten(memory, hook, self._now()))
        self._tell(f"heartbeat for hook {hook} ({memory.state})")

    def _complete(self, act: Complete, told: LifeSituation) -> None:
        """What was decided is kept before it is told, so that a crash between the two does not decide anew."""
        memory = decided(self._load(told.node.id), act.result, act.reason, act.cut)
        self._keep(memory)
        if parting(memory.state, act.result):
            self._ports.farewell()
        if act.result == "ABANDON" and self._rules.lifecycle.abandon_tag:
            self._tag(act.reason, told)
        try:
            self._ports.hooks.complete(told.node.group, act.hook, told.node.id, act.result)
        except HookGone as error:
            self._gone(act.hook, told, error)
            return
        self._keep(ended(replace(memory, cut=0), act.hook, self._now()))  # another hook of this wait cuts nothing more
        self._tell(f"completed hook {act.hook} ({memory.state}) with {act.result}: {act.reason}", act.cut)

    def _tag(self, reason: str, told: LifeSituation) -> None:
        """The tag is for people: its refusal keeps nothing back."""
        try:
            self._ports.hooks.tag(told.node.id, ABANDONED, reason)
        except HafleetError as error:
            self._problems.append(str(error))

    def _gone(self, hook: str, told: LifeSituation, error: HookGone) -> None:
        """Nothing waits in this hook any more; the group's hooks may have changed."""
        self._keep(ended(self._load(told.node.id), hook, self._now()))
        self._hooks = None
        self._tell(f"nothing waits in hook {hook} any more: {error.what}")

    # --- memory, time, report ---------------------------------------------------------------------------------------

    def _load(self, node_id: str) -> LifeMemory:
        """What is remembered; from disk once. What the disk lost, the next wait finds out anew."""
        if self._memory is None:
            try:
                self._memory = self._ports.store.load(node_id)
            except StateCorrupt as error:
                self._memory = LifeMemory(node=node_id)
                self._problems.append(str(error))
            except StoreError as error:
                self._problems.append(str(error))
                return LifeMemory(node=node_id)
        return self._memory

    def _keep(self, memory: LifeMemory) -> None:
        """A disk that refuses costs only what a restart would have known."""
        self._memory = memory
        try:
            self._ports.store.save(memory)
        except StoreError as error:
            self._problems.append(str(error))

    def _tell(self, what: str, cut: int = 0) -> None:
        self._done.append(Deed(self._now(), what, cut))
        self._ports.wake("lifecycle")

    def _now(self) -> float:
        return self._ports.clock.monotonic() + self._ahead

    def _failed(self, error: HafleetError) -> Rest:
        """AWS broke the run off: full jitter, longer each time, for ever."""
        wait = self._ports.chance.uniform(0.0, min(_BACKOFF_MOST, _BACKOFF_FIRST * 2.0**self._failures))
        self._failures = min(self._failures + 1, 10)
        self._retry_at = self._ports.clock.monotonic() + wait
        self._problems.append(str(error))
        return Rest(wait, "AWS to answer")

    def _report(self, told: LifeSituation, rest: Rest) -> LifeReport:
        memory = self._load(told.node.id)
        return LifeReport(
            at=told.at,
            state=memory.state,
            waiting=rest.waiting,
            result=memory.result,
            reason=memory.reason,
            done=tuple(self._done),
            problems=tuple(dict.fromkeys(self._problems)),
            next_at=rest.seconds,
        )
