"""``hafleet schema``, ``iam-policy`` and ``foundation``, as commands: texts that the settings' model or a settings file says all of."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import click

from hafleet.cli_frame import config_option, exits, show_json, show_text

_FIELDS = {"region": "--region", "account": "--account", "group": "--group", "zone_id": "--zone-id"}


def _account(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """An account as AWS numbers them; another one would make ARNs that are nobody's."""
    if value is None or re.fullmatch("[0-9]{12}", value):
        return value
    raise click.BadParameter(f"{value!r} is no account: write its 12 digits, without hyphens", ctx, param)


@click.command()
def schema() -> None:
    """Print the JSON Schema of the settings, for editors."""
    from hafleet import config

    show_json(config.json_schema())


@click.command(name="iam-policy", short_help="Print the least IAM policy for these settings.")
@config_option
@click.option("--json/--explain", "as_json", default=True, help="The policy itself, or what each statement is for.")
@click.option("--account", metavar="ID", callback=_account, help="The AWS account; * unless told.")
@click.option("--region", metavar="NAME", help="The region, where aws.region does not tell it.")
@click.option("--partition", metavar="NAME", help="aws, aws-cn or aws-us-gov; that of the region unless told.")
@click.option("--group", metavar="NAME", help="The nodes' own Auto Scaling group.")
@click.option("--zone-id", "zone_id", metavar="ID", help="The hosted zone, where the settings name it by dns.zone.")
@click.option("--for", "role", type=click.Choice(["node", "reaper"]), default="node", show_default=True,
              help="Whose role: the nodes', or that of the Lambda that reaps.")  # fmt: skip
@click.option("--without", multiple=True, metavar="SID", help="Leave this statement out; may be given again.")
def iam_policy(path: Path, as_json: bool, role: str, without: tuple[str, ...], **told: str | None) -> None:
    """Print the least IAM policy that the role of the nodes needs with these settings. Calls nobody; runs anywhere.

    What is not told is * in the policy: a line on stderr names the options that would narrow it.
    """
    from hafleet import config
    from hafleet.core import iampolicy
    from hafleet.core.iamgrants import GRANTS, REAPER

    unknown = sorted(set(without) - GRANTS.keys())
    if unknown:
        raise click.UsageError(f"there is no statement {unknown[0]}; see --explain")
    with exits():
        settings = config.load(path, elsewhere=True).settings
    scope = iampolicy.scope_of(settings)
    known = {key: value for key, value in told.items() if value}
    scope = replace(scope, **{"partition": iampolicy.partition_of(known.get("region", scope.region)), **known})
    every = iampolicy.statements(settings, scope)
    found = tuple(s for s in every if s.name not in without and (role == "node" or s.name in REAPER))
    if as_json:
        show_json(iampolicy.document(found))
        if (size := iampolicy.size(found)) > iampolicy.INLINE:
            what = (
                f"the policy has {size:,} characters without white space, and a role holds {iampolicy.INLINE:,} inline"
            )
            click.echo(
                f"{what}: find groups that have a terminate_hook by asg_tag: one statement for all that carry the tags",
                err=True,
            )
    else:
        rows = ((each.sid, " ".join(each.actions), each.grant.purpose, each.grant.without) for each in found)
        show_text(
            "\n".join(f"{sid}: {actions}\n  for      {why}\n  without  {lost}" for sid, actions, why, lost in rows)
        )
    wide = [_FIELDS[name] for name in iampolicy.loose(found, scope)]
    if wide:
        click.echo(f"narrower with {', '.join(wide)}", err=True)


@click.command(short_help="Print what is made in AWS once per fleet.")
@config_option
@click.option("--account", metavar="ID", required=True, callback=_account, help="The AWS account.")
@click.option("--group", metavar="NAME", required=True, help="The nodes' own Auto Scaling group.")
@click.option("--region", metavar="NAME", help="The region, where aws.region does not tell it.")
@click.option("--partition", metavar="NAME", help="aws, aws-cn or aws-us-gov; that of the region unless told.")
def foundation(path: Path, account: str, group: str, region: str | None, partition: str | None) -> None:
    """Print what an operator makes in AWS once per fleet, as JSON. Calls nobody; runs anywhere.

    Topic, dead-letter queue and EventBridge rules with their policies and patterns: "events" says whether these settings need them
    (events.queue is auto). And the hooks of the nodes' own group, where there is a lifecycle section. The Ansible role hafleet_fleet
    makes what this prints.
    """
    from hafleet import config
    from hafleet.core import iampolicy
    from hafleet.core.foundation import foundation as founded
    from hafleet.core.queues import Place

    with exits():
        settings = config.load(path, elsewhere=True).settings
    where = region or settings.aws.region
    if not where:
        raise click.UsageError("the settings do not tell aws.region: add --region")
    place = Place(partition or iampolicy.partition_of(where), where, account)
    show_json(asdict(founded(settings, place, group)))
