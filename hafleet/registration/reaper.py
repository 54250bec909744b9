"""Reaping, carried out: by the leader within its pass, by hand, and by the Lambda for a fleet that is scaled to zero."""

from collections.abc import Generator
from dataclasses import dataclass, replace

from hafleet.core.dns import reaping
from hafleet.core.dns.checks import fleet_prefix
from hafleet.core.dns.model import DnsMemory, Situation
from hafleet.core.dns.plan import Move, Want
from hafleet.core.dns.reaping import Estate
from hafleet.core.dns.steps import send
from hafleet.core.dns_settings import Dns, DnsReap
from hafleet.core.model import Group
from hafleet.core.settings import Settings
from hafleet.registration.carrying import Carrier, DnsPorts


@dataclass(frozen=True, slots=True)
class Search:
    """What a look for dead nodes' things needs to know."""

    settings: Settings
    dns: Dns
    want: Want
    situation: Situation


def search(carrier: Carrier, ports: DnsPorts, what: Search) -> Generator[str, None, Move]:
    """One look for dead nodes' things. The tree was just read. What it finds is remembered; the step takes leaves away."""
    yield "ListHealthChecks"
    checks = ports.dns.checks(fleet_prefix(what.settings.fleet))
    group = what.situation.group if isinstance(what.situation.group, Group) else None
    # EC2 is asked in the settings' region: where that is not the nodes' own, to be unknown there proves nothing.
    author = replace(what.want.author, region=what.settings.aws.region or what.want.author.region)
    estate = Estate(author, what.want.layout, carrier.seen.records, checks, group, carrier.seen.lost)
    ids = reaping.questions(estate)
    states: dict[str, str] = {}
    if ids:
        yield "DescribeInstances"
        states = ports.instances.states(ids)
    found = reaping.reap(estate, states, carrier.memory, ports.clock.wall(), what.dns.reap.confirm)
    move = send(found.memory, found.batch, "reap") if found.batch else Move()
    again = found.more and move.step is not None
    carrier.remember(replace(found.memory, reaped_at=0.0) if again else found.memory)
    return replace(move, held=found.held)


def pause(reap: DnsReap, memory: DnsMemory) -> float:
    """Seconds from one look to the next: a first proof of death is soon followed by the second."""
    young = any(memory.reaped_at - first < reap.confirm for first in memory.suspects.values())
    return min(reap.confirm, reap.interval) if young else reap.interval
