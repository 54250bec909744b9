"""The event queue on the lab's AWS: heard, made, subscribed, left and reaped."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from hafleet.adapters.aws import Account
from hafleet.adapters.clock import SystemClock
from hafleet.adapters.queue import FixedQueue, Hearing, NoTally, OwnQueue, Prover, QueueListener
from hafleet.adapters.queue.listener import Queue
from hafleet.adapters.wakeup import Wakeups
from hafleet.core.events import Heard, Scope
from hafleet.core.queues import PROOFS_APART, dead_letters, queue_name, rules, topic_name
from hafleet.core.settings import Aws
from hafleet.errors import SourceUnavailable
from hafleet.lab.cloud import REGION, Cloud
from hafleet.lab.fleet import Lab
from hafleet.lab.processes import wait_until

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

ACCOUNT = "123456789012"
NODE, OTHER = "i-0123456789abcdef0", "i-0fffffffffffffff0"
LONG = 60.0  # seconds; a bound for waiting


def event(
    group: str = "site",
    kind: str = "EC2 Instance Launch Successful",
    account: str = ACCOUNT,
    source: str = "aws.autoscaling",
) -> str:
    told = {"detail-type": kind, "source": source, "account": account}
    return json.dumps(told | {"detail": {"AutoScalingGroupName": group}})


@dataclass
class Rig:
    """Both sides of SQS and SNS: the operator's clients, and the account that the adapters use."""

    cloud: Cloud
    account: Account
    sqs: "SQSClient"
    sns: "SNSClient"
    events: Any

    def make_fleet(self) -> str:
        """What the operator makes for a fleet of this test's own: the topic and the dead-letter queue. Its name."""
        fleet = f"f{uuid.uuid4().hex[:8]}"
        self.sns.create_topic(Name=topic_name(fleet))
        self.sqs.create_queue(QueueName=dead_letters(fleet))
        return fleet

    def topic(self, fleet: str) -> str:
        return f"arn:aws:sns:{REGION}:{ACCOUNT}:{topic_name(fleet)}"

    def endpoints(self, fleet: str) -> list[str]:
        """The queues that are subscribed to the fleet's topic, by name."""
        listed = self.sns.list_subscriptions_by_topic(TopicArn=self.topic(fleet))["Subscriptions"]
        return sorted(item["Endpoint"].rpartition(":")[2] for item in listed)

    def queues(self, fleet: str) -> list[str]:
        listed = self.sqs.list_queues(QueueNamePrefix=f"hafleet-{fleet}-").get("QueueUrls", [])
        return sorted(url.rpartition("/")[2] for url in listed)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Lab(agents=False) as lab, pytest.MonkeyPatch.context() as environ:
        lab.cloud.control("POST", "physics", {"boot": 0.1, "terminating": 0.2, "dead": 0.1, "quarantine": 0})
        for name, value in lab.cloud.environment.items():
            environ.setenv(name, value)
        session = boto3.session.Session(region_name=REGION)
        sqs, sns, events = session.client("sqs"), session.client("sns"), session.client("events")
        account = Account(Aws(region=REGION, max_attempts=1))
        account.messages()
        yield Rig(lab.cloud, account, sqs, sns, events)


@dataclass
class Ear:
    """A listener with what it heard; its own ``ports.Tally``."""

    wakeups: Wakeups
    told: list[Heard] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)
    counted: list[tuple[str, float | None]] = field(default_factory=list)
    polls: list[tuple[bool, bool]] = field(default_factory=list)  # failing, proven
    prover: Prover = field(default_factory=lambda: Prover(60.0, SystemClock(), NoTally()))

    def message(self, kind: str, lag: float | None) -> None:
        self.counted.append((kind, lag))

    def poll(self, *, failing: bool, proven: bool) -> None:
        self.polls.append((failing, proven))

    def hears(self, reason: str) -> None:
        """Wait until a pass was woken for this reason."""

        def found() -> bool:
            self.woken += self.wakeups.take()
            return reason in self.woken

        wait_until(found, LONG, f"{reason!r} to be heard; so far {self.woken}")


Listen = Callable[[Queue], Ear]


@pytest.fixture
def listen(rig: Rig) -> Iterator[Listen]:
    """``listen(queue)``: an ear that is closed at the end of the test."""
    running: list[QueueListener] = []

    def start(queue: Queue) -> Ear:
        scope = Scope(ACCOUNT, frozenset({"site"}), frozenset({NODE}))
        wakeups = Wakeups(SystemClock())
        ear = Ear(wakeups)
        ear.prover = Prover(60.0, SystemClock(), ear)
        hearing = Hearing(wakeups, lambda: scope, ear.told.append, ear.prover)
        running.append(QueueListener(rig.account, queue, hearing, SystemClock()))
        return ear

    yield start
    for listener in running:
        listener._stops.set()  # all at once: each may be in a long poll
    for listener in running:
        listener.stop()


