"""What chapters about the load balancer nodes have in common: how a node is seen to come and to go."""

import time
from collections.abc import Collection

from hafleet.lab import proxy
from hafleet.lab.node import Node
from hafleet.lab.plan import DNS_NAME, DNS_TTL, EDGE
from hafleet.lab.registered import Watch
from hafleet.lab.stage import SETTLE, Stage, StoryError

NODES = 3
RED = 503  # what the health listener of a node that leaves answers
OUT = 40  # answers in a row without an address that one node in three has: by chance once in ten million
PATIENCE = 90.0  # seconds; the longest that a node may take to come or to go


def watching(stage: Stage) -> Watch:
    """Asks the name server for the fleet, many times a second."""
    return Watch(stage.lab.cloud.dns, DNS_NAME, lambda: stage.lab.nodes, "shop")


def answered(stage: Stage, watch: Watch, node: Node) -> None:
    """Wait until DNS answers with this node."""
    stage.lab.wait_until(lambda: watch.of(node.address).first is not None, PATIENCE, f"DNS to answer {node.address}")


def forgotten(stage: Stage, watch: Watch, node: Node) -> float:
    """Wait until DNS answers with this node no more; the monotonic time of the last such answer."""
    sight = watch.of(node.address)
    stage.lab.wait_until(lambda: sight.since >= OUT, PATIENCE, f"DNS to stop answering {node.address}")
    return sight.last or 0.0


def outlive_ttl(last: float) -> None:
    """Wait until no client can still keep what was answered last at this monotonic time."""
    time.sleep(max(0.0, last + DNS_TTL + 0.5 - time.monotonic()))


def joined(stage: Stage, watch: Watch, node: Node) -> float:
    """Wait until DNS answers with this node and clients come; when it was first answered.

    Raises:
        StoryError: it was answered before it served.
    """
    answered(stage, watch, node)
    sight = watch.of(node.address)
    if sight.early:
        raise StoryError(f"DNS answered {node.address} before its health listener said 200 with servers in rotation")
    before = stage.traffic.count()
    stage.lab.wait_until(
        lambda: node.http in stage.traffic.latest.since(before).targets, SETTLE, f"clients to come to {node.http}"
    )
    return sight.first or 0.0


def in_service(stage: Stage, node: Node) -> None:
    """Wait until the node's group counts it as InService, which its launch hook keeps back.

    Raises:
        StoryError: it was so before its record was made.
    """

    def there() -> bool:
        registered = has_record(stage, node)  # asked first: what is made later cannot excuse an early InService
        if state(stage, node) != "InService":
            return False
        if not registered:
            raise StoryError(f"{node.id} was in service before it stood in DNS")
        return True

    stage.lab.wait_until(there, PATIENCE, f"{node.id} to be in service")


def all_in_service(stage: Stage) -> None:
    """Wait until the fleet is whole."""
    stage.lab.wait_until(
        lambda: len(stage.lab.members(EDGE)) == len(stage.lab.nodes) == NODES, PATIENCE, f"{NODES} nodes in service"
    )


def newcomer(stage: Stage, known: Collection[Node]) -> Node:
    """Wait for the machine of a node that is none of these; the node."""
    found: list[Node] = []

    def there() -> bool:
        found.extend(node for node in stage.lab.nodes if node not in known)
        return bool(found)

    stage.lab.wait_until(there, SETTLE, "the new node's machine")
    return found[0]


def peers_settle(stage: Stage) -> None:
    """Wait until every HAProxy that runs lists exactly the nodes that are there or come: each change of that list is a reload."""

    def lists() -> bool:
        machines = {m.id: m.lifecycle for m in stage.lab.cloud.machines() if m.group == EDGE}
        stay = {name for name, lifecycle in machines.items() if not lifecycle.startswith("Terminat")}
        running = [node for node in stage.lab.nodes if node.config.exists() and node.haproxy.pid is not None]
        # The master last: the new worker may answer before a master that executes itself anew can be asked for its reloads.
        return all(_peers(node) == stay | {node.id} and node.master() is not None for node in running)

    stage.lab.wait_until(lists, PATIENCE, "every node to list its peers")


def _peers(node: Node) -> set[str]:
    """Ids of the peers that its worker has loaded; none while it does not answer, as in the middle of a reload."""
    try:
        told = proxy.ask(node.runtime_socket, "show peers")
    except OSError:
        return set()
    return {
        word for word in told.replace("=", " ").replace(",", " ").replace("(", " ").split() if word.startswith("i-")
    }


def state(stage: Stage, node: Node) -> str:
    """Its lifecycle state; "" once it is gone."""
    return next((machine.lifecycle for machine in stage.lab.cloud.machines() if machine.id == node.id), "")


def has_record(stage: Stage, node: Node) -> bool:
    """True while its record stands in Route 53."""
    return node.id in {leaf.node for leaf in stage.lab.registered()}


def command(node: Node, *words: str) -> None:
    """Run a command as on this node. Raises StoryError when it fails."""
    done = node.command(*words)
    if done.returncode:
        raise StoryError(f"hafleet {' '.join(words)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
