"""A whole account behind IAM, and what a node does there: each flow by the real adapters, real boto3 and real HTTP."""

import itertools
import random
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from hafleet.adapters.asg import AsgMembership, Ec2Instances
from hafleet.adapters.aws import Account
from hafleet.adapters.clock import SystemClock
from hafleet.adapters.eip import Ec2Addresses
from hafleet.adapters.hooks import AsgHooks
from hafleet.adapters.node_tags import Ec2NodeTags
from hafleet.adapters.orders import GroupOrders
from hafleet.adapters.queue import OwnQueue
from hafleet.adapters.route53 import Route53Dns
from hafleet.adapters.wakeup import Wakeups
from hafleet.core import iampolicy, queues
from hafleet.core.dns.checks import Author, make_reference, wanted_checks
from hafleet.core.dns.model import Situation
from hafleet.core.events import Heard
from hafleet.core.iamgrants import GRANTS
from hafleet.core.model import Group, Instance, Node
from hafleet.core.orders import Order
from hafleet.core.settings import Aws, Settings
from hafleet.errors import AddressTaken, HookGone
from hafleet.eventing import Around, Ears
from hafleet.lab.cloud import NODES, REGION, Cloud
from hafleet.lab.fleet import Lab
from hafleet.lab.processes import wait_until
from hafleet.registration import DnsPorts, Registrar
from hafleet.registration.byhand import Reaper, place, together
from tests.fakes.dns import Actor, HandClock, MemoryStore

ACCOUNT = "123456789012"
ZONE, NAME = "example.test", "lb.example.test"
EDGE, BLUE, GREEN = "edge", "site-blue", "site-green"
POOL = {"hafleet:pool": "edge"}
GHOST = "i-0dead000000000001"
LONG = 60.0  # seconds; a bound for waiting


class Trouble(Exception):
    """What a flow tells instead of raising it."""


def settings(**changes: Any) -> Settings:
    """Everything that needs a right."""
    return Settings.model_validate(
        {
            "fleet": "edge",
            "aws": {"region": REGION},
            "frontends": [{"name": "web", "bind": ":80", "default_backend": "site"}],
            "backends": [
                {
                    "name": "site",
                    "port": 8080,
                    "sources": [
                        {"asg": BLUE, "terminate_hook": "drains"},
                        {"asg_tag": {"hafleet:backend": "site"}, "terminate_hook": "drains"},
                    ],
                }
            ],
            "dns": {"name": NAME, "zone": ZONE},
            "lifecycle": {"unhealthy_after": "5m", "abandon_tag": True},
            "eip": {"pool_tag": POOL},
            "events": {"queue": "auto"},
            **changes,
        }
    )


@dataclass
class World:
    """The account, and one node's adapters in it. ``node`` serves, ``joiner`` waits for its launch hook, ``spare`` may go."""

    cloud: Cloud
    account: Account  # of the node: its calls are what IAM looks at
    zone_id: str
    node: str
    joiner: str
    spare: str
    given: str  # URL of a queue that the operator made
    operators: dict[str, Any]  # clients of somebody whom no policy limits
    calls: set[str] = field(default_factory=set)  # operations that the node called
    clock: HandClock = field(default_factory=HandClock)
    serials: Iterator[int] = field(default_factory=itertools.count)

    def policy(self, of: Settings, without: str = "", role: Collection[str] = frozenset(GRANTS)) -> dict[str, object]:
        """The policy for these settings, as ``hafleet iam-policy`` prints it with all its options."""
        scope = iampolicy.Scope("aws", REGION, ACCOUNT, EDGE, self.zone_id)
        found = iampolicy.statements(of, scope)
        return iampolicy.document(tuple(each for each in found if each.name != without and each.name in role))

    @contextmanager
    def allowed(self, policy: dict[str, object] | None) -> Iterator[None]:
        """The node may do what this says."""
        self.cloud.enforce(policy)
        try:
            yield
        finally:
            self.cloud.enforce(None)

    def both(self) -> tuple[Settings, Settings]:
        """Settings that need every statement between them."""
        return settings(), settings(dns={"name": NAME, "zone_id": self.zone_id}, events={"queue": self.given})

    def dns_ports(self, role: Settings) -> DnsPorts:
        """The real Route 53 adapter with a clock that does not wait."""
        assert role.dns
        adapter = Route53Dns(role.dns, self.account.route53, self.clock)
        nonce = partial(lambda serials: f"{next(serials):08x}", self.serials)
        return DnsPorts(adapter, Ec2Instances(self.account), MemoryStore(), self.clock, nonce, random.Random(1))


