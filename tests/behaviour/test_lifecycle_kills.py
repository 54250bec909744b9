"""The agent is killed at every step of a join and of a leave: each lifecycle action is completed, and nothing is left in AWS.

Fifty nodes join and leave through hooks; each is one run of a join and one of a leave, with at least one SIGKILL in it. What
became of it is read from what AWS did and has, not from what the agents say.
"""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from hafleet.adapters.route53.checks import write_config
from hafleet.core.dns.checks import Author, make_reference
from hafleet.core.dns.model import CheckConfig
from hafleet.core.queues import queue_name
from hafleet.lab.cloud import REGION
from hafleet.lab.plan import DNS_NAME, FLEET
from hafleet.lab.processes import wait_until
from tests.behaviour.kill_evidence import breaches, leaks
from tests.behaviour.kill_proxy import When, Written
from tests.behaviour.kill_stage import GREEN, PATIENCE, RED, Fate, Kill, KillStage, Victim, kill_stage

# A group is begun before single tests: this takes minutes, and must not begin last.
pytestmark = [pytest.mark.deep, pytest.mark.xdist_group("kills")]

JOIN_WRITES = (
    "AssociateAddress",
    "CreateQueue",
    "SetQueueAttributes",
    "Subscribe",
    "RecordLifecycleActionHeartbeat",
    "CreateHealthCheck",
    "ChangeResourceRecordSets",
    "CompleteLifecycleAction",
)
LEAVE_WRITES = (
    "RecordLifecycleActionHeartbeat",
    "ChangeResourceRecordSets",
    "DeleteHealthCheck",
    "DisassociateAddress",
    "Unsubscribe",
    "DeleteQueue",
    "CompleteLifecycleAction",
)
JOIN_READS = (
    "DescribeAutoScalingGroups",
    "DescribeAddresses",
    "DescribeLifecycleHooks",
    "ListResourceRecordSets",
    "GetChange",
)
LEAVE_READS = (
    "DescribeAutoScalingGroups",
    "ListResourceRecordSets",
    "GetChange",
    "GetQueueUrl",
    "ListSubscriptionsByTopic",
)
MEMORY, LIFE, DNS = "state/memory.json", "state/life.json", "state/dns.json"
DISK = ("state",)
SEEDED = random.Random(4)


def at_calls(names: Sequence[str]) -> list[tuple[Kill, ...]]:
    """Before each of these calls reaches AWS, and after AWS has done it."""
    whens: tuple[When, ...] = ("before", "after")
    return [(Kill(name, when),) for when in whens for name in names]


def at_files(*files: tuple[str, str]) -> list[tuple[Kill, ...]]:
    return [(Kill(name, holding=text),) for name, text in files]


def at_times(count: int, most: float) -> list[tuple[Kill, ...]]:
    return [(Kill("", seconds=round(SEEDED.uniform(0.3, most), 1)),) for _ in range(count)]


JOINS = [
    *at_calls(JOIN_WRITES),
    *((Kill(name),) for name in JOIN_READS),
    *at_files(
        ("haproxy.cfg", "hafleet_ready"),
        (MEMORY, ""),
        (MEMORY, '"phase":"serving"'),
        (LIFE, '"state":"Pending:Wait"'),
        (LIFE, '"beats":."born"'),
        (LIFE, '"done":."born"'),
        (DNS, '"names":."lb'),
        (DNS, '"A/endpoint"'),
        (DNS, '"id":"[0-9a-f]'),
        (DNS, '"change":"[^"]'),
        (DNS, '"change":"","changed_at":[1-9]'),
        ("state/status.json", ""),
    ),
    *at_times(9, 8.0),
    # twice
    (Kill("CreateHealthCheck"), Kill("ChangeResourceRecordSets")),
    (Kill("AssociateAddress"), Kill("CreateHealthCheck", "before")),
    (Kill("Subscribe", "before"), Kill("CompleteLifecycleAction")),
    # with its HAProxy
    (Kill("ChangeResourceRecordSets", loses=("haproxy",)),),
    (Kill("CompleteLifecycleAction", "before", loses=("haproxy",)),),
    # with its disk
    (Kill("AssociateAddress", loses=DISK),),
    (Kill("GetChange", loses=DISK),),
    (Kill("CompleteLifecycleAction", loses=DISK),),
]
LEAVES = [
    *at_calls(LEAVE_WRITES),
    *((Kill(name),) for name in LEAVE_READS),
    *at_files(
        (MEMORY, '"phase":"leaving"'),
        ("haproxy.cfg", "disabled"),
        (LIFE, '"left_at":[1-9]'),
        (LIFE, '"state":"Terminating"'),
        (LIFE, '"state":"Terminating:Wait"'),
        (LIFE, '"beats":."gone"'),
        (LIFE, '"record_gone_at":[1-9]'),
        (LIFE, '"result":"CONTINUE"'),
        (DNS, '"change":"[^"]'),
        (DNS, '"checks":.}'),
        ("state/status.json", '"phase": ?"leaving"'),
    ),
    *at_times(11, 12.0),
    # twice
    (Kill("ChangeResourceRecordSets", "before"), Kill("ChangeResourceRecordSets")),
    (Kill("DisassociateAddress"), Kill("CompleteLifecycleAction")),
    (Kill("DeleteQueue"), Kill("CompleteLifecycleAction", "before")),
    (Kill(LIFE, holding='"beats":."gone"'), Kill("DeleteHealthCheck")),
    # with its HAProxy
    (Kill("ChangeResourceRecordSets", "before", loses=("haproxy",)),),
    (Kill("DeleteHealthCheck", loses=("haproxy",)),),
    # with its disk: while its record is there it tells of its check
    (Kill("ChangeResourceRecordSets", "before", loses=DISK),),
    (Kill("RecordLifecycleActionHeartbeat", loses=DISK),),
    (Kill("CompleteLifecycleAction", loses=DISK),),
]
WAVE = 13  # nodes that come, while as many go


