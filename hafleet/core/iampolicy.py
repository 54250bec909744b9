"""The least IAM policy that a node's role needs with these settings. Pure.

Resources and conditions are as narrow as AWS's Service Authorization Reference lets them be: an action that knows no resource gets
``*``. What the settings do not tell (account, group, zone) may be told by a ``Scope``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hafleet.core import orders, queues
from hafleet.core.iamgrants import GRANTS, Grant
from hafleet.core.settings import Dns, Settings, Source, Static

ANY = "*"
INLINE = 10_240  # characters that the inline policies of a role may have together; a managed one has 6,144
_OF_OWN_GROUP = frozenset({"Hooks", "Orders", "Replacement"})
ABANDONED = "hafleet:abandoned"  # tag of an instance that gave up its launch
DRAINED = "hafleet:drained"  # tag in which a node tells which servers it has drained


@dataclass(frozen=True, slots=True)
class Scope:
    """What narrows the resources. ``*`` stands for what is not known."""

    partition: str = "aws"
    region: str = ANY
    account: str = ANY
    group: str = ANY  # the nodes' own Auto Scaling group
    zone_id: str = ANY  # of the hosted zone, where the settings name it otherwise

    def arn(self, service: str, rest: str) -> str:
        """An ARN of this region and account."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{rest}"

    def dns_arn(self, rest: str) -> str:
        """An ARN of Route 53, which has neither."""
        return f"arn:{self.partition}:route53:::{rest}"


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of a statement's conditions. Several are joined by "and", several values by "or"."""

    operator: str  # StringLike, ForAllValues:StringEquals, Null...
    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that allows."""

    sid: str
    resources: tuple[str, ...] = (ANY,)
    conditions: tuple[Condition, ...] = ()

    @property
    def name(self) -> str:
        """Its name in ``GRANTS``: several of one kind are numbered."""
        return self.sid.rstrip("0123456789")

    @property
    def grant(self) -> Grant:
        """What it is for."""
        return GRANTS[self.name]

    @property
    def actions(self) -> tuple[str, ...]:
        """What it allows."""
        return self.grant.actions


def scope_of(settings: Settings) -> Scope:
    """As much as the settings tell."""
    static = _static(settings)
    region = settings.aws.region or (static.region if static else "") or ANY
    zone_id = (settings.dns.zone_id if settings.dns else None) or ANY
    return Scope(partition_of(region), region, group=(static.asg if static else "") or ANY, zone_id=zone_id)


def partition_of(region: str) -> str:
    """The partition of a region; aws where it is not known."""
    named = {"cn": "aws-cn", "us-gov": "aws-us-gov"}
    return next((name for start, name in named.items() if region.startswith(f"{start}-")), "aws")


def statements(settings: Settings, scope: Scope) -> tuple[Statement, ...]:
    """The statements that these settings need, and no other."""
    parts = (_membership, _records, _checks, _lifecycle, _server_hooks, _addresses, _queue, _orders)
    return tuple(statement for part in parts for statement in part(settings, scope))


def document(found: tuple[Statement, ...]) -> dict[str, object]:
    """The policy as IAM takes it."""
    return {"Version": "2012-10-17", "Statement": [_statement(each) for each in found]}


def size(found: tuple[Statement, ...]) -> int:
    """Characters of the policy as IAM counts them: without white space."""
    return len("".join(json.dumps(document(found)).split()))


def loose(found: tuple[Statement, ...], scope: Scope) -> tuple[str, ...]:
    """What could be narrower, if one knew: names of the fields of ``scope``, in their order."""
    held = [resource for each in found for resource in each.resources]
    marks = {
        "region": any(resource.split(":")[3:4] == [ANY] for resource in held),
        "account": any(resource.split(":")[4:5] == [ANY] for resource in held),
        "group": any(each.name in _OF_OWN_GROUP for each in found),
        "zone_id": any(resource.endswith(f"hostedzone/{ANY}") for resource in held),
    }
    return tuple(name for name, marked in marks.items() if marked and getattr(scope, name) == ANY)


def _membership(settings: Settings, _: Scope) -> Iterator[Statement]:
    static = _static(settings)
    grouped = any(source.static is None for backend in settings.backends for source in backend.sources)
    if grouped or settings.dns or static is None or static.asg:
        yield Statement("Membership")
    if static is None:
        yield Statement("OwnGroup")


def _records(settings: Settings, scope: Scope) -> Iterator[Statement]:
    dns = settings.dns
    if dns is None:
        return
    zone = (scope.dns_arn(f"hostedzone/{scope.zone_id}"),)
    yield Statement("ZoneById", zone) if dns.zone_id else Statement("ZoneByName")
    yield Statement("RecordList", zone)
    yield Statement("Records", zone, _own_names(dns))
    yield Statement("Changes", (scope.dns_arn("change/*"),))


def _own_names(dns: Dns) -> tuple[Condition, ...]:
    """Only the fleet's names, its types, and what it does to them. ``ForAllValues`` is true, too, where a key is missing."""
    name = dns.name.replace("*", r"\052")  # as Route 53 normalizes it
    wanted = (
        ("StringLike", "NormalizedRecordNames", (name, f"*.{name}")),
        ("StringEquals", "RecordTypes", ("A", "AAAA")),  # both: a family that is given up leaves records to delete
        ("StringEquals", "Actions", ("CREATE", "DELETE")),
    )
    keys = [f"route53:ChangeResourceRecordSets{key}" for _, key, _ in wanted]
    alike = (Condition(f"ForAllValues:{how[0]}", key, how[2]) for how, key in zip(wanted, keys, strict=True))
    return (*alike, *(Condition("Null", key, ("false",)) for key in keys))


