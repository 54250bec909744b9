"""Looks at the event queue for ``hafleet doctor``: what there is, by calls that change nothing."""

from typing import Any

from botocore.exceptions import ClientError

from hafleet.adapters import aws
from hafleet.adapters.queue.own import OwnQueue
from hafleet.core import queues

_NO_RECEIPT = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue"})  # of a delete that deletes nothing


class Looks:
    """A node's own queue as its fleet's operator should find it.

    Args:
        account: whose clients are used.
        fleet: its name.
        node: this node's id.
    """

    def __init__(self, account: aws.Account, fleet: str, node: str) -> None:
        self._own = OwnQueue(account, fleet, lambda: node, lambda _: None)
        self._fleet = fleet
        self._node = node
        self.dead_letters = False  # whether ``others`` has seen the fleet's dead-letter queue

    def queue(self) -> str:
        """The queue, and whether it hangs on the fleet's topic. Raises SourceUnavailable: there is no topic, too."""
        name, topic = queues.queue_name(self._fleet, self._node), queues.topic_name(self._fleet)
        hangs = self._own.subscribed()
        if hangs is None:
            return f"{name} is made when the agent starts"
        return f"{name} hears {topic}" if hangs else f"{name} is there; the agent subscribes it to {topic} at its start"

    def others(self) -> str:
        """The fleet's queues. Raises SourceUnavailable."""
        names = self._own.names()
        self.dead_letters = queues.dead_letters(self._fleet) in names
        nodes = sum(bool(queues.node_of(self._fleet, name)) for name in names)
        return f"{nodes} of this fleet's nodes"


def try_queue(account: aws.Account, url: str) -> str:
    """Both rights to a given queue: a receive that hides nothing, and a delete of no message. Raises SourceUnavailable."""
    client, _, region = account.messages()
    with aws.translated("sqs:ReceiveMessage", region):
        client.receive_message(QueueUrl=url, MaxNumberOfMessages=1, VisibilityTimeout=0, WaitTimeSeconds=0)
    with aws.translated("sqs:DeleteMessage", region):
        try:
            client.delete_message(QueueUrl=url, ReceiptHandle="hafleet-doctor")
        except ClientError as error:
            told: Any = error.response.get("Error", {})
            if told.get("Code") not in _NO_RECEIPT:
                raise
    return f"{url} may be read, and its messages deleted"
