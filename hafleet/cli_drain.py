"""``hafleet drain`` and ``hafleet ready``, as commands."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from hafleet.cli_frame import DONE, FAILED, HELD, config_option, exits, json_option, show_json

_EVERY = 10.0  # seconds between two lines of progress where it is not a terminal


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """``15m`` -> seconds, as in the settings."""
    from hafleet.core.values import Refusal, parse_duration

    try:
        return parse_duration(value)
    except Refusal as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.command(short_help="Take this node out of DNS; traffic goes on.")
@config_option
@json_option
@click.option("--wait", "waits", is_flag=True, help="Wait until its record, its sessions and its old workers are gone.")
@click.option(
    "--timeout", default="15m", show_default=True, callback=_seconds, help="For so long at most; then exit 1."
)
@click.option("--reason", default="the operator drains it", show_default=True, help="What to tell those who ask.")
@click.option("--force", is_flag=True, help="Drain the last node of its group, too, and ask AWS nothing.")
def drain(path: Path, as_json: bool, waits: bool, timeout: float, reason: str, force: bool) -> None:
    """Take this node out of DNS, until `hafleet ready`. It lasts over reloads and restarts.

    The health endpoint turns red at once, so that DNS stops answering with this node; the agent then removes the record.
    Traffic that still comes is served. Exit 3 when no other node of its group is in service.
    """
    from hafleet import compose, draining

    left: tuple[str, ...] = ()
    lines: list[str] = []
    with exits():
        parts = compose.build(path)
        held, note = (None, "") if force else draining.guard(parts)
        if held is None:
            lines = [*([note] if note else []), *draining.drain(parts, " ".join(reason.split()))]
            for line in () if as_json else lines:
                click.echo(line)
            left = draining.wait(parts, timeout, _teller(sys.stderr.isatty())) if waits else ()
    if as_json:
        refused = {"rule": held.rule, "subject": held.subject, "reason": held.reason} if held else None
        show_json({"settings": str(path), "lines": lines, "held": refused, "left": list(left)})
    elif held:
        click.echo(f"held: {held.reason}; --force drains it all the same [{held.rule}]", err=True)
    elif waits:
        click.echo(f"not drained within {timeout:.0f} s: {', '.join(left)}" if left else "drained", err=bool(left))
    sys.exit(HELD if held else FAILED if left else DONE)


@click.command(short_help="Bring this node back after `hafleet drain`.")
@config_option
@json_option
def ready(path: Path, as_json: bool) -> None:
    """Bring this node back after `hafleet drain`."""
    from hafleet import compose, draining

    with exits():
        lines = draining.ready(compose.build(path))
    if as_json:
        show_json({"settings": str(path), "lines": lines})
    else:
        for line in lines:
            click.echo(line)


def _teller(terminal: bool) -> Callable[[tuple[str, ...]], None]:
    """Shows what is waited for: one line written over on a terminal, else a line every few seconds."""
    last = -_EVERY

    def tell(left: tuple[str, ...]) -> None:
        nonlocal last
        text = f"waits for {', '.join(left) or 'a quiet moment'}"
        if terminal:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
        elif time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            click.echo(text, err=True)

    return tell
