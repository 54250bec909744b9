"""Which actions on which resources an API call asks IAM for, and with which condition keys. Pure but for what ``Facts`` looks up.

Source: AWS's Service Authorization Reference (actions, resources and condition keys of EC2 Auto Scaling, EC2, Route 53, SQS and SNS).
Of an action that is not listed here only "*" is known, so that only a statement for all resources allows it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hafleet.lab.iam_policy import Ask

ACCOUNT = "123456789012"  # moto's
NOBODY = "00000000-0000-0000-0000-000000000000"  # group id of a group that does not exist
_RENAMED = {  # one action covers several calls
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sns:PublishBatch": "sns:Publish",
}
_KINDS = {"i": "instance", "eipalloc": "elastic-ip", "eni": "network-interface", "vol": "volume"}
_MEMBER = re.compile(r"(?:Tags\.member|Tag)\.(\d+)\.(\w+)")
_ODD = re.compile(r"[^a-z0-9_.-]")

Context = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it came in."""

    service: str
    operation: str
    params: Mapping[str, Any]  # a flat form for autoscaling, ec2 and sns; nested data for sqs and route53
    region: str

    @property
    def action(self) -> str:
        """The IAM action."""
        name = f"{self.service}:{self.operation}"
        return _RENAMED.get(name, name)

    def arn(self, rest: str) -> str:
        """An ARN of this service, region and account."""
        return f"arn:aws:{self.service}:{self.region}:{ACCOUNT}:{rest}"

    def text(self, key: str) -> str:
        """A parameter; "" when it is not there."""
        return str(self.params.get(key) or "")


class Facts(Protocol):
    """What AWS knows of the resources that a call names."""

    def group(self, name: str) -> tuple[str, dict[str, str]]:
        """A group's ARN and tags; "" and none when there is no such group."""
        ...

    def group_of(self, instance: str) -> str:
        """Name of an instance's group; "" when it has none."""
        ...

    def tags(self, resource: str) -> dict[str, str]:
        """The tags of something of EC2."""
        ...

    def interface(self, instance: str) -> str:
        """The network interface of an instance; "" when there is none."""
        ...

    def associated(self, association: str) -> tuple[str, str]:
        """The Elastic IP's allocation and the network interface of an association; "" for what is not known."""
        ...


def asks(call: Asked, facts: Facts, common: Context) -> tuple[Ask, ...]:
    """All that must be allowed for this call.

    Args:
        call: what is called.
        facts: what AWS knows.
        common: condition keys of every call: aws:userid and the like.
    """
    rule = _RULES.get(call.action) or _RULES.get(f"{call.service}:{call.operation}")
    found = rule(call, facts) if rule else (Ask(call.action),)
    return tuple(replace(ask, context={**common, **ask.context}) for ask in found)


def _group_by_name(call: Asked, facts: Facts) -> Iterable[Ask]:
    yield _on_group(call, facts, call.text("AutoScalingGroupName"))


def _group_by_instance(call: Asked, facts: Facts) -> Iterable[Ask]:
    yield _on_group(call, facts, facts.group_of(call.text("InstanceId")))


def _group_tags(call: Asked, facts: Facts) -> Iterable[Ask]:
    tags = _members(call.params)
    for name in sorted({tag.get("ResourceId", "") for tag in tags}):
        ask = _on_group(call, facts, name)
        told = _request_tags((tag["Key"], tag.get("Value", "")) for tag in tags if tag.get("ResourceId") == name)
        yield replace(ask, context={**ask.context, **told})


def _on_group(call: Asked, facts: Facts, name: str) -> Ask:
    arn, tags = facts.group(name)
    arn = arn or call.arn(f"autoScalingGroup:{NOBODY}:autoScalingGroupName/{name}")
    return Ask(call.action, arn, _tagged(tags, "autoscaling"))


def _associate(call: Asked, facts: Facts) -> Iterable[Ask]:
    instance = call.text("InstanceId")
    interface = call.text("NetworkInterfaceId") or facts.interface(instance)
    yield _on_ec2(call, facts, call.text("AllocationId"))
    yield from (_on_ec2(call, facts, each) for each in (instance, interface) if each)


def _disassociate(call: Asked, facts: Facts) -> Iterable[Ask]:
    address, interface = facts.associated(call.text("AssociationId"))
    yield _on_ec2(call, facts, address or "eipalloc-unknown")
    yield from (_on_ec2(call, facts, each) for each in (interface,) if each)


def _ec2_tags(call: Asked, facts: Facts) -> Iterable[Ask]:
    told = _request_tags((tag["Key"], tag.get("Value", "")) for tag in _members(call.params))
    for key, resource in sorted(call.params.items()):
        if key.startswith("ResourceId."):
            ask = _on_ec2(call, facts, str(resource))
            yield replace(ask, context={**ask.context, **told})


