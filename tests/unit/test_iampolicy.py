"""The IAM policy that settings need: which statements, and how narrow."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from click.testing import CliRunner

from hafleet import lifecycle
from hafleet.cli import main
from hafleet.core import endings, iampolicy
from hafleet.core.iamgrants import GRANTS, REAPER, RENAMED, needed
from hafleet.core.iampolicy import Scope, document, loose, scope_of, statements
from hafleet.core.settings import Settings

ROOT = Path(__file__).parents[2]
WIDE = Scope()
NARROW = Scope("aws", "eu-west-1", "123456789012", "edge", "Z08ABC")
STATIC = {"static": {"id": "lb-1", "private_ip": "10.0.0.1"}}
DNS = {"name": "lb.example.com", "zone": "example.com"}
SERVICES = ("autoscaling", "ec2", "route53", "sqs", "sns")
Json = dict[str, Any]


def settings(sources: list[Json] | None = None, **more: Any) -> Settings:
    return Settings.model_validate(
        {
            "fleet": "edge",
            "frontends": [{"name": "web", "bind": ":80", "default_backend": "site"}],
            "backends": [{"name": "site", "sources": sources or [{"asg": "blue"}]}],
            **more,
        }
    )


def sids(found: Settings) -> list[str]:
    return [statement.sid for statement in statements(found, WIDE)]


def statement(sid: str, found: Settings, scope: Scope = NARROW) -> Json:
    """One statement, as it is printed."""
    policy: Any = document(statements(found, scope))
    (one,) = [each for each in policy["Statement"] if each["Sid"] == sid]
    return dict(one)


# --- which statements -------------------------------------------------------------------------------------------------

OUTSIDE: list[Json] = [{"static": ["10.0.9.10"]}]
WHICH: dict[str, tuple[Settings, list[str]]] = {
    "a node on EC2": (settings(), ["Membership", "OwnGroup", "Orders"]),
    "a node by hand": (settings(node=STATIC), ["Membership"]),
    "a node by hand, servers by hand": (settings(OUTSIDE, node=STATIC), []),
    "the same with peers": (
        settings(OUTSIDE, node={"static": {**STATIC["static"], "asg": "edge"}}),
        ["Membership", "Orders"],
    ),
    "dns by zone": (
        settings(OUTSIDE, node=STATIC, dns=DNS),
        ["Membership", "ZoneByName", "RecordList", "Records", "Changes", "HealthCheckList", "NewHealthCheck", "HealthChecks"],
    ),
    "hooks": (settings(lifecycle={}), ["Membership", "OwnGroup", "HookList", "Hooks", "Orders"]),
    "replacement": (
        settings(lifecycle={"unhealthy_after": "5m"}),
        ["Membership", "OwnGroup", "HookList", "Hooks", "Replacement", "Orders"],
    ),
    "tag": (
        settings(lifecycle={"abandon_tag": True}),
        ["Membership", "OwnGroup", "HookList", "Hooks", "AbandonedTag", "Orders"],
    ),
    "addresses": (
        settings(eip={"pool_tag": {"pool": "edge"}}),
        ["Membership", "OwnGroup", "AddressList", "Addresses", "AddressInstance", "AddressInterface", "Orders"],
    ),
    "own queue": (
        settings(events={"queue": "auto"}),
        ["Membership", "OwnGroup", "Queue", "QueueList", "Subscribing", "SubscriptionList", "Unsubscribing", "Orders"],
    ),
    "given queue": (
        settings(events={"queue": "https://sqs.eu-west-1.amazonaws.com/123456789012/q"}),
        ["Membership", "OwnGroup", "GivenQueue", "Orders"],
    ),
    "no queue": (settings(events={"queue": "none"}), ["Membership", "OwnGroup", "Orders"]),
}  # fmt: skip


@pytest.mark.parametrize(("found", "wanted"), WHICH.values(), ids=WHICH.keys())
def test_only_what_the_settings_need(found: Settings, wanted: list[str]) -> None:
    assert sids(found) == wanted


def test_hooks_of_servers_by_name_and_by_tags() -> None:
    by_tag = [
        {"asg_tag": {"role": "a", "env": "p"}, "terminate_hook": "h"},
        {"asg_tag": {"role": "b"}, "terminate_hook": "h"},
    ]
    found = settings([{"asg": "blue", "terminate_hook": "h"}, {"asg": "green"}, *by_tag])
    assert "HookList" in sids(found)
    assert [s for s in sids(found) if "Server" in s] == ["ServerHooks", "TaggedServerHooks1", "TaggedServerHooks2"]
    assert [s for s in sids(found) if s.startswith("Drained")] == ["DrainedTag", "DrainedTagList"]
    assert statement("DrainedTag", found)["Condition"]["ForAllValues:StringEquals"] == {
        "aws:TagKeys": "hafleet:drained"
    }
    assert statement("ServerHooks", found)["Resource"].endswith("autoScalingGroupName/blue")
    tagged = statement("TaggedServerHooks1", found)
    assert tagged["Resource"].endswith("autoScalingGroupName/*")
    assert tagged["Condition"] == {"StringEquals": {"aws:ResourceTag/env": "p", "aws:ResourceTag/role": "a"}}


# --- how narrow -------------------------------------------------------------------------------------------------------


def test_records_are_those_of_the_name() -> None:
    one = statement("Records", settings(dns=DNS))
    key = "route53:ChangeResourceRecordSets"
    assert one["Resource"] == "arn:aws:route53:::hostedzone/Z08ABC"
    assert one["Condition"] == {
        "ForAllValues:StringLike": {f"{key}NormalizedRecordNames": ["lb.example.com", "*.lb.example.com"]},
        "ForAllValues:StringEquals": {f"{key}RecordTypes": ["A", "AAAA"], f"{key}Actions": ["CREATE", "DELETE"]},
        "Null": {f"{key}NormalizedRecordNames": "false", f"{key}RecordTypes": "false", f"{key}Actions": "false"},
    }


def test_a_star_of_a_name_is_no_wildcard() -> None:
    one = statement("Records", settings(dns={"name": "*.example.com", "zone": "example.com"}))
    names = one["Condition"]["ForAllValues:StringLike"]["route53:ChangeResourceRecordSetsNormalizedRecordNames"]
    assert names == [r"\052.example.com", r"*.\052.example.com"]


def test_the_zone_is_the_one_that_the_settings_name() -> None:
    found = settings(dns={"name": "lb.example.com", "zone_id": "Z1"})
    policy: Any = document(statements(found, scope_of(found)))
    assert {s["Resource"] for s in policy["Statement"] if "hostedzone" in str(s)} == {"arn:aws:route53:::hostedzone/Z1"}


def test_hooks_are_those_of_the_own_group() -> None:
    arn = "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:*:autoScalingGroupName/edge"
    assert statement("Hooks", settings(lifecycle={}))["Resource"] == arn


def test_a_name_holds_neither_wildcards_nor_variables() -> None:
    odd = Scope(group="a*b?c${d}")
    assert statement("Hooks", settings(lifecycle={}), odd)["Resource"].endswith("/a${*}b${?}c${$}{d}")
    pool = settings(eip={"pool_tag": {"pool": "${aws:username}"}})
    assert statement("Addresses", pool)["Condition"]["StringEquals"] == {"aws:ResourceTag/pool": "${$}{aws:username}"}


def test_a_node_tags_itself_and_takes_an_address_for_itself() -> None:
    found = settings(lifecycle={"abandon_tag": True}, eip={"pool_tag": {"pool": "edge"}})
    itself = {"aws:userid": "*:${ec2:InstanceID}"}
    tags = statement("AbandonedTag", found)
    assert tags["Condition"]["StringLike"] == itself
    assert tags["Condition"]["ForAllValues:StringEquals"] == {"aws:TagKeys": "hafleet:abandoned"}
    assert statement("AddressInstance", found)["Condition"]["StringLike"] == itself
    by_hand = settings(node=STATIC, eip={"pool_tag": {"pool": "edge"}})
    assert "Condition" not in statement("AddressInstance", by_hand)  # its credentials are of no instance's role


def test_the_tags_are_those_that_are_written() -> None:
    assert (iampolicy.ABANDONED, iampolicy.DRAINED) == (lifecycle.ABANDONED, endings.DRAINED)


def test_queues_are_the_nodes_own() -> None:
    one = statement("Queue", settings(events={"queue": "auto"}))
    assert one["Resource"] == "arn:aws:sqs:eu-west-1:123456789012:hafleet-edge-i-*"
    by_hand = statement("Queue", settings(events={"queue": "auto"}, node=STATIC))["Resource"]
    assert [arn.rpartition(":")[2] for arn in by_hand] == ["hafleet-edge-i-*", "hafleet-edge-lb-1"]
    as_ec2 = {"static": {"id": "i-0abc", "private_ip": "10.0.0.1"}}
    assert statement("Queue", settings(events={"queue": "auto"}, node=as_ec2))["Resource"].endswith("hafleet-edge-i-*")
    topic = statement("Subscribing", settings(events={"queue": "auto"}))
    assert topic["Condition"] == {
        "StringEquals": {"sns:Protocol": "sqs"},
        "StringLike": {"sns:Endpoint": "arn:aws:sqs:eu-west-1:123456789012:hafleet-edge-i-*"},
    }


@pytest.mark.parametrize(
    ("url", "arn"),
    [
        ("https://sqs.cn-north-1.amazonaws.com.cn/210987654321/q", "arn:aws-cn:sqs:cn-north-1:210987654321:q"),
        ("http://127.0.0.1:5600/210987654321/q", "arn:aws:sqs:eu-west-1:210987654321:q"),
        ("https://queues.example.com/q", "arn:aws:sqs:eu-west-1:123456789012:q"),
    ],
)
def test_a_given_queue_by_its_url(url: str, arn: str) -> None:
    assert statement("GivenQueue", settings(events={"queue": url}))["Resource"] == arn


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("*", "aws")],
)
def test_the_partition_of_a_region(region: str, partition: str) -> None:
    assert iampolicy.partition_of(region) == partition


def test_what_the_settings_tell_of_the_place() -> None:
    static = {"id": "lb-1", "private_ip": "10.0.0.1", "region": "cn-north-1", "asg": "edge"}
    found = settings(node={"static": static}, dns={"name": "a.b", "zone_id": "Z1"})
    assert scope_of(found) == Scope("aws-cn", "cn-north-1", "*", "edge", "Z1")
    assert scope_of(settings(aws={"region": "eu-west-1"}, dns=DNS)) == Scope("aws", "eu-west-1")
    assert scope_of(settings()) == scope_of(settings(node=STATIC)) == WIDE


def test_what_could_be_narrower() -> None:
    found = settings(lifecycle={}, dns=DNS)
    assert loose(statements(found, WIDE), WIDE) == ("region", "account", "group", "zone_id")
    assert loose(statements(found, NARROW), NARROW) == ()
    assert loose(statements(settings(node=STATIC), WIDE), WIDE) == ()


def test_a_policy_is_one_that_iam_takes() -> None:
    found = settings(
        [{"asg": "blue", "terminate_hook": "h"}],
        dns=DNS,
        lifecycle={"abandon_tag": True, "unhealthy_after": "1m"},
        eip={"pool_tag": {"pool": "edge"}},
        events={"queue": "auto"},
    )
    policy: Any = document(statements(found, NARROW))
    names = [each["Sid"] for each in policy["Statement"]]
    assert len(set(names)) == len(names) and all(re.fullmatch("[A-Za-z0-9]+", name) for name in names)
    assert (
        len(json.dumps(policy, separators=(",", ":"))) <= 6144
    )  # characters of a customer managed policy (IAM quotas)
    actions = [action for each in policy["Statement"] for action in each["Action"]]
    assert not any("*" in action for action in actions)


# --- the table --------------------------------------------------------------------------------------------------------


def operations() -> dict[str, set[str]]:
    """Every operation of the five services by its method's name -> the services that have it."""
    session = botocore.session.get_session()
    found: dict[str, set[str]] = {}
    for service in SERVICES:
        for name in session.get_service_model(service).operation_names:
            found.setdefault(xform_name(name), set()).add(f"{service}:{name}")
    return found