def _checks(settings: Settings, scope: Scope) -> Iterator[Statement]:
    if settings.dns is not None:
        yield Statement("HealthCheckList")
        yield Statement("NewHealthCheck")
        yield Statement("HealthChecks", (scope.dns_arn("healthcheck/*"),))


def _lifecycle(settings: Settings, scope: Scope) -> Iterator[Statement]:
    lifecycle = settings.lifecycle
    if lifecycle is not None or any(_hooked(settings)):
        yield Statement("HookList")  # for hooks of servers by doctor alone
    if lifecycle is None:
        return
    yield Statement("Hooks", (_group(scope),))
    if lifecycle.unhealthy_after:
        yield Statement("Replacement", (_group(scope),))
    if lifecycle.abandon_tag:
        yield _own_tag("AbandonedTag", ABANDONED, settings, scope)


def _server_hooks(settings: Settings, scope: Scope) -> Iterator[Statement]:
    """The hooks of servers' groups: by name, and by tags, of which each set is a statement of its own."""
    named = list(_hooked(settings))
    if named:
        yield _own_tag("DrainedTag", DRAINED, settings, scope)
        yield Statement("DrainedTagList")
    groups = sorted({source.asg for source in named if source.asg})
    if groups:
        yield Statement("ServerHooks", tuple(_group(replace(scope, group=group)) for group in groups))
    tagged = sorted({tuple(sorted((source.asg_tag or {}).items())) for source in named} - {()})
    for number, tags in enumerate(tagged, start=1):
        yield Statement(f"TaggedServerHooks{number}", (_group(replace(scope, group=ANY)),), _tagged(tags))


def _hooked(settings: Settings) -> Iterator[Source]:
    """The sources whose servers' hook the fleet completes."""
    return (source for backend in settings.backends for source in backend.sources if source.terminate_hook)


def _addresses(settings: Settings, scope: Scope) -> Iterator[Statement]:
    if settings.eip is None:
        return
    tagged = _tagged(tuple(sorted(settings.eip.pool_tag.items())))
    yield Statement("AddressList")
    yield Statement("Addresses", (scope.arn("ec2", "elastic-ip/*"),), tagged)
    yield Statement("AddressInstance", (scope.arn("ec2", "instance/*"),), _itself(settings))
    yield Statement("AddressInterface", (scope.arn("ec2", "network-interface/*"),))


