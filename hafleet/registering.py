"""``hafleet dns list|plan|reap|clear``, and the DNS part of ``hafleet once`` and ``hafleet plan``."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from hafleet.compose import Parts
from hafleet.core import situation
from hafleet.core.dns.checks import fleet_prefix, read_reference
from hafleet.core.dns.model import Check, Record, Situation
from hafleet.core.dns.plan import Apply, AwaitInsync, CreateCheck, DeleteCheck, Step, Wait, describe
from hafleet.core.dns.report import NO_INTENT, DnsPlan, DnsReport, Intent
from hafleet.core.model import Node
from hafleet.core.report import Report
from hafleet.errors import HafleetError, SourceUnavailable, StoreError
from hafleet.publish import read_status, status_path, write_status
from hafleet.reconcile import Plan
from hafleet.registration.byhand import Reaper, place, together
from hafleet.registration.clearing import Clearer

_PATIENCE = 10.0  # seconds that `once` waits for Route 53 at a stretch


class Registration(Protocol):
    """The DNS pass of one node."""

    def run(self, situation: Situation) -> DnsReport:
        """One pass; its report says when the next one is due."""
        ...


@dataclass(frozen=True, slots=True)
class Estate:
    """Everything of the fleet in Route 53: the records at and below its name, and its health checks."""

    records: tuple[Record, ...]  # sorted by name, type and identifier
    checks: tuple[Check, ...]
    nodes: dict[str, str]  # check id -> the node whose reference it carries
    unused: frozenset[str]  # ids of checks that no record uses

    def check(self, record: Record) -> str:
        """A record's check in a few words."""
        found = next((check for check in self.checks if check.id == record.check), None)
        if found is None:
            return f"{record.check} (not of this fleet)" if record.check else ""
        return f"{record.check} {found.config.type}"


def estate(parts: Parts) -> Estate:
    """What stands in Route 53 now.

    Raises:
        HafleetError: the settings have no dns section, or Route 53 cannot be read completely.
    """
    dns = parts.dns_ports().dns
    records = dns.tree(_name(parts))
    checks = dns.checks(fleet_prefix(parts.settings.fleet))
    used = {record.check for record in records}
    used |= {child for check in checks if check.id in used for child in check.config.children}
    nodes = {check.id: told.node for check in checks if (told := read_reference(check.reference, parts.settings.fleet))}
    unused = frozenset(check.id for check in checks if check.id not in used)
    return Estate(tuple(sorted(records, key=lambda record: record.key)), checks, nodes, unused)


def plan(parts: Parts, made: Plan) -> DnsPlan | None:
    """Every step towards what this node's registration should be; None without a dns section. Nothing is written.

    Args:
        parts: of the settings.
        made: what a pass would do now.

    Raises:
        HafleetError: Route 53 cannot be read, the settings do not fit what is there, or nobody knows which node this is.
    """
    registrar = parts.registrar()
    if registrar is None:
        return None
    told = situation.situation(made.world, made.decision)
    if told is None:
        raise HafleetError(
            "which node this is, is not known", where="node", fix="see what `hafleet observe` says of it"
        )
    return registrar.plan(told)


def planned(parts: Parts, made: Plan) -> Intent:
    """The DNS part of ``hafleet plan``. What cannot be read is a problem among others."""
    try:
        found = plan(parts, made)
    except HafleetError as error:
        return Intent(problems=(str(error),))
    if found is None:
        return NO_INTENT
    return Intent(tuple(line for step in found.steps for line in lines(step)), found.held, found.problems)


def once(parts: Parts, made: Plan) -> DnsReport | None:
    """One DNS pass; None without a dns section, or while an agent runs, which does it in its own time."""
    registrar = parts.registrar()
    told = situation.situation(made.world, made.decision)
    if registrar is None or told is None or parts.locks.agent_pid() is not None:
        return None
    return through(registrar, told)


def show(parts: Parts, report: Report, on_fault: Callable[[str], None]) -> None:
    """Replace the status file. A pass that left DNS to the agent that runs leaves standing what that one told of it."""
    whole = replace(report, dns=report.dns or last_told(parts))
    write_status(status_path(parts.settings.state_dir), whole, on_fault)


def last_told(parts: Parts) -> DnsReport | None:
    """What the agent that runs told last of its DNS side; None where none runs, or it told nothing yet."""
    if parts.settings.dns is None or parts.locks.agent_pid() is None:
        return None
    with suppress(StoreError):
        return read_status(status_path(parts.settings.state_dir)).dns
    return None


def through(registrar: Registration, told: Situation) -> DnsReport:
    """Passes until the node is registered, nothing is pending, or the wait is longer than a person's patience."""
    done: tuple[str, ...] = ()
    never = threading.Event()
    while True:
        report = registrar.run(told)
        done += report.done
        if not report.waiting or report.next_at > _PATIENCE or report.problems:
            return replace(report, done=done)
        never.wait(report.next_at)


def lines(step: Step) -> tuple[str, ...]:
    """A step in words."""
    match step:
        case Apply(batch, why):
            return tuple(f"{why}: {line}" for line in describe(batch))
        case CreateCheck(slot, memo):
            config = memo.config
            target = (
                f"{config.address}:{config.port}{config.path}" if config.address else config.alarm or "its children"
            )
            return (f"create health check {config.type} {target} [{slot}]",)
        case DeleteCheck(id_):
            return (f"delete health check {id_}",)
        case AwaitInsync():
            return ("wait until it is in force everywhere",)
        case Wait(_, reason):
            return (f"wait: {reason}",)
        case _:
            return ()


def reaper(parts: Parts, group: str, rest: Callable[[float, str], None]) -> Reaper:
    """Who reaps by hand.

    Args:
        parts: of the settings.
        group: the fleet's own Auto Scaling group; "": this node's.
        rest: waits so many seconds, and may tell for what.

    Raises:
        HafleetError: no group is given, and this host is not in one.
    """
    dns = parts.dns_ports()  # says so where there is no dns section
    where = _place(parts, group)
    return Reaper(parts.settings, dns, partial(together, parts.membership, frozenset({where.group})), rest, where)


def clearer(parts: Parts, rest: Callable[[float, str], None]) -> Clearer:
    """Who takes away what a fleet of this region left in Route 53.

    Args:
        parts: of the settings.
        rest: waits so many seconds, and may tell for what.

    Raises:
        HafleetError: the settings have no dns section, or nobody knows the region.
    """
    dns = parts.dns_ports()  # says so where there is no dns section
    _, _, region = parts.account.scaling()
    return Clearer(parts.settings, region, dns, rest)


def _place(parts: Parts, group: str) -> Node:
    """Where the fleet is. On a node all is known; elsewhere the group has to be named."""
    if group:
        _, _, region = parts.account.scaling()
        return place(parts.settings, region, group)
    try:
        node = parts.ports.metadata.identity()
    except SourceUnavailable as error:
        fix = "run it on a node of the fleet, or name the fleet's own Auto Scaling group with --group"
        raise HafleetError(
            f"which group is the fleet's, is not known: {error.what}", where=error.where, fix=fix
        ) from error
    if not node.group:
        raise HafleetError(
            "this host is in no Auto Scaling group", where="node", fix="name the fleet's own with --group"
        )
    return node


def _name(parts: Parts) -> str:
    return parts.settings.dns.name if parts.settings.dns else ""
