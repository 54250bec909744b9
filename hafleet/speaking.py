"""The servers' side of one node: tell what it has drained, and complete servers' terminate hooks where this node speaks for the fleet.

Nothing is kept on disk: what is drained is in the memory of the passes, what was told is in the tags, and a hook that was completed
is one in which nothing waits. So a crash at any step repeats at most a call that was made already.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from hafleet.core import ending_acts
from hafleet.core.ending_acts import EndingMemory, ReadOwn, ReadTags, Release, Wait
from hafleet.core.endings import DRAINED, EndingReport, EndingSituation
from hafleet.core.life import Deed
from hafleet.errors import HafleetError, HookGone
from hafleet.ports import Chance, Clock, NodeTags

_KEPT = 50  # deeds that are told; one look may let as many go as the tag names
_MOST_ACTS = 1000  # of one run; more is a fault of ours
_BACKOFF_FIRST, _BACKOFF_MOST = 1.0, 30.0  # seconds; full jitter below them
_NEVER = math.inf


class Completing(Protocol):
    """What of ``ports.Hooks`` is needed here."""

    def complete(self, group: str, hook: str, instance: str, result: str) -> None:
        """End the wait of an instance. Raises HookGone."""
        ...


@dataclass(frozen=True, slots=True)
class SpeakerPorts:
    """Everything that the servers' side talks to."""

    hooks: Completing
    tags: NodeTags
    clock: Clock
    chance: Chance
    wake: Callable[[str], None]  # asks for a pass


class Speaker:
    """One node's part in the hooks of servers. Used by one thread; lives as long as its settings do."""

    def __init__(self, ports: SpeakerPorts) -> None:
        self._ports = ports
        self._ahead = ports.clock.wall() - ports.clock.monotonic()  # once: the wall clock may step, and no deed with it
        self._memory = EndingMemory()
        self._parting: frozenset[str] = frozenset()
        self._retry_at = 0.0  # monotonic
        self._failures = 0  # runs in a row that AWS broke off
        self._done: deque[Deed] = deque(maxlen=_KEPT)
        self._problems: list[str] = []  # of this run

    def run(self, situation: EndingSituation) -> EndingReport:
        """All that can be done now. Never raises a HafleetError: problems are in the report."""
        now = self._ports.clock.monotonic()
        self._memory = ending_acts.heard(situation, self._memory, now)
        self._look_again(situation)
        left = self._retry_at - now
        if left <= 0:
            self._failures = self._failures if self._problems else 0
            self._problems.clear()
            self._tried(self._tell_drained, situation)
            left = self._tried(self._speak, situation)
            left = self._back_off() if self._problems else left
        return EndingReport(
            at=situation.at,
            rows=ending_acts.rows(situation, self._memory),
            done=tuple(self._done),
            problems=tuple(dict.fromkeys(self._problems)),
            next_at=left,
        )

    def _look_again(self, told: EndingSituation) -> None:
        """Have HAProxy looked at again, once, after a pass has ended a drain: only then it is known to be over."""
        parting = frozenset(ending.instance for ending in told.endings if ending.parting)
        if parting - self._parting:
            self._ports.wake("drained")
        self._parting = parting

    def _tried(self, act: Callable[[EndingSituation], float], told: EndingSituation) -> float:
        """One part, whose failure does not keep the other back; when it wants to run again."""
        try:
            return act(told)
        except HafleetError as error:
            self._problems.append(str(error))
            return _NEVER

    def _back_off(self) -> float:
        """After a failure full jitter, longer each time, for ever."""
        wait = self._ports.chance.uniform(0.0, min(_BACKOFF_MOST, _BACKOFF_FIRST * 2.0**self._failures))
        self._failures = min(self._failures + 1, 10)
        self._retry_at = self._ports.clock.monotonic() + wait
        return wait

    # --- the own tag ------------------------------------------------------------------------------------------------

    def _tell_drained(self, told: EndingSituation) -> float:
        """Bring the own tag to what this node has drained."""
        act = ending_acts.next_tag(told, self._memory)
        if isinstance(act, ReadOwn):
            found = self._ports.tags.tags(frozenset({told.node.id}), DRAINED)
            self._memory = replace(self._memory, tag=found.get(told.node.id, ""))
            act = ending_acts.next_tag(told, self._memory)
        if act is not None and not isinstance(act, ReadOwn):
            self._ports.tags.tag(told.node.id, DRAINED, act.value)
            self._memory = replace(self._memory, tag=act.value)
        return _NEVER

    # --- the fleet's word -------------------------------------------------------------------------------------------

    def _speak(self, told: EndingSituation) -> float:
        """Complete what every live node has drained; the seconds to the next look."""
        for _ in range(_MOST_ACTS):
            now = self._ports.clock.monotonic()
            match ending_acts.next_word(told, self._memory, now):
                case Wait(seconds):
                    return seconds
                case ReadTags():
                    found = self._ports.tags.tags(frozenset(told.others), DRAINED)
                    self._memory = replace(self._memory, told=found, told_at=now)
                case Release() as act:
                    self._release(act, now)
        raise HafleetError("the hooks do not come to an end", where="servers' hooks", fix="report it, with this log")

    def _release(self, act: Release, now: float) -> None:
        """Let an instance go. In a hook that is gone nothing waits, and nothing will in this wait."""
        try:
            self._ports.hooks.complete(act.group, act.hook, act.instance, "CONTINUE")
        except HookGone as error:
            when, what = math.inf, f"nothing waits in hook {act.hook} for {act.instance} any more: {error.what}"
        else:
            when, what = now, f"completed hook {act.hook} of {act.group} for {act.instance}: every node has drained it"
        self._memory = replace(self._memory, done={**self._memory.done, (act.instance, act.hook): when})
        self._done.append(Deed(self._ports.clock.monotonic() + self._ahead, what))
        self._ports.wake("server hook")
