"""The fleet's orders as tags of its Auto Scaling group. They are read with the group itself; here they are written."""

from collections.abc import Collection

from hafleet.adapters import aws
from hafleet.core.orders import Order

_KIND = "auto-scaling-group"


class GroupOrders:
    """Implements ``ports.Orders``. For one thread.

    Args:
        account: whose clients are used.
    """

    def __init__(self, account: aws.Account) -> None:
        self._account = account

    def give(self, group: str, order: Order) -> None:
        """See ``ports.Orders.give``. New instances do not inherit the tag."""
        client, _, region = self._account.scaling()
        with aws.translated("autoscaling:CreateOrUpdateTags", region):
            client.create_or_update_tags(
                Tags=[
                    {
                        "ResourceId": group,
                        "ResourceType": _KIND,
                        "Key": order.key,
                        "Value": order.value,
                        "PropagateAtLaunch": False,
                    }
                ]
            )

    def withdraw(self, group: str, keys: Collection[str]) -> None:
        """See ``ports.Orders.withdraw``."""
        if not keys:
            return
        client, _, region = self._account.scaling()
        with aws.translated("autoscaling:DeleteTags", region):
            client.delete_tags(
                Tags=[
                    {"ResourceId": group, "ResourceType": _KIND, "Key": key, "PropagateAtLaunch": False}
                    for key in sorted(keys)
                ]
            )
