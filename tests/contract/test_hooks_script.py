"""Lifecycle hooks over HTTP, answered by a script: AWS's texts, and answers that the local AWS never gives."""

from collections.abc import Callable, Iterator

import pytest

from hafleet.adapters.aws import Account
from hafleet.adapters.hooks import AsgHooks
from hafleet.core.model import Hook
from hafleet.core.settings import Aws
from hafleet.errors import AwsDenied, AwsThrottled, HafleetError, HookGone, SourceUnavailable
from hafleet.ports import Hooks
from tests.fakes.awshttp import Params, Reply, Script, ec2_error, error, serve

INSTANCE = "i-0123456789abcdef0"
DESCRIBE, COMPLETE, HEARTBEAT = "DescribeLifecycleHooks", "CompleteLifecycleAction", "RecordLifecycleActionHeartbeat"
HEALTH, TAG = "SetInstanceHealth", "CreateTags"
CALLS: dict[str, Callable[[Hooks], object]] = {
    DESCRIBE: lambda hooks: hooks.hooks("edge"),
    COMPLETE: lambda hooks: hooks.complete("edge", "joins", INSTANCE, "CONTINUE"),
    HEARTBEAT: lambda hooks: hooks.heartbeat("edge", "joins", INSTANCE),
    HEALTH: lambda hooks: hooks.set_unhealthy(INSTANCE),
    TAG: lambda hooks: hooks.tag(INSTANCE, "hafleet:abandoned", "no server answers"),
}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Script, Hooks]]:
    """One server and one account for all: making clients is what takes long."""
    with pytest.MonkeyPatch.context() as environ, serve(Script()) as script:
        environ.setenv("AWS_ACCESS_KEY_ID", "test")
        environ.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environ.setenv("AWS_ENDPOINT_URL", script.endpoint)
        yield script, AsgHooks(Account(Aws(region="eu-west-1", max_attempts=1)))


@pytest.fixture
def script(served: tuple[Script, Hooks]) -> Script:
    served[0].asked.clear()
    return served[0]


@pytest.fixture
def hooks(served: tuple[Script, Hooks]) -> Hooks:
    return served[1]


def listing(*members: str) -> Reply:
    inner = f"<LifecycleHooks>{''.join(f'<member>{member}</member>' for member in members)}</LifecycleHooks>"
    body = f"<DescribeLifecycleHooksResult>{inner}</DescribeLifecycleHooksResult>"
    return 200, f"<DescribeLifecycleHooksResponse>{body}</DescribeLifecycleHooksResponse>"


def hook(name: str, transition: str = "LAUNCHING", timeout: str = "600", default: str = "CONTINUE") -> str:
    parts = {"LifecycleHookName": name, "HeartbeatTimeout": timeout, "DefaultResult": default}
    told = "".join(f"<{key}>{value}</{key}>" for key, value in parts.items() if value)
    return f"{told}<LifecycleTransition>autoscaling:EC2_INSTANCE_{transition}</LifecycleTransition>"


def done(action: str) -> Reply:
    return 200, f"<{action}Response><{action}Result/></{action}Response>"


# --- the hooks of a group -------------------------------------------------------------------------------------------


def test_hooks_are_told_by_name(script: Script, hooks: Hooks) -> None:
    script.on(DESCRIBE, listing(hook("z"), hook("leaves", "TERMINATING", "30", "ABANDON"), hook("a")))
    assert hooks.hooks("edge") == (
        Hook("a", "launch", 600.0, "CONTINUE"),
        Hook("leaves", "terminate", 30.0, "ABANDON"),
        Hook("z", "launch", 600.0, "CONTINUE"),
    )
    assert script.asked[0]["AutoScalingGroupName"] == "edge"


def test_a_group_may_have_none(script: Script, hooks: Hooks) -> None:
    script.on(DESCRIBE, listing())
    assert hooks.hooks("edge") == ()


def test_what_is_not_told_is_as_the_api_has_it(script: Script, hooks: Hooks) -> None:
    script.on(DESCRIBE, listing(hook("a", timeout="", default="")))
    assert hooks.hooks("edge") == (Hook("a", "launch", 3600.0, "ABANDON"),)


def test_a_hook_of_a_transition_of_tomorrow_is_left_out(script: Script, hooks: Hooks) -> None:
    script.on(DESCRIBE, listing(hook("a", "RESTING"), hook("b")))
    assert [found.name for found in hooks.hooks("edge")] == ["b"]


@pytest.mark.parametrize("member", [hook("").replace("<LifecycleHookName></LifecycleHookName>", "")])
def test_a_hook_without_a_name_makes_the_read_partial(script: Script, hooks: Hooks, member: str) -> None:
    script.on(DESCRIBE, listing(hook("a"), member))
    with pytest.raises(SourceUnavailable, match="a hook of edge is odd"):
        hooks.hooks("edge")


