"""Rules about the node, the passes and the sections that later issues bring to life."""

from collections.abc import Iterator

from hafleet.core import endings
from hafleet.core.checks.finding import Finding, Path
from hafleet.core.settings import Settings
from hafleet.core.sources import INSTANCE_ID

_LONGEST_HOOK = 7200.0  # seconds; HeartbeatTimeout at most (Auto Scaling API), and no heartbeats are sent for servers
LATER = ("signals",)  # read and checked, not acted on yet


def node(settings: Settings) -> Iterator[Finding]:
    """A node described by hand is described, and one that IMDS describes is not."""
    source, static = settings.node.source, settings.node.static
    if source == "static" and static is None:
        fix = "add node.static with id and private_ip"
        yield Finding(("node", "source"), "the node is static, but not described", fix, also=(("node", "static"),))
    if source == "imds" and static is not None:
        fix = "remove source: imds, or remove static"
        yield Finding(
            ("node", "static"), "node.static is not used while IMDS is the source", fix, also=(("node", "source"),)
        )


def passes(settings: Settings) -> Iterator[Finding]:
    """The two ends of the settling time are in order."""
    if settings.passes.settle_min > settings.passes.settle_max:
        what, also = "passes.settle_min is longer than passes.settle_max", (("passes", "settle_max"),)
        yield Finding(("passes", "settle_min"), what, "make it the shorter of the two", also=also)


def lifecycle(settings: Settings) -> Iterator[Finding]:
    """The two ends of the node's own drain are in order, and there is a group whose hooks can be attended to."""
    drain = settings.lifecycle.drain if settings.lifecycle else None
    if drain and drain.quiet > drain.max:
        here: Path = ("lifecycle", "drain")
        what = "lifecycle.drain.quiet is longer than lifecycle.drain.max"
        yield Finding((*here, "quiet"), what, "make it the shorter of the two", also=((*here, "max"),))
    static = settings.node.static
    if settings.lifecycle and static and not static.asg:
        what = "lifecycle has no effect: the node is in no Auto Scaling group"
        yield Finding(("lifecycle",), what, "add node.static.asg", also=(("node", "static"),), fatal=False)


def server_hooks(settings: Settings) -> Iterator[Finding]:
    """What the settings alone tell of hooks that would run into their timeouts."""
    for index, backend in enumerate(settings.backends):
        named = any(source.terminate_hook for source in backend.sources)
        if named and backend.drain >= _LONGEST_HOOK:
            what = f"the drain of backend {backend.name!r} is as long as the longest hook of Auto Scaling waits, 2h"
            here: Path = ("backends", index, "drain")
            also: tuple[Path, ...] = (("backends", index, "sources"),)
            yield Finding(here, what, "make it shorter than the hook's timeout", fatal=False, also=also)
    static = settings.node.static
    if static and static.asg and not INSTANCE_ID.fullmatch(static.id) and endings.named(settings):
        what = "node.static.id is no EC2 instance, so this node cannot tell the others which servers it has drained"
        yield Finding(("node", "static", "id"), what, "write the instance's id there", fatal=False)


def eip(settings: Settings) -> Iterator[Finding]:
    """An Elastic IP is given to an EC2 instance, and clients find it by DNS."""
    static = settings.node.static
    if settings.eip and static and not INSTANCE_ID.fullmatch(static.id):
        what = "an Elastic IP needs an EC2 instance, and node.static.id is none"
        fix = "write the instance's id there, or remove eip"
        yield Finding(("eip",), what, fix, also=(("node", "static", "id"),))
    if settings.eip and settings.dns and settings.dns.address != "public":
        what = "the Elastic IP is not what DNS answers: dns.address is private"
        yield Finding(("eip",), what, "remove dns.address, or remove eip", also=(("dns", "address"),), fatal=False)


def later(settings: Settings) -> Iterator[Finding]:
    """Sections that have no effect yet say so."""
    for section in LATER:
        if getattr(settings, section) is not None:
            what = f"`{section}` is read but not acted on yet"
            yield Finding((section,), what, "keep it for a later version, or remove it", fatal=False)


RULES = (node, passes, lifecycle, server_hooks, eip, later)
