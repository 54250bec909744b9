"""``hafleet doctor`` on the node's life: its lifecycle hooks, and the event queue. Nothing is changed by looking."""

from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection, HTTPException

from hafleet import compose
from hafleet.adapters.hooks import AsgHooks
from hafleet.core import queues
from hafleet.core.model import Node
from hafleet.core.values import parse_endpoint
from hafleet.errors import HafleetError, HookGone
from hafleet.findings import Finding, tried

_NO_HOOK = "hafleet-doctor"  # no hook has this name: AWS refuses the call after it has looked at the right to make it
_PATIENCE = 4.0  # seconds that the agent's own listener has for an answer
_PROVEN = "hafleet_events_proven "


def hooks(parts: compose.Parts) -> Iterator[Finding]:
    """The hooks of the node's group, and the right to speak to them."""
    if parts.settings.lifecycle is None:
        return
    try:
        node = parts.ports.metadata.identity()
    except HafleetError:  # said elsewhere
        return
    if not node.group:
        yield Finding("hint", "lifecycle hooks", "this node is in no group", "")
        return
    port = AsgHooks(parts.account)
    found: set[str] = set()

    def listed() -> str:
        told = port.hooks(node.group)
        found.update(hook.transition for hook in told)
        return f"{node.group}: {', '.join(f'{hook.name} ({hook.transition})' for hook in told) or 'none'}"

    seen = tried("lifecycle hooks", listed)
    yield seen
    if seen.state == "ok":
        for transition in sorted({"launch", "terminate"} - found):
            what = f"{node.group} has none for {transition}: AWS does not wait for this node then"
            yield Finding("warn", "lifecycle hooks", what, "put one (docs/lifecycle.md)")
    yield tried(
        "lifecycle completion", partial(_refused, lambda: port.complete(node.group, _NO_HOOK, node.id, "CONTINUE"))
    )
    yield tried("lifecycle heartbeat", partial(_refused, lambda: port.heartbeat(node.group, _NO_HOOK, node.id)))


def _refused(call: Callable[[], None]) -> str:
    """A call about a hook that does not exist: refused for that alone, it is allowed."""
    try:
        call()
    except HookGone:
        pass
    return "allowed: refused only for a hook that does not exist"


def events(parts: compose.Parts) -> Iterator[Finding]:
    """The event queue, what leads to it, and whether the agent hears anything."""
    settings = parts.settings.events
    if settings is None or settings.queue == "none":
        return
    if settings.queue == "auto":
        try:
            yield from _own(parts, parts.ports.metadata.identity())
        except HafleetError:  # said elsewhere
            return
    else:
        from hafleet.adapters.queue.looks import try_queue

        yield tried("event queue", partial(try_queue, parts.account, settings.queue))
    yield _proof(parts, settings.interval)


def _own(parts: compose.Parts, node: Node) -> Iterator[Finding]:
    """The node's own queue, its subscription, and the fleet's dead-letter queue."""
    from hafleet.adapters.queue.looks import Looks

    fleet = parts.settings.fleet
    look = Looks(parts.account, fleet, node.id)
    yield tried("event queue", look.queue)
    listed = tried("event queues of the fleet", look.others)
    yield listed
    if listed.state == "ok" and not look.dead_letters:
        what = f"there is no queue {queues.dead_letters(fleet)}"
        yield Finding("warn", "event dead letters", what, "make it, or poison is lost unseen (docs/events.md)")
    what = "what writes is not tried: CreateQueue, TagQueue, SetQueueAttributes, ReceiveMessage, DeleteMessage, DeleteQueue"
    fix = "and Subscribe, Unsubscribe: `hafleet iam-policy` prints all that this node needs"
    yield Finding("hint", "event permissions", what, fix)


def _proof(parts: compose.Parts, interval: float) -> Finding:
    """Whether the running agent is sure that events come. It tells so on its own listener."""
    about = "events come"
    place = parse_endpoint(parts.settings.status.listen)
    connection = HTTPConnection("127.0.0.1" if place.wildcard else str(place.address), place.port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode("utf-8", "replace").splitlines()
    except (OSError, HTTPException):
        return Finding("hint", about, "the agent does not run, or its listener is not here", "start it, and ask again")
    finally:
        connection.close()
    if f"{_PROVEN}1.0" in lines:
        return Finding("ok", about, f"a pulse was heard: AWS is read every {interval:g} s")
    what = "no pulse is heard: every pass reads AWS, as without events"
    return Finding("warn", about, what, f"make the rule {queues.pulse_rule(parts.settings.fleet)} (docs/events.md)")
