"""Elastic IP addresses of EC2: the pool, and which instance has which."""

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from botocore.exceptions import ClientError

from hafleet.adapters import aws
from hafleet.core.eip import Address
from hafleet.errors import AddressTaken, SourceUnavailable

_DESCRIBE = "ec2:DescribeAddresses"
_TAKEN = "Resource.AlreadyAssociated"
_GONE = frozenset({"InvalidAssociationID.NotFound"})


class Ec2Addresses:
    """Implements ``ports.Addresses``. For one thread.

    Args:
        account: whose clients are used.
    """

    def __init__(self, account: aws.Account) -> None:
        self._account = account

    def pool(self, tags: Mapping[str, str]) -> tuple[Address, ...]:
        """See ``ports.Addresses.pool``. EC2 takes * and ? in a filter for wildcards, so the tags are compared again here."""
        _, client, region = self._account.scaling()
        with aws.translated(_DESCRIBE, region):
            answer = client.describe_addresses(
                Filters=[{"Name": f"tag:{key}", "Values": [value]} for key, value in sorted(tags.items())]
            )
        listed: Any = answer.get("Addresses")
        if not isinstance(listed, list):
            raise SourceUnavailable("the answer holds no list of addresses", where=f"{_DESCRIBE} in {region}")
        try:
            return tuple(_parse(item) for item in listed if tags.items() <= _tags(item).items())
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"an address of the pool is odd: {type(error).__name__} {error}"
            fix = "nothing now: it is read again"
            raise SourceUnavailable(what, where=f"{_DESCRIBE} in {region}", fix=fix) from error

    def associate(self, address: Address, instance: str) -> str:
        """See ``ports.Addresses.associate``."""
        _, client, region = self._account.scaling()
        call = "ec2:AssociateAddress"
        with aws.translated(call, region):
            try:
                answer = client.associate_address(
                    AllocationId=address.allocation, InstanceId=instance, AllowReassociation=False
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != _TAKEN:
                    raise
                fix = "nothing to do: another one is tried"
                raise AddressTaken(f"{address.ip} was taken meanwhile", where=f"{call} in {region}", fix=fix) from error
        return str(answer.get("AssociationId") or "")

    def release(self, address: Address) -> None:
        """See ``ports.Addresses.release``."""
        _, client, region = self._account.scaling()
        with aws.translated("ec2:DisassociateAddress", region):
            try:
                client.disassociate_address(AssociationId=address.association)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _GONE:
                    raise


def _tags(item: Mapping[str, Any]) -> dict[str, str]:
    return {str(tag["Key"]): str(tag["Value"]) for tag in item.get("Tags") or ()}


def _parse(item: Mapping[str, Any]) -> Address:
    """One address. Raises KeyError, TypeError, ValueError for a part that is missing or odd."""
    return Address(
        allocation=str(item["AllocationId"]),
        ip=IPv4Address(item["PublicIp"]),
        association=str(item.get("AssociationId") or ""),
        instance=str(item.get("InstanceId") or ""),
    )
