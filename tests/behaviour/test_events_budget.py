"""With events that are proven to come AWS is asked seldom; when they are cut off, changes are still found within one poll."""

import time

import pytest

from hafleet.lab.cloud import NODES
from hafleet.lab.fleet import Lab
from hafleet.lab.processes import wait_until
from tests.behaviour.event_stage import APP, Post, asked, counted, hearing, metrics

PASSES = 1.0  # seconds between two passes
READS = 8.0  # seconds between two reads while events are proven: eight passes
WAKES = 'hafleet_event_messages_total{kind="wake"}'

pytestmark = [pytest.mark.deep, pytest.mark.timeout(900)]


def in_a_while(lab: Lab, seconds: float, least: int = 0) -> tuple[float, int, float]:
    """Passes, calls and seconds, in so many seconds of an even life and so many passes at least.

    Calls are counted from before the first pass to after the last one: all of a pass that began in between.
    """
    node = lab.nodes[0]
    began, calls = time.monotonic(), asked(lab)
    passes = counted(node, "hafleet_passes_total")
    time.sleep(seconds)
    wait_until(lambda: counted(node, "hafleet_passes_total") >= passes + least, 120, f"{least} passes")
    passes = counted(node, "hafleet_passes_total") - passes
    return passes, asked(lab) - calls, time.monotonic() - began


def followed(lab: Lab, desired: int) -> float:
    """Seconds until the node has what the group has now."""
    lab.scale(APP, desired)
    wait_until(lambda: len(lab.members(APP)) == desired, 60, f"{desired} application servers")
    return lab.wait_converged(60)


def proven(lab: Lab) -> bool:
    return metrics(lab.nodes[0])["hafleet_events_proven"] == 1


def unsubscribe(post: Post) -> None:
    """Somebody takes the node's queue off the topic: nothing fails, and nothing comes any more."""
    for item in post.sns.list_subscriptions_by_topic(TopicArn=post.topic)["Subscriptions"]:
        post.sns.unsubscribe(SubscriptionArn=item["SubscriptionArn"])


def test_reads_are_few_while_events_come_and_as_ever_when_they_do_not() -> None:
    events = {"queue": "auto", "interval": f"{READS:g}s"}
    with hearing(events, passes={"interval": f"{PASSES:g}s"}, aws={"read_timeout": "30s"}) as (lab, post):
        node = lab.nodes[0]
        post.wait_heard(lab)
        passes, calls, _ = in_a_while(lab, 4, least=4)
        assert calls >= passes - 1 > 1  # the control: nothing proves events yet, so every pass reads
        lab.cloud.control("POST", "physics", {"minute": 2})
        wait_until(lambda: proven(lab), 90, "a pulse")
        wait_until(lambda: in_a_while(lab, 3)[1] == 0, 120, "reads to be spared")  # none for a while after an event
        passes, calls, took = in_a_while(lab, 2 * READS, least=12)
        print(f"{passes:.0f} passes, {calls} calls in {took:.0f} s")
        assert calls <= 2 * (took / READS + 1) and passes > calls  # the budget: two calls in the time of one read

        unsubscribe(post)  # cut off, and the node cannot know it yet
        before = metrics(node)[WAKES]
        taken = followed(lab, 2)
        assert metrics(node)[WAKES] == before  # no event told it
        print(f"without events it was found after {taken:.1f} s, at reads {READS:g} s apart")
        assert taken < 2 * READS + 30

        lab.cloud.fault("5xx", service="sqs", caller=NODES)  # cut off, and the node knows it
        wait_until(lambda: not proven(lab), 60, "polls to fail")
        passes, calls, _ = in_a_while(lab, 4, least=4)
        assert calls >= passes - 1 > 1
