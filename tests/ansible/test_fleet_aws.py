"""launch.yml and destroy.yml in an account of the local AWS, where another fleet lives already. In this order."""

import base64
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from hafleet.core.foundation import foundation
from hafleet.core.queues import Place
from hafleet.core.settings import Settings
from hafleet.lab.cloud import REGION, Cloud
from hafleet.lab.network import claim
from hafleet.lab.processes import Processes, wait_until
from tests.ansible.account import DEAD, ROOT, SETTINGS, ZONE, Account, lacking

pytestmark = [
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
    pytest.mark.timeout(1800),  # a run of a playbook takes 20 s, and minutes on a busy machine
]
FLEET, ROLE, PATIENCE = "edge", f"hafleet-edge-{REGION}", 300.0
Inventory = dict[str, list[str]]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account with a zone, and with a fleet that is none of ours."""
    folder = tmp_path_factory.mktemp("account")
    processes = Processes(folder)
    with claim() as network:
        try:
            cloud = Cloud(network, processes, folder / "aws.log")
            subnets = [each["SubnetId"] for each in cloud.ec2.describe_subnets()["Subnets"]]
            mine = [
                s
                for s in subnets
                if s
                in str(
                    cloud.ec2.describe_subnets(
                        Filters=[{"Name": "cidr-block", "Values": [network.subnet(0), network.subnet(1)]}]
                    )
                )
            ]
            made = Account(cloud, folder, mine, cloud.create_zone(ZONE))
            made.add_neighbour("edge-two")
            wait_until(lambda: all(m.in_service for m in cloud.machines()), PATIENCE, "the neighbour's node")
            yield made
        finally:
            processes.close()


@pytest.fixture(scope="module")
def empty(account: Account) -> Inventory:
    """What is in the account before there is a fleet."""
    return account.inventory()


# --- launch ---------------------------------------------------------------------------------------------------------


def test_check_mode_in_an_empty_account_says_what_would_be_made_and_makes_nothing(
    account: Account, empty: Inventory
) -> None:
    told = account.play("launch.yml", "--check", "--diff")
    assert told.counts["failed"] == 0 and told.counts["changed"] >= 7, told.said
    assert "would make hafleet-edge, hafleet-edge-groups" in told.said
    assert account.inventory() == empty


def test_the_first_run_makes_all(account: Account) -> None:
    told = account.play("launch.yml")
    assert told.counts["failed"] == 0, told.said
    assert "Make the group, empty" in told.changed and "Make the group as it has to be" in told.changed


def test_no_node_starts_before_its_hooks_are_there(account: Account) -> None:
    def waiting() -> list[Any]:
        return [each for each in account.cloud.waiting() if each["group"] == FLEET]

    wait_until(lambda: len(waiting()) == 2, PATIENCE, "both nodes wait for the launch hook")
    assert {each["hook"] for each in waiting()} == {"hafleet-join"}
    hooks = account.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=FLEET)["LifecycleHooks"]
    told = {h["LifecycleHookName"]: (h["HeartbeatTimeout"], h["DefaultResult"]) for h in hooks}
    assert told == {"hafleet-join": (600, "ABANDON"), "hafleet-leave": (300, "CONTINUE")}


def test_the_role_has_what_the_command_prints_and_no_more(account: Account) -> None:
    iam, folder = account.client("iam"), account.folder
    (folder / "hafleet.yaml").write_text(yaml.safe_dump(SETTINGS))
    place = ("--account", "123456789012", "--region", REGION, "--group", FLEET, "--zone-id", account.zone)
    words = (ROOT / ".venv/bin/hafleet", "iam-policy", "-c", folder / "hafleet.yaml", *place)
    printed = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
    assert iam.list_role_policies(RoleName=ROLE)["PolicyNames"] == ["hafleet"]
    assert iam.get_role_policy(RoleName=ROLE, PolicyName="hafleet")["PolicyDocument"] == printed
    assert iam.list_attached_role_policies(RoleName=ROLE)["AttachedPolicies"] == []
    profile = iam.get_instance_profile(InstanceProfileName=ROLE)["InstanceProfile"]
    assert [role["RoleName"] for role in profile["Roles"]] == [ROLE]


def test_nodes_ask_imds_by_tokens_only_and_get_their_settings(account: Account) -> None:
    ec2 = account.client("ec2")
    (version,) = ec2.describe_launch_template_versions(LaunchTemplateName=FLEET)["LaunchTemplateVersions"]
    data = version["LaunchTemplateData"]
    options = data["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
    assert options["InstanceMetadataTags"] == "enabled"
    script = base64.b64decode(data["UserData"]).decode()
    assert yaml.safe_load(script.split("END-OF-SETTINGS'\n")[1].split("END-OF-SETTINGS")[0]) == SETTINGS
    subprocess.run(("sh", "-n"), input=script, text=True, check=True)


def test_each_port_is_open_for_those_who_need_it(account: Account) -> None:
    ec2 = account.client("ec2")
    (wall,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [FLEET]}])["SecurityGroups"]
    rules = {rule["FromPort"]: rule for rule in wall["IpPermissions"]}
    assert set(rules) == {80, 8403, 10000}
    assert [r["CidrIp"] for r in rules[80]["IpRanges"]] == ["0.0.0.0/0"]
    lists = {
        each["PrefixListId"]: each["PrefixListName"] for each in ec2.describe_managed_prefix_lists()["PrefixLists"]
    }
    names = {lists[each["PrefixListId"]] for each in rules[8403]["PrefixListIds"]}
    assert names == {f"com.amazonaws.{REGION}.{inset}route53-healthchecks" for inset in ("", "ipv6.")}
    assert [r["GroupId"] for r in rules[10000]["UserIdGroupPairs"]] == [wall["GroupId"]]
    assert not rules[8403]["IpRanges"] and not rules[10000]["IpRanges"]


def test_topic_queue_and_rules_are_those_of_the_lab(account: Account) -> None:
    """The lab founds its fleets by the same texts: its tests show that nodes hear by them."""
    wanted = foundation(Settings.model_validate(SETTINGS), Place("aws", REGION, "123456789012"), FLEET)
    sns, sqs, bridge = (account.client(name) for name in ("sns", "sqs", "events"))
    topic = f"arn:aws:sns:{REGION}:123456789012:{wanted.topic}"
    assert json.loads(sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"]) == wanted.topic_policy
    url = sqs.get_queue_url(QueueName=wanted.dead_letters)["QueueUrl"]
    kept = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    assert json.loads(kept) == wanted.dead_letters_policy
    for rule in wanted.rules:
        made = bridge.describe_rule(Name=rule.name)
        pattern = json.loads(made["EventPattern"]) if "EventPattern" in made else None
        assert (pattern, made.get("ScheduleExpression", "")) == (rule.pattern, rule.schedule)
        (target,) = bridge.list_targets_by_rule(Rule=rule.name)["Targets"]
        assert target["Arn"] == topic


def test_what_befalls_the_group_comes_to_a_nodes_queue(account: Account) -> None:
    sns, sqs = account.client("sns"), account.client("sqs")
    account.leave_behind(FLEET, DEAD)
    url = sqs.get_queue_url(QueueName=f"hafleet-{FLEET}-{DEAD}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = f"arn:aws:sns:{REGION}:123456789012:hafleet-{FLEET}"
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    heard: list[str] = []

    def comes() -> bool:
        account.complete(FLEET)
        found = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10).get("Messages", [])
        heard.extend(json.loads(message["Body"])["detail-type"] for message in found)
        return "EC2 Instance Launch Successful" in heard

    wait_until(comes, PATIENCE, "a launch is heard of")
    mine = [each for each in account.cloud.machines() if each.group == FLEET]
    assert len(mine) == 2


def test_the_second_run_changes_nothing(account: Account) -> None:
    # An order of the fleet is a tag of the group, and nobody else's business.
    tag = {"Key": "hafleet:zone:eu-west-1a", "Value": "drain", "PropagateAtLaunch": False}
    tag |= {"ResourceId": FLEET, "ResourceType": "auto-scaling-group"}
    account.client("autoscaling").create_or_update_tags(Tags=[tag])
    before = account.inventory()
    told = account.play("launch.yml")
    assert (told.counts["changed"], told.counts["failed"]) == (0, 0), told.said
    assert account.inventory() == before


def test_a_change_of_one_variable_changes_that_and_nothing_else(account: Account) -> None:
    before = account.inventory()
    told = account.play("launch.yml", hafleet_fleet_max=6, hafleet_fleet_ami="ami-87654321")
    assert told.changed == ["Make the launch template", "Make the group as it has to be"], told.said
    after = account.inventory()
    assert {kind for kind in after if after[kind] != before[kind]} == {"groups", "templates"}
    (group,) = account.cloud.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[FLEET])[
        "AutoScalingGroups"
    ]
    assert (group["MaxSize"], group["DesiredCapacity"], group["LaunchTemplate"]["Version"]) == (6, 2, "2")
    assert "hafleet:zone:eu-west-1a" in {tag["Key"] for tag in group["Tags"]}


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ({"hafleet_fleet_subnets": []}, "hafleet_fleet_subnets is empty"),
        ({"hafleet_fleet_ami_tags": {"a": "b"}}, "set either hafleet_fleet_ami or hafleet_fleet_ami_tags"),
        ({"hafleet_fleet_min": 5}, "do not fit each other"),
        ({"hafleet_fleet_name": "other"}, "they have to be the same"),
        ({"hafleet_fleet_group": "edge-two"}, "AutoScalingGroups has one named edge-two already"),
        (
            {"hafleet_fleet_settings": {**SETTINGS, "dns": {"name": "lb.example.org", "zone": "example.org"}}},
            "there are 0 public hosted zones example.org",
        ),
    ],
)
def test_what_cannot_become_a_fleet_is_refused_with_the_reason(
    account: Account, over: dict[str, object], sentence: str
) -> None:
    before = account.inventory()
    told = account.play("launch.yml", **over)
    assert told.counts["failed"] == 1 and sentence in " ".join(told.said.split()), told.said
    assert told.changed == [] and account.inventory() == before


# --- destroy --------------------------------------------------------------------------------------------------------


def test_a_fleet_that_was_not_named_is_not_destroyed(account: Account) -> None:
    before = account.inventory()
    told = account.play("destroy.yml", hafleet_fleet_destroy="edge-two")
    assert told.counts["failed"] == 1 and "add -e hafleet_fleet_destroy=edge" in " ".join(told.said.split())
    assert account.inventory() == before


def test_destroy_ends_the_nodes_by_their_hooks_and_leaves_the_account_as_it_was(
    account: Account, empty: Inventory
) -> None:
    assert account.checks(FLEET) == 1
    with account.nodes_leave(FLEET) as completed:
        told = account.play("destroy.yml", hafleet_fleet_destroy=FLEET)
    assert told.counts["failed"] == 0, told.said
    assert completed.count("hafleet-leave") == 2
    assert account.inventory() == empty


def test_the_second_destroy_changes_nothing(account: Account, empty: Inventory) -> None:
    told = account.play("destroy.yml", hafleet_fleet_destroy=FLEET)
    assert (told.counts["changed"], told.counts["failed"]) == (0, 0), told.said
    assert account.inventory() == empty
