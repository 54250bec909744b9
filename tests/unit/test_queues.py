"""A node's own event queue: names, settings, policies, and which queues may go."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafleet.core.queues import (
    PROOFS_APART,
    Place,
    account_of,
    attributes,
    dead_letters,
    node_of,
    orphans,
    place_of,
    policy,
    pulse_rule,
    queue_name,
    rules,
    topic_name,
    topic_policy,
)

NODE = "i-0123456789abcdef0"
PLACE = Place("aws", "eu-west-1", "123456789012")
ARN = "arn:aws:sqs:eu-west-1:123456789012:hafleet-edge-i-0123456789abcdef0"


def test_names() -> None:
    assert queue_name("edge", NODE) == f"hafleet-edge-{NODE}"
    assert dead_letters("edge") == "hafleet-edge-dead"
    assert topic_name("edge") == "hafleet-edge"


@given(
    fleet=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", fullmatch=True),
    node=st.from_regex(r"i-[0-9a-f]{17}", fullmatch=True)
    | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", fullmatch=True),
)
def test_every_name_is_one_that_sqs_takes(fleet: str, node: str) -> None:
    for name in (queue_name(fleet, node), dead_letters(fleet)):
        assert len(name) <= 80
        assert all(c.isascii() and (c.isalnum() or c in "-_") for c in name)


@given(fleet=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", fullmatch=True))
def test_the_node_is_read_back_from_its_queue(fleet: str) -> None:
    assert node_of(fleet, queue_name(fleet, NODE)) == NODE
    assert node_of(fleet, dead_letters(fleet)) == ""


def test_long_names_that_begin_alike_are_told_apart() -> None:
    one, other = "x" * 60 + "one", "x" * 60 + "two"
    assert queue_name(one, NODE) != queue_name(other, NODE)
    assert node_of(one, queue_name(other, NODE)) == ""
    assert queue_name("edge", "n" * 62 + "a") != queue_name("edge", "n" * 62 + "b")


@pytest.mark.parametrize(
    "name",
    [
        "hafleet-edge-blue-i-0123456789abcdef0",
        "hafleet-edgy-i-0123456789abcdef0",
        "other",
        "hafleet-edge-",
        "hafleet-edge-node-1",
        "",
    ],
)
def test_a_queue_of_somebody_else_has_no_node_of_this_fleet(name: str) -> None:
    assert node_of("edge", name) == ""


def test_the_place_of_an_arn() -> None:
    assert place_of(ARN) == PLACE
    assert PLACE.arn("sqs", f"hafleet-edge-{NODE}") == ARN
    assert place_of(ARN.replace(":aws:", ":aws-cn:")).arn("sns", "x") == "arn:aws-cn:sns:eu-west-1:123456789012:x"


@pytest.mark.parametrize(
    "text", ["", "arn:aws:sqs", "x:aws:sqs:eu-west-1:123456789012:n", "arn:aws:sqs::123456789012:n"]
)
def test_what_is_no_arn_has_no_place(text: str) -> None:
    with pytest.raises(ValueError, match="is not an ARN"):
        place_of(text)


@pytest.mark.parametrize(
    ("url", "account"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/hafleet-edge", "123456789012"),
        ("http://127.0.0.1:5600/123456789012/q", "123456789012"),
        ("https://sqs.eu-west-1.amazonaws.com/queue/q", ""),
        ("https://123456789012/q", ""),
        ("", ""),
    ],
)
def test_the_account_of_a_queue(url: str, account: str) -> None:
    assert account_of(url) == account


def test_only_the_fleets_topic_may_send_to_a_queue() -> None:
    assert policy("edge", f"hafleet-edge-{NODE}", PLACE) == {
        "Version": "2012-10-17",
        "Id": "hafleet edge",
        "Statement": [
            {
                "Sid": "TheFleetsTopicSends",
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": ARN,
                "Condition": {"ArnEquals": {"aws:SourceArn": "arn:aws:sns:eu-west-1:123456789012:hafleet-edge"}},
            }
        ],
    }


def test_eventbridge_alone_may_publish_to_the_topic_and_under_no_condition_for_aws_takes_none() -> None:
    statement = json.loads(json.dumps(topic_policy("edge", PLACE)))["Statement"]
    assert statement == [
        {
            "Sid": "RulesPublish",
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": "arn:aws:sns:eu-west-1:123456789012:hafleet-edge",
        }
    ]


def test_a_queues_settings() -> None:
    told = attributes("edge", f"hafleet-edge-{NODE}", PLACE)
    redrive = json.loads(told.pop("RedrivePolicy"))
    assert redrive == {
        "deadLetterTargetArn": "arn:aws:sqs:eu-west-1:123456789012:hafleet-edge-dead",
        "maxReceiveCount": "5",
    }
    assert json.loads(told.pop("Policy")) == policy("edge", f"hafleet-edge-{NODE}", PLACE)
    assert told == {
        "MessageRetentionPeriod": "300",
        "VisibilityTimeout": "30",
        "ReceiveMessageWaitTimeSeconds": "20",
        "SqsManagedSseEnabled": "true",
    }


def test_the_rules_name_the_groups_and_are_named_as_the_topic_expects() -> None:
    told = rules("edge", frozenset({"site", "edge"}))
    assert all(name.startswith("hafleet-edge-") for name in told)
    assert told["hafleet-edge-groups"]["detail"] == {"AutoScalingGroupName": ["edge", "site"]}
    assert told["hafleet-edge-spot"]["source"] == ["aws.ec2"]
    assert told["hafleet-edge-ends"]["detail"] == {"state": ["shutting-down", "stopping"]}
    assert pulse_rule("edge").startswith("hafleet-edge-")


def test_without_names_the_rule_is_about_every_group() -> None:
    told = rules("edge", frozenset())["hafleet-edge-groups"]
    assert told["source"] == ["aws.autoscaling"] and "detail" not in told


# --- orphans ----------------------------------------------------------------------------------------------------------

A, B, C = (f"i-{number:017x}" for number in (1, 2, 3))
ALL = frozenset({A, B, C})


def test_a_terminated_instance_leaves_an_orphan_and_a_live_one_does_not() -> None:
    states = {A: "terminated", B: "running", C: "stopped"}
    assert orphans(ALL, states, {}, 1000.0) == (frozenset({A}), {})


def test_not_found_is_proof_only_when_it_was_so_twice_apart() -> None:
    states = {A: "running", B: "running"}
    dead, suspects = orphans(ALL, states, {}, 1000.0)
    assert (dead, suspects) == (frozenset(), {C: 1000.0})
    assert orphans(ALL, states, suspects, 1000.0 + PROOFS_APART - 1) == (frozenset(), {C: 1000.0})
    assert orphans(ALL, states, suspects, 1000.0 + PROOFS_APART) == (frozenset({C}), {})


def test_an_instance_that_is_found_again_is_no_suspect() -> None:
    assert orphans(ALL, dict.fromkeys(ALL, "running"), {C: 1.0}, 10000.0) == (frozenset(), {})


def test_a_clock_that_went_back_proves_nothing_sooner() -> None:
    _, suspects = orphans(frozenset({C}), {}, {C: 5000.0}, 1000.0)
    assert suspects == {C: 1000.0}
    assert orphans(frozenset({C}), {}, suspects, 1000.0 + PROOFS_APART - 1)[0] == frozenset()
