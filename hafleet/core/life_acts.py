"""What to do in a lifecycle hook: from what the passes tell of the node to the next call to Auto Scaling. Pure.

An instance that waits in a hook stays until somebody completes it, or AWS's patience ends. Joining, the hook is completed once
the node serves and stands in DNS. Leaving, once its record is gone and its connections have ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hafleet.core.later_settings import Lifecycle
from hafleet.core.life import LifeMemory, LifeSituation, Result
from hafleet.core.model import Hook

# Lifecycle states in which AWS waits for hooks -> the hooks' transition.
WAITS: Mapping[str, str] = {
    "Pending:Wait": "launch",
    "Warmed:Pending:Wait": "launch",
    "Terminating:Wait": "terminate",
    "Warmed:Terminating:Wait": "terminate",
}

_READ_AGAIN = 600.0  # seconds until a group's hooks are read again, while the node waits in one
_COMPLETE_AGAIN = 60.0  # seconds after which a node that still waits completes once more
_LONGEST, _MOST_TIMEOUTS = 48 * 3600.0, 100  # AWS ends a wait after 48 hours, or 100 times the hook's timeout
_IDLE = 600.0  # seconds to the next look while nothing is due
_SPOT_MARGIN = 10.0  # seconds before a spot instance ends by which its drain is over


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say of it."""

    lifecycle: Lifecycle
    ttl: float = 0.0  # seconds that resolvers keep this node's record; 0 without a dns section


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that the next act is decided from."""

    at: float
    told: LifeSituation
    memory: LifeMemory
    rules: Rules
    hooks: tuple[Hook, ...] | None = None  # of the own group; None: not read yet
    hooks_at: float = 0.0  # when they were read


@dataclass(frozen=True, slots=True)
class ReadHooks:
    """Read the group's hooks."""


@dataclass(frozen=True, slots=True)
class Beat:
    """Send a heartbeat for a hook."""

    hook: str


@dataclass(frozen=True, slots=True)
class Complete:
    """End the wait in a hook."""

    hook: str
    result: Result
    reason: str
    cut: int = 0  # connections that are not waited for


@dataclass(frozen=True, slots=True)
class AskReplacement:
    """Tell Auto Scaling that this instance is unhealthy."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do for so many seconds, unless the situation changes."""

    seconds: float
    waiting: str = ""  # for what; "" when nothing is pending


Act = ReadHooks | Beat | Complete | AskReplacement | Rest


def next_act(scene: Scene) -> Act:
    """What to do now. ``scene.memory`` has heard of ``scene.told``."""
    memory = scene.memory
    transition = WAITS.get(memory.state)
    if transition is None:
        return _health(scene)
    if scene.hooks is None or scene.at - scene.hooks_at >= _READ_AGAIN:
        return ReadHooks()
    named = scene.rules.lifecycle.hooks
    hooks = [h for h in scene.hooks if h.transition == transition and (named is None or h.name in named)]
    due = [hook for hook in hooks if not _completed(memory, hook, scene.at)]
    if not due:
        return Rest(_COMPLETE_AGAIN, "Auto Scaling to go on" if hooks else f"a hook of others to end {memory.state}")
    verdict = _verdict(scene, transition, due[0].name)
    if isinstance(verdict, Complete):
        return verdict
    return _beat(scene, due, verdict)


def _completed(memory: LifeMemory, hook: Hook, at: float) -> bool:
    """True while Auto Scaling may still be about to follow. Nobody tells when a wait in the warm pool is over: once is enough."""
    at_last = memory.done.get(hook.name)
    return at_last is not None and (memory.state.startswith("Warmed") or 0 <= at - at_last < _COMPLETE_AGAIN)


def _verdict(scene: Scene, transition: str, hook: str) -> Complete | Rest:
    """Complete, or how long at most to wait, and for what."""
    memory = scene.memory
    if memory.result:
        return Complete(hook, memory.result, memory.reason, memory.cut)
    return _launch(scene, hook) if transition == "launch" else _terminate(scene, hook)


