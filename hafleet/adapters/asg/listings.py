"""Complete listings of Auto Scaling groups and instances: every page, or an error; never a part."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hafleet.adapters import aws
from hafleet.adapters.asg.answers import RawGroup, parse_group
from hafleet.errors import SourceUnavailable

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client

PAGE = 100  # groups per page at most, and names per call (DescribeAutoScalingGroups)
IDS = 100  # instance ids per DescribeInstances: one answer, well below its size limit
DESCRIBE_GROUPS = "autoscaling:DescribeAutoScalingGroups"
DESCRIBE_INSTANCES = "ec2:DescribeInstances"

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Clients:
    """Where the calls go."""

    autoscaling: "AutoScalingClient"
    ec2: "EC2Client"
    region: str


def groups_by_name(clients: Clients, names: Iterable[str]) -> dict[str, RawGroup]:
    """The groups of these names; unknown ones are absent. Without a name no call is made: it would list the whole account.

    Raises:
        SourceUnavailable: a page failed or was lost.
    """
    found: dict[str, RawGroup] = {}
    for batch in _batches(sorted(names), PAGE):
        listed = _groups(clients, {"AutoScalingGroupNames": batch})
        found |= {group.name: group for group in listed if group.name in batch}
    return found


def groups_by_tag(clients: Clients, tags: Iterable[tuple[str, str]]) -> dict[str, RawGroup]:
    """The groups that carry any of these tags: one listing per key. Raises SourceUnavailable."""
    values: dict[str, list[str]] = {}
    for key, value in sorted(tags):
        values.setdefault(key, []).append(value)
    found: dict[str, RawGroup] = {}
    for key, some in values.items():
        listed = _groups(clients, {"Filters": [{"Name": f"tag:{key}", "Values": some}]})
        found |= {group.name: group for group in listed if group.tags.get(key) in some}
    return found


def instances(clients: Clients, ids: Sequence[str]) -> tuple[dict[str, Raw], frozenset[str]]:
    """EC2's items by instance id, and the ids that EC2 says do not exist. Without an id no call is made.

    EC2 refuses a question whole because of one id that it does not know: what it names is left out, and the rest asked again.

    Raises:
        SourceUnavailable: a page failed, or a question was refused that names no id to leave out.
    """
    found: dict[str, Raw] = {}
    unheard: frozenset[str] = frozenset()
    for batch in _batches(ids, IDS):
        left = batch
        while left:
            try:
                found |= {str(item.get("InstanceId")): item for item in _instances(clients, left)}
                break
            except aws.NoSuchInstances as error:
                rest = [key for key in left if key not in error.ids]
                if len(rest) == len(left):
                    raise
                unheard |= error.ids & frozenset(left)
                left = rest
    asked = frozenset(ids)
    return {key: item for key, item in found.items() if key in asked}, unheard


def own_group(clients: Clients, instance_id: str) -> str:
    """The group of an instance; "" when it is in none. Raises SourceUnavailable."""
    with aws.translated("autoscaling:DescribeAutoScalingInstances", clients.region):
        answer = clients.autoscaling.describe_auto_scaling_instances(InstanceIds=[instance_id])
    found = answer.get("AutoScalingInstances") or ()
    return next((str(item.get("AutoScalingGroupName") or "") for item in found), "")


def partial(call: str, region: str, what: str) -> SourceUnavailable:
    """The error of an answer that is not whole."""
    return SourceUnavailable(
        f"the answer is not whole: {what}", where=f"{call} in {region}", fix="nothing now: it is tried again"
    )


def _groups(clients: Clients, question: Raw) -> Iterator[RawGroup]:
    """Every page of one listing of groups. The same group twice means that a token was lost on the way."""

    def page(paging: Raw) -> Raw:
        return clients.autoscaling.describe_auto_scaling_groups(**question, MaxRecords=PAGE, **paging)

    seen: set[str] = set()
    for answer in _pages(DESCRIBE_GROUPS, clients.region, page):
        for raw in answer.get("AutoScalingGroups") or ():
            group = parse_group(raw, where=f"{DESCRIBE_GROUPS} in {clients.region}")
            if group.name in seen:
                raise partial(DESCRIBE_GROUPS, clients.region, f"group {group.name!r} is listed twice")
            seen.add(group.name)
            yield group


def _instances(clients: Clients, ids: list[str]) -> list[Raw]:
    """All instances of one question, over all its pages and reservations."""

    def page(paging: Raw) -> Raw:
        return clients.ec2.describe_instances(InstanceIds=ids, **paging)

    answers = _pages(DESCRIBE_INSTANCES, clients.region, page)
    reservations = [r for answer in answers for r in answer.get("Reservations") or ()]
    return [item for reservation in reservations for item in reservation.get("Instances") or ()]


def _pages(call: str, region: str, page: Callable[[Raw], Raw]) -> Iterator[Raw]:
    """Follow the tokens. One that comes back means that the listing runs in a circle."""
    tokens: set[str] = set()
    paging: dict[str, str] = {}
    while True:
        with aws.translated(call, region):
            answer = page(paging)
        yield answer
        token = answer.get("NextToken")
        if not token:
            return
        if token in tokens:
            raise partial(call, region, "the same page token came twice")
        tokens.add(token)
        paging = {"NextToken": token}


def _batches(items: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
