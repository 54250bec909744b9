"""What an operator makes in AWS once per fleet besides role and group: the way that events take to the nodes, and the group's hooks. Pure.

``hafleet foundation`` prints it, and the Ansible role ``hafleet_fleet`` makes what is printed; the lab founds its fleets by the same
names, policies and rules (``hafleet.core.queues``).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from hafleet.core import queues
from hafleet.core.checks.dns_health import endpoint_of
from hafleet.core.queues import Place
from hafleet.core.settings import Settings
from hafleet.core.values import parse_endpoint

JOIN_HOOK, LEAVE_HOOK = "hafleet-join", "hafleet-leave"
LEAST_BEAT, MOST_BEAT = 30, 7200  # seconds that Auto Scaling takes for a hook's heartbeat timeout
LEAVE_BEAT = (
    300  # seconds: for so long a machine that died stands in the way of its own end; a living agent beats in time
)
MOST_PATTERN = 2048  # characters of an event pattern (EventBridge)

Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of EventBridge that sends to the fleet's topic: by a pattern of events, or by a schedule."""

    name: str
    pattern: Document | None = None
    schedule: str = ""


@dataclass(frozen=True, slots=True)
class Hook:
    """A lifecycle hook of the nodes' own group."""

    name: str
    transition: str
    heartbeat: int  # seconds from one heartbeat to the next, at most
    result: str  # what it comes to when nobody completes it in time


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a node is asked by others than its clients."""

    health: int = 0  # by Route 53's checkers; 0 where they do not ask the node
    peers: int = 0  # by the other nodes
    status: int = 0  # by who collects metrics


@dataclass(frozen=True, slots=True)
class Foundation:
    """All of it. Topic, dead-letter queue and rules are named in any case, for earlier settings may have had them made."""

    ports: Ports
    events: bool  # by own queues: topic, dead-letter queue and rules have to be there; otherwise they are not needed
    topic: str
    topic_policy: Document
    dead_letters: str
    dead_letters_policy: Document
    queues: str  # how the names of all of the fleet's queues begin
    rules: tuple[Rule, ...]
    hooks: tuple[Hook, ...]


def foundation(settings: Settings, place: Place, group: str) -> Foundation:
    """What a fleet with these settings stands on.

    Args:
        settings: of the fleet.
        place: account and region.
        group: the nodes' own Auto Scaling group.
    """
    fleet = settings.fleet
    return Foundation(
        Ports(_probed(settings), settings.peers.port, parse_endpoint(settings.status.listen).port),
        settings.events is not None and settings.events.queue == "auto",
        queues.topic_name(fleet),
        queues.topic_policy(fleet, place),
        queues.dead_letters(fleet),
        queues.dead_letters_policy(fleet, place),
        queues.prefix(fleet),
        (
            *(Rule(name, pattern) for name, pattern in queues.rules(fleet, groups(settings, group)).items()),
            Rule(queues.pulse_rule(fleet), schedule=queues.PULSE),
        ),
        tuple(_hooks(settings)),
    )


def groups(settings: Settings, own: str) -> frozenset[str]:
    """The groups whose events the fleet wants to hear of.

    Empty, which means all, where some are found by tag, and where their names are more than a rule's pattern holds.
    """
    sources = [source for backend in settings.backends for source in backend.sources]
    if any(source.asg_tag for source in sources):
        return frozenset()
    named = frozenset({own, *(source.asg for source in sources if source.asg)})
    longest = max(len(json.dumps(pattern)) for pattern in queues.rules(settings.fleet, named).values())
    return named if longest <= MOST_PATTERN else frozenset()


def _probed(settings: Settings) -> int:
    probe = endpoint_of(settings)
    return 0 if probe is None else probe.port or parse_endpoint(settings.haproxy.health).port


def _hooks(settings: Settings) -> Iterator[Hook]:
    """The own group's hooks: the first name of ``lifecycle.hooks`` is the launch's, the second the end's."""
    lifecycle = settings.lifecycle
    if lifecycle is None:  # nobody would complete them
        return
    names = dict(enumerate(lifecycle.hooks or (JOIN_HOOK, LEAVE_HOOK)))
    joining = min(max(int(lifecycle.join_timeout), LEAST_BEAT), MOST_BEAT)
    yield Hook(names[0], "autoscaling:EC2_INSTANCE_LAUNCHING", joining, "ABANDON")
    if 1 in names:
        yield Hook(names[1], "autoscaling:EC2_INSTANCE_TERMINATING", LEAVE_BEAT, "CONTINUE")
