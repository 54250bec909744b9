"""What the node's role may do besides reading, for ``hafleet doctor``: each right is tried by a call that changes nothing.

A record set, a hook and an order that nobody has are deleted, completed and taken back: AWS looks at the rights first, and then finds
nothing. EC2 rehearses (DryRun). What cannot be tried so is named.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from hafleet import compose
from hafleet.adapters.dryrun import Ec2DryRun
from hafleet.adapters.eip import Ec2Addresses
from hafleet.adapters.hooks import AsgHooks
from hafleet.adapters.orders import GroupOrders
from hafleet.core import iampolicy, orders
from hafleet.core.dns.model import Change, Record
from hafleet.core.model import Node
from hafleet.core.settings import Settings
from hafleet.errors import AwsDenied, ChangeRefused, HafleetError, HookGone, ZoneBusy
from hafleet.findings import Finding, State

_NOBODY = "hafleet-doctor"  # no hook and no set identifier is called so
_NO_CHECK = "00000000-0000-0000-0000-000000000000"  # no health check has this id
_NO_ADDRESS = "192.0.2.1"  # of the documentation's network


@dataclass(frozen=True, slots=True)
class _Trial:
    """One right, and how it is tried."""

    about: str
    act: Callable[[], object]  # raises AwsDenied where it is not allowed
    lacking: State = "fail"  # what it is to lack it


def rights(parts: compose.Parts) -> Iterator[Finding]:
    """Each right, tried, and those that cannot be. Nothing is tried for a node that does not know who it is."""
    try:
        node = parts.ports.metadata.identity()
    except HafleetError:  # told by another look
        return
    for some in (_records, _server_hooks, _tags, _addresses, _orders):
        for trial in some(parts, node):
            try:
                trial.act()
            except AwsDenied as error:
                yield Finding(trial.lacking, trial.about, f"{error.where}: {error.what}", error.fix)
            except HafleetError as error:  # AWS is away: told by other looks, and the same for all that follows
                yield Finding("warn", trial.about, f"cannot be tried now: {error.where}: {error.what}", error.fix)
                return
            else:
                yield Finding("ok", trial.about, "allowed")
    untried = _untried(parts.settings)
    if untried:
        what = f"not tried, for it would change something: {', '.join(untried)}"
        yield Finding("hint", "permissions", what, "`hafleet iam-policy` prints the policy")


def _untried(settings: Settings) -> tuple[str, ...]:
    """Actions that these settings need and that cannot be tried without doing something."""
    found = ["route53:CreateHealthCheck"] if settings.dns else []
    if settings.lifecycle and settings.lifecycle.unhealthy_after:
        found.append("autoscaling:SetInstanceHealth")
    if settings.eip:
        found.append("ec2:DisassociateAddress")
    return tuple(found)


def _records(parts: compose.Parts, _: Node) -> Iterator[_Trial]:
    dns = parts.settings.dns
    if dns is None:
        return
    port = parts.dns_ports().dns
    try:
        port.zone_id()
    except HafleetError:  # told by another look; each would fail for the same reason
        return
    weight = None if dns.policy == "multivalue" else 0
    nobody = Record(dns.name, "A", _NOBODY, dns.ttl, (_NO_ADDRESS,), weight=weight, multivalue=weight is None)

    def change() -> None:
        with suppress(ChangeRefused, ZoneBusy):
            port.change((Change("DELETE", nobody),))

    yield _Trial("may change records", change)
    yield _Trial("may delete checks", partial(port.delete_check, _NO_CHECK))


def _server_hooks(parts: compose.Parts, node: Node) -> Iterator[_Trial]:
    """The hooks of servers' groups; those of the own group are looked at with them."""
    port = AsgHooks(parts.account)
    sources = [source for backend in parts.settings.backends for source in backend.sources if source.terminate_hook]

    def complete(group: str) -> None:
        with suppress(HookGone):
            port.complete(group, _NOBODY, node.id, "CONTINUE")

    for group in sorted({source.asg for source in sources if source.asg}):
        yield _Trial(f"may end {group}'s hooks", partial(complete, group))


def _tags(parts: compose.Parts, node: Node) -> Iterator[_Trial]:
    lifecycle, dry = parts.settings.lifecycle, Ec2DryRun(parts.account)
    hooked = any(source.terminate_hook for backend in parts.settings.backends for source in backend.sources)
    if lifecycle and lifecycle.abandon_tag:
        yield _Trial("may write why it gave up", partial(dry.tag, node.id, iampolicy.ABANDONED))
    if hooked:
        yield _Trial("may tell what it drained", partial(dry.tag, node.id, iampolicy.DRAINED))


def _addresses(parts: compose.Parts, node: Node) -> Iterator[_Trial]:
    eip = parts.settings.eip
    if eip is None:
        return
    try:
        pool = Ec2Addresses(parts.account).pool(eip.pool_tag)
    except HafleetError:  # told by another look
        return
    for address in pool[:1]:
        yield _Trial("may take an address", partial(Ec2DryRun(parts.account).associate, address, node.id))


def _orders(parts: compose.Parts, node: Node) -> Iterator[_Trial]:
    if node.group:
        take_back = partial(GroupOrders(parts.account).withdraw, node.group, {f"{orders.ZONE}{_NOBODY}"})
        yield _Trial("may take orders back", take_back, "warn")  # the agent works without it
