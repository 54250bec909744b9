"""Values to what a person reads. Everything here returns text or a rich renderable; only ``cli`` prints."""

import time
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hafleet.core.dns.plan import sentence
from hafleet.core.dns.report import NO_INTENT, DnsReport, Intent
from hafleet.core.model import Unknown, Worker, World
from hafleet.core.report import Report, dotted
from hafleet.reconcile import Outcome, Plan

_WHOLE = frozenset({"instance", "server"})  # columns that a person copies from: never folded


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
    """A plain table; numbers to the right."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    data = [[str(cell) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        numeric = bool(data) and all(row[index].replace(".", "", 1).isdigit() for row in data)
        whole = column in _WHOLE
        made.add_column(column, justify="right" if numeric else "left", overflow="fold", no_wrap=whole)
    for row in data:
        made.add_row(*row)
    return made


def short(structure: str) -> str:
    """Enough of a structure digest to tell two apart."""
    return structure[:12]


def age(seconds: float) -> str:
    """``75.2`` -> ``1m15s``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def status(report: Report, now: float) -> RenderableType:
    """``hafleet status``."""
    parts: list[RenderableType] = [
        Text(f"{report.fleet}  node {report.node or '?'}  last pass {age(now - report.at)} ago")
    ]
    if report.proxy:
        p = report.proxy
        parts.append(
            Text(
                f"haproxy {dotted(p.version)}  pid {p.pid}  loaded {age(p.uptime)} ago  started {age(p.master_uptime)} ago"
            )
        )
        refused = f"  failed reloads {p.failed_reloads}" if p.failed_reloads else ""
        old = f"{p.old_workers}{f' with {p.old_sessions} connections' if p.old_sessions else ''}"
        parts.append(Text(f"structure {short(p.structure) or 'not ours'}  old workers {old}{refused}"))
    else:
        parts.append(Text("haproxy does not answer", style="bold red"))
    if report.membership_at:
        parts.append(
            Text(f"membership read {age(now - report.membership_at)} ago  peers {', '.join(report.peers) or 'none'}")
        )
    else:
        parts.append(Text("membership was never read completely", style="yellow"))
    parts += _phase(report, now) + _dns(report.dns) + _life(report) + _endings(report)
    parts += [Text(f"order {sentence}", style="yellow") for sentence in report.orders]
    if report.frozen:
        parts.append(Text(f"frozen: {report.frozen}; `hafleet thaw` goes on", style="bold yellow"))
    rows = [(b.name, b.members, b.up, b.draining, b.parked, b.sessions) for b in report.backends]
    parts += ["", table(("backend", "servers", "up", "draining", "parked", "sessions"), rows)]
    parts += [Text(f"cut {age(now - cut.at)} ago  {cut.sentence}", style="yellow") for cut in report.cuts]
    parts += [Text(f"held  {h.subject}: {h.reason} [{h.rule}]", style="yellow") for h in report.held]
    parts += [Text(f"fault {error}", style="red") for error in report.errors]
    return Group(*parts)


def _phase(report: Report, now: float) -> list[RenderableType]:
    if report.phase is None:
        return []
    why = f": {', '.join(report.leaving)}" if report.leaving else ""
    red = f"  health red for {age(now - report.red_since)}" if report.red_since else ""
    return [Text(f"phase {report.phase}{why}{red}", style="yellow" if why or red else "")]


def _dns(told: DnsReport | None) -> list[RenderableType]:
    if told is None:
        return []
    state = "registered" if told.registered else "not registered"
    leads = "  leads the fleet" if told.leads else ""
    waits = f"  waits: {told.waiting}" if told.waiting else ""
    lines: list[RenderableType] = [Text(f"dns {state}{leads}{waits}", style="" if told.registered else "yellow")]
    lines += [Text(f"    {sentence(record)}") for record in told.records]
    lines += [Text(f"held  dns {h.subject}: {h.reason} [{h.rule}]", style="yellow") for h in told.held]
    return lines + [Text(f"fault dns {problem}", style="red") for problem in told.problems]


def _life(report: Report) -> list[RenderableType]:
    lines: list[RenderableType] = [Text(f"notice {line}", style="yellow") for line in report.notices]
    told = report.life
    if told is None:
        return lines
    waits = f"  waits: {told.waiting}" if told.waiting else ""
    ends = f"  {told.result}: {told.reason}" if told.result else ""
    lines.append(Text(f"lifecycle {told.state or 'not known'}{ends}{waits}", style="yellow" if waits or ends else ""))
    return lines + [Text(f"fault lifecycle {problem}", style="red") for problem in told.problems]


def _endings(report: Report) -> list[RenderableType]:
    told = report.endings
    if told is None:
        return []
    lines: list[RenderableType] = [
        Text(f"ends {row.instance} of {row.group}  waits: {row.waiting}", style="yellow") for row in told.rows
    ]
    return lines + [Text(f"fault server hooks {problem}", style="red") for problem in told.problems]


