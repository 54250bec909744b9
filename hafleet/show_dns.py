"""What stands in Route 53, and what would be done there, to what a person reads."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from hafleet.core.dns.model import Record
from hafleet.core.dns.report import DnsPlan
from hafleet.registering import Estate
from hafleet.registration.byhand import Found
from hafleet.show import table


def record_data(record: Record) -> dict[str, Any]:
    """A record set for ``--json``: what is set of it."""
    return {
        key: value
        for key, value in asdict(record).items()
        if key != "stored" and value is not False and value not in ("", None, ())  # a zero is set
    }


def estate(found: Estate) -> RenderableType:
    """``hafleet dns list``."""
    rows = [
        (
            r.name,
            r.type,
            r.set_id or "-",
            _target(r),
            _policy(r),
            "-" if r.ttl is None else r.ttl,
            found.check(r) or "-",
        )
        for r in found.records
    ]
    columns = ("record", "type", "identifier", "answers", "policy", "ttl", "health check")
    parts: list[RenderableType] = [table(columns, rows) if rows else Text("no record stands at or below the name")]
    lost = [
        (c.id, c.config.type, found.nodes.get(c.id, "?"), c.reference) for c in found.checks if c.id in found.unused
    ]
    if lost:
        parts += ["", Text("health checks that no record uses", style="yellow")]
        parts.append(table(("health check", "type", "instance", "reference"), lost))
    return Group(*parts)


def _target(record: Record) -> str:
    return f"-> {record.alias.target}" if record.alias else " ".join(record.values)


def _policy(record: Record) -> str:
    if record.weight is not None:
        return f"weight {record.weight}"
    if record.place is not None:
        return "geolocation"
    return record.failover.lower() or record.region or ("multivalue" if record.multivalue else "simple")


def plan(steps: Sequence[str], made: DnsPlan) -> RenderableType:
    """``hafleet dns plan``: the steps in words, what is held, and what cannot be done."""
    parts = [Text(line, style="green" if line.startswith(("join", "create")) else "") for line in steps]
    if not steps:
        quiet = "nothing to do now" if made.held or made.problems else "nothing to do: Route 53 has what it should"
        parts.append(Text(quiet))
    parts += [Text(f"held  {h.subject}: {h.reason} [{h.rule}]", style="yellow") for h in made.held]
    parts += [Text(f"fault {problem}", style="red") for problem in made.problems]
    return Group(*parts)


def suspects(found: Found) -> tuple[str, ...]:
    """``hafleet dns reap`` without ``--yes``: whom EC2 says to be gone, and what they left."""
    lines = []
    for suspect in found.suspects:
        left = [f"{r.name} {r.type} {' '.join(r.values)}" for r in found.records if r.set_id == suspect and not r.alias]
        lines.append(f"{suspect} is gone; it left {', '.join(left) or 'no record, but a health check'}")
    return (*lines, *found.lines)
