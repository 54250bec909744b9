"""launch.yml and destroy.yml in an account of the local AWS, where another fleet lives already. In this order.

What they launch are real nodes, HAProxy and agent, with the rights of the role that they made and no others.
"""

import base64
import json
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from hafleet.core.foundation import foundation
from hafleet.core.queues import Place, queue_name
from hafleet.core.settings import Settings
from hafleet.lab.cloud import REGION
from hafleet.lab.fleet import Lab
from hafleet.lab.plan import ZONE
from tests.ansible.account import APP, COMMAND, DEAD, FLEET, ROLE, SETTINGS, Account, Inventory, lacking, plan
from tests.behaviour.event_stage import metrics

pytestmark = [
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
    pytest.mark.timeout(1800),  # a run of a playbook takes 20 s, and minutes on a busy machine
]
ACCOUNT, PATIENCE = "123456789012", 300.0
NEIGHBOUR = "edge-two"
HEARD = 'hafleet_event_messages_total{kind="wake"}'
OLD = """
region: eu-west-1
server_name: edge
auto_register_domain: lb.example.test
instance_type: m4.large
key_name: ops
subnets: [SUBNETS]
min_size: 2
max_size: 6
security_group_rules:
  - {proto: tcp, from_port: 80, to_port: 80, cidr_ip: 0.0.0.0/0}
  - {proto: tcp, from_port: 443, to_port: 443, cidr_ip: 0.0.0.0/0}
lb_mappings:
  - {name: shop, domain: '^shop\\.example\\.com$', servers: [10.0.1.10, 10.0.2.10]}
"""


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account with a zone, an application, and a fleet that is none of ours."""
    with Lab(plan()) as lab:
        lab.cloud.control("POST", "physics", {"terminating": 0.3, "boot": 0.2})
        ranges = [lab.network.subnet(0), lab.network.subnet(1)]
        found = lab.cloud.ec2.describe_subnets(Filters=[{"Name": "cidr-block", "Values": ranges}])["Subnets"]
        zone = lab.cloud.create_zone(ZONE)
        made = Account(lab, tmp_path_factory.mktemp("account"), [each["SubnetId"] for each in found], zone)
        made.add_neighbour(NEIGHBOUR)
        lab.group(APP, 1)
        lab.wait_until(lambda: [m.in_service for m in lab.cloud.machines()] == [True] * 2, PATIENCE, "both to serve")
        yield made


@pytest.fixture(scope="module")
def empty(account: Account) -> Inventory:
    """What is in the account before there is a fleet."""
    return account.inventory()


# --- launch ---------------------------------------------------------------------------------------------------------


def test_check_mode_takes_an_older_vars_file_and_shows_what_would_be_made_and_makes_nothing(
    account: Account, empty: Inventory
) -> None:
    old, into = account.folder / "old.yml", account.folder / "converted"
    old.write_text(OLD.replace("SUBNETS", ", ".join(account.subnets)))
    subprocess.run((COMMAND, "migrate", old, "--into", into), check=True, capture_output=True)
    with (into / "hafleet.yaml").open("a") as settings:
        settings.write("events: {queue: auto}\n")  # what the older one did not have
    # As docs/migrate.md has it: both files, and an image.
    given = f"hafleet_fleet_settings={{{{ lookup('ansible.builtin.file', '{into}/hafleet.yaml') | from_yaml }}}}"
    rest = {name: account.variables[f"hafleet_fleet_{name}"] for name in ("ami", "alarms", "command")}
    variables = {f"hafleet_fleet_{name}": value for name, value in rest.items()}
    told = account.run("launch.yml", "--check", "--diff", "-e", f"@{into}/fleet.yml", "-e", given, variables=variables)
    assert told.counts["failed"] == 0, told.said
    assert [name for name in told.changed if name.startswith("Make")] == [
        "Make the role",
        "Make its profile",
        "Make the security group",
        "Make the dead-letter queue",
        "Make the launch template",
        "Make the group, empty",
        "Make the group as it has to be",
        "Make alarms",
    ]
    shown = {'"name": "hafleet-edge-groups"', '"from_port": 443', '"type": "m4.large"', '"key": "ops"', '"max_size": 6'}
    assert shown | {'"- name: shop_http"', '"    - 10.0.2.10"'} <= set(told.plus), told.said
    assert account.inventory() == empty


@pytest.mark.usefixtures("empty")  # looked at before there is anything
def test_the_first_run_makes_all(account: Account) -> None:
    with account.nodes_have_their_role():
        told = account.play("launch.yml")
    assert told.counts["failed"] == 0, told.said
    assert "Make the group, empty" in told.changed and "Make the group as it has to be" in told.changed


def test_its_nodes_join_by_their_hook_with_the_rights_of_their_role(account: Account) -> None:
    lab = account.lab
    lab.wait_until(lambda: len(lab.members(FLEET)) == 2, PATIENCE, "two nodes in service")
    assert account.completed() == 2  # an agent's log may be behind
    hooks = account.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=FLEET)["LifecycleHooks"]
    told = {h["LifecycleHookName"]: (h["HeartbeatTimeout"], h["DefaultResult"]) for h in hooks}
    assert told == {"hafleet-join": (600, "ABANDON"), "hafleet-leave": (300, "CONTINUE")}
    assert {leaf.node for leaf in lab.registered()} >= {node.id for node in lab.nodes}
    assert account.checks(FLEET) == 2


def test_the_role_has_what_the_command_prints_and_no_more(account: Account) -> None:
    iam, folder = account.client("iam"), account.folder
    (folder / "hafleet.yaml").write_text(yaml.safe_dump(SETTINGS))
    place = ("--account", ACCOUNT, "--region", REGION, "--group", FLEET, "--zone-id", account.zone)
    words = (COMMAND, "iam-policy", "-c", folder / "hafleet.yaml", *place)
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
    """The lab founds its fleets by the same texts."""
    wanted = foundation(Settings.model_validate(SETTINGS), Place("aws", REGION, ACCOUNT), FLEET)
    sns, sqs, bridge = (account.client(name) for name in ("sns", "sqs", "events"))
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:{wanted.topic}"
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


def test_what_befalls_the_groups_comes_to_the_nodes(account: Account) -> None:
    lab = account.lab
    names = {queue_name(FLEET, node.id) for node in lab.nodes}
    lab.wait_until(lambda: account.subscribed() == names, PATIENCE, "each node's queue on the topic")
    lab.scale(APP, 2)
    lab.wait_until(
        lambda: all(metrics(node).get(HEARD) for node in lab.nodes), PATIENCE, "both nodes to hear of the launch"
    )
    lab.scale(APP, 1)
    lab.wait_until(lambda: len(lab.members(APP, in_service=False)) == 1, PATIENCE, "one server")


def test_the_second_run_changes_nothing(account: Account) -> None:
    # An order of the fleet is a tag of the group, and nobody else's business.
    tag = {"Key": "hafleet:zone:eu-west-1z", "Value": "drain", "PropagateAtLaunch": False}
    tag |= {"ResourceId": FLEET, "ResourceType": "auto-scaling-group"}
    account.client("autoscaling").create_or_update_tags(Tags=[tag])
    account.leave_behind(FLEET, DEAD)
    before = account.inventory()
    given = ("min=2", "max=4", "desired=2", "wait=600", "refresh=true")  # texts, and no node to refresh
    texts = [word for name in given for word in ("-e", f"hafleet_fleet_{name}")]
    told = account.play("launch.yml", *texts)
    assert (told.counts["changed"], told.counts["failed"]) == (0, 0), told.said
    assert account.inventory() == before


def test_a_change_is_shown_then_made_and_nothing_else(account: Account) -> None:
    # What others set on the group, and the module would set back.
    auto = account.cloud.autoscaling
    auto.suspend_processes(AutoScalingGroupName=FLEET, ScalingProcesses=["AZRebalance"])
    auto.enable_metrics_collection(AutoScalingGroupName=FLEET, Granularity="1Minute", Metrics=["GroupMinSize"])
    auto.update_auto_scaling_group(AutoScalingGroupName=FLEET, HealthCheckGracePeriod=120)
    before = account.inventory()
    over: dict[str, object] = {
        "hafleet_fleet_max": 6,
        "hafleet_fleet_key_name": "",
        "hafleet_fleet_settings": {**SETTINGS, "passes": {"jitter": "10%"}},
    }
    shown = account.play("launch.yml", "--check", "--diff", "-e", "hafleet_fleet_refresh=true", **over)
    parts = ["Make the launch template", "Show what changes in the launch template"]
    parts += [
        "Show what changes in the group",
        "Make the group as it has to be",
        "Let the nodes follow the launch template",
    ]
    assert shown.changed == parts and account.inventory() == before, shown.said
    parts = ['"key": ""', '"passes:"', '"  jitter: 10%"', '"max_size": 6', '"version": "the next"']
    assert shown.plus == parts, shown.said

    told = account.play("launch.yml", "-e", "hafleet_fleet_refresh=false", hafleet_fleet_wait=600, **over)
    assert told.changed == ["Make the launch template", "Make the group as it has to be"], told.said
    after = account.inventory()
    assert {kind for kind in after if after[kind] != before[kind]} == {"groups", "templates"}
    found = account.cloud.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[FLEET])
    (group,) = found["AutoScalingGroups"]
    assert (group["MaxSize"], group["DesiredCapacity"], group["LaunchTemplate"]["Version"]) == (6, 2, "2")
    assert "hafleet:zone:eu-west-1z" in {tag["Key"] for tag in group["Tags"]}
    assert [each["ProcessName"] for each in group["SuspendedProcesses"]] == ["AZRebalance"]
    assert group["EnabledMetrics"] == [{"Metric": "GroupMinSize", "Granularity": "1Minute"}]
    assert group["HealthCheckGracePeriod"] == 120
    versions = account.client("ec2").describe_launch_template_versions(LaunchTemplateName=FLEET, Versions=["1", "2"])
    keys = {
        each["VersionNumber"]: each["LaunchTemplateData"].get("KeyName") for each in versions["LaunchTemplateVersions"]
    }
    assert keys == {1: "ops", 2: None}  # AWS keeps what a version does not name, where it is told of a version before


@pytest.mark.parametrize(
    ("over", "sentences"),
    [
        (
            {"hafleet_fleet_name": "other", "hafleet_fleet_region": "", "hafleet_fleet_alarms": [{"name": "edge-cpu"}]},
            [
                "the names of hafleet_fleet_alarms have to begin with hafleet-other-",
                'hafleet_fleet_name is "other", and fleet of hafleet_fleet_settings is "edge": they have to be the same',
                'hafleet_fleet_region is "", and aws.region of hafleet_fleet_settings is "": set one of them',
            ],
        ),
        (
            {
                "hafleet_fleet_subnets": [],
                "hafleet_fleet_ami_tags": {"a": "b"},
                "hafleet_fleet_min": 5,
                "hafleet_fleet_ingress": [],
                "hafleet_fleet_role": "r" * 65,
                "hafleet_fleet_refresh_healthy": 5,
                "hafleet_fleet_group": "lb",
                "hafleet_fleet_tags": {"cost centre": "7", "_index": "1", "team": "edge"},
            },
            [
                "hafleet_fleet_subnets is empty: name the subnets of the nodes",
                "set either hafleet_fleet_ami or hafleet_fleet_ami_tags",
                "hafleet_fleet_min (5), hafleet_fleet_desired (unset) and hafleet_fleet_max (4) do not fit each other",
                "hafleet_fleet_ingress is empty: nobody could reach the frontends",
                "is longer than the 64 characters that IAM takes",
                "hafleet_fleet_refresh_healthy (5) has to be 0 to 100, hafleet_fleet_refresh_most (110) 100 to 200",
                "hafleet_fleet_group lb is shorter than the 3 characters",
                "hafleet_fleet_tags: cost centre, _index: a key has letters",
            ],
        ),
        (
            {"hafleet_fleet_settings": {**SETTINGS, "fleet": "e" * 50}, "hafleet_fleet_alarms": []},
            ["is longer than the 49 characters with which a rule of EventBridge can be named after it"],
        ),
        (
            {"hafleet_fleet_settings": {**SETTINGS, "dns": {"name": "lb.example.org", "zone": "example.org"}}},
            ["there are 0 public hosted zones example.org in this account: make one"],
        ),
        (
            {"hafleet_fleet_settings": {**SETTINGS, "frontends": [{"name": "web", "bind": "nowhere"}]}},
            ["hafleet foundation", "frontends[0].bind"],
        ),
    ],
)
def test_what_cannot_become_a_fleet_is_refused_with_every_reason(
    account: Account, over: dict[str, object], sentences: list[str]
) -> None:
    before = account.inventory()
    told = account.play("launch.yml", **over)
    assert told.counts["failed"] == 1 and told.changed == [], told.said
    assert [sentence for sentence in sentences if sentence not in told.flat] == [], told.said
    assert account.inventory() == before


# --- destroy --------------------------------------------------------------------------------------------------------


def test_a_fleet_that_was_not_named_is_not_destroyed(account: Account) -> None:
    before = account.inventory()
    told = account.play("destroy.yml", hafleet_fleet_destroy=NEIGHBOUR)
    assert told.counts["failed"] == 1 and "add -e hafleet_fleet_destroy=edge" in told.flat, told.said
    assert account.inventory() == before


def test_what_is_somebody_elses_is_not_destroyed(account: Account) -> None:
    before = account.inventory()
    role = f"hafleet-{NEIGHBOUR}-{REGION}"
    over = {"hafleet_fleet_group": NEIGHBOUR, "hafleet_fleet_role": role}
    told = account.play("destroy.yml", hafleet_fleet_destroy=FLEET, **over)
    kinds = ("an Auto Scaling group", "a launch template", "a security group")
    for what in (*(f"{kind} named {NEIGHBOUR}" for kind in kinds), f"a role named {role}"):
        assert f"there is {what} already, without the tag hafleet:fleet=edge" in told.flat, told.said
    assert told.counts["failed"] == 1 and told.changed == [] and account.inventory() == before


def test_check_mode_shows_what_would_go_and_takes_nothing_away(account: Account) -> None:
    before = account.inventory()
    told = account.play("destroy.yml", "--check", "--diff", hafleet_fleet_destroy=FLEET)
    assert told.counts["failed"] == 0, told.said
    assert told.changed == [
        "End the nodes, then the group and its hooks",
        "Clear records and health checks",
        "Show which rules would go",
        "Remove the queues that nodes left, and the dead letters",
        "Remove the topic with its subscriptions",
        "Remove the launch template",
        "Remove alarms",
        "Remove the profile",
        "Remove the role and its rights",
        "Remove the security group",
    ]
    assert account.inventory() == before


def test_a_destroy_that_may_not_wait_says_who_is_there_and_removes_nothing_else(account: Account) -> None:
    before = account.inventory()
    texts = ("-e", "hafleet_fleet_destroy_force=false", "-e", "hafleet_fleet_destroy_wait=1")
    told = account.play("destroy.yml", *texts, hafleet_fleet_destroy=FLEET)
    assert told.counts["failed"] == 1 and told.changed == [], told.said
    assert "the group edge is not gone: Waited too long" in told.flat and "Still there: " in told.flat, told.said
    after = account.inventory()
    kept = {"templates", "security groups", "roles", "profiles", "topics", "rules", "alarms"}
    assert {kind for kind in kept if after[kind] != before[kind]} == set()


def test_destroy_lets_the_nodes_leave_by_their_hooks_and_keeps_a_security_group_that_another_names(
    account: Account, empty: Inventory
) -> None:
    ec2 = account.client("ec2")
    (wall,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [FLEET]}])["SecurityGroups"]
    (other,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [NEIGHBOUR]}])["SecurityGroups"]
    rule = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": [{"GroupId": wall["GroupId"]}]}
    ec2.authorize_security_group_ingress(GroupId=other["GroupId"], IpPermissions=[rule])
    # The zone as settings may name it, too.
    over = {"hafleet_fleet_settings": {**SETTINGS, "dns": {**SETTINGS["dns"], "zone": f"{ZONE.upper()}."}}}
    told = account.play("destroy.yml", hafleet_fleet_destroy=FLEET, **over)
    assert told.counts["failed"] == 1, told.said
    assert f"rules of {other['GroupId']} name the security group {FLEET} ({wall['GroupId']})" in told.flat, told.said
    assert account.completed() == 4  # both launches, both ends
    logs = [log.read_text() for log in account.lab.folder.glob("n*/agent.log")]
    assert len(logs) == 2 and not any("Traceback" in log for log in logs)
    ec2.revoke_security_group_ingress(GroupId=other["GroupId"], IpPermissions=[rule])
    left = account.inventory()
    assert {kind for kind in left if left[kind] != empty[kind]} == {"security groups"}


def test_the_next_destroy_finishes_and_leaves_the_account_as_it_was(account: Account, empty: Inventory) -> None:
    told = account.play("destroy.yml", hafleet_fleet_destroy=FLEET)
    assert told.counts["failed"] == 0 and told.changed == ["Remove the security group"], told.said
    assert account.inventory() == empty
    assert account.cloud.refused() == []


def test_one_more_destroy_changes_nothing(account: Account, empty: Inventory) -> None:
    told = account.play("destroy.yml", hafleet_fleet_destroy=FLEET)
    assert (told.counts["changed"], told.counts["failed"]) == (0, 0), told.said
    assert account.inventory() == empty


# --- and once more: without events, and by force ---------------------------------------------------------------------


def test_settings_without_events_take_away_what_those_before_had_made(account: Account, empty: Inventory) -> None:
    lab = account.lab
    assert account.play("launch.yml").counts["failed"] == 0
    lab.wait_until(lambda: len(lab.members(FLEET)) == 2, PATIENCE, "two nodes in service")
    told = account.play("launch.yml", hafleet_fleet_settings={**SETTINGS, "events": {"queue": "none"}})
    assert told.counts["failed"] == 0, told.said
    found = account.inventory()
    assert {kind for kind in ("topics", "rules") if found[kind] != empty[kind]} == set()
    assert not any(url.endswith(f"hafleet-{FLEET}-dead") for url in found["queues"])


def test_destroy_by_force_ends_the_nodes_at_once_and_leaves_the_account_as_it_was(
    account: Account, empty: Inventory
) -> None:
    before = account.completed()
    told = account.play("destroy.yml", "-e", "hafleet_fleet_destroy_force=true", hafleet_fleet_destroy=FLEET)
    assert told.counts["failed"] == 0, told.said
    assert account.completed() == before
    assert account.inventory() == empty