def called(source: str, known: dict[str, set[str]]) -> set[str]:
    """The names of AWS's operations that a source calls on something."""
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return {func.attr for func in calls if isinstance(func, ast.Attribute)} & known.keys()


def test_the_table_holds_every_call_of_the_product_and_no_other() -> None:
    known = operations()
    sources = [
        path for folder in ("adapters", "lambdas", "registration") for path in (ROOT / "hafleet" / folder).rglob("*.py")
    ]
    found = {name for path in sources for name in called(path.read_text(), known)}
    granted = {action for grant in GRANTS.values() for action in grant.actions}
    of_calls = {name: {needed(*call.split(":")) for call in known[name]} for name in found}
    missing = {name for name, ways in of_calls.items() if not any(set(actions) <= granted for actions in ways)}
    assert missing == set()
    used = {action for ways in of_calls.values() for actions in ways for action in actions}
    assert granted - used == set()


def test_a_call_that_the_table_does_not_hold_is_found() -> None:
    known = operations()
    assert called("client.terminate_instances(InstanceIds=[i])", known) == {"terminate_instances"}
    assert known["terminate_instances"] == {"ec2:TerminateInstances"}
    assert called("self.terminate()", known) == set()


def test_the_table_is_in_order() -> None:
    assert all(list(grant.actions) == sorted(set(grant.actions)) for grant in GRANTS.values())
    assert set(GRANTS) >= REAPER
    granted = {action for grant in GRANTS.values() for action in grant.actions}
    assert all(set(actions) <= granted for actions in RENAMED.values())
    assert needed("sqs", "DeleteMessageBatch") == ("sqs:DeleteMessage",)
    assert needed("route53", "GetChange") == ("route53:GetChange",)