def fixed(rig: Rig) -> str:
    return rig.sqs.create_queue(QueueName=f"fixed-{uuid.uuid4().hex[:8]}")["QueueUrl"]


def own(rig: Rig, fleet: str, node: str = NODE, told: list[str] | None = None) -> OwnQueue:
    return OwnQueue(rig.account, fleet, lambda: node, ([] if told is None else told).append)


def left(rig: Rig, url: str) -> int:
    """Messages that nobody has deleted."""
    names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = rig.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(value) for value in told.values())


# --- hearing ----------------------------------------------------------------------------------------------------------


def test_a_message_wakes_and_is_deleted(rig: Rig, listen: Listen) -> None:
    url = fixed(rig)
    ear = listen(FixedQueue(url))
    rig.sqs.send_message(QueueUrl=url, MessageBody=event())
    ear.hears("event: site came")
    wait_until(lambda: left(rig, url) == 0, LONG, "the message to be deleted")
    assert ear.told == []
    ((kind, lag),) = ear.counted
    assert kind == "wake" and lag is not None and -1 < lag < LONG


def test_odd_messages_are_a_line_each_and_the_loop_goes_on(rig: Rig, listen: Listen) -> None:
    url = fixed(rig)
    bodies = [
        "{bad",
        "[]",
        "x" * 262144,
        event(account="999999999999"),
        event(group="others"),
        json.dumps({"Event": "autoscaling:TEST_NOTIFICATION", "AccountId": ACCOUNT}),
    ]
    for body in bodies:
        rig.sqs.send_message(QueueUrl=url, MessageBody=body)
    ear = listen(FixedQueue(url))
    wait_until(lambda: left(rig, url) == 0, LONG, "all to be deleted")
    assert ear.wakeups.take() == ()
    rig.sqs.send_message(QueueUrl=url, MessageBody=event())
    ear.hears("event: site came")
    assert sorted(found.kind for found in ear.told) == ["aside", "aside", "forged", "poison", "poison", "poison"]


def test_a_pulse_wakes_nobody_and_proves_that_events_come(rig: Rig, listen: Listen) -> None:
    url = fixed(rig)
    ear = listen(FixedQueue(url))
    assert not ear.prover.spares(1.0)
    rig.sqs.send_message(QueueUrl=url, MessageBody=event(kind="Scheduled Event", source="aws.events"))
    wait_until(lambda: (False, True) in ear.polls, LONG, "the pulse")
    assert ear.prover.spares(1.0) and not ear.prover.spares(60.0)
    assert (ear.wakeups.take(), ear.told, [kind for kind, _ in ear.counted]) == ((), [], ["pulse"])
    ear.prover.polled(failing=True)
    assert ear.polls[-1] == (True, False) and not ear.prover.spares(1.0)


def test_many_messages_are_few_reasons(rig: Rig, listen: Listen) -> None:
    url = fixed(rig)
    kinds = ("EC2 Instance Launch Successful", "EC2 Instance Terminate Successful")
    ear = listen(FixedQueue(url))
    for batch in range(12):  # moto takes 100 ms for each of many
        entries: Any = [
            {"Id": str(n), "MessageBody": "{poison" if n == 9 else event(kind=kinds[(batch + n) % 2])}
            for n in range(10)
        ]
        rig.sqs.send_message_batch(QueueUrl=url, Entries=entries)
    wait_until(lambda: left(rig, url) == 0, 60, "all to be deleted")
    wait_until(lambda: len(ear.told) == 12, LONG, "the last of the poison")
    assert set(ear.wakeups.take()) == {"event: site came", "event: site left"}


def test_a_queue_that_is_not_there_is_told_and_heard_once_it_is(rig: Rig, listen: Listen) -> None:
    url = fixed(rig)
    rig.sqs.delete_queue(QueueUrl=url)
    ear = listen(FixedQueue(url))
    wait_until(lambda: bool(ear.told), LONG, "the failure")
    assert ear.told[0].kind == "fault" and "no events: sqs:ReceiveMessage" in ear.told[0].text
    rig.sqs.create_queue(QueueName=url.rpartition("/")[2])
    rig.sqs.send_message(QueueUrl=url, MessageBody=event())
    ear.hears("event: site came")


