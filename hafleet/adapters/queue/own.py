"""A node's own queue: made and subscribed to the fleet's topic at join, taken away at leave, reaped when its node is dead."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from hafleet.adapters import aws
from hafleet.adapters.queue.listener import NO_QUEUE
from hafleet.core import queues
from hafleet.errors import SourceUnavailable

_BAD_VALUE = frozenset({"InvalidAttributeValue", "InvalidParameterValue"})
_PAGE = 1000  # queues per page at most (SQS)


class _Absent(SourceUnavailable):
    """AWS does not know the queue or the topic that was named."""


class OwnQueue:
    """The queue ``hafleet-<fleet>-<node>``. ``leave`` may be called from another thread than the one that polls.

    Args:
        account: whose clients are used.
        fleet: name of the fleet, whose topic and dead-letter queue the operator made.
        node: tells this node's id. Raises SourceUnavailable.
        tell: told of what is missing but can be done without, one line each.
    """

    def __init__(self, account: aws.Account, fleet: str, node: Callable[[], str], tell: Callable[[str], None]) -> None:
        self._account = account
        self._fleet = fleet
        self._node = node
        self._tell = tell
        self._lock = threading.Lock()  # a queue is not made while it is left
        self._url = ""
        self._held = False
        self._left = False
        self._suspects: Mapping[str, float] = {}

    def url(self) -> str:
        """Its URL; "" while it is held, and once the node has left. Made, set and subscribed at the first call, by steps that can be repeated.

        Raises:
            SourceUnavailable: a step failed.
        """
        with self._lock:
            if not self._held and not self._url and not self._left:
                node = self._node()
                url = self._find(node) or self._create(node)
                place = self._place(url)
                self._set(node, url, place)
                self._subscribe(node, place)
                self._url = url
            return self._url

    def hold(self) -> None:
        """It is not known yet whether the node stays: nothing is made before ``open``."""
        self._held = True

    def open(self) -> None:
        """The node stays for now: it may be made."""
        self._held = False

    def leave(self) -> None:
        """Take this node's queue away, for good. Raises SourceUnavailable when not all of it is gone."""
        with self._lock:
            self._left, self._url = True, ""
            self.remove(self._node())

    def lost(self) -> None:
        """Somebody deleted it: the next ``url`` makes another."""
        self._url = ""

    def remove(self, node: str) -> None:
        """Take a node's subscription and queue away, in this order: while the queue is there, there may be a subscription.

        Raises:
            SourceUnavailable: not all of it is gone.
        """
        url = self._find(node)
        if not url:
            return
        try:
            hanging = self._subscriptions(node, self._place(url))
        except _Absent:  # there is no topic
            hanging = ()
        sqs, sns, region = self._account.messages()
        for arn in hanging:
            with aws.translated("sns:Unsubscribe", region):
                sns.unsubscribe(SubscriptionArn=arn)
        try:
            with _known("sqs:DeleteQueue", region, NO_QUEUE):
                sqs.delete_queue(QueueUrl=url)
        except _Absent:  # somebody was faster
            pass

    def subscribed(self) -> bool | None:
        """True when it hangs on the fleet's topic; None while there is no queue.

        Raises:
            SourceUnavailable: a read failed, or there is no topic.
        """
        node = self._node()
        url = self._find(node)
        if not url:
            return None
        return bool(self._subscriptions(node, self._place(url)))

    def names(self) -> frozenset[str]:
        """The names of the fleet's queues, and of those whose names begin alike. Raises SourceUnavailable."""
        client, _, region = self._account.messages()
        prefix, found, token = queues.prefix(self._fleet), set[str](), ""
        while True:
            asked: Any = {"QueueNamePrefix": prefix, "MaxResults": _PAGE} | ({"NextToken": token} if token else {})
            with aws.translated("sqs:ListQueues", region):
                answer: Any = client.list_queues(**asked)
            found |= {str(url).rpartition("/")[2] for url in answer.get("QueueUrls") or ()}
            token = answer.get("NextToken") or ""
            if not token:
                return frozenset(found)

    def owners(self) -> frozenset[str]:
        """The instances that have a queue of this fleet. Raises SourceUnavailable."""
        return frozenset(node for name in self.names() if (node := queues.node_of(self._fleet, name)))

    def reap(self, states: Callable[[frozenset[str]], Mapping[str, str]], at: float) -> tuple[str, ...]:
        """Remove the queues of nodes that are proven dead; the ids of those nodes. For one node of the fleet at a time.

        Args:
            states: ``ports.Instances.states``.
            at: wall clock seconds.

        Raises:
            SourceUnavailable: a read failed, and nothing was removed; or a removal failed.
        """
        owners = self.owners() - {self._node()}
        dead, self._suspects = queues.orphans(owners, states(owners), self._suspects, at)
        for node in sorted(dead):
            self.remove(node)
        return tuple(sorted(dead))

    def _find(self, node: str) -> str:
        """The URL of a node's queue; "" when there is none."""
        client, _, region = self._account.messages()
        try:
            with _known("sqs:GetQueueUrl", region, NO_QUEUE):
                return client.get_queue_url(QueueName=queues.queue_name(self._fleet, node))["QueueUrl"]
        except _Absent:
            return ""

    def _create(self, node: str) -> str:
        """The URL of a new queue. A name that was deleted within the last minute is refused, and so tried again later."""
        client, _, region = self._account.messages()
        tags = {"hafleet:fleet": self._fleet, "hafleet:node": node}
        with aws.translated("sqs:CreateQueue", region):
            return client.create_queue(QueueName=queues.queue_name(self._fleet, node), tags=tags)["QueueUrl"]

    def _place(self, url: str) -> queues.Place:
        client, _, region = self._account.messages()
        with aws.translated("sqs:GetQueueAttributes", region):
            answer: Any = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        try:
            return queues.place_of(answer["Attributes"]["QueueArn"])
        except (KeyError, ValueError) as error:
            where = f"sqs:GetQueueAttributes in {region}"
            raise SourceUnavailable(
                f"the queue {url} has no ARN", where=where, fix="nothing: it is tried again"
            ) from error

    def _set(self, node: str, url: str, place: queues.Place) -> None:
        """The queue's settings. Without the fleet's dead-letter queue it works as well, but for messages that kill a reader."""
        client, _, region = self._account.messages()
        wanted: Any = queues.attributes(self._fleet, queues.queue_name(self._fleet, node), place)
        try:
            with _known("sqs:SetQueueAttributes", region, _BAD_VALUE | NO_QUEUE):
                client.set_queue_attributes(QueueUrl=url, Attributes=wanted)
        except _Absent:
            del wanted["RedrivePolicy"]
            with aws.translated("sqs:SetQueueAttributes", region):
                client.set_queue_attributes(QueueUrl=url, Attributes=wanted)
            self._tell(f"there is no queue {queues.dead_letters(self._fleet)}: make it, or poison is lost unseen")

    def _subscribe(self, node: str, place: queues.Place) -> None:
        """To the fleet's topic; the same again is the same subscription."""
        _, client, region = self._account.messages()
        topic = place.arn("sns", queues.topic_name(self._fleet))
        queue = place.arn("sqs", queues.queue_name(self._fleet, node))
        raw = {"RawMessageDelivery": "true"}
        with _known("sns:Subscribe", region, frozenset({"NotFound", "NotFoundException"})):
            client.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=raw, ReturnSubscriptionArn=True)

    def _subscriptions(self, node: str, place: queues.Place) -> tuple[str, ...]:
        """The ARNs of a node's subscriptions to the fleet's topic. Raises _Absent besides: there is no topic."""
        _, client, region = self._account.messages()
        topic = place.arn("sns", queues.topic_name(self._fleet))
        queue = place.arn("sqs", queues.queue_name(self._fleet, node))
        found: list[str] = []
        token = ""
        while True:
            asked: Any = {"TopicArn": topic} | ({"NextToken": token} if token else {})
            with _known("sns:ListSubscriptionsByTopic", region, frozenset({"NotFound", "NotFoundException"})):
                answer: Any = client.list_subscriptions_by_topic(**asked)
            listed = answer.get("Subscriptions") or ()
            found += [item["SubscriptionArn"] for item in listed if item.get("Endpoint") == queue]
            token = answer.get("NextToken") or ""
            if not token:
                return tuple(arn for arn in found if arn.startswith("arn:"))  # not one that waits for its confirmation


@contextmanager
def _known(call: str, region: str, absent: frozenset[str]) -> Iterator[None]:
    """Like ``aws.translated``, with an error of its own for these codes. Raises _Absent besides."""
    with aws.translated(call, region):
        try:
            yield
        except ClientError as error:
            told = error.response.get("Error", {})
            if told.get("Code") not in absent:
                raise
            fix = "make what is missing (docs/events.md), or set events.queue to a queue's URL or to none"
            what = aws.one_line(str(told.get("Message") or told.get("Code")))
            raise _Absent(what, where=f"{call} in {region}", fix=fix) from error
