"""Chapters about nodes and zones that leave on purpose: replaced through hooks, taken back by EC2, drained by zone."""

import time

from hafleet.lab.cloud import HOOK_TIMEOUT
from hafleet.lab.node import Node
from hafleet.lab.plan import DNS_TTL, EDGE, LEAVE_HOOK
from hafleet.lab.stage import SETTLE, Stage, StoryError
from hafleet.lab.story_nodes import (
    PATIENCE,
    RED,
    all_in_service,
    answered,
    command,
    forgotten,
    has_record,
    in_service,
    joined,
    newcomer,
    peers_settle,
    state,
    watching,
)

ENOUGH = 2.0  # seconds left of a hook's timeout: it did not run out
NOTICE = 20.0  # seconds that EC2 grants here; 120 in AWS


def node_replaced(stage: Stage) -> str:
    """A node is retired by its group: it leaves through its hook while another one comes through its own."""
    all_in_service(stage)
    node, known = stage.lab.nodes[0], list(stage.lab.nodes)
    with watching(stage) as watch:
        answered(stage, watch, node)
        stage.lab.terminate(node.id)
        began = time.monotonic()
        _red(stage, node)
        if not (seen := state(stage, node)).startswith("Terminating"):
            raise StoryError(f"{node.id} is {seen or 'gone'} and not Terminating")
        red = time.monotonic() - began
        other = newcomer(stage, known)
        peers_settle(stage)
        stage.meanwhile()
        last = forgotten(stage, watch, node)
        stage.dns_took(last - began)
        _let_go(stage, node, began)
        gone = time.monotonic()
        _gone_well(stage, node, gone - last)
        joined(stage, watch, other)
    in_service(stage, other)
    stage.lab.wait_converged(SETTLE)
    return f"{node.id} red after {red:.1f} s, drained and gone after {gone - began:.1f} s; {other.id} came through its launch hook"


def _let_go(stage: Stage, node: Node, began: float) -> None:
    """Wait until a node that leaves is gone. Raises StoryError when its hook ran out instead of being completed."""
    left = [began + HOOK_TIMEOUT - time.monotonic()]  # seconds of its hook, as last seen

    def gone() -> bool:
        left.extend(action["left"] for action in stage.lab.cloud.waiting() if action["instance"] == node.id)
        return node not in stage.lab.nodes

    stage.lab.wait_until(gone, PATIENCE, f"{node.id} to be let go")
    if left[-1] < ENOUGH:
        raise StoryError(f"{node.id} is gone because its hook {LEAVE_HOOK} ran out")


def _gone_well(stage: Stage, node: Node, apart: float) -> None:
    if has_record(stage, node):
        raise StoryError(f"{node.id} is gone and has left its record")
    if apart < DNS_TTL:
        raise StoryError(f"{node.id} was gone {apart:.1f} s after DNS had last answered with it")


def _red(stage: Stage, node: Node) -> None:
    stage.lab.wait_until(lambda: node.health() == RED, SETTLE, f"{node.id} to turn red")


def spot_notice(stage: Stage) -> str:
    """EC2 takes a spot instance back: the node is out of DNS before that, and its group replaces it."""
    node, known = stage.lab.nodes[0], list(stage.lab.nodes)
    with watching(stage) as watch:
        answered(stage, watch, node)
        stage.lab.cloud.spot_interrupt(node.id, NOTICE)
        began = time.monotonic()
        stage.say(f"EC2 takes {node.id} back in {NOTICE:g} s")
        _red(stage, node)
        red = time.monotonic() - began
        last = forgotten(stage, watch, node)
        stage.dns_took(last - began)
        stage.lab.wait_until(lambda: node not in stage.lab.nodes, PATIENCE, f"EC2 to take {node.id}")
        _gone_well(stage, node, time.monotonic() - last)
        other = newcomer(stage, known)
    return f"{node.id} red after {red:.1f} s, out of DNS after {last - began:.1f} of {NOTICE:g} s; {other.id} comes in its place"


def zone_drained(stage: Stage) -> str:
    """An operator shifts traffic away from a zone, and back: its servers drain on every node, its nodes leave DNS."""
    all_in_service(stage)
    zones = [node.zone for node in stage.lab.nodes]
    zone = min(set(zones), key=zones.count)
    away = {m.id for m in stage.lab.cloud.machines() if m.zone == zone and m.group != EDGE}
    node = next(node for node in stage.lab.nodes if node.zone == zone)
    with watching(stage) as watch:
        answered(stage, watch, node)
        stage.restart_clock()
        began = time.monotonic()
        stage.say(f"hafleet zone drain {zone}")
        command(node, "zone", "drain", zone, "--reason", "the zone is slow")
        stage.lab.plan.away = {zone}
        stage.follow()
        before = stage.traffic.count()
        _red(stage, node)
        stage.meanwhile()
        last = forgotten(stage, watch, node)
        stage.dns_took(last - began)
        if sent := sum(n for name, n in stage.traffic.count().since(before).instances.items() if name in away):
            raise StoryError(f"{sent} requests were sent to servers of the drained {zone}")
    with watching(stage) as watch:
        stage.say(f"hafleet zone ready {zone}")
        command(node, "zone", "ready", zone)
        stage.lab.plan.away = set()
        stage.lab.wait_converged(SETTLE)
        joined(stage, watch, node)
    return f"{len(away)} machines of {zone} got nothing new from any node, and its node left DNS after {last - began:.1f} s"
