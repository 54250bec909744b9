"""AWS: the groups and their instances, Route 53, lifecycle hooks."""

from collections.abc import Collection, Mapping
from typing import Protocol

from hafleet.core.dns.model import Batch, Check, CheckConfig, Record
from hafleet.core.eip import Address
from hafleet.core.model import Groups, Hook
from hafleet.core.orders import Order


class Membership(Protocol):
    """The Auto Scaling groups and their instances."""

    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        """All groups of these names, and all that carry any of these tags, with every instance's address.

        Args:
            names: group names. Those that AWS does not know are absent from the answer.
            tags: (key, value) pairs; a group with any of them is in the answer.
            ipv6: names of groups whose instances are wanted with their IPv6 address; tag-found groups are looked up by
                "key=value" of the tag.

        Raises:
            SourceUnavailable: the read failed, or any page or item of it was missing.
        """
        ...


class Instances(Protocol):
    """EC2's own word on single instances, whatever group they were in."""

    def states(self, ids: frozenset[str]) -> dict[str, str]:
        """Instance id -> EC2 state (``running``, ``terminated``, ...). Ids that EC2 does not know are absent.

        Raises:
            SourceUnavailable: the read failed or was partial.
        """
        ...


class Dns(Protocol):
    """One hosted zone of Route 53, and the account's health checks. One call each unless said otherwise; no retries inside.

    Every call may raise SourceUnavailable or one of its kinds: AwsDenied, AwsThrottled, ZoneBusy.
    """

    def zone_id(self) -> str:
        """Id of the hosted zone. Asked once per process. Raises HafleetError when there is no such zone, or more than one."""
        ...

    def tree(self, name: str) -> tuple[Record, ...]:
        """Every record set at this name and below it, complete, with changes that are not in force yet; 300 per call."""
        ...

    def record(self, name: str, type_: str, set_id: str) -> Record | None:
        """One record set."""
        ...

    def change(self, batch: Batch) -> str:
        """Apply all of the batch or none; the id of the change.

        Raises:
            ChangeRefused: the batch does not fit what is there (a compare-and-swap that lost), or never can.
        """
        ...

    def insync(self, change_id: str) -> bool:
        """True when every name server of Route 53 answers by this change. A change that Route 53 forgot counts as in force."""
        ...

    def check(self, check_id: str) -> Check | None:
        """One health check."""
        ...

    def checks(self, prefix: str) -> tuple[Check, ...]:
        """Every health check of the account whose CallerReference starts with this; 1,000 per call, whoever they belong to."""
        ...

    def create_check(self, reference: str, config: CheckConfig) -> Check:
        """Make a health check. The same reference and settings again give the same check.

        Raises:
            CheckTaken: the reference was used before.
            ChangeRefused: the settings can never be taken.
        """
        ...

    def delete_check(self, check_id: str) -> None:
        """Delete a health check; one that does not exist is fine. Raises CheckInUse when another check needs it."""
        ...


class Hooks(Protocol):
    """Lifecycle hooks of this node's Auto Scaling group. One call each; by instance id, so that no token is needed.

    Every call may raise SourceUnavailable or one of its kinds.
    """

    def hooks(self, group: str) -> tuple[Hook, ...]:
        """The hooks of a group, sorted by name."""
        ...

    def complete(self, group: str, hook: str, instance: str, result: str) -> None:
        """End the wait of an instance: CONTINUE or ABANDON. Raises HookGone."""
        ...

    def heartbeat(self, group: str, hook: str, instance: str) -> None:
        """Begin the hook's timeout anew. Raises HookGone."""
        ...

    def set_unhealthy(self, instance: str) -> None:
        """Let Auto Scaling replace this instance, respecting its grace period."""
        ...

    def tag(self, instance: str, key: str, value: str) -> None:
        """Write a tag of an instance."""
        ...


class Orders(Protocol):
    """Where the fleet's orders are written: a group's tags. ``Membership`` reads them, with the group.

    Every call may raise SourceUnavailable or one of its kinds.
    """

    def give(self, group: str, order: Order) -> None:
        """Write this order, in place of an earlier one about the same thing."""
        ...

    def withdraw(self, group: str, keys: Collection[str]) -> None:
        """Take back the orders of these keys; one that is not there is fine."""
        ...


class Addresses(Protocol):
    """A pool of Elastic IP addresses.

    Every call may raise SourceUnavailable or one of its kinds.
    """

    def pool(self, tags: Mapping[str, str]) -> tuple[Address, ...]:
        """Every address that carries all of these tags."""
        ...

    def associate(self, address: Address, instance: str) -> str:
        """Give a free address to an instance; the id of the association. Raises AddressTaken when it is not free any more."""
        ...

    def release(self, address: Address) -> None:
        """End the association of this address; one that ended already is fine."""
        ...


class NodeTags(Protocol):
    """Tags of the nodes' own instances: how the nodes of a fleet tell each other what AWS cannot.

    Every call may raise SourceUnavailable or one of its kinds.
    """

    def tags(self, instances: frozenset[str], key: str) -> dict[str, str]:
        """Instance id -> value of its tag of this key; one that has none, or that EC2 does not know, is absent."""
        ...

    def tag(self, instance: str, key: str, value: str) -> None:
        """Write a tag of an instance."""
        ...