def _on_ec2(call: Asked, facts: Facts, resource: str) -> Ask:
    kind = _KINDS.get(resource.partition("-")[0], "unknown")
    own = {"ec2:InstanceID": (resource,)} if kind == "instance" and call.operation != "DeleteTags" else {}
    return Ask(call.action, call.arn(f"{kind}/{resource}"), {**_tagged(facts.tags(resource), "ec2"), **own})


def _zone(call: Asked, _: Facts) -> Iterable[Ask]:
    zone = call.text("HostedZoneId") or call.text("Id")
    changes = (call.params.get("ChangeBatch") or {}).get("Changes") or ()
    sets = [change["ResourceRecordSet"] for change in changes]
    keys = {
        "NormalizedRecordNames": [_normalized(item["Name"]) for item in sets],
        "RecordTypes": [item["Type"] for item in sets],
        "Actions": [change["Action"] for change in changes],
    }
    context = {f"route53:ChangeResourceRecordSets{key}": tuple(values) for key, values in keys.items() if values}
    yield Ask(call.action, f"arn:aws:route53:::hostedzone/{zone}", context)


def _change(call: Asked, _: Facts) -> Iterable[Ask]:
    yield Ask(call.action, f"arn:aws:route53:::change/{call.text('Id')}")


def _check(call: Asked, _: Facts) -> Iterable[Ask]:
    yield Ask(call.action, f"arn:aws:route53:::healthcheck/{call.text('HealthCheckId')}")


def _queue(call: Asked, _: Facts) -> Iterable[Ask]:
    arn = call.arn(call.text("QueueName") or call.text("QueueUrl").rpartition("/")[2])
    tags = _request_tags((call.params.get("tags") or {}).items())
    yield Ask(call.action, arn, tags)
    if tags and call.operation == "CreateQueue":
        yield Ask("sqs:TagQueue", arn, tags)


def _topic(call: Asked, _: Facts) -> Iterable[Ask]:
    told = {"sns:Protocol": call.text("Protocol"), "sns:Endpoint": call.text("Endpoint")}
    yield Ask(call.action, call.text("TopicArn"), {key: (value,) for key, value in told.items() if value})


def _tagged(tags: Mapping[str, str], service: str) -> dict[str, tuple[str, ...]]:
    return {f"{start}:ResourceTag/{key}": (value,) for start in ("aws", service) for key, value in tags.items()}


def _request_tags(tags: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    known = dict(tags)
    return (
        {"aws:TagKeys": tuple(known)} | {f"aws:RequestTag/{key}": (value,) for key, value in known.items()}
        if known
        else {}
    )


def _members(params: Mapping[str, Any]) -> list[dict[str, str]]:
    """The tags of a form: Tags.member.1.Key of Auto Scaling, Tag.1.Key of EC2."""
    found: dict[int, dict[str, str]] = {}
    for key, value in params.items():
        if match := _MEMBER.fullmatch(key):
            found.setdefault(int(match[1]), {})[match[2]] = str(value)
    return [tag for _, tag in sorted(found.items()) if "Key" in tag]


def _normalized(name: str) -> str:
    """A record's name as the condition key has it: lower case, no dot at the end, other characters escaped."""
    text = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), name).lower().removesuffix(".")
    return _ODD.sub(lambda found: f"\\{ord(found[0]):03o}", text)


_RULES: Mapping[str, Callable[[Asked, Facts], Iterable[Ask]]] = {
    **dict.fromkeys(
        ("autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"), _group_by_name
    ),
    "autoscaling:SetInstanceHealth": _group_by_instance,
    **dict.fromkeys(("autoscaling:CreateOrUpdateTags", "autoscaling:DeleteTags"), _group_tags),
    "ec2:AssociateAddress": _associate,
    "ec2:DisassociateAddress": _disassociate,
    **dict.fromkeys(("ec2:CreateTags", "ec2:DeleteTags"), _ec2_tags),
    **dict.fromkeys(
        ("route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets", "route53:GetHostedZone"), _zone
    ),
    "route53:GetChange": _change,
    **dict.fromkeys(("route53:GetHealthCheck", "route53:DeleteHealthCheck"), _check),
    **dict.fromkeys(
        (
            "sqs:CreateQueue", "sqs:TagQueue", "sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:SetQueueAttributes",
            "sqs:ReceiveMessage", "sqs:SendMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:PurgeQueue",
            "sqs:DeleteQueue",
        ),
        _queue,
    ),
    **dict.fromkeys(("sns:Subscribe", "sns:ListSubscriptionsByTopic", "sns:Publish"), _topic),
}  # fmt: skip
