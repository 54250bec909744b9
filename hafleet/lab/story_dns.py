"""Chapters about the nodes themselves, as their clients see them by DNS: one joins, one dies, one is drained and comes back.

Traffic finds its node by asking the lab's name server, and keeps an answer for its TTL. What a chapter claims of DNS it has
asked of the name server itself, many times a second.
"""

import http.client
import time
from collections.abc import Callable

from hafleet.lab.node import HTTP_PORT, Node
from hafleet.lab.plan import DNS_NAME, DNS_TTL, EDGE, INTERVAL, STICKY_HEADER, THRESHOLD
from hafleet.lab.registered import Watch, checks_of
from hafleet.lab.stage import SETTLE, Stage, StoryError

NODES = 3
OUT = 40  # answers in a row without an address that one node in three has: by chance once in ten million
RED = 60.0  # seconds; the longest that a health check may take to turn


def node_joins(stage: Stage) -> str:
    """A third node: nobody hears of it before it serves."""
    stage.lab.scale(EDGE, NODES)
    began = time.monotonic()
    with _watch(stage) as watch:
        stage.lab.wait_until(lambda: len(stage.lab.nodes) == NODES, SETTLE, "the new node's machine")
        node = stage.lab.nodes[-1]
        stage.follow()
        answered = _joined(stage, watch, node) - began
    stage.dns_took(answered)
    ready = (watch.of(node.address).ready or began) - began
    return f"{node.id} served after {ready:.1f} s and was in DNS after {answered:.1f} s"


def node_killed(stage: Stage) -> str:
    """SIGKILL for the HAProxy of one node, for good: the health checkers find out, and DNS stops answering it."""
    node = stage.lab.nodes[-1]
    with _watch(stage) as watch:
        stage.lab.wait_until(lambda: watch.of(node.address).first is not None, SETTLE, f"DNS to answer {node.address}")
        node.fail()
        began = time.monotonic()
        stage.say(f"{node.id} is dead; its health check has to notice")
        stage.lab.wait_until(lambda: watch.of(node.address).since >= OUT, RED, f"DNS to stop answering {node.address}")
        last = watch.of(node.address).last or began
        stage.dns_took(last - began)
        _outlive_ttl(last)
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
    if not checks_of(stage.lab.cloud, dead.id) or not _has_record(stage, dead):
        raise StoryError(f"{dead.id} lost its record or its check while EC2 said that it runs")
    with _watch(stage) as watch:
        stage.restart_clock()
        stage.lab.kill(dead.id)
        took = _times(
            stage,
            {
                f"the record of {dead.id} to go": lambda: not _has_record(stage, dead),
                f"the check of {dead.id} to go": lambda: not checks_of(stage.lab.cloud, dead.id),
                "its replacement to serve": lambda: _replaced(stage, dead),
            },
        )
        node = stage.lab.nodes[-1]
        _joined(stage, watch, node)
    record, check, _ = took
    stage.dns_took(max(record, check))
    return (
        f"record of {dead.id} gone after {record:.1f} s, its check after {check:.1f} s; {node.id} joined in its place"
    )


def node_drained(stage: Stage) -> str:
    """A node is drained, its HAProxy starts cold, and it comes back; its peers give it the stick table."""
    other, node = stage.lab.nodes[:2]
    user = f"u{time.time_ns()}"
    learned = _cart(other, user)
    stage.lab.wait_until(lambda: user in node.stuck("cart"), 5, "the entry to reach the other nodes")
    with _watch(stage) as watch:
        stage.lab.wait_until(lambda: watch.of(node.address).first is not None, SETTLE, f"DNS to answer {node.address}")
        began = time.monotonic()
        stage.say(f"hafleet drain --wait on {node.id}")
        _command(node, "drain", "--wait", "--reason", "a restart of HAProxy")
        drained = time.monotonic() - began
        stage.lab.wait_until(lambda: not _has_record(stage, node), RED, f"the record of {node.id} to go")
        stage.lab.wait_until(lambda: watch.of(node.address).since >= OUT, RED, f"DNS to stop answering {node.address}")
        last = watch.of(node.address).last or began
        stage.dns_took(last - began)
        _outlive_ttl(last)
    before = stage.traffic.count()
    starts = node.haproxy.starts
    stage.restart_clock()
    node.haproxy.terminate()
    stage.lab.wait_until(lambda: node.haproxy.starts > starts, SETTLE, "HAProxy to be started again")
    stage.lab.wait_until(lambda: user in node.stuck("cart"), SETTLE, "the restarted node to learn the stick table")
    stage.follow()
    if node.health() == 200:
        raise StoryError(f"{node.id} was drained, and its restarted HAProxy says that it is healthy")
    if sent := stage.traffic.count().since(before).targets.get(node.http):
        raise StoryError(f"{sent} requests were sent to the drained node")
    with _watch(stage) as watch:
        _command(node, "ready")
        _joined(stage, watch, node)
    same = _cart(node, user)
    if same != learned:
        raise StoryError(f"{user} was on {learned} and came to {same} after the restart")
    return f"drained after {drained:.1f} s; {user} met {learned} again on the restarted node"


def _watch(stage: Stage) -> Watch:
    return Watch(stage.lab.cloud.dns, DNS_NAME, lambda: stage.lab.nodes, "shop")


def _outlive_ttl(last: float) -> None:
    """Wait until no client can still keep what was answered last at this monotonic time."""
    time.sleep(max(0.0, last + DNS_TTL + 0.5 - time.monotonic()))


def _joined(stage: Stage, watch: Watch, node: Node) -> float:
    """Wait until DNS answers with this node and clients come; when it was first answered.

    Raises:
        StoryError: it was answered before it served.
    """
    sight = watch.of(node.address)
    stage.lab.wait_until(lambda: sight.first is not None, SETTLE, f"DNS to answer {node.address}")
    if sight.early:
        raise StoryError(f"DNS answered {node.address} before its health listener said 200 with servers in rotation")
    before = stage.traffic.count()
    stage.lab.wait_until(
        lambda: node.http in stage.traffic.latest.since(before).targets, SETTLE, f"clients to come to {node.http}"
    )
    return sight.first or 0.0


def _replaced(stage: Stage, dead: Node) -> bool:
    """True once another node stands in the place of this one and all serve as they should; stops the chapter's clock then."""
    if dead in stage.lab.nodes or len(stage.lab.nodes) != NODES or not stage.lab.converged():
        return False
    stage.converged()
    return True


def _times(stage: Stage, waits: dict[str, Callable[[], bool]]) -> tuple[float, ...]:
    """Wait until each of these has held once, in whatever order; how many seconds each took. Raises TimeoutError."""
    began = time.monotonic()
    took: dict[str, float] = {}

    def look() -> bool:
        for what in waits.keys() - took.keys():
            if waits[what]():
                took[what] = time.monotonic() - began
        return len(took) == len(waits)

    stage.lab.wait_until(look, RED, ", ".join(waits))
    return tuple(took[what] for what in waits)


def _has_record(stage: Stage, node: Node) -> bool:
    return node.id in {leaf.node for leaf in stage.lab.registered()}


def _command(node: Node, *words: str) -> None:
    """Run a command as on this node. Raises StoryError when it fails."""
    done = node.command(*words)
    if done.returncode:
        raise StoryError(f"hafleet {' '.join(words)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")


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
