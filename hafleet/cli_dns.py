"""``hafleet dns list|plan|reap|clear``, as commands."""

import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from hafleet.cli_frame import DONE, FAILED, HELD, PENDING, config_option, exits, json_option, show_json, show_text


@click.group(short_help="This fleet in Route 53.")
def dns() -> None:
    """This fleet in Route 53: its records and health checks, what this node would do there, what dead nodes left.

    The agent registers its own node by itself, and the node in service with the lowest id reaps. Nothing here is needed for that.
    """


@dns.command(name="list", short_help="Records and health checks of the fleet.")
@config_option
@json_option
def list_(path: Path, as_json: bool) -> None:
    """Print every record at and below the fleet's name, and every health check of the fleet."""
    from hafleet import compose, registering, show_dns

    with exits():
        found = registering.estate(compose.build(path))
    if as_json:
        checks = [
            {**asdict(check), "node": found.nodes.get(check.id, ""), "used": check.id not in found.unused}
            for check in found.checks
        ]
        show_json({"records": [show_dns.record_data(record) for record in found.records], "checks": checks})
    else:
        show_text(show_dns.estate(found))


@dns.command(short_help="What this node would do in Route 53.")
@config_option
@json_option
def plan(path: Path, as_json: bool) -> None:
    """Print every step to what this node's registration should be. Writes nothing.

    Exit 0 nothing to do, 1 it cannot be done (the reason is told), 3 something held, 4 changes pending.
    """
    from hafleet import compose, registering, show_dns

    with exits():
        parts = compose.build(path)
        parts.dns_ports()  # says so where there is no dns section
        made = registering.plan(parts, parts.plan())
    assert made is not None  # noqa: S101  # the settings have a dns section
    steps = [line for step in made.steps for line in registering.lines(step)]
    if as_json:
        held = [asdict(h) for h in made.held]
        show_json({"steps": steps, "held": held, "problems": list(made.problems)})
    else:
        show_text(show_dns.plan(steps, made))
    sys.exit(FAILED if made.problems else HELD if made.held else PENDING if steps else DONE)


@dns.command(short_help="Take away what dead nodes left.")
@config_option
@json_option
@click.option(
    "--group", default="", metavar="NAME", help="The fleet's own Auto Scaling group, where this is no node of it."
)
@click.option(
    "--yes", is_flag=True, help="Do it. Without: print who is gone and what would go, and exit 4 if anything would."
)
def reap(path: Path, as_json: bool, group: str, yes: bool) -> None:
    """Remove records and health checks of instances that EC2 says, twice, to be gone.

    The last record of a name stays until a living node has joined. Exit 3 when something is held for that.
    """
    from hafleet import compose, registering, show_dns

    with exits():
        reaper = registering.reaper(compose.build(path), group, _rest)
        if yes:
            done = reaper.reap()
            lines, held, problems = done.done, done.held, done.problems
        else:
            found = reaper.look()
            lines, held, problems = show_dns.suspects(found), found.held, ()
    if as_json:
        show_json({"lines": list(lines), "held": [asdict(h) for h in held], "problems": list(problems)})
    else:
        for line in lines or ("nothing to reap",):
            click.echo(line)
        for one in held:
            click.echo(f"held: {one.subject}: {one.reason} [{one.rule}]", err=True)
        for problem in problems:
            click.echo(problem, err=True)
    sys.exit(FAILED if problems else HELD if held else PENDING if lines and not yes else DONE)


@dns.command(short_help="Take away what a fleet that is gone left.")
@config_option
@json_option
@click.option("--yes", is_flag=True, help="Do it. Without: print what would go, and exit 4 if anything would.")
def clear(path: Path, as_json: bool, yes: bool) -> None:
    """Remove every record and health check that nodes of this region left, the last record and its aliases too.

    For a fleet that will not come back. What EC2 does not call gone keeps its record: exit 3 then.
    """
    from hafleet import compose, registering
    from hafleet.core.dns.plan import describe

    with exits():
        clearer = registering.clearer(compose.build(path), _rest)
        found = clearer.look()
        going = (*describe(found.batch), *(f"delete health check {check}" for check in found.checks))
        lines = clearer.clear() if yes else going
    if as_json:
        show_json({"lines": list(lines), "held": [asdict(h) for h in found.held]})
    else:
        for line in lines or ("nothing to clear",):
            click.echo(line)
        for one in found.held:
            click.echo(f"held: {one.subject}: {one.reason} [{one.rule}]", err=True)
    sys.exit(HELD if found.held else PENDING if lines and not yes else DONE)


def _rest(seconds: float, why: str) -> None:
    """Wait, and say for what: a line that counts down on a terminal, one line elsewhere."""
    end = time.monotonic() + seconds
    terminal = sys.stderr.isatty()
    if not terminal and seconds >= 1:
        click.echo(f"waits {seconds:.0f} s: {why}", err=True)
    while (left := end - time.monotonic()) > 0:
        if terminal:
            click.echo(f"\r\x1b[Kwaits {left:.0f} s: {why}", nl=False, err=True)
        time.sleep(min(left, 1.0))
    if terminal:
        click.echo("\r\x1b[K", nl=False, err=True)
