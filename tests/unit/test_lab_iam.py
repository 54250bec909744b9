"""The lab's IAM: what a policy allows, what a call asks for, and how a service says no."""

import json
from typing import Any

import pytest
from botocore.parsers import create_parser
from moto.core.models import DEFAULT_ACCOUNT_ID

from hafleet.lab import iam_asks, iam_policy
from hafleet.lab.iam_asks import Asked, asks
from hafleet.lab.iam_guard import Policies, refusal
from hafleet.lab.iam_policy import Ask, parse

Json = dict[str, Any]
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:hafleet-edge-i-0abc"
GROUP = "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:1-2:autoScalingGroupName/edge"


def statement(**changes: Any) -> Json:
    return {"Effect": "Allow", "Action": "sqs:DeleteQueue", "Resource": QUEUE, **changes}


def policy(*statements: Json) -> iam_policy.Policy:
    return parse({"Version": "2012-10-17", "Statement": list(statements)})


def allowed(ask: Ask, *statements: Json) -> bool:
    return not policy(*statements).refusal(ask)


ASK = Ask("sqs:DeleteQueue", QUEUE)


# --- actions and resources --------------------------------------------------------------------------------------------


def test_nothing_is_allowed_that_no_statement_allows() -> None:
    assert policy().refusal(ASK) == "because no identity-based policy allows the sqs:DeleteQueue action"
    assert allowed(ASK, statement())
    assert not allowed(ASK, statement(Action="sqs:CreateQueue"))


def test_a_deny_wins() -> None:
    told = policy(statement(), statement(Effect="Deny", Resource="*")).refusal(ASK)
    assert told == "with an explicit deny in an identity-based policy"


@pytest.mark.parametrize(
    ("action", "fits"),
    [("sqs:*", True), ("SQS:deletequeue", True), ("sqs:Delete?ueue", True), ("sqs:Delete", False), ("sns:*", False), ("*", True)],
)  # fmt: skip
def test_actions(action: str, fits: bool) -> None:
    assert allowed(ASK, statement(Action=["sqs:CreateQueue", action])) is fits


@pytest.mark.parametrize(
    ("resource", "fits"),
    [
        ("*", True),
        ("arn:aws:sqs:*:*:hafleet-edge-*", True),
        ("arn:aws:sqs:*:*:hafleet-edge-i-0ab?", True),
        ("arn:aws:sqs:eu-west-2:*:hafleet-edge-*", False),
        ("arn:aws:sqs:*:hafleet-edge-i-0abc", False),  # a wildcard does not reach over a colon
        ("arn:aws:sqs:*:*:HAFLEET-edge-*", False),
    ],
)
def test_resources(resource: str, fits: bool) -> None:
    found = [statement(Resource=resource)] if resource.count(":") >= 5 or resource == "*" else []
    assert allowed(ASK, *found) is fits


def test_the_last_part_of_an_arn_may_hold_colons() -> None:
    own = "arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/edge"
    ask = Ask("autoscaling:DeleteTags", GROUP)
    assert allowed(ask, statement(Action="*", Resource=own))
    assert not allowed(ask, statement(Action="*", Resource=f"{own}-2"))


def test_what_knows_no_resource_is_allowed_on_everything_only() -> None:
    ask = Ask("sqs:ListQueues")
    assert allowed(ask, statement(Action="*", Resource="*"))
    assert not allowed(ask, statement(Action="*", Resource="arn:aws:sqs:*:*:*"))


# --- conditions -------------------------------------------------------------------------------------------------------

EQUALS, EVERY, ANY = "StringEquals", "ForAllValues:StringLike", "ForAnyValue:StringEquals"


