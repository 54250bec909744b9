"""The printed IAM policy, enforced: every flow passes with it, and each statement is missed by one that it is for."""

from collections.abc import Callable, Iterator

import pytest

from hafleet.core.iamgrants import GRANTS
from hafleet.errors import HafleetError
from tests.contract import iam_stage
from tests.contract.iam_stage import Trouble, World

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