# --- flows ------------------------------------------------------------------------------------------------------------


def membership(world: World) -> None:
    """One read by name and by tag."""
    names, tags = frozenset({BLUE, EDGE}), frozenset({("hafleet:backend", "site")})
    groups = AsgMembership(world.account).read(names, tags, frozenset()).by_name
    assert groups.keys() == {BLUE, GREEN, EDGE}
    assert world.node in {instance.id for instance in groups[EDGE].instances if instance.address}


def own_group(world: World) -> None:
    """Which group the node is in."""
    assert AsgMembership(world.account).own_group(world.node) == EDGE


def registering(world: World) -> None:
    """A node joins, changes its record, and leaves."""
    own = f"i-{next(world.serials) + 0xABC000:017x}"
    node = Node(own, IPv4Address("10.0.0.9"), f"{REGION}a", REGION, EDGE, public=IPv4Address("198.51.100.9"))
    serving = tuple(Instance(each, "InService", node.zone, None) for each in sorted((own, world.node)))
    ports = world.dns_ports(settings())

    def acting(weight: int) -> Actor:
        told = settings(dns={"name": NAME, "zone": ZONE, "weight": weight})
        actor = Actor(SimpleNamespace(clock=world.clock), 1, Registrar(told, ports))  # type: ignore[arg-type]
        actor.situation = partial(_situation, actor, node, Group(EDGE, 2, serving))  # type: ignore[method-assign]
        return actor

    for actor, weight in ((acting(100), 100), (acting(50), 50)):
        report = actor.until(lambda report: bool(report.problems) or (report.registered and not report.waiting))
        _no_problems(report.problems)
        assert [record.weight for record in report.records] == [weight]
    actor = acting(50)
    actor.leave()
    report = actor.until(lambda report: bool(report.problems) or not (report.waiting or report.records))
    _no_problems(report.problems)
    assert ports.dns.record(NAME, "A", own) is None


def _situation(actor: Actor, node: Node, group: Group) -> Situation:
    return Situation(actor.stage.clock.at, node, actor.serves, actor.leaving, actor.red_since, group)


def _no_problems(problems: tuple[str, ...]) -> None:
    if problems:
        raise Trouble("; ".join(problems))


def zone_by_id(world: World) -> None:
    """The zone of settings that name its id."""
    _, told = world.both()
    assert world.dns_ports(told).dns.zone_id() == world.zone_id


def reaping(world: World) -> None:
    """What a dead node left goes."""
    told = settings()

    def rest(seconds: float, _why: str) -> None:
        world.clock.wait(threading.Event(), seconds)

    with left_behind(world, told) as check:
        reaper = Reaper(
            told,
            world.dns_ports(told),
            lambda: together(AsgMembership(world.account), frozenset({EDGE})),
            rest,
            place(told, REGION, EDGE),
        )
        _no_problems(reaper.reap().problems)
        assert check not in {item["Id"] for item in world.cloud.control("GET", "checks")}


@contextmanager
def left_behind(world: World, told: Settings) -> Iterator[str]:
    """The health check and the record of a node that EC2 does not know, made by the operator; the check's id."""
    route53 = world.cloud.route53
    ghost = Node(GHOST, IPv4Address("10.0.0.8"), f"{REGION}a", REGION, EDGE, public=IPv4Address("198.51.100.8"))
    (wanted,) = wanted_checks(told, ghost, "A", "198.51.100.8")
    reference = make_reference(Author("edge", GHOST, REGION), wanted.slot, wanted.config, uuid.uuid4().hex[:8])
    config: Any = {"Type": "TCP", "IPAddress": "198.51.100.8", "Port": 80}
    check = route53.create_health_check(CallerReference=reference, HealthCheckConfig=config)["HealthCheck"]["Id"]
    record = leaf(GHOST, "198.51.100.8") | {"HealthCheckId": check}
    write(world.cloud, world.zone_id, "UPSERT", record)
    try:
        yield check
    finally:
        if check in {item["Id"] for item in world.cloud.control("GET", "checks")}:
            write(world.cloud, world.zone_id, "DELETE", record)
            route53.delete_health_check(HealthCheckId=check)


