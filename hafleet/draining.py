"""``hafleet drain`` and ``hafleet ready``: take this node out of DNS and bring it back, whether an agent runs or not.

Both write the operator's claim into the memory, turn the health endpoint of the running HAProxy and mark its file. An agent
that runs goes on from there; without one, HAProxy still stays red over reloads and cold starts. AWS is asked only whether
another node serves, and its silence refuses nothing.
"""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

from hafleet import registering
from hafleet.compose import Parts
from hafleet.core import phase, switch
from hafleet.core.model import Held, Memory, Rendered, Unknown
from hafleet.errors import HafleetError, ProxyUnavailable, SourceUnavailable, StateCorrupt

_QUIET_LOOKS = 3  # looks in a row without a session: one alone may fall between two requests
_BETWEEN = 1.0  # seconds between two looks


def guard(parts: Parts) -> tuple[Held | None, str]:
    """Whether the drain of this node is held, and else why nobody can tell ("" when another node surely serves)."""
    try:
        node = parts.ports.metadata.identity()
        if not node.group:
            return None, "this node is in no Auto Scaling group: whether another one serves is not known"
        groups = parts.ports.membership.read(frozenset({node.group}), frozenset(), frozenset())
    except SourceUnavailable as error:
        return None, f"whether another node serves is not known: {error}"
    group = phase.own_group(node.group, groups)
    if isinstance(group, Unknown):
        return None, f"whether another node serves is not known: {group.reason}"
    held = phase.last_node(node.id, group)
    return (held, "") if held else _in_dns(parts, node.id)


def _in_dns(parts: Parts, node_id: str) -> tuple[Held | None, str]:
    """The same by the records: a node that is drained already is still in service for Auto Scaling."""
    dns = parts.settings.dns
    if dns is None:
        return None, ""
    try:
        tree = parts.dns_ports().dns.tree(dns.name)
    except HafleetError as error:
        return None, f"whether another node is in DNS is not known: {error}"
    if {record.set_id for record in tree if record.values and record.set_id} != {node_id}:
        return None, ""
    return Held("last_node", node_id, f"no other node has a record of {dns.name}: nobody would be left in DNS"), ""


def drain(parts: Parts, reason: str) -> list[str]:
    """Claim that this node leaves, and turn its health endpoint red.

    Raises:
        LockHeld: a pass has been running for too long.
        StoreError: the memory cannot be written, so the drain would not last; nothing was turned.
    """
    memory, lines = _change(parts, lambda memory: phase.drained(memory, reason, parts.ports.clock.wall()))
    claim = memory.leaving[phase.OPERATOR]
    return [f"leaving: {claim.reason}", *lines]


def ready(parts: Parts) -> list[str]:
    """Take the operator's claim back, and turn the health endpoint green unless another source claims. Raises as ``drain``."""
    memory, lines = _change(parts, phase.readied)
    others = [f"still leaving: {claim.reason}" for _, claim in sorted(memory.leaving.items())]
    return [*(others or ["not leaving"]), *lines]


def awaited(parts: Parts) -> tuple[str, ...]:
    """What is still there of a node that leaves; empty when nothing is.

    Raises:
        HafleetError: the node does not leave, so there is nothing to wait for.
    """
    if not parts.ports.store.load(None).leaving:
        raise HafleetError("the drain was taken back", fix="`hafleet drain` begins it anew")
    try:
        worker = parts.proxy.observe(())
    except ProxyUnavailable as error:
        return (f"HAProxy to answer ({error.what})",)
    sessions = sum(server.sessions for server in worker.servers.values())
    found = {
        "the health endpoint to turn red": switch.is_green(worker) and not switch.lacks(worker),
        f"{sessions} sessions": sessions,
        f"{worker.old_workers} old workers": worker.old_workers,
    }
    return (*(what for what, there in found.items() if there), *_registered(parts))


def _registered(parts: Parts) -> tuple[str, ...]:
    """What of this node still stands in Route 53, as the running agent told last. The last record of a name is not waited for."""
    if parts.settings.dns is None or parts.locks.agent_pid() is None:
        return ()
    told = registering.last_told(parts)
    if told is None:
        return ("the agent to tell of Route 53",)
    if any(held.rule == "last_record" for held in told.held):
        return ()
    left = [f"the record {record.name} {record.type} to go" for record in told.records]
    return (*left, *([f"Route 53 ({told.waiting})"] if told.waiting and not left else []))


def wait(parts: Parts, timeout: float, tell: Callable[[tuple[str, ...]], None]) -> tuple[str, ...]:
    """Wait until nothing is left, or for ``timeout`` seconds; what is left then. ``tell`` hears of each look.

    Raises:
        HafleetError: the drain was taken back meanwhile.
    """
    clock, never = parts.ports.clock, threading.Event()
    end = clock.monotonic() + timeout
    quiet = 0
    while True:
        left = awaited(parts)
        quiet = 0 if left else quiet + 1
        if quiet == _QUIET_LOOKS or clock.monotonic() >= end:
            return left
        tell(left)
        clock.wait(never, min(_BETWEEN, max(0.0, end - clock.monotonic())))


def _change(parts: Parts, change: Callable[[Memory], Memory]) -> tuple[Memory, list[str]]:
    """Keep the changed memory, follow it in HAProxy and its file, and wake the agent."""
    with parts.locks.one_pass():
        try:
            memory = parts.ports.store.load(None)
        except StateCorrupt:  # put aside: the next pass builds the rest anew, and the claim lasts
            memory = Memory()
        memory = change(memory)
        parts.ports.store.save(memory)
        lines = [*_turn(parts, memory), *_mark(parts, memory)]
    return memory, [*lines, _wake(parts)]


def _turn(parts: Parts, memory: Memory) -> list[str]:
    """Turn the running HAProxy's health endpoint."""
    try:
        worker = parts.proxy.observe(())
        commands = switch.commands(worker, memory)
        if commands:
            parts.proxy.run(worker.pid, commands)
    except ProxyUnavailable as error:
        return [f"the health endpoint was not turned: {error}"]
    if faults := switch.faults(worker, memory):
        return [str(fault) for fault in faults]
    return [f"the health endpoint is {'red' if memory.leaving else 'green'}; traffic goes on"]


def _mark(parts: Parts, memory: Memory) -> list[str]:
    """Mark the installed file, so that a cold start comes up as the memory says. It is the same structure."""
    try:
        installed = parts.proxy.installed()
        if installed.text is None:
            return []
        wanted = switch.coloured(Rendered(installed.text, installed.maps), memory)
        if wanted.text != installed.text:
            parts.proxy.check(wanted)
            parts.proxy.install(wanted)
    except HafleetError as error:
        return [f"the file is left to the agent: {error}"]
    return []


def _wake(parts: Parts) -> str:
    """Have the agent run a pass now."""
    pid = parts.locks.agent_pid()
    if pid is None:
        return "no agent runs here: records in DNS stay as they are until one does"
    with suppress(ProcessLookupError, PermissionError):  # it ended just now, or is another user's: its timer finds out
        os.kill(pid, signal.SIGHUP)
    return f"the agent (pid {pid}) goes on from here"
