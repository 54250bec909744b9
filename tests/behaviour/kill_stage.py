"""A lab whose nodes' agents are killed at chosen steps of their join and of their leave, and what AWS says of it all afterwards."""

import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError

from hafleet.core.queues import dead_letters, topic_name
from hafleet.lab.aws_faults import Call
from hafleet.lab.cloud import PORT as AWS_PORT
from hafleet.lab.cloud import REGION
from hafleet.lab.fleet import Lab
from hafleet.lab.node import PEER_PORT, Node
from hafleet.lab.plan import EDGE, FLEET, Plan, shop_dns
from hafleet.lab.processes import wait_until
from hafleet.lab.registered import checks_of
from hafleet.lab.servers import PORT
from tests.behaviour.kill_proxy import Recorder, When, Written

LAUNCH, END = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
BORN, GONE = "born", "gone"  # the hooks
POOL = {"hafleet:pool": "edge"}
GREEN, RED = 200, 503
HEARTBEAT = 300  # seconds; of the hooks: an agent that is slow to come back loses no wait
PATIENCE = 600.0  # seconds; an upper bound for a wave on a slow machine
_LOOK = 0.01  # seconds between two looks at files and clocks
_SITE = {
    "name": "site",
    "port": PORT,
    "sources": [{"asg": "app"}],
    "check": {"path": "/healthz", "interval": "1s", "timeout": "3s", "rise": 1, "fall": 2},
    "drain": "1s",
}


@dataclass(frozen=True, slots=True)
class Kill:
    """One SIGKILL: at the first call of an operation, once a file holds something, or after so many seconds."""

    at: str  # an operation, a file of the node's folder, or "seconds"
    when: When = "after"  # of a call: AWS has not heard of it, or it has, and the agent has not heard of that
    seconds: float = 0.0
    holding: str = ""  # a pattern of what the file must hold
    loses: tuple[str, ...] = ()  # what dies with the agent: haproxy, state

    def __str__(self) -> str:
        """For the name of a run."""
        if self.seconds:
            return f"after {self.seconds:g} s"
        return " ".join(
            [f"{self.at} holds {self.holding}" if "." in self.at else f"{self.when} {self.at}", *self.loses]
        )


@dataclass(frozen=True, slots=True)
class Fate:
    """What befalls one node: kills in the order in which they strike."""

    join: tuple[Kill, ...] = ()
    leave: tuple[Kill, ...] = ()


@dataclass
class Victim:
    """One node, and the kills that it still has before it."""

    id: str
    fate: Fate
    node: Node | None = None
    struck: list[str] = field(default_factory=list)
    colours: list[int] = field(default_factory=list)  # of its health endpoint while it leaves, each change

    def __post_init__(self) -> None:
        """It begins to join."""
        self._lock = threading.Lock()
        self._begin(self.fate.join)

    def _begin(self, kills: Sequence[Kill]) -> None:
        with self._lock:
            self._due = deque(kills)
            self._began = time.monotonic()
            self._read: tuple[str, int, int] | None = None  # the last content that was looked at

    def leaves(self) -> None:
        """It is about to be told to leave."""
        assert not self._due, f"{self.id} joined, and was not killed: {[str(kill) for kill in self._due]}"
        self._begin(self.fate.leave)

    @property
    def spared(self) -> list[str]:
        """The kills that did not strike."""
        return [str(kill) for kill in self._due]

    def called(self, name: str, when: When) -> bool:
        """A call of its agent; True when the agent died of it."""
        with self._lock:
            kill = self._due[0] if self._due else None
            if kill is None or (kill.at, kill.when) != (name, when):
                return False
            self._strike(kill)
            return True

    def look(self) -> None:
        """Its files and its clock."""
        with self._lock:
            kill = self._due[0] if self._due else None
            if kill is None or self.node is None:
                return
            over = kill.seconds and time.monotonic() - self._began >= kill.seconds
            if over or ("." in kill.at and self._holds(kill)):
                self._strike(kill)

    def _holds(self, kill: Kill) -> bool:
        assert self.node is not None
        path = self.node.folder / kill.at
        try:
            found = path.stat()
            key = (kill.at, found.st_ino, found.st_mtime_ns)
            if key == self._read:
                return False
            self._read = key
            return re.search(kill.holding, path.read_text()) is not None
        except FileNotFoundError:
            return False

    def _strike(self, kill: Kill) -> None:
        """SIGKILL; what else it loses is gone before the agent starts again."""
        self._due.popleft()
        assert self.node is not None and self.node.agent is not None
        agent = self.node.agent
        agent.ready = lambda: False
        agent.kill()
        wait_until(lambda: agent.pid is None, 60, f"the agent of {self.id} to be dead", every=0.005)
        if "haproxy" in kill.loses:
            self.node.haproxy.kill()
        if "state" in kill.loses:
            for path in (self.node.folder / "state").iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.struck.append(str(kill))
        agent.ready = lambda: True


