"""``hafleet migrate``, as a command."""

from pathlib import Path

import click

from hafleet.cli_frame import exits, json_option, show_json


@click.command(short_help="Convert the vars file of an older load balancer.")
@json_option
@click.option("--into", "folder", type=click.Path(path_type=Path, file_okay=False),
              help="Write hafleet.yaml and fleet.yml (Ansible variables) into this folder.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.argument("path", metavar="VARS.YML", type=click.Path(path_type=Path))
def migrate(path: Path, as_json: bool, folder: Path | None, force: bool) -> None:
    """Convert the vars file of an Ansible-and-Lambda load balancer (lb_mappings), and print hafleet.yaml.

    What does not come over as it was is told on stderr, with file:line, and in the head of the files. Exit 2 when the file cannot be
    converted. Calls nobody; runs anywhere. See docs/migrate.md.
    """
    from hafleet import migrating

    if force and folder is None:
        raise click.UsageError("--force goes with --into")
    with exits():
        converted = migrating.convert(path)
        written = migrating.write(converted, folder, force=force) if folder else ()
    for problem in converted.problems:
        click.echo(problem.render(), err=True)
    if as_json:
        rows = [{"where": p.where, "what": p.what, "fix": p.fix, "fatal": p.fatal} for p in converted.problems]
        show_json({"files": dict(converted.files), "written": [str(each) for each in written], "problems": rows})
    elif written:
        for each in written:
            click.echo(each)
    else:
        click.echo(dict(converted.files)[migrating.SETTINGS], nl=False)