@pytest.mark.parametrize(
    ("operator", "values", "have", "fits"),
    [
        (EQUALS, "a", ("a",), True),
        (EQUALS, ["a", "b"], ("b",), True),
        (EQUALS, "a*", ("ab",), False),
        (EQUALS, "a", None, False),
        (EQUALS, "a", ("a", "b"), False),  # several values need a quantifier
        ("StringLike", "a*", ("ab",), True),
        ("ArnLike", "arn:aws:sqs:*:1:q-*", ("arn:aws:sqs:x:1:q-2",), True),
        ("ArnEquals", "arn:aws:sqs:*:1:q-*", ("arn:aws:sqs:x:2:q-2",), False),
        (EVERY, "a*", ("ab", "ac"), True),
        (EVERY, "a*", ("ab", "c"), False),
        (EVERY, "a*", None, True),  # as AWS: true where the key is missing
        (ANY, "a", ("a", "b"), True),
        (ANY, "a", ("b",), False),
        (ANY, "a", None, False),
        ("Null", "false", ("a",), True),
        ("Null", "false", None, False),
        ("Null", "true", None, True),
    ],
)
def test_conditions(operator: str, values: Any, have: tuple[str, ...] | None, fits: bool) -> None:
    ask = Ask("sqs:DeleteQueue", QUEUE, {} if have is None else {"Aws:TagKeys": have})
    assert allowed(ask, statement(Condition={operator: {"aws:tagkeys": values}})) is fits


def test_all_conditions_must_hold() -> None:
    both = {EQUALS: {"a": "1", "b": "2"}}
    assert allowed(Ask("sqs:DeleteQueue", QUEUE, {"a": ("1",), "b": ("2",)}), statement(Condition=both))
    assert not allowed(Ask("sqs:DeleteQueue", QUEUE, {"a": ("1",), "b": ("3",)}), statement(Condition=both))


@pytest.mark.parametrize(
    ("user", "instance", "fits"),
    [("AROA:i-0abc", ("i-0abc",), True), ("AROA:i-0abd", ("i-0abc",), False), ("AROA:i-0abc", None, False)],
)
def test_variables(user: str, instance: tuple[str, ...] | None, fits: bool) -> None:
    context = {"aws:userid": (user,), **({"ec2:InstanceID": instance} if instance else {})}
    itself = {"StringLike": {"aws:userid": "*:${ec2:InstanceID}"}}
    assert allowed(Ask("sqs:DeleteQueue", QUEUE, context), statement(Condition=itself)) is fits