class KillLab(Lab):
    """A lab in which every agent calls AWS under its instance's id, through the recorder, and has its fate."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.victims: dict[str, Victim] = {}
        self.fates: deque[Fate] = deque()
        self.recorder: Recorder | None = None

    def variables(self, instance: str) -> dict[str, str]:
        """See ``Lab.variables``. Asked at each birth: the next fate is this node's."""
        assert self.recorder is not None
        self.victims[instance] = Victim(instance, self.fates.popleft() if self.fates else Fate())
        own = {"AWS_ENDPOINT_URL": self.recorder.url, "AWS_ACCESS_KEY_ID": instance}
        return {**self.cloud.environment, **own}

    def struck(self, call: Call, when: When) -> bool:
        """See ``kill_proxy.Strike``."""
        victim = self.victims.get(call.caller)
        return victim is not None and self._known(victim) and victim.called(call.operation, when)

    def look(self) -> None:
        """Files and clocks of all."""
        for victim in tuple(self.victims.values()):
            if self._known(victim):
                victim.look()

    def _known(self, victim: Victim) -> bool:
        if victim.node is None:
            victim.node = next((node for node in tuple(self.nodes) if node.id == victim.id), None)
        return victim.node is not None


@dataclass(frozen=True)
class Estate:
    """What AWS has of one node: ids and names."""

    records: tuple[str, ...]
    checks: frozenset[str]
    queues: tuple[str, ...]
    subscriptions: tuple[str, ...]
    addresses: tuple[str, ...]

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """Of each kind."""
        found = (self.records, self.checks, self.queues, self.subscriptions, self.addresses)
        records, checks, queues, subscriptions, addresses = map(len, found)
        return records, checks, queues, subscriptions, addresses


class KillStage:
    """The lab, what was written to AWS, and what stands there."""

    def __init__(self, lab: KillLab, recorder: Recorder) -> None:
        self.lab = lab
        self._recorder = recorder
        session = boto3.session.Session("lab", "lab", region_name=REGION)
        self.sqs: Any = session.client("sqs", endpoint_url=lab.cloud.url)
        self.sns: Any = session.client("sns", endpoint_url=lab.cloud.url)
        self.topic = self.zone = ""

    @property
    def journal(self) -> list[Written]:
        """Every write so far."""
        return list(self._recorder.journal)

    def prepare(self, addresses: int) -> None:
        """What an operator makes: topic, dead-letter queue, zone, pool of addresses, groups, hooks.

        No rule sends to the topic: of twenty nodes that come and go each would wake all the others.
        """
        cloud = self.lab.cloud
        cloud.control("POST", "physics", {"hook_least": 3, "transit": 2.0, "boot": 0.2})
        cloud.control("POST", "route53", {"throttling": False, "insync": 0.5})
        self.topic = self.sns.create_topic(Name=topic_name(FLEET))["TopicArn"]
        self.sqs.create_queue(QueueName=dead_letters(FLEET))
        for number in range(addresses):
            own = f"127.{self.lab.network.number}.240.{number + 1}"
            allocated = cloud.ec2.allocate_address(Domain="vpc", Address=own)["AllocationId"]
            tags: Any = [{"Key": key, "Value": value} for key, value in POOL.items()]
            cloud.ec2.create_tags(Resources=[allocated], Tags=tags)
        assert self.lab.plan.dns is not None
        self.zone = cloud.create_zone(self.lab.plan.dns["zone"])
        self.lab.group("app", 1)
        self.lab.group(EDGE, 0)
        for name, transition in ((BORN, LAUNCH), (GONE, END)):
            cloud.autoscaling.put_lifecycle_hook(
                AutoScalingGroupName=EDGE,
                LifecycleHookName=name,
                LifecycleTransition=transition,
                HeartbeatTimeout=HEARTBEAT,
                DefaultResult="ABANDON",
            )

    def estates(self, *ids: str) -> dict[str, Estate]:
        """What stands in AWS of each of these instances."""
        cloud = self.lab.cloud
        shapes = [shape for zone in cloud.control("GET", "zones") for shape in zone["ResourceRecordSets"]]
        urls = self.sqs.list_queues(QueueNamePrefix="hafleet-").get("QueueUrls", [])
        pages = self.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=self.topic)
        ends = [item["Endpoint"] for page in pages for item in page["Subscriptions"]]
        elastic = cloud.ec2.describe_addresses()["Addresses"]
        return {
            id_: Estate(
                records=tuple(shape["Name"] for shape in shapes if shape.get("SetIdentifier") == id_),
                checks=checks_of(cloud, id_),
                queues=tuple(url for url in urls if url.endswith(id_)),
                subscriptions=tuple(end for end in ends if end.endswith(id_)),
                addresses=tuple(item["PublicIp"] for item in elastic if item.get("InstanceId") == id_),
            )
            for id_ in ids
        }

    def lifecycle(self) -> dict[str, str]:
        """The lifecycle state of every instance of the group."""
        return {machine.id: machine.lifecycle for machine in self.lab.cloud.machines() if machine.group == EDGE}

    def begin(self, fates: Sequence[Fate]) -> None:
        """So many nodes more are to join."""
        self.lab.fates.extend(fates)
        group = self.lab.cloud.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[EDGE])
        self.lab.scale(EDGE, group["AutoScalingGroups"][0]["DesiredCapacity"] + len(fates))

    def serving(self) -> list[Victim]:
        """The nodes in service, those that are whole: record, check, queue, subscription and address."""
        try:
            return self._serving()
        except (OSError, BotoCoreError):  # the local AWS of a busy machine
            return []

    def _serving(self) -> list[Victim]:
        ids = [id_ for id_, state in self.lifecycle().items() if state == "InService" and id_ in self.lab.victims]
        whole = {id_ for id_, found in self.estates(*ids).items() if found.counts == (1, 1, 1, 1, 1)}
        return [self.lab.victims[id_] for id_ in ids if id_ in whole and not self.lab.victims[id_].spared]

    def send_away(self, victims: Sequence[Victim]) -> None:
        """These are to leave."""
        for victim in victims:
            victim.leaves()
            self.lab.terminate(victim.id, decrement=True)

    def told(self) -> str:
        """What there is of each node, for a test that waits in vain."""
        states = self.lifecycle()
        found = self.estates(*states)
        lines = []
        for id_, state in states.items():
            victim = self.lab.victims.get(id_)
            log = victim.node.agent_log().splitlines()[-3:] if victim and victim.node else []
            kills = (victim.struck, victim.spared) if victim else ()
            lines.append(f"{id_} {state} {found[id_].counts} {kills}: {log}")
        return "\n".join(lines)

    def gone(self, victims: Sequence[Victim]) -> bool:
        """True when EC2 has ended them all."""
        try:
            return not {victim.id for victim in victims} & self.lifecycle().keys()
        except OSError:
            return False


