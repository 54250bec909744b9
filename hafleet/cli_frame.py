"""What all commands share: exit codes, options, printing, and the lab's commands loaded only when asked for."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from hafleet.errors import HafleetError, LockHeld, SettingsError, StoreError

DONE, FAILED, SETTINGS, HELD, PENDING, BUSY = 0, 1, 2, 3, 4, 75
_PIPE = 400  # columns: a pipe has no width, and what a script reads must not be folded
DEFAULT = Path("/etc/hafleet/hafleet.yaml")

EXITS = """\b
Exit codes: 0 done, 1 failed, 2 settings or arguments, 3 held,
            4 changes pending (plan only), 75 another agent holds the lock."""

config_option = click.option(
    "-c", "--config", "path", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT, show_default=True,
    envvar="HAFLEET_CONFIG", help="The settings file.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


class LabLazily(click.Group):
    """Adds ``lab`` and ``demo``, which come with the extra ``hafleet[lab]`` and are imported only when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, by name."""
        return sorted([*super().list_commands(ctx), "lab", "demo"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command; the lab's are loaded here."""
        if cmd_name not in {"lab", "demo"}:
            return super().get_command(ctx, cmd_name)
        try:
            from hafleet.lab import commands
        except ImportError as error:
            raise click.ClickException(f"{cmd_name} needs the extra: pip install 'hafleet[lab]' ({error})") from error
        return commands.demo if cmd_name == "demo" else commands.lab


@contextmanager
def exits() -> Iterator[None]:
    """Errors to exit codes: the one place of the commands."""
    try:
        yield
    except SettingsError as error:
        click.echo(error, err=True)
        sys.exit(SETTINGS)
    except LockHeld as error:
        click.echo(error, err=True)
        sys.exit(BUSY)
    except HafleetError as error:
        click.echo(error, err=True)
        sys.exit(FAILED)


def watching(show_once: Callable[[], int], *, clear: bool) -> int:
    """Show it every second until Ctrl-C, and return the last exit code. An agent that has not reported yet is waited for."""
    code = DONE
    with suppress(KeyboardInterrupt):
        while True:
            if clear:
                click.clear()
            try:
                code = show_once()
            except StoreError as error:
                click.echo(error, err=True)
                code = FAILED
            time.sleep(1)
    return code


def show_text(renderable: object) -> None:
    """Print text or a rich renderable; colours only on a terminal."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False).print(renderable)
        return
    console = Console(highlight=False, soft_wrap=True, width=_PIPE)
    with console.capture() as captured:
        console.print(renderable)
    click.echo("\n".join(line.rstrip() for line in captured.get().split("\n")), nl=False)


def show_json(value: object) -> None:
    """Print JSON for machines."""
    click.echo(json.dumps(value, indent=2, default=str))