def test_failures_in_a_row_are_few_lines(rig: Rig) -> None:
    """By a clock that does not wait: a hundred failures, seven lines."""
    told: list[Heard] = []
    polls = 0
    enough = threading.Event()

    class Broken:
        def url(self) -> str:
            nonlocal polls
            polls += 1
            if polls >= 100:
                enough.set()
            raise SourceUnavailable("nobody knows\nwhy", where="here")

        def lost(self) -> None:
            raise NotImplementedError

    class Hasty(SystemClock):
        def wait(self, event: threading.Event, seconds: float) -> bool:
            assert 0.5 <= seconds <= 60.0
            return event.wait(LONG if polls >= 100 else 0)

    scope = Scope()
    hearing = Hearing(Wakeups(SystemClock()), lambda: scope, told.append, Prover(60.0, SystemClock(), NoTally()))
    listener = QueueListener(rig.account, Broken(), hearing, Hasty())
    assert enough.wait(LONG)
    listener.stop()
    assert [found.text for found in told[:7]] == ["no events: here: nobody knows why"] * 7
    assert len(told) == 7


# --- a queue of one's own ---------------------------------------------------------------------------------------------


def test_a_queue_is_made_subscribed_and_closed_to_others(rig: Rig) -> None:
    fleet = rig.make_fleet()
    told: list[str] = []
    queue = own(rig, fleet, told=told)
    url = queue.url()
    assert url.rpartition("/")[2] == queue_name(fleet, NODE)
    assert queue.url() == url
    assert rig.endpoints(fleet) == [queue_name(fleet, NODE)]
    attributes = rig.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    place_policy = json.loads(attributes["Policy"])
    assert place_policy["Statement"][0]["Resource"] == attributes["QueueArn"]
    assert place_policy["Statement"][0]["Condition"]["ArnEquals"] == {"aws:SourceArn": rig.topic(fleet)}
    assert json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"].endswith(f":{dead_letters(fleet)}")
    assert (attributes["MessageRetentionPeriod"], attributes["VisibilityTimeout"]) == ("300", "30")
    assert rig.sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"hafleet:fleet": fleet, "hafleet:node": NODE}
    assert told == []


def test_a_second_start_finds_what_is_there(rig: Rig) -> None:
    fleet = rig.make_fleet()
    url = own(rig, fleet).url()
    assert own(rig, fleet).url() == url
    assert rig.endpoints(fleet) == [queue_name(fleet, NODE)]


def test_a_join_cut_short_after_each_step_is_finished_by_the_next(rig: Rig) -> None:
    fleet = rig.make_fleet()
    rig.sqs.create_queue(QueueName=queue_name(fleet, NODE))  # died before its settings and its subscription
    url = own(rig, fleet).url()
    assert rig.endpoints(fleet) == [queue_name(fleet, NODE)]
    assert "Policy" in rig.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def test_without_a_topic_there_are_no_events_and_it_says_what_to_make(rig: Rig) -> None:
    with pytest.raises(SourceUnavailable, match=r"sns:Subscribe in eu-west-1.*make what is missing"):
        own(rig, f"f{uuid.uuid4().hex[:8]}").url()


def test_without_a_dead_letter_queue_it_works_and_says_so(rig: Rig) -> None:
    fleet = f"f{uuid.uuid4().hex[:8]}"
    rig.sns.create_topic(Name=topic_name(fleet))
    told: list[str] = []
    url = own(rig, fleet, told=told).url()
    assert [dead_letters(fleet) in line for line in told] == [True]
    assert "Policy" in rig.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def test_a_queue_that_is_held_is_not_made_before_it_is_opened(rig: Rig, listen: Listen) -> None:
    fleet = rig.make_fleet()
    queue = own(rig, fleet)
    queue.hold()
    listen(queue)
    assert queue.url() == ""
    assert rig.queues(fleet) == [dead_letters(fleet)]
    queue.open()
    wait_until(lambda: rig.endpoints(fleet) == [queue_name(fleet, NODE)], LONG, "the queue to be subscribed")


def test_a_queue_that_was_left_is_not_made_again(rig: Rig) -> None:
    fleet = rig.make_fleet()
    queue = own(rig, fleet)
    queue.leave()
    queue.open()
    assert queue.url() == ""
    assert rig.queues(fleet) == [dead_letters(fleet)]


