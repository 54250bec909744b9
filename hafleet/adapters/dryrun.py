"""EC2's own rehearsal of a call (DryRun): are the rights there, for what cannot be tried without doing it?"""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError

from hafleet.adapters import aws
from hafleet.core.eip import Address

_WOULD = "DryRunOperation"  # how EC2 says that the call would have been done


class Ec2DryRun:
    """Asks, and changes nothing. For one thread.

    Args:
        account: whose clients are used.
    """

    def __init__(self, account: aws.Account) -> None:
        self._account = account

    def tag(self, instance: str, key: str) -> None:
        """Could this tag be written? Raises SourceUnavailable, AwsDenied where it is not allowed."""
        _, client, region = self._account.scaling()
        with _rehearsed("ec2:CreateTags", region):
            client.create_tags(Resources=[instance], Tags=[{"Key": key, "Value": ""}], DryRun=True)

    def associate(self, address: Address, instance: str) -> None:
        """Could the instance take this address? Raises SourceUnavailable, AwsDenied where it is not allowed."""
        _, client, region = self._account.scaling()
        with _rehearsed("ec2:AssociateAddress", region):
            client.associate_address(
                AllocationId=address.allocation, InstanceId=instance, AllowReassociation=False, DryRun=True
            )


@contextmanager
def _rehearsed(call: str, region: str) -> Iterator[None]:
    """Errors of a rehearsal; that it would have been done is none. Raises SourceUnavailable, or one of its kinds."""
    with aws.translated(call, region):
        try:
            yield
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != _WOULD:
                raise
