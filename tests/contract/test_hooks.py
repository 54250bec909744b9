"""Lifecycle hooks on the lab's AWS: whole waits, from their begin to what becomes of the instance."""

from collections.abc import Callable, Iterator

import pytest

from hafleet.adapters.aws import Account
from hafleet.adapters.hooks import AsgHooks
from hafleet.core.model import Hook
from hafleet.core.settings import Aws
from hafleet.errors import HookGone
from hafleet.lab.cloud import Cloud
from hafleet.lab.fleet import Lab
from hafleet.lab.processes import wait_until
from hafleet.ports import Hooks

JOINS, LEAVES = "joins", "leaves"
NOBODY = "i-0fffffffffffffff0"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Lab(agents=False) as lab:
        lab.cloud.control("POST", "physics", {"boot": 0.1, "terminating": 0.2, "dead": 0.1, "quarantine": 0})
        yield lab.cloud


@pytest.fixture(scope="module")
def hooks(cloud: Cloud) -> Iterator[Hooks]:
    """The port, by one account for all tests: making clients is what takes long."""
    with pytest.MonkeyPatch.context() as environ:
        for name, value in cloud.environment.items():
            environ.setenv(name, value)
        account = Account(Aws(region="eu-west-1", max_attempts=1))
        account.scaling()
        yield AsgHooks(account)


@pytest.fixture
def group(cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty group of this test's own, with a hook for each way."""
    name = request.node.originalname.replace("_", "-")[:60]
    cloud.create_group(name, 0, {})
    for hook, transition in ((LEAVES, "TERMINATING"), (JOINS, "LAUNCHING")):
        cloud.autoscaling.put_lifecycle_hook(
            AutoScalingGroupName=name,
            LifecycleHookName=hook,
            LifecycleTransition=f"autoscaling:EC2_INSTANCE_{transition}",
            HeartbeatTimeout=300,
            DefaultResult="CONTINUE",
        )
    yield name
    cloud.autoscaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)


def in_state(cloud: Cloud, group: str, state: str, other: str = "") -> str:
    """Wait until an instance (not that other one) is in this state; its id."""

    def found() -> list[str]:
        return [m.id for m in cloud.machines() if (m.group, m.lifecycle) == (group, state) and m.id != other]

    wait_until(lambda: bool(found()), 60, f"an instance of {group} in {state}")
    return found()[0]


def gone(cloud: Cloud, instance: str) -> None:
    wait_until(lambda: instance not in {m.id for m in cloud.machines()}, 60, f"{instance} to be gone")


def launched(cloud: Cloud, group: str) -> str:
    """An instance that waits for its launch hook."""
    cloud.scale(group, 1)
    return in_state(cloud, group, "Pending:Wait")


def test_the_hooks_of_a_group(hooks: Hooks, group: str) -> None:
    assert hooks.hooks(group) == (
        Hook(JOINS, "launch", 300.0, "CONTINUE"),
        Hook(LEAVES, "terminate", 300.0, "CONTINUE"),
    )


def test_a_group_without_hooks(cloud: Cloud, hooks: Hooks) -> None:
    cloud.create_group("bare", 0, {})
    assert hooks.hooks("bare") == ()


def test_a_node_comes_and_goes_by_its_own_word(cloud: Cloud, hooks: Hooks, group: str) -> None:
    instance = launched(cloud, group)
    hooks.heartbeat(group, JOINS, instance)
    assert [(a["hook"], a["heartbeats"]) for a in cloud.waiting() if a["instance"] == instance] == [(JOINS, 1)]
    hooks.complete(group, JOINS, instance, "CONTINUE")
    assert in_state(cloud, group, "InService") == instance
    cloud.scale(group, 0)
    assert in_state(cloud, group, "Terminating:Wait") == instance
    hooks.heartbeat(group, LEAVES, instance)
    hooks.complete(group, LEAVES, instance, "CONTINUE")
    gone(cloud, instance)


def test_a_node_that_gives_up_is_replaced(cloud: Cloud, hooks: Hooks, group: str) -> None:
    cloud.autoscaling.delete_lifecycle_hook(AutoScalingGroupName=group, LifecycleHookName=LEAVES)
    instance = launched(cloud, group)
    hooks.complete(group, JOINS, instance, "ABANDON")
    assert in_state(cloud, group, "Pending:Wait", other=instance) != instance
    gone(cloud, instance)


ACTS: dict[str, Callable[[Hooks, str, str, str], None]] = {
    "complete": lambda hooks, group, hook, instance: hooks.complete(group, hook, instance, "CONTINUE"),
    "heartbeat": lambda hooks, group, hook, instance: hooks.heartbeat(group, hook, instance),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
def test_what_is_over_is_gone(
    cloud: Cloud, hooks: Hooks, group: str, act: Callable[[Hooks, str, str, str], None]
) -> None:
    instance = launched(cloud, group)
    for where, hook, who in (
        (group, LEAVES, instance),  # the other way's hook: nothing waits for it
        (group, "no-such-hook", instance),
        (group, JOINS, NOBODY),
        ("no-such-group", JOINS, instance),
    ):
        with pytest.raises(HookGone):
            act(hooks, where, hook, who)
    cloud.autoscaling.delete_lifecycle_hook(AutoScalingGroupName=group, LifecycleHookName=JOINS)
    with pytest.raises(HookGone):
        act(hooks, group, JOINS, instance)


def test_a_second_complete_is_gone(cloud: Cloud, hooks: Hooks, group: str) -> None:
    instance = launched(cloud, group)
    hooks.complete(group, JOINS, instance, "CONTINUE")
    in_state(cloud, group, "InService")
    with pytest.raises(HookGone, match="No active Lifecycle Action found with instance ID"):
        hooks.complete(group, JOINS, instance, "CONTINUE")


def test_a_node_asks_to_be_replaced(cloud: Cloud, hooks: Hooks, group: str) -> None:
    hooks.complete(group, JOINS, instance := launched(cloud, group), "CONTINUE")
    in_state(cloud, group, "InService")
    hooks.set_unhealthy(instance)
    assert in_state(cloud, group, "Terminating:Wait") == instance


def test_a_node_writes_its_tag(cloud: Cloud, hooks: Hooks, group: str) -> None:
    instance = launched(cloud, group)
    hooks.tag(instance, "hafleet:abandoned", "no server answers")
    machine = next(m for m in cloud.machines() if m.id == instance)
    assert machine.tags["hafleet:abandoned"] == "no server answers"