def fates() -> list[Fate]:
    """One for each of the fifty nodes. The leaves are dealt out anew, so that waves are mixed."""
    assert len(JOINS) == len(LEAVES) == 50
    leaves = SEEDED.sample(LEAVES, len(LEAVES))
    return [Fate(join, leave) for join, leave in zip(JOINS, leaves, strict=True)]


def series(stage: KillStage, leaving: set[str], wanted: Sequence[Fate]) -> list[Victim]:
    """All of them through the lab, wave by wave: one comes while the one before it goes. Those that left."""
    stage.begin([Fate()])  # somebody stays: the last record of a name goes with nobody
    gone: list[Victim] = []
    began = time.monotonic()
    there: list[Victim] = []
    (anchor,) = arrived(stage, 1, there)
    wanted = list(wanted)
    while wanted or there:
        wave, wanted = wanted[:WAVE], wanted[WAVE:]
        if wave:
            stage.begin(wave)
        leaving |= {victim.id for victim in there}
        stage.send_away(there)
        patiently(stage, lambda: stage.gone(there), "those that leave to be gone")  # noqa: B023
        gone += there
        print(f"{time.monotonic() - began:.0f} s: {len(gone)} nodes left")
        there = arrived(stage, len(wave), [anchor])
    return gone


def arrived(stage: KillStage, count: int, besides: Sequence[Victim]) -> list[Victim]:
    """So many nodes in service besides these, each of them whole, and killed as it was to be."""
    known = {victim.id for victim in besides}
    found: list[Victim] = []

    def here() -> bool:
        found[:] = [victim for victim in stage.serving() if victim.id not in known]
        return len(found) == count

    patiently(stage, here, f"{count} nodes to join")
    return found


def patiently(stage: KillStage, holds: Callable[[], bool], what: str) -> None:
    """Wait; in vain it says what there is of each node."""
    try:
        wait_until(holds, PATIENCE, what, every=0.5)
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {stage.told()}") from error


@pytest.mark.timeout(1500)
def test_an_agent_that_is_killed_at_any_step_of_its_life_finishes_it_and_leaves_nothing() -> None:
    with kill_stage() as (stage, leaving):
        began = time.monotonic()
        victims = series(stage, leaving, fates())
        print(f"{len(victims)} nodes came and went in {time.monotonic() - began:.0f} s")
        journal, estates = stage.journal, stage.estates(*(victim.id for victim in victims))
        wrong = {
            f"{victim.id} {victim.struck}": found
            for victim in victims
            if (found := [*breaches(victim.id, journal, ended=True), *leaks(estates[victim.id].counts), *red(victim)])
        }
        kills = sum(len(victim.struck) for victim in victims)
        print(f"{kills} kills in {2 * len(victims)} runs")
        for victim in victims:
            if any(victim.id in name for name in wrong) and victim.node is not None:
                print(victim.id, *journal_of(victim, journal), victim.node.agent_log(), sep="\n")
        assert not wrong
        assert not {victim.id: victim.spared for victim in victims if victim.spared}
        assert kills >= 2 * len(victims) == 100
        assert stage.lab.cloud.waiting() == []


def test_control_what_a_dead_node_leaves_is_seen() -> None:
    """Each kind is planted under the name of a node that never was, one after the other."""
    node = f"i-{0xDEAD:017x}"
    with kill_stage(addresses=1) as (stage, _):
        cloud, seen = stage.lab.cloud, [stage.estates(node)[node].counts]
        machine = cloud.ec2.run_instances(MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
        allocation = cloud.ec2.describe_addresses()["Addresses"][0]["AllocationId"]
        config: Any = write_config(CheckConfig("TCP", "192.0.2.1", 8403, interval=30))
        reference = make_reference(
            Author(FLEET, node, REGION), "A/endpoint", CheckConfig("TCP", "192.0.2.1", 8403), "00"
        )
        queue = stage.sqs.create_queue(QueueName=queue_name(FLEET, node))["QueueUrl"]
        seen.append(stage.estates(node)[node].counts)
        arn = stage.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        stage.sns.subscribe(TopicArn=stage.topic, Protocol="sqs", Endpoint=arn)
        seen.append(stage.estates(node)[node].counts)
        check = cloud.route53.create_health_check(CallerReference=reference, HealthCheckConfig=config)["HealthCheck"]
        seen.append(stage.estates(node)[node].counts)
        record = {"Name": DNS_NAME, "Type": "A", "SetIdentifier": node, "Weight": 1, "TTL": 2}
        full: Any = {**record, "ResourceRecords": [{"Value": "192.0.2.1"}], "HealthCheckId": check["Id"]}
        changes: Any = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": full}]}
        cloud.route53.change_resource_record_sets(HostedZoneId=stage.zone, ChangeBatch=changes)
        seen.append(stage.estates(node)[node].counts)
        assert seen == [(0, 0, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, 1, 1, 0), (0, 1, 1, 1, 0), (1, 1, 1, 1, 0)]
        cloud.ec2.associate_address(AllocationId=allocation, InstanceId=machine)
        assert leaks(stage.estates(machine)[machine].counts) == ["1 addresses left"]


def journal_of(victim: Victim, journal: Sequence[Written]) -> list[str]:
    """The writes of one node."""
    return [f"{call.name} {call.status}" for call in journal if call.caller == victim.id]


def red(victim: Victim) -> list[str]:
    """A node that leaves is red, and never green again."""
    first = victim.colours.index(RED) if RED in victim.colours else None
    if first is None:
        return ["never red"]
    return ["green again"] if GREEN in victim.colours[first:] else []