def _queue(settings: Settings, scope: Scope) -> Iterator[Statement]:
    which = settings.events.queue if settings.events else "none"
    if which == "none":
        return
    if which != "auto":
        yield Statement("GivenQueue", (_arn_of(which, scope),))
        return
    static = _static(settings)
    nodes = f"{queues.prefix(settings.fleet)}i-"  # not the dead-letter queue, nor those of a fleet whose name goes on
    names = [f"{nodes}*"]
    if static and not queues.queue_name(settings.fleet, static.id).startswith(nodes):
        names.append(queues.queue_name(settings.fleet, static.id))
    own = tuple(scope.arn("sqs", name) for name in names)
    topic = (scope.arn("sns", queues.topic_name(settings.fleet)),)
    to_own = (Condition("StringEquals", "sns:Protocol", ("sqs",)), Condition("StringLike", "sns:Endpoint", own))
    yield Statement("Queue", own)
    yield Statement("QueueList")
    yield Statement("Subscribing", topic, to_own)
    yield Statement("SubscriptionList", topic)
    yield Statement("Unsubscribing")


def _orders(settings: Settings, scope: Scope) -> Iterator[Statement]:
    static = _static(settings)
    if static is None or static.asg:
        keys = (f"{orders.SERVER}*", f"{orders.ZONE}*")
        told = (Condition("ForAllValues:StringLike", "aws:TagKeys", keys), _present("aws:TagKeys"))
        yield Statement("Orders", (_group(scope),), told)


def _static(settings: Settings) -> Static | None:
    """The node as the settings describe it; None where IMDS does."""
    return settings.node.static if settings.node.source == "static" else None


def _group(scope: Scope) -> str:
    name = scope.group if scope.group == ANY else _literal(scope.group)
    return scope.arn("autoscaling", f"autoScalingGroup:*:autoScalingGroupName/{name}")


def _own_tag(sid: str, key: str, settings: Settings, scope: Scope) -> Statement:
    """The right of an instance to write one of its own tags."""
    keys = (Condition("ForAllValues:StringEquals", "aws:TagKeys", (key,)), _present("aws:TagKeys"))
    return Statement(sid, (scope.arn("ec2", "instance/*"),), (*keys, *_itself(settings)))


def _itself(settings: Settings) -> tuple[Condition, ...]:
    """Only the instance whose role asks: ``aws:userid`` is ROLE-ID:INSTANCE-ID then (IAM user guide, principal key values). Not for
    credentials given by hand.
    """
    if _static(settings):
        return ()
    return (Condition("StringLike", "aws:userid", ("*:${ec2:InstanceID}",)),)


def _tagged(tags: tuple[tuple[str, str], ...]) -> tuple[Condition, ...]:
    """Only what carries all of these tags."""
    return tuple(Condition("StringEquals", f"aws:ResourceTag/{key}", (_plain(value),)) for key, value in tags)


def _present(key: str) -> Condition:
    return Condition("Null", key, ("false",))


def _arn_of(url: str, scope: Scope) -> str:
    """The ARN of a queue from its URL, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME; what it does not tell is the scope's."""
    host = url.split("/")[2].split(".")
    told = replace(scope, account=queues.account_of(url) or scope.account)
    if host[0] == "sqs" and len(host) > 2:
        told = replace(told, region=host[1], partition=partition_of(host[1]))
    return told.arn("sqs", url.rpartition("/")[2])


def _literal(text: str) -> str:
    """A text for a resource or a ``StringLike``, in which nothing is a wildcard or a variable."""
    return "".join(f"${{{char}}}" if char in "*?$" else char for char in text)


def _plain(text: str) -> str:
    """A text for a ``StringEquals``, in which nothing is a variable."""
    return text.replace("$", "${$}")


def _statement(statement: Statement) -> dict[str, object]:
    found: dict[str, object] = {
        "Sid": statement.sid,
        "Effect": "Allow",
        "Action": list(statement.actions),
        "Resource": _one(statement.resources),
    }
    conditions: dict[str, dict[str, object]] = {}
    for condition in statement.conditions:
        conditions.setdefault(condition.operator, {})[condition.key] = _one(condition.values)
    return {**found, "Condition": conditions} if conditions else found


def _one(values: tuple[str, ...]) -> object:
    """A single value stands alone."""
    return values[0] if len(values) == 1 else list(values)
