"""Chapters about the nodes themselves, as their clients see them by DNS: one joins, one dies, one is drained and comes back.

Traffic finds its node by asking the lab's name server, and keeps an answer for its TTL. What a chapter claims of DNS it has
asked of the name server itself, many times a second.
"""

import http.client
import time
from collections.abc import Callable

from hafleet.lab.node import HTTP_PORT, Node
from hafleet.lab.plan import EDGE, INTERVAL, STICKY_HEADER, THRESHOLD
from hafleet.lab.registered import checks_of
from hafleet.lab.stage import SETTLE, Stage, StoryError
from hafleet.lab.story_nodes import (
    NODES,
    PATIENCE,
    RED,
    answered,
    command,
    forgotten,
    has_record,
    in_service,
    joined,
    newcomer,
    outlive_ttl,
    peers_settle,
    watching,
)


def node_joins(stage: Stage) -> str:
    """A third node: nobody hears of it before it serves, and it is in service only when it stands in DNS."""
    known = list(stage.lab.nodes)
    for other in known:
        in_service(stage, other)
    stage.lab.scale(EDGE, NODES)
    began = time.monotonic()
    with watching(stage) as watch:
        node = newcomer(stage, known)
        peers_settle(stage)
        stage.meanwhile()
        seen = joined(stage, watch, node) - began
        in_service(stage, node)
    stage.lab.wait_converged(SETTLE)
    stage.dns_took(seen)
    ready = (watch.of(node.address).ready or began) - began
    return f"{node.id} served after {ready:.1f} s and was in DNS after {seen:.1f} s; then its launch hook was completed"


def node_killed(stage: Stage) -> str:
    """SIGKILL for the HAProxy of one node, for good: the health checkers find out, and DNS stops answering it."""
    node = stage.lab.nodes[-1]
    with watching(stage) as watch:
        answered(stage, watch, node)
        node.fail()
        began = time.monotonic()
        stage.say(f"{node.id} is dead; its health check has to notice")
        last = forgotten(stage, watch, node)
        stage.dns_took(last - began)
        outlive_ttl(last)
        before = stage.traffic.count()
        time.sleep(1)
        late = stage.traffic.count().since(before).failed
    if late:
        raise StoryError(f"{late} requests failed after DNS had stopped answering the dead node and its TTL was over")
    return f"{node.id} left DNS after {last - began:.1f} s: its health check asks every {INTERVAL} s, {THRESHOLD} times"


def dead_reaped(stage: Stage) -> str:
    """EC2 ends the dead node's machine: the others remove its record and its check, and a new node takes its place."""
    dead = next((node for node in stage.lab.nodes if node.haproxy.pid is None), None)
    if dead is None:
        raise StoryError("no node is dead")
    if not checks_of(stage.lab.cloud, dead.id) or not has_record(stage, dead):
        raise StoryError(f"{dead.id} lost its record or its check while EC2 said that it runs")
    known = list(stage.lab.nodes)
    stage.lab.kill(dead.id)
    record, check = _times(
        stage,
        {
            f"the record of {dead.id} to go": lambda: not has_record(stage, dead),
            f"the check of {dead.id} to go": lambda: not checks_of(stage.lab.cloud, dead.id),
        },
    )
    stage.dns_took(max(record, check))
    node = newcomer(stage, known)
    peers_settle(stage)
    return f"record of {dead.id} gone after {record:.1f} s, its check after {check:.1f} s; {node.id} joins in its place"


def node_drained(stage: Stage) -> str:
    """An operator takes a node out of DNS; whoever still comes is served."""
    node = stage.lab.nodes[1]
    with watching(stage) as watch:
        answered(stage, watch, node)
        began = time.monotonic()
        stage.say(f"hafleet drain on {node.id}")
        command(node, "drain", "--reason", "a restart of HAProxy")
        stage.meanwhile()
        stage.say(f"hafleet drain --wait on {node.id}")
        command(node, "drain", "--wait", "--reason", "a restart of HAProxy")
        drained = time.monotonic() - began
        if has_record(stage, node):
            raise StoryError(f"{node.id} says that it is drained, and its record is there")
        last = forgotten(stage, watch, node)
        stage.dns_took(last - began)
        outlive_ttl(last)
    return f"{node.id} out of DNS after {last - began:.1f} s, drained after {drained:.1f} s"


def node_restart(stage: Stage) -> str:
    """The drained node's HAProxy starts cold, and the node comes back; its peers give it the stick table."""
    node = next((node for node in stage.lab.nodes if node.health() == RED), None)
    if node is None:
        raise StoryError("no node is drained")
    other = next(other for other in stage.lab.nodes if other is not node)
    user = f"u{time.time_ns()}"
    learned = _cart(other, user)
    stage.lab.wait_until(lambda: user in node.stuck("cart"), SETTLE, "the entry to reach the other nodes")
    before = stage.traffic.count()
    starts = node.haproxy.starts
    stage.restart_clock()
    node.haproxy.terminate()
    stage.lab.wait_until(lambda: node.haproxy.starts > starts, SETTLE, "HAProxy to be started again")
    stage.lab.wait_until(lambda: user in node.stuck("cart"), SETTLE, "the restarted node to learn the stick table")
    stage.follow()
    if node.health() != RED:
        raise StoryError(f"{node.id} was drained, and its restarted HAProxy says that it is healthy")
    if sent := stage.traffic.count().since(before).targets.get(node.http):
        raise StoryError(f"{sent} requests were sent to the drained node")
    with watching(stage) as watch:
        began = time.monotonic()
        command(node, "ready")
        stage.dns_took(joined(stage, watch, node) - began)
    same = _cart(node, user)
    if same != learned:
        raise StoryError(f"{user} was on {learned} and came to {same} after the restart")
    return f"{user} met {learned} again on the restarted node"


def _times(stage: Stage, waits: dict[str, Callable[[], bool]]) -> tuple[float, ...]:
    """Wait until each of these has held once, in whatever order; how many seconds each took. Raises TimeoutError."""
    began = time.monotonic()
    took: dict[str, float] = {}

    def look() -> bool:
        for what in waits.keys() - took.keys():
            if waits[what]():
                took[what] = time.monotonic() - began
        return len(took) == len(waits)

    stage.lab.wait_until(look, PATIENCE, ", ".join(waits))
    return tuple(took[what] for what in waits)


def _cart(node: Node, user: str) -> str:
    """The instance that answers this user through this node."""
    headers = {"Host": "cart.example.com", STICKY_HEADER: user}
    connection = http.client.HTTPConnection(node.address, HTTP_PORT, timeout=5)
    try:
        connection.request("GET", "/cart", headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
    finally:
        connection.close()
    if answer.status != 200:
        raise StoryError(f"node {node.id} answered {answer.status} for the cart of {user}")
    return body.split()[0]