def leaf(node: str, address: str) -> dict[str, Any]:
    """The record of a node, as boto3 has it."""
    values = [{"Value": address}]
    return {"Name": NAME, "Type": "A", "SetIdentifier": node, "Weight": 100, "TTL": 30, "ResourceRecords": values}


def write(cloud: Cloud, zone_id: str, action: str, record: dict[str, Any]) -> None:
    """A change of the operator's."""
    changes: Any = [{"Action": action, "ResourceRecordSet": record}]
    cloud.route53.change_resource_record_sets(HostedZoneId=zone_id, ChangeBatch={"Changes": changes})


def hooks(world: World) -> None:
    """A node lists its hooks, prolongs its wait and ends it."""
    port = AsgHooks(world.account)
    assert [hook.name for hook in port.hooks(EDGE)] == ["joins"]
    _unless_over(partial(port.heartbeat, EDGE, "joins", world.joiner))
    _unless_over(partial(port.complete, EDGE, "joins", world.joiner, "CONTINUE"))


def server_hooks(world: World) -> None:
    """The fleet completes the hook of a server in a group that the settings name, and in one found by tag."""
    port = AsgHooks(world.account)
    for group in (BLUE, GREEN):
        _unless_over(partial(port.complete, group, "drains", world.node, "CONTINUE"))


def _unless_over(act: Callable[[], None]) -> None:
    try:
        act()
    except HookGone:  # AWS looked for the wait, so that IAM had nothing against it
        pass


def replacement(world: World) -> None:
    """A node asks to be replaced."""
    AsgHooks(world.account).set_unhealthy(world.spare)


def abandoning(world: World) -> None:
    """A node says in its own tag why it gave up."""
    AsgHooks(world.account).tag(world.node, iampolicy.ABANDONED, "no server answers")


def draining(world: World) -> None:
    """A node tells in its own tag what it has drained, and reads what the others have."""
    port = Ec2NodeTags(world.account)
    port.tag(world.node, iampolicy.DRAINED, "0abc")
    assert port.tags(frozenset({world.node, world.joiner}), iampolicy.DRAINED) == {world.node: "0abc"}


def addresses(world: World) -> None:
    """A node takes an address of the pool, and gives it back."""
    port = Ec2Addresses(world.account)
    free = [address for address in port.pool(POOL) if not address.association]
    for address in free:
        try:
            port.associate(address, world.node)
        except AddressTaken:
            continue
        break
    (own,) = [address for address in port.pool(POOL) if address.instance == world.node]
    port.release(own)
    assert all(address.instance != world.node for address in port.pool(POOL))


def own_queue(world: World) -> None:
    """A node makes its queue, looks for those of dead nodes and takes its own away."""
    told: list[str] = []
    queue = OwnQueue(world.account, "edge", lambda: world.node, told.append)
    assert queue.url().endswith(queues.queue_name("edge", world.node))
    assert told == []
    queue.reap(Ec2Instances(world.account).states, 0.0)
    queue.leave()


def hearing(world: World) -> None:
    """A node makes its queue and hears a message there."""
    hear(world, settings(lifecycle=None), lambda: queues.queue_name("edge", world.node))


def given_queue(world: World) -> None:
    """A node hears a queue that the operator made."""
    hear(world, world.both()[1], lambda: "given")


def hear(world: World, role: Settings, name: Callable[[], str]) -> None:
    """One message, received and deleted by what the agent hears with. Raises Trouble."""
    sqs, told = world.operators["sqs"], list[Heard]()
    node = Node(world.node, IPv4Address("10.0.0.7"), f"{REGION}a", REGION, EDGE)
    metadata = SimpleNamespace(identity=lambda: node)
    around = Around(world.account, AsgMembership(world.account), metadata, Wakeups(SystemClock()), SystemClock())
    ears = Ears(told.append)
    ears.listen(role, around)
    try:
        wait_until(lambda: bool(failed(told) or url_of(sqs, name())), LONG, "the queue")
        if not failed(told):
            url = url_of(sqs, name())
            sqs.send_message(QueueUrl=url, MessageBody="{poison")
            wait_until(
                lambda: bool(told) and bool(failed(told) or left(sqs, url) == 0), LONG, "the message to be deleted"
            )
    finally:
        ears.stop()
    if failed(told):
        raise Trouble(failed(told))