@pytest.mark.parametrize(("value", "fits"), [("a*b?c$", True), ("aXbYc$", False)])
def test_wildcards_that_stand_for_themselves(value: str, fits: bool) -> None:
    for operator in ("StringLike", "StringEquals"):
        condition = {operator: {"k": "a${*}b${?}c${$}"}}
        assert allowed(Ask("sqs:DeleteQueue", QUEUE, {"k": (value,)}), statement(Condition=condition)) is fits
    assert not allowed(Ask("sqs:DeleteQueue", QUEUE, {"k": ("x",)}), statement(Condition={EQUALS: {"k": "${no:key}"}}))


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "a policy is"),
        ({"Version": "2008-10-17", "Statement": []}, "a policy is"),
        ({"Version": "2012-10-17", "Statement": ["x"]}, "has Effect, Action and Resource"),
        ({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*"}}, "has Effect, Action and Resource"),
        ({"Version": "2012-10-17", "Statement": statement(NotAction="x")}, "NotAction"),
        ({"Version": "2012-10-17", "Statement": statement(Effect="Maybe")}, "Maybe"),
        ({"Version": "2012-10-17", "Statement": statement(Sid="a-b")}, "a-b"),
        ({"Version": "2012-10-17", "Statement": [statement(Sid="a"), statement(Sid="a")]}, "same Sid"),
        ({"Version": "2012-10-17", "Statement": statement(Resource="queue")}, "no ARN"),
        ({"Version": "2012-10-17", "Statement": statement(Action=[])}, "a list of texts"),
        ({"Version": "2012-10-17", "Statement": statement(Condition={"NumericEquals": {"k": "1"}})}, "NumericEquals"),
        ({"Version": "2012-10-17", "Statement": statement(Condition={"ForSome:StringLike": {"k": "1"}})}, "ForSome"),
    ],
)
def test_what_is_not_known_is_refused(document: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse(document)


# --- what a call asks for ---------------------------------------------------------------------------------------------


class Account:
    """Implements ``iam_asks.Facts`` for one group, one instance and one address."""

    def group(self, name: str) -> tuple[str, dict[str, str]]:
        return (GROUP, {"team": "web"}) if name == "edge" else ("", {})

    def group_of(self, instance: str) -> str:
        return "edge" if instance == "i-0abc" else ""

    def tags(self, resource: str) -> dict[str, str]:
        return {"pool": "edge"} if resource == "eipalloc-1" else {}

    def interface(self, instance: str) -> str:
        return "eni-1" if instance == "i-0abc" else ""

    def associated(self, association: str) -> tuple[str, str]:
        return ("eipalloc-1", "eni-1") if association == "eipassoc-1" else ("", "")


def found(service: str, operation: str, **params: Any) -> list[Ask]:
    return list(asks(Asked(service, operation, params, "eu-west-1"), Account(), {}))


def keys(ask: Ask) -> Json:
    return {key: values[0] if len(values) == 1 else values for key, values in ask.context.items()}


@pytest.mark.parametrize("operation", ["CompleteLifecycleAction", "RecordLifecycleActionHeartbeat"])
def test_a_hook_is_of_its_group(operation: str) -> None:
    (ask,) = found("autoscaling", operation, AutoScalingGroupName="edge")
    assert (ask.action, ask.resource) == (f"autoscaling:{operation}", GROUP)
    assert keys(ask) == {"aws:ResourceTag/team": "web", "autoscaling:ResourceTag/team": "web"}


def test_the_group_of_an_instance_and_one_that_is_not_there() -> None:
    assert found("autoscaling", "SetInstanceHealth", InstanceId="i-0abc")[0].resource == GROUP
    (ask,) = found("autoscaling", "CompleteLifecycleAction", AutoScalingGroupName="other")
    assert ask.resource.endswith(":autoScalingGroupName/other")


def test_tags_of_groups_are_asked_for_group_by_group() -> None:
    form: Json = {}
    for number, (group, key) in enumerate((("edge", "a"), ("other", "b"), ("edge", "c")), start=1):
        form |= {f"Tags.member.{number}.ResourceId": group, f"Tags.member.{number}.Key": key}
    first, second = found("autoscaling", "DeleteTags", **form)
    assert first.resource == GROUP and first.context["aws:TagKeys"] == ("a", "c")
    assert second.context["aws:TagKeys"] == ("b",)


def test_an_address_its_instance_and_its_interface() -> None:
    three = found("ec2", "AssociateAddress", AllocationId="eipalloc-1", InstanceId="i-0abc")
    assert [ask.resource.rpartition(":")[2] for ask in three] == [
        "elastic-ip/eipalloc-1",
        "instance/i-0abc",
        "network-interface/eni-1",
    ]
    assert keys(three[0])["aws:ResourceTag/pool"] == "edge"
    assert keys(three[1]) == {"ec2:InstanceID": "i-0abc"}
    two = found("ec2", "DisassociateAddress", AssociationId="eipassoc-1")
    assert [ask.resource.rpartition(":")[2] for ask in two] == ["elastic-ip/eipalloc-1", "network-interface/eni-1"]
    assert len(found("ec2", "DisassociateAddress", AssociationId="eipassoc-2")) == 1


def test_tags_of_instances() -> None:
    form = {"ResourceId.1": "i-0abc", "ResourceId.2": "i-0abd", "Tag.1.Key": "k", "Tag.1.Value": "v"}
    first, second = found("ec2", "CreateTags", **form)
    assert keys(first) == {"ec2:InstanceID": "i-0abc", "aws:TagKeys": "k", "aws:RequestTag/k": "v"}
    assert second.resource.endswith("instance/i-0abd")
    assert (
        "ec2:InstanceID" not in found("ec2", "DeleteTags", **form)[0].context
    )  # the reference lists no such key for it


def test_records_by_their_normalized_names() -> None:
    sets = [{"Name": r"\052.LB.Example.com.", "Type": "A"}, {"Name": "*.a_b.com", "Type": "AAAA"}]
    changes = [{"Action": "CREATE", "ResourceRecordSet": each} for each in sets]
    (ask,) = found("route53", "ChangeResourceRecordSets", HostedZoneId="Z1", ChangeBatch={"Changes": changes})
    start = "route53:ChangeResourceRecordSets"
    assert ask.resource == "arn:aws:route53:::hostedzone/Z1"
    assert ask.context == {
        f"{start}NormalizedRecordNames": (r"\052.lb.example.com", r"\052.a_b.com"),
        f"{start}RecordTypes": ("A", "AAAA"),
        f"{start}Actions": ("CREATE", "CREATE"),
    }


@pytest.mark.parametrize(
    ("operation", "params", "resource"),
    [
        ("GetHostedZone", {"Id": "Z1"}, "hostedzone/Z1"),
        ("ListResourceRecordSets", {"HostedZoneId": "Z1"}, "hostedzone/Z1"),
        ("GetChange", {"Id": "C1"}, "change/C1"),
        ("DeleteHealthCheck", {"HealthCheckId": "h"}, "healthcheck/h"),
    ],
)
def test_other_things_of_route53(operation: str, params: Json, resource: str) -> None:
    (ask,) = found("route53", operation, **params)
    assert ask == Ask(f"route53:{operation}", f"arn:aws:route53:::{resource}")


def test_a_queue_that_is_made_with_tags_is_tagged() -> None:
    made, tagged = found("sqs", "CreateQueue", QueueName="q", tags={"k": "v"})
    assert (made.action, tagged.action) == ("sqs:CreateQueue", "sqs:TagQueue")
    assert made.resource == tagged.resource == "arn:aws:sqs:eu-west-1:123456789012:q"
    (batch,) = found("sqs", "DeleteMessageBatch", QueueUrl="http://127.0.0.1/123456789012/q")
    assert (batch.action, batch.resource) == ("sqs:DeleteMessage", made.resource)


def test_a_subscription_tells_who_is_subscribed() -> None:
    (ask,) = found("sns", "Subscribe", TopicArn="arn:t", Protocol="sqs", Endpoint=QUEUE)
    assert (ask.resource, keys(ask)) == ("arn:t", {"sns:Protocol": "sqs", "sns:Endpoint": QUEUE})


def test_of_what_is_not_known_only_the_name_is() -> None:
    assert found("ec2", "TerminateInstances") == [Ask("ec2:TerminateInstances")]


# --- the layer --------------------------------------------------------------------------------------------------------


def test_policies_come_and_go() -> None:
    policies = Policies()
    assert policies.of("node") is None
    empty = {"Version": "2012-10-17", "Statement": []}
    assert policies.set({"caller": "node", "policy": empty}) == {"callers": ["node"], "refused": []}
    policies.note("node", ASK)
    assert policies.set({})["refused"] == [{"caller": "node", "action": "sqs:DeleteQueue", "resource": QUEUE}]
    assert policies.set({"caller": "node", "policy": None}) == {"callers": [], "refused": []}
    for wrong in ({"caller": "node"}, {"policy": empty}, {"caller": "node", "policy": "x"}):
        with pytest.raises(ValueError, match="polic"):
            policies.set(wrong)


@pytest.mark.parametrize(
    ("service", "protocol", "code"),
    [
        ("ec2", "ec2", "UnauthorizedOperation"),
        ("autoscaling", "query", "AccessDenied"),
        ("sns", "query", "AuthorizationError"),
        ("route53", "rest-xml", "AccessDenied"),
        ("sqs", "json", "AccessDenied"),
    ],
)
def test_a_refusal_is_read_by_the_sdk(service: str, protocol: str, code: str) -> None:
    answer = refusal(service, Ask(f"{service}:DeleteQueue", QUEUE), "arn:u", "because <so>")
    parser = create_parser(protocol)
    told = parser.parse(
        {"status_code": int(answer.status[:3]), "headers": dict(answer.headers), "body": answer.body}, _NO_SHAPE
    )
    assert answer.status == "403 Forbidden"
    found_code = told["Error"].get("QueryErrorCode") or told["Error"]["Code"]
    assert code in {found_code, dict(answer.headers).get("x-amzn-query-error", "").split(";")[0]}
    action = f"{service}:DeleteQueue".lower() if service == "sqs" else f"{service}:DeleteQueue"
    assert (
        f"User: arn:u is not authorized to perform: {action} on resource: {QUEUE} because <so>"
        in told["Error"]["Message"]
    )


_NO_SHAPE: Any = None


def test_without_a_resource_none_is_named() -> None:
    body = refusal("sqs", Ask("sqs:ListQueues"), "arn:u", "because").body
    assert json.loads(body)["message"] == "User: arn:u is not authorized to perform: sqs:listqueues because"


def test_the_account_is_the_one_of_the_local_aws() -> None:
    assert iam_asks.ACCOUNT == DEFAULT_ACCOUNT_ID
