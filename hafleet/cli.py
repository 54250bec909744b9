"""The commands. Thin: each builds its parts, calls, and prints. The only place that prints and that chooses exit codes."""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, replace
from pathlib import Path

import click

from hafleet import __version__
from hafleet.cli_dns import dns
from hafleet.cli_drain import drain, ready
from hafleet.cli_fleet import orders, server, zone
from hafleet.cli_frame import (
    DONE,
    EXITS,
    FAILED,
    HELD,
    PENDING,
    SETTINGS,
    LabLazily,
    config_option,
    exits,
    json_option,
    show_json,
    show_text,
    watching,
)
from hafleet.cli_migrate import migrate
from hafleet.cli_texts import foundation, iam_policy, schema


@click.group(cls=LabLazily, epilog=EXITS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version")
def main() -> None:
    """Keep this HAProxy node in step with its Auto Scaling groups, losing no request.

    \b
    A first look:   hafleet check && hafleet doctor && hafleet plan
    In production:  hafleet agent (by systemd), hafleet status --watch
    Maintenance:    hafleet drain --wait, hafleet ready; hafleet server drain, hafleet zone drain
    In trouble:     hafleet explain i-0abc..., hafleet rollback, hafleet thaw
    On a laptop:    hafleet demo
    """


@main.command(short_help="Validate settings and templates.")
@config_option
@json_option
def check(path: Path, as_json: bool) -> None:
    """Validate settings and templates: every problem on its own line, with file:line. Exit 2 when there is any.

    Warnings do not fail. The templates are rendered for a made-up fleet, and HAProxy (when it is installed) checks the text.
    """
    from hafleet import checking

    with exits():
        problems = checking.check(path)
    fatal = any(problem.fatal for problem in problems)
    if as_json:
        rows = [{"where": p.where, "what": p.what, "fix": p.fix, "fatal": p.fatal} for p in problems]
        show_json({"ok": not fatal, "problems": rows})
    else:
        for problem in problems:
            click.echo(problem.render(), err=problem.fatal)
        if not fatal:
            click.echo(f"{path}: ok")
    sys.exit(SETTINGS if fatal else DONE)


@main.command()
@config_option
@click.option("--world", "world_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Offline: node and groups from the JSON that `hafleet observe --json` printed.")  # fmt: skip
@click.option(
    "--haproxy-version", "version", metavar="X.Y.Z", help="Render for this version (offline; default: the world's)."
)
@click.option(
    "--maps", "maps_dir", type=click.Path(path_type=Path, file_okay=False), help="Also write the map files here."
)
def render(path: Path, world_file: Path | None, version: str | None, maps_dir: Path | None) -> None:
    """Print haproxy.cfg as these settings want it. Changes nothing."""
    from hafleet import rendering

    if version and not world_file:
        raise click.UsageError("--haproxy-version goes with --world: a live node has its own HAProxy")
    with exits():
        rendered = rendering.render(path, world_file, version)
        if maps_dir:
            rendering.write_maps(rendered, maps_dir)
    click.echo(rendered.text, nl=False)


@main.command(short_help="Print what is seen now.")
@config_option
@json_option
def observe(path: Path, as_json: bool) -> None:
    """Print what is seen now: this node, its groups, the running HAProxy."""
    from hafleet import compose, rendering, show

    with exits():
        world = compose.build(path).reconciler().observe()
        if as_json:
            click.echo(rendering.world_json(world))
        else:
            show_text(show.world(world))


@main.command(short_help="Print what a pass would change, and what is held.")
@config_option
@json_option
def plan(path: Path, as_json: bool) -> None:
    """Print what a pass would change, and what the guard holds. Exit 0 nothing to do, 3 something held, 4 changes pending."""
    from hafleet import compose, registering, show

    with exits():
        parts = compose.build(path)
        made = parts.plan()
    intent = registering.planned(parts, made)
    held = (*made.held, *intent.held)
    errors = (*(str(error) for error in made.errors), *intent.problems)
    if as_json:
        show_json(
            {
                "changes": list(made.lines()),
                "reload": list(made.proxy.reload),
                "dns": list(intent.lines),
                "held": [asdict(h) for h in held],
                "errors": list(errors),
            }
        )
    else:
        show_text(show.plan(made, intent))
    if made.wanted is None:
        sys.exit(FAILED)
    sys.exit(HELD if held else PENDING if made.pending or intent.lines else FAILED if errors else DONE)


@main.command(short_help="Run one pass.")
@config_option
@json_option
@click.option("--force", is_flag=True, help="Let held steps through, this once.")
def once(path: Path, as_json: bool, force: bool) -> None:
    """Run one pass, and one of DNS unless an agent runs, which does that in its own time. Exit 3 when something is held."""
    from hafleet import compose, publish, registering, show
    from hafleet.agent import Circumstances, keep_history, make_report
    from hafleet.core import cuts
    from hafleet.reconcile import cut_by

    with exits():
        parts = compose.build(path)
        with parts.locks.one_pass():
            started = time.monotonic()
            reconciler = parts.reconciler()
            made = reconciler.plan(reconciler.observe(), force=force)
            done = reconciler.apply(made)
            faults = keep_history(parts.history, made, done)
            cut = cuts.after(cuts.Ledger(), cut_by(parts.settings, made, done)).cuts
            around = Circumstances(("once",), time.monotonic() - started, faults, cut=cut)
            report = make_report(parts.settings, made, done, around)
        report = replace(report, dns=registering.once(parts, made))
        registering.show(parts, report, lambda fault: click.echo(fault, err=True))
    if as_json:
        click.echo(publish.to_json(report))
    else:
        show_text(show.outcome(done, made, report.dns))
    problems = report.dns.problems if report.dns else ()
    held = report.dns.held if report.dns else ()
    sys.exit(FAILED if report.errors or problems else HELD if report.held or held else DONE)


@main.command()
@config_option
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--log-format", type=click.Choice(["auto", "json", "human"]), default="auto", show_default=True)
def agent(path: Path, log_level: str, log_format: str) -> None:
    """Run the daemon. SIGHUP: a pass now. SIGTERM: stop without touching traffic."""
    from hafleet import daemon, logs

    logs.set_up(log_level, log_format)
    with exits():
        daemon.run(path)


@main.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Refresh every second until interrupted.")
def status(path: Path, as_json: bool, watch: bool) -> None:
    """Show this node as its last pass saw it. Exit 1 when there was none, or it is overdue."""
    from hafleet import config, publish, show

    def once_more() -> int:
        report = publish.read_status(file)
        late = time.time() - report.at > 60 + 6 * settings.passes.interval
        if as_json:
            click.echo(publish.to_json(report))
        else:
            show_text(show.status(report, time.time()))
        return FAILED if late or report.errors else DONE

    with exits():
        settings = config.load(path).settings
        file = publish.status_path(settings.state_dir)
        code = watching(once_more, clear=not as_json) if watch else once_more()
    sys.exit(code)


@main.command(short_help="Say why an instance is or is not in rotation.")
@config_option
@json_option
@click.argument("instance")
def explain(path: Path, as_json: bool, instance: str) -> None:
    """Say why INSTANCE is or is not in rotation, line by line. Exit 1 when nothing is known of it."""
    from hafleet import compose, explaining

    with exits():
        lines = explaining.explain(compose.build(path), instance)
    if as_json:
        show_json({"instance": instance, "lines": list(lines)})
    else:
        for line in lines or (f"nothing is known of {instance}: no group, backend or memory of this node names it",):
            click.echo(line)
    sys.exit(DONE if lines else FAILED)


@main.command(short_help="Put an earlier configuration back, and freeze.")
@config_option
@json_option
@click.option("--list", "listing", is_flag=True, help="Only list what is kept.")
@click.argument("number", type=click.IntRange(min=1), default=1)
def rollback(path: Path, as_json: bool, listing: bool, number: int) -> None:
    """Put back an earlier configuration and freeze until `hafleet thaw`.

    NUMBER counts back as --list shows it; 1, the default, is the one before the newest.
    """
    from hafleet import freezing, show

    if not listing:
        _freezing(path, as_json, lambda: freezing.rollback(path, number))
        return
    with exits():
        rows = freezing.kept(path)
    if as_json:
        show_json({"settings": str(path), "kept": [asdict(row) for row in rows]})
    else:
        show_text(show.kept(astuple(row) for row in rows))


@main.command()
@config_option
@json_option
def thaw(path: Path, as_json: bool) -> None:
    """End the freeze of a rollback; the next pass goes on."""
    from hafleet import freezing

    _freezing(path, as_json, lambda: freezing.thaw(path))


def _freezing(path: Path, as_json: bool, act: Callable[[], list[str]]) -> None:
    with exits():
        lines = act()
    if as_json:
        show_json({"settings": str(path), "lines": lines})
    else:
        for line in lines:
            click.echo(line)


for command in (dns, drain, ready, server, zone, orders, schema, iam_policy, foundation, migrate):
    main.add_command(command)


@main.command(short_help="Say what is missing on this node.")
@config_option
@json_option
def doctor(path: Path, as_json: bool) -> None:
    """Say what is missing on this node: sockets, rights, AWS permissions (each call tried), clock, HAProxy. Exit 1 on a failure."""
    from hafleet import doctor as doctoring
    from hafleet import show

    with exits():
        findings = doctoring.examine(path)
    if as_json:
        show_json({"findings": [{"state": f.state, "about": f.about, "what": f.what, "fix": f.fix} for f in findings]})
    else:
        show_text(show.findings((f.state, f.about, f.what, f.fix) for f in findings))
    sys.exit(FAILED if any(f.state == "fail" for f in findings) else DONE)


if __name__ == "__main__":
    main()