def plan() -> Plan:
    """Everything that a node can have in AWS, and times of a test."""
    bucket = {"burst": 1000, "rate": 1000}
    made = Plan(backends=[_SITE], default_backend="site", interval=2.0)
    made.dns = {
        **shop_dns(),
        "health": {"endpoint": {"interval": 10, "threshold": 1}},
        "reap": {"interval": "3h", "confirm": "3h"},  # nobody tidies up after another
        "limits": {"requests": bucket, "create_check": bucket, "delete_check": bucket},
    }
    made.extra = {
        "lifecycle": {"join_timeout": "10m", "peers_timeout": "0s", "drain": {"quiet": "1s", "max": "5m"}},
        "events": {"queue": "auto"},
        "eip": {"pool_tag": POOL},
        "peers": {"port": PEER_PORT, "settle": "15s"},
        "aws": {
            "connect_timeout": "5s",
            "read_timeout": "60s",
            "max_attempts": 2,
        },  # no call is made twice for being slow
    }
    return made


def _watch(lab: KillLab, stops: threading.Event) -> None:
    while not stops.wait(_LOOK):
        lab.look()


def _see(lab: KillLab, leaving: set[str], stops: threading.Event) -> None:
    """The colour of the health endpoints of those that leave."""
    while not stops.wait(0.2):
        for id_ in tuple(leaving):
            victim = lab.victims[id_]
            if victim.node is None or victim.node not in lab.nodes:
                continue
            colour = victim.node.health()
            if colour and victim.colours[-1:] != [colour]:
                victim.colours.append(colour)


@contextmanager
def kill_stage(addresses: int = 30, wanted: Plan | None = None) -> Iterator[tuple[KillStage, set[str]]]:
    """The stage with its application, and no node; and the ids whose health endpoint is watched."""
    leaving: set[str] = set()
    stops = threading.Event()
    with KillLab(wanted or plan()) as lab:
        recorder = Recorder(lab.network.home, (lab.network.home, AWS_PORT), lab.struck)
        lab.recorder = recorder
        threads = [
            threading.Thread(target=_watch, args=(lab, stops), daemon=True),
            threading.Thread(target=_see, args=(lab, leaving, stops), daemon=True),
        ]
        stage = KillStage(lab, recorder)
        try:
            stage.prepare(addresses)
            for thread in threads:
                thread.start()
            yield stage, leaving
        finally:
            stops.set()
            recorder.close()
