"""``hafleet server drain|maint|ready``, ``hafleet zone drain|ready`` and ``hafleet orders``, as commands."""

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hafleet.cli_frame import DONE, HELD, config_option, exits, json_option, show_json
from hafleet.core.orders import LONGEST, SHORTEST, Order, Verb

if TYPE_CHECKING:
    from hafleet.ordering import Given


def _span(ctx: click.Context, param: click.Parameter, value: str | None) -> float:
    """``1h`` -> seconds; 0 for none."""
    from hafleet.core.values import Refusal, parse_duration

    if value is None:
        return 0.0
    try:
        seconds = parse_duration(value)
    except Refusal as error:
        raise click.BadParameter(str(error), ctx, param) from error
    if not SHORTEST <= seconds <= LONGEST:
        raise click.BadParameter("write 1m to 72h", ctx, param)
    return seconds


reason_option = click.option("--reason", default="", help="What to tell those who ask.")
force_option = click.option("--force", is_flag=True, help="Though nobody else would be left.")
for_option = click.option(
    "--for", "seconds", callback=_span, metavar="TIME", help="For so long, 1m to 72h; else until `ready`."
)
zone_for_option = click.option(
    "--for", "seconds", callback=_span, metavar="TIME", default="1h", show_default=True, help="For so long, 1m to 72h."
)
backend_option = click.option("--backend", default="", metavar="NAME", help="Only the servers of this backend.")


@click.group(short_help="Take a server out on every node, or bring it back.")
def server() -> None:
    """Take a server out of rotation on every node of the fleet, and bring it back. New nodes obey, too."""


@click.group(short_help="Take a zone out on every node, or bring it back.")
def zone() -> None:
    """Shift traffic away from an availability zone: its servers drain on every node, and its nodes leave DNS."""


@server.command(name="drain", short_help="No new sessions.")
@config_option
@json_option
@reason_option
@for_option
@force_option
@click.argument("target", metavar="BACKEND/INSTANCE")
def server_drain(path: Path, as_json: bool, reason: str, seconds: float, force: bool, target: str) -> None:
    """Give this server no new sessions; present ones go on. Exit 3 when it is the last one of its backend."""
    _give(path, as_json, _about_server("drain", target), (reason, seconds, force))


@server.command(name="maint", short_help="Out at once.")
@config_option
@json_option
@reason_option
@for_option
@force_option
@click.argument("target", metavar="BACKEND/INSTANCE")
def server_maint(path: Path, as_json: bool, reason: str, seconds: float, force: bool, target: str) -> None:
    """Take this server out at once, cutting its sessions, unchecked until `ready`. Exit 3 when it is the last one."""
    _give(path, as_json, _about_server("maint", target), (reason, seconds, force))


@server.command(name="ready", short_help="Back into rotation.")
@config_option
@json_option
@click.argument("target", metavar="BACKEND/INSTANCE")
def server_ready(path: Path, as_json: bool, target: str) -> None:
    """Take the order for this server back."""
    _take_back(path, as_json, _about_server("drain", target))


@zone.command(name="drain", short_help="No new sessions in this zone.")
@config_option
@json_option
@reason_option
@zone_for_option
@force_option
@backend_option
@click.argument("name", metavar="ZONE")
def zone_drain(  # noqa: PLR0913, PLR0917  # one for each option
    path: Path, as_json: bool, reason: str, seconds: float, force: bool, backend: str, name: str
) -> None:
    """Drain every server of this zone, and take its load balancer nodes out of DNS, for a while.

    With --backend only the servers of that one. Exit 3 when no other zone would be left.
    """
    _give(path, as_json, Order("drain", 0.0, zone=name, backend=backend), (reason, seconds, force))


@zone.command(name="ready", short_help="Back into rotation.")
@config_option
@json_option
@backend_option
@click.argument("name", metavar="ZONE")
def zone_ready(path: Path, as_json: bool, backend: str, name: str) -> None:
    """Take the order for this zone back."""
    _take_back(path, as_json, Order("drain", 0.0, zone=name, backend=backend))


@click.command(short_help="What was ordered for the fleet.")
@config_option
@json_option
def orders(path: Path, as_json: bool) -> None:
    """Print the orders that stand, the oldest first: who, what, when, until when, why."""
    from hafleet import compose, ordering

    with exits():
        found = ordering.listed(compose.build(path), time.time())
    if as_json:
        show_json({"orders": [asdict(order) for order in found]})
    else:
        for line in [order.sentence for order in found] or ["nothing is ordered"]:
            click.echo(line)


def _about_server(verb: Verb, target: str) -> Order:
    backend, slash, name = target.partition("/")
    if not backend or not slash or not name:
        raise click.UsageError(f"{target!r} is not BACKEND/INSTANCE, such as site/i-0abc")
    return Order(verb, 0.0, server=name, backend=backend)


def _give(path: Path, as_json: bool, order: Order, how: tuple[str, float, bool]) -> None:
    from hafleet import compose, ordering

    reason, seconds, force = how
    now = float(int(time.time()))
    until = now + seconds if seconds else 0.0
    order = replace(order, at=now, until=until, by=ordering.whoami(), reason=reason, force=force)
    with exits():
        given = ordering.give(compose.build(path), order)
    _show(path, as_json, given)


def _take_back(path: Path, as_json: bool, order: Order) -> None:
    from hafleet import compose, ordering

    with exits():
        given = ordering.take_back(compose.build(path), replace(order, at=time.time()))
    _show(path, as_json, given)


def _show(path: Path, as_json: bool, given: "Given") -> None:
    if as_json:
        show_json({"settings": str(path), "lines": list(given.lines), "held": [asdict(h) for h in given.held]})
    else:
        for line in given.lines:
            click.echo(line)
        for held in given.held:
            click.echo(f"held: {held.reason}; --force does it all the same [{held.rule}]", err=True)
    sys.exit(HELD if given.held else DONE)
