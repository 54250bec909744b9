"""The commands ``hafleet demo`` and ``hafleet lab ...``; the CLI loads them only when they are asked for."""

import json
import sys
from pathlib import Path

import click

from hafleet.lab import remote

_binary = click.option("--haproxy", "binary", default="haproxy", show_default=True, help="The HAProxy to run.")


@click.command(short_help="Watch a local fleet follow its groups under traffic.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON document.")
@_binary
@click.option("--rate", default=200.0, show_default=True, type=click.FloatRange(1, 5000), help="Requests per second.")
def demo(as_json: bool, binary: str, rate: float) -> None:
    """Watch a local fleet follow its Auto Scaling groups under traffic.

    Everything runs on this machine, on loopback addresses and without root: a local AWS, real HAProxy processes, real
    agents, real servers. Exit code 1 when a step failed or a request was lost.
    """
    from hafleet.lab.demo import run_demo

    sys.exit(run_demo(json_output=as_json, binary=binary, rate=rate))


@click.group()
def lab() -> None:
    """Run a local AWS and fleet to play with.

    \b
    hafleet lab up                       in one terminal, then in another:
    hafleet lab status
    hafleet lab scale shop-blue 6
    hafleet lab kill i-0abc...
    hafleet lab weight shop shop-green 50
    hafleet lab fault unreachable
    """


@lab.command()
@_binary
@click.option("--nodes", default=2, show_default=True, type=click.IntRange(1, 20), help="Load balancer nodes.")
def up(binary: str, nodes: int) -> None:
    """Start the lab and keep it until Ctrl-C."""
    from hafleet.lab.foreground import keep_up

    sys.exit(keep_up(binary, nodes))


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show groups, nodes and what is in rotation."""
    found = _ask("status")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"dns {found['dns']}  {found['dig']}")
    for line in found["records"] or ["nobody is registered"]:
        click.echo(f"  {line}")
    for group, members in sorted(found["groups"].items()):
        click.echo(f"group {group}" if members else f"group {group}, nobody in it")
        for line in members:
            click.echo(f"  {line}")
    for node in found["nodes"]:
        click.echo(f"node {node['id']}  {node['http']}  reloads {node['reloads']}  {node['folder']}")
        for backend, servers in sorted(node["in_rotation"].items()):
            if not backend.startswith("hafleet_"):  # of the configuration's own machinery
                click.echo(f"  {backend}: {' '.join(sorted(servers)) or 'nobody'}")


@lab.command(short_help="Set the DesiredCapacity of a group.")
@click.argument("group")
@click.argument("desired", type=click.IntRange(0, 100))
def scale(group: str, desired: int) -> None:
    """Set the DesiredCapacity of a GROUP (edge: the load balancers themselves)."""
    _ask("scale", group=group, desired=desired)
    click.echo(f"{group} wants {desired} instances now")


@lab.command()
@click.argument("instance")
def kill(instance: str) -> None:
    """Let the machine of an INSTANCE break; its group replaces it."""
    _ask("kill", instance=instance)
    click.echo(f"{instance} is dead; its group will notice and replace it")


@lab.command(short_help="Set the weight of a group in a backend.")
@click.argument("backend")
@click.argument("group")
@click.argument("weight", type=click.IntRange(0, 1000))
def weight(backend: str, group: str, weight: int) -> None:
    """Set the WEIGHT of a GROUP in a BACKEND: the lab writes hafleet.yaml of every node anew."""
    _ask("weight", backend=backend, group=group, weight=weight)
    click.echo(f"{group} has weight {weight} in {backend} now; hafleet.yaml of every node was written anew")


@lab.command(short_help="Break AWS in one of many ways, or heal it.")
@click.argument("kind")
@click.option(
    "--service",
    type=click.Choice(["", "autoscaling", "ec2", "route53"]),
    default="",
    show_choices=False,
    help="autoscaling, ec2 or route53; every service without it.",
)
@click.option("--operation", default="", help="Such as DescribeAutoScalingGroups.")
def fault(kind: str, service: str, operation: str) -> None:
    """Break AWS for the nodes.

    KIND is one of unreachable, throttle, 5xx, hang, slow, denied, expired, half, empty, no_instances, partial_page, empty_page,
    stale and tenfold (docs/lab.md tells them), or heal, which ends all faults.
    """
    _ask("fault", kind=kind, service=service, operation=operation, caller="node")
    click.echo("AWS is well again" if kind == "heal" else f"{kind} is in force until: hafleet lab fault heal")


@lab.command()
def down() -> None:
    """End the lab."""
    _ask("down")
    click.echo("the lab is ending")


def _ask(verb: str, **what: object) -> remote.Json:
    try:
        return remote.ask(Path(remote.FILE), verb, what)
    except (OSError, ValueError) as error:
        click.echo(f"hafleet lab {verb}: {error}", err=True)
        sys.exit(1)