def world(seen: World) -> RenderableType:
    """``hafleet observe``."""
    parts: list[RenderableType] = [Text(time.strftime("observed at %Y-%m-%dT%H:%M:%SZ", time.gmtime(seen.at)))]
    if isinstance(seen.node, Unknown):
        parts.append(Text(f"node     unknown: {seen.node.reason}", style="yellow"))
    else:
        n = seen.node
        parts.append(Text(f"node     {n.id}  {n.address}  {n.zone}  group {n.group or 'none'}"))
    parts += _groups(seen) + _worker(seen.worker)
    return Group(*parts)


def _groups(seen: World) -> list[RenderableType]:
    if isinstance(seen.groups, Unknown):
        return [Text(f"groups   unknown: {seen.groups.reason}", style="yellow")]
    rows: list[tuple[object, ...]] = []
    for _, group in sorted(seen.groups.by_name.items()):
        rows += [
            (group.name, group.desired, i.id, i.state, i.address or "-", i.zone, i.capacity) for i in group.instances
        ]
        if not group.instances:
            rows.append((group.name, group.desired, "none", "", "", "", 1))
    columns = ["group", "desired", "instance", "state", "address", "zone", "capacity"]
    if all(row[-1] == 1 for row in rows):  # where every instance counts as one, the column tells nothing
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return ["", table(columns, rows)]


def _worker(worker: Worker | Unknown) -> list[RenderableType]:
    if isinstance(worker, Unknown):
        return ["", Text(f"haproxy  unknown: {worker.reason}", style="yellow")]
    head = f"haproxy  {dotted(worker.version)}  pid {worker.pid}  old workers {worker.old_workers}"
    rows = [
        (s.backend, s.name, f"{s.address}:{s.port}", _state(s.up, s.maint, s.weight), s.weight, s.sessions)
        for _, s in sorted(worker.servers.items())
    ]
    return ["", Text(head), table(("backend", "server", "address", "state", "weight", "sessions"), rows)]


def _state(up: bool, maint: bool, weight: int) -> str:
    if maint:
        return "maint"
    return ("drain" if weight == 0 else "up") if up else "down"


def plan(made: Plan, dns: Intent = NO_INTENT) -> RenderableType:
    """``hafleet plan``: what apply would do, what the DNS side would do, and what is held."""
    parts: list[RenderableType] = []
    if made.pending:
        parts += [Text(line, style=_style(line)) for line in made.lines()]
    elif made.wanted is None:
        parts.append(Text("nothing can be planned"))
    else:
        blind = made.held or made.errors
        parts.append(Text("nothing to do now" if blind else "nothing to do: HAProxy runs what AWS says"))
    parts += [Text(f"dns: {line}", style="cyan") for line in dns.lines]
    parts += [Text(f"held  {h.subject}: {h.reason} [{h.rule}]", style="yellow") for h in (*made.held, *dns.held)]
    parts += [Text(f"fault {error}", style="red") for error in (*map(str, made.errors), *dns.problems)]
    return Group(*parts)


def findings(rows: Iterable[tuple[str, str, str, str]]) -> RenderableType:
    """``hafleet doctor``: one line for each (state, about, what, fix), so that grep finds all of it."""
    styles = {"fail": "red", "warn": "yellow", "hint": "dim"}
    return Group(
        *(
            Text(f"{state:<5} {about:<23}  {what}{f'; {fix}' if fix else ''}", style=styles.get(state, ""))
            for state, about, what, fix in rows
        )
    )


def kept(choices: Iterable[tuple[int, float, str, bool]]) -> RenderableType:
    """``hafleet rollback --list``: rows of (number, wall clock, structure, whether it is live)."""
    rows = [
        (number, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)), short(structure), "live" if live else "")
        for number, at, structure, live in choices
    ]
    return table(("number", "last live at", "structure", ""), rows) if rows else Text("nothing is kept yet")


def _style(line: str) -> str:
    return {"runtime": "green", "reload": "cyan", "parked": "dim"}.get(line.partition(":")[0], "")


def outcome(done: Outcome, made: Plan, dns: DnsReport | None = None) -> RenderableType:
    """``hafleet once``: what was done, in DNS too."""
    words = []
    if done.commands:
        words.append(f"{done.commands} runtime commands")
    if done.reloaded:
        words.append(f"reloaded ({', '.join(done.reloaded)})")
    elif done.wrote:
        words.append("wrote haproxy.cfg")
    parts: list[RenderableType] = [Text(", ".join(words) or "nothing changed")]
    parts += [Text(f"held  {h.subject}: {h.reason} [{h.rule}]", style="yellow") for h in made.held]
    parts += [Text(f"fault {error}", style="red") for error in (*made.errors, *done.errors)]
    if dns is not None:
        parts += [Text(f"dns: {line}", style="cyan") for line in dns.done] + _dns(dns)
    return Group(*parts)
