"""From the instant an event is in the node's queue to the change in the running HAProxy; and from IMDS alone.

The lab's own AWS with EventBridge, SNS and SQS, a real agent process with the defaults that users get, a real HAProxy. The agent's
timer is an hour apart, so that nothing but events wakes it. A queue of the bench's own hangs on the same topic: the time at which
SQS took its copy is the beginning, a look at HAProxy's socket each 5 ms the end.
"""

import random
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from hafleet.core import proof
from hafleet.lab import proxy
from hafleet.lab.cloud import Machine
from hafleet.lab.fleet import Lab
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.node import Node
from hafleet.publish import read_status
from tests.behaviour.event_stage import APP, END, Post, Witness, asked, counted, hearing, metrics
from tests.bench.figures import ms, summary, timed

CHANGES = 24  # of each kind
NOTICES = 10
MINUTES = 3  # of quiet life
HOOK = "gone"
LOOK = 0.005  # seconds between two looks
CAME, LEAVES = "EC2 Instance Launch Successful", "EC2 Instance-terminate Lifecycle Action"
SELDOM: dict[str, Any] = {"passes": {"interval": "1h"}, "aws": {"read_timeout": "5s"}}


def measure(haproxy: Haproxy) -> dict[str, Any]:
    """Instances that come and go, one after the other; the floors; then notices of IMDS without any event."""
    found: dict[str, Any] = {}
    with hearing({"queue": "auto"}, apps=2, binary=str(haproxy.binary), **SELDOM) as (lab, post):
        post.wait_heard(lab)
        found |= _changes(lab, post)
        found |= _floors(lab, post)
    with hearing(None, binary=str(haproxy.binary), **SELDOM) as (lab, _):
        found["imds_notice_to_pass_without_events"] = summary(_notices(lab)) | {"target_max_ms": 5000}
    with hearing({"queue": "auto"}, binary=str(haproxy.binary), passes={"interval": "10s"}) as (lab, _):
        found["aws_calls_per_node_minute"] = _budget(lab)
    return found


def _budget(lab: Lab) -> dict[str, Any]:
    """Calls to Auto Scaling and EC2 of one node that nothing happens to, with the defaults that users get."""
    node = lab.nodes[0]
    lab.cloud.control("POST", "physics", {"minute": 20})  # a pulse soon; nothing else is quicker
    lab.wait_until(lambda: metrics(node)["hafleet_events_proven"] == 1, 120, "a pulse")
    time.sleep(proof.EAGER + 10)
    calls, passes = asked(lab), counted(node, "hafleet_passes_total")
    time.sleep(60 * MINUTES)
    return {
        "auto_scaling_and_ec2": round((asked(lab) - calls) / MINUTES, 2),
        "target_most": 2,
        "passes": round((counted(node, "hafleet_passes_total") - passes) / MINUTES, 2),
        "minutes": MINUTES,
    }


def _changes(lab: Lab, post: Post) -> dict[str, Any]:
    witness = Witness(post)
    lab.cloud.autoscaling.put_lifecycle_hook(
        AutoScalingGroupName=APP, LifecycleHookName=HOOK, LifecycleTransition=END, HeartbeatTimeout=60
    )
    came, left, passes = list[float](), list[float](), list[float]()
    for _ in range(CHANGES):
        came.append(_came(lab, witness))
        passes.append(read_status(lab.nodes[0].folder / "state" / "status.json").duration)
        time.sleep(random.uniform(1.0, 2.0))  # a change on its own, not one of a burst
        left.append(_left(lab, witness))
        time.sleep(random.uniform(1.0, 2.0))
    return {
        "launch_event_to_server_in_haproxy": summary(came, target_ms=250),
        "terminate_event_to_no_new_requests": summary(left, target_ms=250),
        "of_which_a_whole_pass": ms(statistics.median(passes)),
    }


def _came(lab: Lab, witness: Witness) -> float:
    """Seconds from the event of a launch to the server in HAProxy, out of maintenance."""
    node = lab.nodes[0]
    known = {row.name for row in node.servers()}
    lab.scale(APP, 3)
    at = _seen(lambda: any(row.name not in known and row.status != "MAINT" for row in _rows(node)))
    (name,) = {row.name for row in node.servers()} - known
    return at - witness.sent(name, CAME)


def _left(lab: Lab, witness: Witness) -> float:
    """Seconds from the event of a termination to a server that gets no new request."""
    node = lab.nodes[0]
    lab.wait_converged(30)
    gone = lab.members(APP)[0].id
    lab.terminate(gone, decrement=True)
    at = _seen(lambda: all(row.name != gone or row.weight == 0 or row.status == "MAINT" for row in _rows(node)))
    taken = at - witness.sent(gone, LEAVES)
    lab.cloud.autoscaling.complete_lifecycle_action(
        AutoScalingGroupName=APP, LifecycleHookName=HOOK, InstanceId=gone, LifecycleActionResult="CONTINUE"
    )
    lab.wait_until(lambda: all(m.id != gone for m in _members(lab)), 30, f"{gone} to be gone")
    return taken


def _members(lab: Lab) -> tuple[Machine, ...]:
    return lab.members(APP, in_service=False)


def _rows(node: Node) -> list[proxy.ServerRow]:
    return [row for row in node.servers() if row.backend == "site"]


def _seen(true: Callable[[], bool]) -> float:
    """Wall clock at which this became true. Raises TimeoutError."""
    end = time.monotonic() + 30
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("it does not come")
        time.sleep(LOOK)
    return time.time()


def _floors(lab: Lab, post: Post) -> dict[str, Any]:
    """What the parts of the way take by themselves, on the same machine."""
    node = lab.nodes[0]
    cloud = lab.cloud
    ids = [machine.id for machine in _members(lab)]

    def described() -> None:
        cloud.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[APP, "edge"])
        cloud.ec2.describe_instances(InstanceIds=ids[:1])

    return {
        "floor_sns_to_a_long_poll": summary(_polls(post)),
        "floor_describe_groups_and_an_instance": summary([timed(described) for _ in range(20)]),
        "floor_show_stat": summary([timed(node.servers) for _ in range(20)]),
    }


def _polls(post: Post) -> list[float]:
    """Seconds from a message's arrival in a queue to the end of a receive that waited for it."""
    url = post.sqs.create_queue(QueueName="floor")["QueueUrl"]
    taken = []
    for _ in range(20):
        later = threading.Timer(0.3, lambda: post.sqs.send_message(QueueUrl=url, MessageBody="floor"))
        later.start()
        answer = post.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5, AttributeNames=["SentTimestamp"])
        (message,) = answer["Messages"]
        taken.append(time.time() - int(message["Attributes"]["SentTimestamp"]) / 1000)
        later.join()
        post.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return taken


def _notices(lab: Lab) -> list[float]:
    """Seconds from a spot notice, or its end, in IMDS to the end of the pass that took it up."""
    node = lab.nodes[0]
    status = node.folder / "state" / "status.json"
    taken = []
    for number in range(NOTICES):
        time.sleep(random.uniform(0.5, 3.0))
        stands = number % 2 == 0
        lab.cloud.announce(node.id, spot={"seconds": 600} if stands else None)
        began = time.time()
        taken.append(_seen(lambda: bool(read_status(status).notices) is stands) - began)  # noqa: B023 - at once
    return taken