@pytest.mark.deep  # 20 s: the lab's long polls end in their own time
def test_a_queue_that_somebody_deletes_is_made_again(rig: Rig, listen: Listen) -> None:
    fleet = rig.make_fleet()
    queue = own(rig, fleet)
    ear = listen(queue)
    wait_until(lambda: rig.endpoints(fleet) == [queue_name(fleet, NODE)], LONG, "the queue to be subscribed")
    rig.sqs.delete_queue(QueueUrl=queue.url())

    def again() -> bool:
        try:
            rig.sns.publish(TopicArn=rig.topic(fleet), Message=event())
        except ClientError:  # moto's way to say that the subscribed queue is not there; SNS drops the message
            pass
        return "event: site came" in ear.wakeups.take()

    wait_until(again, 120, "a message through a new queue")


def test_an_event_of_a_group_reaches_every_node_of_the_fleet(rig: Rig, listen: Listen) -> None:
    fleet = rig.make_fleet()
    for name, pattern in rules(fleet, frozenset({"site"})).items():
        rig.events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        rig.events.put_targets(Rule=name, Targets=[{"Id": "topic", "Arn": rig.topic(fleet)}])
    ears = [listen(own(rig, fleet, node)) for node in (NODE, OTHER)]
    wait_until(lambda: len(rig.endpoints(fleet)) == 2, LONG, "both queues to be subscribed")
    rig.cloud.create_group("site", 1, {})
    for ear in ears:
        ear.hears("event: site came")
    rig.cloud.scale("site", 0)
    for ear in ears:
        ear.hears("event: site left")
    assert [found for ear in ears for found in ear.told if found.odd] == []


# --- leaving ----------------------------------------------------------------------------------------------------------


def test_a_node_that_leaves_leaves_nothing(rig: Rig) -> None:
    fleet = rig.make_fleet()
    own(rig, fleet).url()
    own(rig, fleet, OTHER).url()
    own(rig, fleet).remove(NODE)
    assert rig.endpoints(fleet) == [queue_name(fleet, OTHER)]
    assert rig.queues(fleet) == sorted([dead_letters(fleet), queue_name(fleet, OTHER)])
    own(rig, fleet).remove(NODE)  # nothing to do is nothing to fail


def test_a_leave_cut_short_after_the_subscription_is_finished(rig: Rig) -> None:
    fleet = rig.make_fleet()
    own(rig, fleet).url()
    for item in rig.sns.list_subscriptions_by_topic(TopicArn=rig.topic(fleet))["Subscriptions"]:
        rig.sns.unsubscribe(SubscriptionArn=item["SubscriptionArn"])
    own(rig, fleet).remove(NODE)
    assert rig.queues(fleet) == [dead_letters(fleet)]


def test_a_queue_without_a_topic_can_be_left(rig: Rig) -> None:
    fleet = rig.make_fleet()
    own(rig, fleet).url()
    rig.sns.delete_topic(TopicArn=rig.topic(fleet))
    own(rig, fleet).remove(NODE)
    assert rig.queues(fleet) == [dead_letters(fleet)]


def test_the_queues_of_dead_nodes_go_and_no_others(rig: Rig) -> None:
    fleet = rig.make_fleet()
    dead, lost, lives = (f"i-{number:017x}" for number in (1, 2, 3))
    for node in (dead, lost, lives):
        own(rig, fleet, node).url()
    rig.sqs.create_queue(QueueName=f"hafleet-{fleet}-blue-{dead}")  # of another fleet, whose name begins alike
    queue, asked = own(rig, fleet), list[frozenset[str]]()
    queue.url()

    def states(ids: frozenset[str]) -> dict[str, str]:
        asked.append(ids)
        return {dead: "terminated", lives: "running"}

    assert queue.owners() == {dead, lost, lives, NODE}
    assert queue.reap(states, 1000.0) == (dead,)
    assert asked == [frozenset({dead, lost, lives})]
    assert queue.owners() == {lost, lives, NODE}
    assert queue.reap(states, 1000.0 + PROOFS_APART) == (lost,)
    assert queue.owners() == {lives, NODE}
    assert rig.endpoints(fleet) == sorted(queue_name(fleet, node) for node in (lives, NODE))
    assert f"hafleet-{fleet}-blue-{dead}" in rig.queues(fleet)


def test_a_failed_question_reaps_nothing(rig: Rig) -> None:
    fleet = rig.make_fleet()
    own(rig, fleet, OTHER).url()

    def states(_: frozenset[str]) -> dict[str, str]:
        raise SourceUnavailable("EC2 does not answer")

    with pytest.raises(SourceUnavailable):
        own(rig, fleet).reap(states, time.time())
    assert queue_name(fleet, OTHER) in rig.queues(fleet)