def _launch(scene: Scene, hook: str) -> Complete | Rest:
    told, memory = scene.told, scene.memory
    if memory.state.startswith("Warmed"):
        return Complete(hook, "CONTINUE", "it goes to the warm pool, without traffic")
    if told.ready and told.record in {"none", "stands"}:
        return Complete(hook, "CONTINUE", "it serves")
    if told.kept_out and told.sessions is not None:  # it would be given up, and its successors after it
        return Complete(hook, "CONTINUE", f"it is kept out of service: {told.kept_out}")
    lacks = "its record in DNS" if told.ready else "HAProxy to serve"
    patience = scene.rules.lifecycle.join_timeout
    left = memory.since + patience - scene.at
    if left <= 0:
        return Complete(hook, "ABANDON", f"not ready within {patience:g} s: it still waits for {lacks}")
    return Rest(left, lacks)


def _terminate(scene: Scene, hook: str) -> Complete | Rest:
    memory, drain = scene.memory, scene.rules.lifecycle.drain
    lacks, left = _drained(scene)
    if not lacks:
        return Complete(hook, "CONTINUE", "drained")
    over = (memory.left_at or memory.since) + drain.max - scene.at
    limit = f"drain.max of {drain.max:g} s"
    if scene.told.spot_at:
        spot = scene.told.spot_at - _SPOT_MARGIN - scene.told.at
        over, limit = (spot, "spot notice") if spot < over else (over, limit)
    if over <= 0:
        cut = (scene.told.sessions or 0) + scene.told.old_sessions
        return Complete(hook, "CONTINUE", f"the {limit} is over: it no longer waits for {lacks}", cut)
    return Rest(min(left, over), lacks)


def _drained(scene: Scene) -> tuple[str, float]:
    """What a leaving node still waits for ("" when it is drained), and for how long at least."""
    told, memory, at = scene.told, scene.memory, scene.at
    if not told.leaving:
        return "the node to leave", _IDLE
    if not memory.record_gone_at:
        return "its record in DNS to go", _IDLE
    if (left := memory.record_gone_at + scene.rules.ttl - at) > 0:
        return "resolvers to forget it", left
    if told.sessions is None:
        return "HAProxy to tell of its connections", _IDLE
    if not memory.quiet_since:
        held = f" with {told.old_sessions} more" if told.old_sessions else ""
        return f"{told.sessions} connections and {told.old_workers} old workers{held} to end", _IDLE
    if (left := memory.quiet_since + scene.rules.lifecycle.drain.quiet - at) > 0:
        return "new connections to stay away", left
    return "", 0.0


def _beat(scene: Scene, due: list[Hook], rest: Rest) -> Beat | Rest:
    """A heartbeat where a third of a hook's timeout has passed since the last, as long as AWS would honour one."""
    memory, at = scene.memory, scene.at
    wait = rest.seconds
    for hook in due:
        if at - memory.since >= min(_LONGEST, _MOST_TIMEOUTS * hook.timeout):
            continue
        left = min(memory.beats.get(hook.name, 0.0), at) + hook.timeout / 3 - at
        if left <= 0:
            return Beat(hook.name)
        wait = min(wait, left)
    return Rest(wait, rest.waiting)


def _health(scene: Scene) -> AskReplacement | Rest:
    """A node whose HAProxy stays away asks to be replaced, if the settings want that and others of the group serve."""
    memory, patience = scene.memory, scene.rules.lifecycle.unhealthy_after
    if not patience or memory.state != "InService" or not memory.mute_since or scene.told.alone:
        return Rest(_IDLE)
    left = max(memory.mute_since, memory.unhealthy_at) + patience - scene.at
    if left > 0:
        return Rest(left, "HAProxy to answer")
    return AskReplacement(f"HAProxy has not answered for {scene.at - memory.mute_since:.0f} s")
