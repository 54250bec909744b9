"""Messages of the event queue: what wakes, what does not, and what is odd. Any text has an answer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafleet.core.events import LONGEST, Heard, Scope, heard

ACCOUNT = "123456789012"
NODE = "i-0123456789abcdef0"
SCOPE = Scope(ACCOUNT, frozenset({"edge", "site"}), frozenset({NODE}))
ANYBODY = Scope()
TOPIC = f"arn:aws:sns:eu-west-1:{ACCOUNT}:hafleet-edge"


def event(kind: str, source: str = "aws.autoscaling", account: str = ACCOUNT, **detail: Any) -> str:
    """An event as EventBridge sends it."""
    told = {
        "version": "0",
        "id": "e1",
        "detail-type": kind,
        "source": source,
        "account": account,
        "time": "2026-11-21T08:22:00Z",
        "region": "eu-west-1",
        "resources": [],
        "detail": detail,
    }
    return json.dumps(told)


def notification(**told: str) -> str:
    """A notification as Auto Scaling sends it."""
    return json.dumps({"AccountId": ACCOUNT, "Service": "AWS Auto Scaling", "EC2InstanceId": NODE} | told)


def envelope(message: str, topic: str = TOPIC) -> str:
    """What SNS makes of it without raw delivery."""
    return json.dumps({"Type": "Notification", "MessageId": "m1", "TopicArn": topic, "Message": message})


LEAVES = event("EC2 Instance-terminate Lifecycle Action", AutoScalingGroupName="site", EC2InstanceId=NODE)
HOOK = notification(
    LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
    LifecycleHookName="leaves",
    AutoScalingGroupName="edge",
    LifecycleActionToken="c613620e-07e2-4ed2-a9e2-ef8258911ade",
)
SPOT = event("EC2 Spot Instance Interruption Warning", "aws.ec2", **{"instance-id": NODE, "instance-action": "stop"})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (LEAVES, "event: site leaves"),
        (event("EC2 Instance-launch Lifecycle Action", AutoScalingGroupName="edge"), "event: edge comes"),
        (event("EC2 Instance Launch Successful", AutoScalingGroupName="site"), "event: site came"),
        (event("EC2 Instance Launch Unsuccessful", AutoScalingGroupName="site"), "event: site could not come"),
        (event("EC2 Instance Terminate Successful", AutoScalingGroupName="site"), "event: site left"),
        (HOOK, "event: edge leaves"),
        (notification(Event="autoscaling:EC2_INSTANCE_LAUNCH", AutoScalingGroupName="site"), "event: site came"),
        (notification(Event="autoscaling:EC2_INSTANCE_TERMINATE", AutoScalingGroupName="site"), "event: site left"),
        (SPOT, "event: spot notice"),
        (
            event("EC2 Instance Rebalance Recommendation", "aws.ec2", **{"instance-id": NODE}),
            "event: rebalance recommendation",
        ),
    ],
)
def test_events_wake(body: str, reason: str) -> None:
    for shape in (body, envelope(body)):
        for scope in (SCOPE, ANYBODY):
            assert heard(shape, scope) == Heard("wake", reason)


@pytest.mark.parametrize(
    "body",
    [
        notification(Event="autoscaling:TEST_NOTIFICATION", AutoScalingGroupName="edge"),
        event("EC2 Instance Launch Successful", AutoScalingGroupName="others"),
        notification(Event="autoscaling:EC2_INSTANCE_LAUNCH", AutoScalingGroupName="others"),
        event("EC2 Spot Instance Interruption Warning", "aws.ec2", **{"instance-id": "i-0fffffffffffffff0"}),
        SPOT.replace(f'"{NODE}"', '["i"]'),
        event("EC2 Spot Instance Interruption Warning", "aws.ec2"),
        event("EC2 Auto Scaling Instance Refresh Started", AutoScalingGroupName="edge"),
        event("EC2 Instance Launch Successful", "com.example", AutoScalingGroupName="edge"),
        event("AWS API Call via CloudTrail", "aws.s3"),
    ],
)
def test_what_is_none_of_our_business_wakes_nobody(body: str) -> None:
    for shape in (body, envelope(body)):
        assert heard(shape, SCOPE).kind == "aside"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "not JSON"),
        ("{bad", "not JSON: {bad"),
        ("null", "not an object"),
        ("[1]", "not an object"),
        ("7" * 5000, "not JSON"),
        ("[" * 100000, "not JSON"),
        ("x" * (LONGEST + 1), f"{LONGEST + 1} characters"),
        ("{}", "neither an event nor a notification"),
        ('{"Event": 5}', "with Event"),
        ('{"Event": "autoscaling:SOMETHING"}', "with Event"),
        ('{"Type": "SubscriptionConfirmation", "Token": "t"}', "with Token, Type"),
        ('{"detail-type": 5, "detail": {}}', "the event a int has no detail"),
        ('{"detail-type": "x"}', "has no detail"),
        (event("EC2 Instance Launch Successful"), "of no group"),
        (event("EC2 Instance Launch Successful", AutoScalingGroupName=["edge"]), "of no group"),
        (event("EC2 Instance Launch Successful", AutoScalingGroupName=""), "of no group"),
        (notification(Event="autoscaling:EC2_INSTANCE_LAUNCH"), "of no group"),
        (envelope("{bad"), "not JSON"),
        (envelope(envelope(LEAVES)), "neither an event nor a notification"),
    ],
)
def test_poison_is_one_line(body: str, says: str) -> None:
    found = heard(body, SCOPE)
    assert found.kind == "poison" and found.odd
    assert found.text.startswith("poison: ") and says in found.text
    assert found.text.isprintable() and len(found.text) < 200


@pytest.mark.parametrize(
    "body",
    [
        event("EC2 Instance Launch Successful", account="999999999999", AutoScalingGroupName="edge"),
        json.dumps(json.loads(LEAVES) | {"account": None}),
        notification(Event="autoscaling:EC2_INSTANCE_LAUNCH", AccountId="999999999999", AutoScalingGroupName="edge"),
        envelope(LEAVES, topic="arn:aws:sns:eu-west-1:999999999999:hafleet-edge"),
        json.dumps({"Type": "Notification", "Message": LEAVES}),
    ],
)
def test_what_another_account_says_is_forged(body: str) -> None:
    assert heard(body, SCOPE).kind == "forged"
    assert heard(body, ANYBODY).kind == "wake"  # the control: while the own account is not known


PULSE = event("Scheduled Event", "aws.events")


def test_a_pulse_is_no_reason_and_no_oddity() -> None:
    found = heard(PULSE, SCOPE)
    assert found.kind == "pulse" and not found.odd
    assert heard(envelope(PULSE), SCOPE) == found
    assert heard(event("Scheduled Event", "aws.events", account="999999999999"), SCOPE).kind == "forged"


def test_a_name_out_of_a_message_stays_one_line() -> None:
    body = event("EC2 Instance Launch Successful", AutoScalingGroupName="a\r\nb\u2028\x00" + "c" * 300)
    found = heard(body, ANYBODY)
    assert found.kind == "wake" and found.text.isprintable() and len(found.text) < 120


def test_a_burst_is_few_reasons() -> None:
    bodies = [
        event("EC2 Instance Terminate Successful", AutoScalingGroupName="site", EC2InstanceId=f"i-{number:017x}")
        for number in range(1000)
    ]
    assert {heard(body, SCOPE) for body in bodies} == {Heard("wake", "event: site left")}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    [
        "Type",
        "Message",
        "TopicArn",
        "detail-type",
        "detail",
        "source",
        "account",
        "Event",
        "LifecycleTransition",
        "AccountId",
    ]
)
VALUES = JSON | st.sampled_from(
    ["Notification", "aws.ec2", "aws.autoscaling", ACCOUNT, TOPIC, "EC2 Spot Instance Interruption Warning", LEAVES]
)


@given(body=st.text() | JSON.map(json.dumps) | st.dictionaries(KEYS, VALUES).map(json.dumps))
def test_any_text_has_an_answer(body: str) -> None:
    for scope in (SCOPE, ANYBODY):
        found = heard(body, scope)
        assert found.text.isprintable()
        assert len(found.text) < 250