def test_a_group_that_is_not_there_is_unknown(script: Script, hooks: Hooks) -> None:
    script.on(
        DESCRIBE, error(400, "ValidationError", "AutoScalingGroup name not found - AutoScalingGroup edge not found")
    )
    with pytest.raises(SourceUnavailable, match="not found"):
        hooks.hooks("edge")


# --- acting -----------------------------------------------------------------------------------------------------------


def test_an_action_is_named_by_group_hook_and_instance(script: Script, hooks: Hooks) -> None:
    script.on(COMPLETE, done(COMPLETE))
    script.on(HEARTBEAT, done(HEARTBEAT))
    hooks.complete("edge", "joins", INSTANCE, "ABANDON")
    hooks.heartbeat("edge", "joins", INSTANCE)
    common = {"AutoScalingGroupName": "edge", "LifecycleHookName": "joins", "InstanceId": INSTANCE}
    complete, heartbeat = script.asked
    assert complete.items() >= (common | {"LifecycleActionResult": "ABANDON"}).items()
    assert heartbeat.items() >= common.items()
    assert "LifecycleActionToken" not in {**complete, **heartbeat}


def test_a_node_is_reported_within_the_grace_of_its_group(script: Script, hooks: Hooks) -> None:
    script.on(HEALTH, done(HEALTH))
    hooks.set_unhealthy(INSTANCE)
    wanted = {"InstanceId": INSTANCE, "HealthStatus": "Unhealthy", "ShouldRespectGracePeriod": "true"}
    assert script.asked[0].items() >= wanted.items()


@pytest.mark.parametrize(("text", "kept"), [("no server answers", 17), ("ü" * 1000, 256)])
def test_a_reason_is_written_as_far_as_a_tag_holds(script: Script, hooks: Hooks, text: str, kept: int) -> None:
    script.on(TAG, (200, "<CreateTagsResponse><return>true</return></CreateTagsResponse>"))
    hooks.tag(INSTANCE, "hafleet:abandoned", text)
    wanted = {"ResourceId.1": INSTANCE, "Tag.1.Key": "hafleet:abandoned", "Tag.1.Value": text[:kept]}
    assert script.asked[0].items() >= wanted.items()


@pytest.mark.parametrize(
    "message",
    [
        f"No active Lifecycle Action found with instance ID {INSTANCE}",
        "No active Lifecycle Action found with token f66c3d47-e602-4af0-8edd-d4e4d2fe4620",
        "Lifecycle Hook named joins does not exist",
        "AutoScalingGroup name not found - AutoScalingGroup edge not found",
        f"Instance {INSTANCE} is not part of Auto Scaling group edge",
        "",
    ],
)
@pytest.mark.parametrize("action", [COMPLETE, HEARTBEAT])
def test_an_action_that_is_over_is_gone(script: Script, hooks: Hooks, action: str, message: str) -> None:
    script.on(action, error(400, "ValidationError", message))
    with pytest.raises(HookGone, match=f"autoscaling:{action} in eu-west-1.*nothing to do"):
        CALLS[action](hooks)


MALFORMED = (
    "1 validation error detected: Value 'MAYBE' at 'lifecycleActionResult' failed to satisfy constraint: Member must be"
)
FAILURES: list[tuple[Reply, type[HafleetError]]] = [
    (error(400, "ValidationError", MALFORMED), SourceUnavailable),
    (error(400, "Throttling", "Rate exceeded"), AwsThrottled),
    (error(403, "AccessDenied", "not authorized"), AwsDenied),
    (error(500, "InternalFailure", "no"), SourceUnavailable),
    (error(500, "ResourceContention", "already a pending update"), SourceUnavailable),
    ((503, "<html>"), SourceUnavailable),
    ((0, ""), SourceUnavailable),
]


@pytest.mark.parametrize(("reply", "kind"), FAILURES, ids=[str(number) for number in range(len(FAILURES))])
@pytest.mark.parametrize("action", [DESCRIBE, COMPLETE, HEARTBEAT, HEALTH])
def test_any_other_failure_is_tried_again(
    script: Script, hooks: Hooks, action: str, reply: Reply, kind: type[HafleetError]
) -> None:
    script.on(action, reply)
    with pytest.raises(kind) as caught:
        CALLS[action](hooks)
    assert type(caught.value) is kind


def test_a_tag_that_is_refused_says_what_to_allow(script: Script, hooks: Hooks) -> None:
    script.on(TAG, ec2_error(403, "UnauthorizedOperation", "no"))
    with pytest.raises(AwsDenied, match="allow ec2:CreateTags"):
        CALLS[TAG](hooks)


def test_an_answer_without_a_list_is_none(script: Script, hooks: Hooks) -> None:
    def answer(_: Params) -> Reply:
        return 200, "<DescribeLifecycleHooksResponse><DescribeLifecycleHooksResult/></DescribeLifecycleHooksResponse>"

    script.on(DESCRIBE, answer)
    with pytest.raises(SourceUnavailable):
        hooks.hooks("edge")