def failed(told: list[Heard]) -> str:
    return next((heard.text for heard in told if heard.text.startswith("no events")), "")


def url_of(sqs: Any, name: str) -> str:
    """A queue's URL; "" when there is none."""
    return next(iter(sqs.list_queues(QueueNamePrefix=name).get("QueueUrls", ())), "")


def left(sqs: Any, url: str) -> int:
    """Messages that nobody has deleted."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return sum(int(n) for n in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values())


def orders(world: World) -> None:
    """An operator on the node gives the fleet an order, and takes it back."""
    port = GroupOrders(world.account)
    for order in (Order("drain", 1e9, server="i-0abc", backend="site"), Order("drain", 1e9, zone=f"{REGION}a")):
        port.give(EDGE, order)
        port.withdraw(EDGE, {order.key})


# --- the account ------------------------------------------------------------------------------------------------------


@contextmanager
def open_world() -> Iterator[World]:
    """The account with all that the flows need, made by the operator."""
    with Lab(agents=False) as lab, pytest.MonkeyPatch.context() as environ:
        cloud = lab.cloud
        cloud.control("POST", "physics", {"boot": 0.1, "terminating": 0.2, "dead": 0.1, "quarantine": 0})
        cloud.control("POST", "route53", {"throttling": False, "insync": 0, "processing": 0})
        for name, tags in ((EDGE, {}), (BLUE, {}), (GREEN, {"hafleet:backend": "site"})):
            cloud.create_group(name, 0, tags)
        node, spare, joiner = launch(cloud)
        zone_id = cloud.create_zone(ZONE)
        write(cloud, zone_id, "UPSERT", leaf(node, "198.51.100.7"))
        for _ in range(2):
            allocated = cloud.ec2.allocate_address(Domain="vpc")["AllocationId"]
            tags_of_pool: Any = [{"Key": key, "Value": value} for key, value in POOL.items()]
            cloud.ec2.create_tags(Resources=[allocated], Tags=tags_of_pool)
        session = boto3.session.Session("lab", "lab", region_name=REGION)
        sqs: Any = session.client("sqs", endpoint_url=cloud.url)
        session.client("sns", endpoint_url=cloud.url).create_topic(Name=queues.topic_name("edge"))
        sqs.create_queue(QueueName=queues.dead_letters("edge"))
        given = sqs.create_queue(QueueName="given")["QueueUrl"]
        variables = {**cloud.environment, "AWS_ACCESS_KEY_ID": NODES, "AWS_SESSION_TOKEN": node}
        for key, value in variables.items():
            environ.setenv(key, value)
        calls: set[str] = set()
        account = Account(Aws(region=REGION, max_attempts=1), lambda operation, _, __: calls.add(operation))
        yield World(cloud, account, zone_id, node, joiner, spare, given, {"sqs": sqs}, calls)


def launch(cloud: Cloud) -> tuple[str, ...]:
    """Three instances of the fleet's own group: two in service, one that waits for the launch hook."""
    cloud.autoscaling.put_lifecycle_hook(
        AutoScalingGroupName=EDGE,
        LifecycleHookName="joins",
        LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
        HeartbeatTimeout=300,
    )
    cloud.scale(EDGE, 3)

    def states() -> dict[str, str]:
        return {machine.id: machine.lifecycle for machine in cloud.machines() if machine.group == EDGE}

    wait_until(lambda: list(states().values()) == ["Pending:Wait"] * 3, LONG, "three instances to wait")
    node, spare, joiner = sorted(states())
    for instance in (node, spare):
        cloud.autoscaling.complete_lifecycle_action(
            AutoScalingGroupName=EDGE, LifecycleHookName="joins", InstanceId=instance, LifecycleActionResult="CONTINUE"
        )
    wait_until(lambda: sorted(states().values()) == ["InService", "InService", "Pending:Wait"], LONG, "two in service")
    return node, spare, joiner