def test_the_page_tells_of_every_statement_and_its_actions() -> None:
    rows: dict[str, tuple[Any, ...]] = {}
    for line in (ROOT / "docs" / "iam.md").read_text().splitlines():
        if match := re.match(r"\| `(\w+)` \| (.+?) \|", line):
            rows[match[1]] = set(re.findall(r"`([a-z0-9]+:\w+)`", match[2])), *line.strip("| ").split(" | ")[-2:]
    assert rows == {sid: (set(grant.actions), grant.purpose, grant.without) for sid, grant in GRANTS.items()}


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hafleet.yaml"
    path.write_text(json.dumps(settings(dns=DNS).model_dump(mode="json", exclude_unset=True)))
    return path


def run(path: Path, *words: str) -> Any:
    return CliRunner().invoke(main, ["iam-policy", "-c", str(path), *words])


def test_the_command_prints_the_policy(file: Path) -> None:
    done = run(file, "--account", "123456789012", "--region", "cn-north-1", "--group", "edge", "--zone-id", "Z08ABC")
    assert done.exit_code == 0 and done.stderr == ""
    scope = Scope("aws-cn", "cn-north-1", "123456789012", "edge", "Z08ABC")
    assert json.loads(done.stdout) == document(statements(settings(dns=DNS), scope))


