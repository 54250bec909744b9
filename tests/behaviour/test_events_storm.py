"""A thousand events in a minute: duplicates, disorder and poison among them, and a group that changes all the while."""

import json
import random
import threading
import time
from typing import Any

import psutil
import pytest

from hafleet.core.queues import dead_letters
from hafleet.lab.fleet import Lab
from hafleet.lab.plan import FLEET
from hafleet.lab.processes import wait_until
from tests.behaviour.event_stage import ACCOUNT, APP, Post, counted, hearing, metrics

EVENTS, SECONDS, BATCH = 1000, 60.0, 2
SIZES = (2, 4, 1, 3)  # of the application's group, in turn
LAST = 3
GROWTH = 12.0  # MiB that the agent may be larger at the end: a leak of 12 kB an event would show

pytestmark = [pytest.mark.deep, pytest.mark.timeout(600)]


def event(kind: str, group: str = APP, account: str = ACCOUNT) -> str:
    told = {"source": "aws.autoscaling", "detail-type": kind, "account": account, "time": "2026-11-21T08:22:00Z"}
    return json.dumps(told | {"detail": {"AutoScalingGroupName": group, "EC2InstanceId": "i-0123456789abcdef0"}})


LAUNCH, END = "EC2 Instance Launch Successful", "EC2 Instance Terminate Successful"
REAL = [event(LAUNCH), event(END), event("EC2 Instance-terminate Lifecycle Action")]
TEST = json.dumps({"Event": "autoscaling:TEST_NOTIFICATION", "AccountId": ACCOUNT})
NOT_JSON, LARGE, FORGED = "{poison", "x" * 262144, event(LAUNCH, account="999999999999")
SHAPELESS = json.dumps({"hello": ["world"] * 5})
ODD = {NOT_JSON: "poison: not JSON", LARGE: "poison: not JSON", FORGED: "forged: ", SHAPELESS: "poison: neither"}


def thousand(dice: random.Random) -> list[str]:
    """Nine in ten are events of the group, many of them twice and in no order; the rest is poison and other people's."""
    odd = [NOT_JSON] * 30 + [FORGED] * 30 + [SHAPELESS] * 20 + [LARGE] * 5 + [TEST] * 15
    found = odd + [dice.choice(REAL) for _ in range(EVENTS - len(odd))]
    dice.shuffle(found)
    return found


class Watcher(threading.Thread):
    """The agent's memory, looked at twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.sizes: list[float] = []  # MiB
        self.ended = threading.Event()

    def run(self) -> None:
        process = psutil.Process(self._pid)
        while not self.ended.wait(0.5):
            self.sizes.append(process.memory_info().rss / 2**20)

    def growth(self) -> float:
        """The mean of the last third, less that of the first."""
        third = len(self.sizes) // 3
        return sum(self.sizes[-third:]) / third - sum(self.sizes[:third]) / third


def send(post: Post, url: str, bodies: list[str]) -> None:
    """One batch; a body of 256 KB goes alone, for a batch may hold no more."""
    for body in bodies:
        if len(body) > 100_000:
            post.sqs.send_message(QueueUrl=url, MessageBody=body)
    entries: Any = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies) if len(body) <= 100_000]
    if entries:
        post.sqs.send_message_batch(QueueUrl=url, Entries=entries)


def storm(lab: Lab, post: Post, url: str) -> list[str]:
    """Send them all, evenly over the minute, while the group changes every few seconds; what was sent."""
    bodies = thousand(random.Random(7))
    began, changes = time.monotonic(), 0
    for start in range(0, EVENTS, BATCH):
        send(post, url, bodies[start : start + BATCH])
        due = SECONDS * (start + BATCH) / EVENTS
        if due >= 4.0 * (changes + 1) and due < SECONDS - 4.0:
            lab.scale(APP, SIZES[changes % len(SIZES)])
            changes += 1
        time.sleep(max(0.0, began + due - time.monotonic()))
    return bodies


def test_a_thousand_events_in_a_minute() -> None:
    # The defaults of users, but for a poll that may be answered late: one that fails has its messages come again.
    slow = {"connect_timeout": "5s", "read_timeout": "30s"}
    with hearing({"queue": "auto"}, apps=1, passes={"interval": "10s"}, aws=slow) as (lab, post):
        node = lab.nodes[0]
        post.wait_heard(lab)
        url = post.queue(node)
        assert node.agent is not None and node.agent.pid is not None
        watcher = Watcher(node.agent.pid)
        passes, known = counted(node, "hafleet_passes_total"), len(odd_lines(lab))
        watcher.start()
        began = time.monotonic()
        sent = storm(lab, post, url)
        lab.scale(APP, LAST)  # the last state; its events come last
        wait_until(lambda: post.left(url) == 0, 120, "the queue to be empty")
        wait_until(lambda: len(lab.members(APP)) == LAST, 60, "the last servers")
        lab.wait_converged(120)
        assert {row.name for row in node.servers() if row.in_rotation and row.backend == "site"} == {
            machine.id for machine in lab.members(APP)
        }
        watcher.ended.set()
        watcher.join()
        took = time.monotonic() - began
        told = metrics(node)
        passes = counted(node, "hafleet_passes_total") - passes
        received = counted(node, "hafleet_event_messages_total")
        print(
            f"{received:.0f} messages, {passes:.0f} passes, memory grew by {watcher.growth():.1f} MiB to {watcher.sizes[-1]:.0f}"
        )
        assert received >= EVENTS
        assert passes < 2 * took  # at most one a second, but for the timer's and those of a slow machine
        assert watcher.growth() < GROWTH
        assert odd_lines(lab)[known:].count("forged") == sent.count(FORGED)
        assert len(odd_lines(lab)) - known == sum(sent.count(body) for body in ODD)
        assert told['hafleet_event_messages_total{kind="poison"}'] == sum(map(sent.count, (NOT_JSON, LARGE, SHAPELESS)))
        assert told['hafleet_event_messages_total{kind="forged"}'] == sent.count(FORGED)
        assert told.get('hafleet_event_polls_total{outcome="failed"}', 0) == 0
        assert post.left(post.sqs.get_queue_url(QueueName=dead_letters(FLEET))["QueueUrl"]) == 0  # each was looked at


def odd_lines(lab: Lab) -> list[str]:
    """The first word of each warning about a message, in order."""
    whole = lab.nodes[0].agent_log().rpartition("\n")[0]  # of the last line there may be a part
    lines = (json.loads(line) for line in whole.splitlines() if '"message"' in line)
    return [line["message"].partition(":")[0] for line in lines if line["level"] == "warning"]