def test_the_command_says_what_would_narrow_it(file: Path) -> None:
    assert "--region, --account, --group, --zone-id" in run(file).stderr


def test_the_command_warns_of_a_policy_that_no_role_holds(tmp_path: Path) -> None:
    def told(groups: int) -> str:
        sources = [{"asg": f"{number:0>50}", "terminate_hook": "drained"} for number in range(groups)]
        path = tmp_path / "hafleet.yaml"
        path.write_text(json.dumps(settings(sources, dns=DNS).model_dump(mode="json", exclude_unset=True)))
        return str(run(path, "--account", "123456789012", "--region", "eu-west-1").stderr)

    assert "a role holds 10,240 inline" not in told(40)
    assert "characters without white space, and a role holds 10,240 inline: find groups" in told(80)


def test_the_command_leaves_out_what_is_asked(file: Path) -> None:
    without = json.loads(run(file, "--without", "Orders", "--without", "OwnGroup").stdout)
    assert not {"Orders", "OwnGroup"} & {each["Sid"] for each in without["Statement"]}
    assert run(file, "--account", "12").exit_code == 2
    wrong = run(file, "--without", "Order")
    assert wrong.exit_code == 2 and "there is no statement Order" in wrong.stderr


def test_the_reaper_makes_no_health_check(file: Path) -> None:
    told = [each["Sid"] for each in json.loads(run(file, "--for", "reaper").stdout)["Statement"]]
    assert told == ["Membership", "ZoneByName", "RecordList", "Records", "Changes", "HealthCheckList", "HealthChecks"]


def test_the_command_explains(file: Path) -> None:
    text = run(file, "--explain").stdout
    assert "Changes: route53:GetChange" in text
    assert f"without  {GRANTS['Changes'].without}" in text


def test_bad_settings_are_told(tmp_path: Path) -> None:
    path = tmp_path / "hafleet.yaml"
    path.write_text("fleet: edge\n")
    assert run(path).exit_code == 2
