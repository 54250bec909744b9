"""The adapter of Auto Scaling and EC2 against answers that a test writes: pages, partial reads, refusals and odd items."""

import socket
from collections.abc import Iterator

import pytest

from hafleet.adapters.asg import AsgMembership
from hafleet.adapters.aws import Account
from hafleet.core.model import Group, Groups
from hafleet.core.settings import Aws
from hafleet.errors import AwsDenied, AwsThrottled, SourceUnavailable
from tests.fakes import awshttp
from tests.fakes.awshttp import (
    Params,
    Reply,
    Script,
    ec2_error,
    error,
    group,
    groups,
    instances,
    interface,
    item,
    member,
)
from tests.fakes.worlds import iid

LIST, DESCRIBE = "DescribeAutoScalingGroups", "DescribeInstances"
SETTINGS = Aws(region="eu-west-1", max_attempts=1, connect_timeout=20.0, read_timeout=20.0)
TAG = frozenset({("app", "site")})
NONE: frozenset[str] = frozenset()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with awshttp.serve(Script()) as served:
        monkeypatch.setenv("AWS_ENDPOINT_URL", served.endpoint)
        served.on(LIST, groups(group("blue", member(iid(1)))))
        served.on(DESCRIBE, described)
        yield served


def described(params: Params) -> Reply:
    """Every instance that is asked for, at 10.0.0.N."""
    keys = [value for name, value in params.items() if name.startswith("InstanceId.")]
    return instances(*(item(key, f"10.0.0.{int(key[-4:], 16)}") for key in keys))


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def membership(script: Script, told: list[tuple[str, str]]) -> AsgMembership:
    return AsgMembership(Account(SETTINGS, lambda operation, _, outcome: told.append((operation, outcome))))


def read(membership: AsgMembership, *names: str, tags: frozenset[tuple[str, str]] = frozenset()) -> Groups:
    return membership.read(frozenset(names), tags, NONE)


def blue(membership: AsgMembership) -> Group:
    return read(membership, "blue").by_name["blue"]


# --- pages --------------------------------------------------------------------------------------------------------


def test_every_page_is_read_a_hundred_at_a_time(script: Script, membership: AsgMembership) -> None:
    script.on(LIST, groups(group("blue"), token="a"), groups(group("green"), token="b"), groups(group("red")))
    assert read(membership, "blue", "green", "red").by_name.keys() == {"blue", "green", "red"}
    assert [params.get("NextToken") for params in script.asked] == [None, "a", "b"]
    assert {params["MaxRecords"] for params in script.asked} == {"100"}


def test_names_go_in_batches_of_a_hundred(script: Script, membership: AsgMembership) -> None:
    def named(params: Params) -> Reply:
        return groups(*(group(v, desired="0") for k, v in params.items() if k.startswith("AutoScalingGroupNames.")))

    script.on(LIST, named)
    names = [f"g{n}" for n in range(201)]
    assert len(read(membership, *names).by_name) == 201
    assert script.count(LIST) == 3


def test_a_failed_second_page_discards_the_whole_read(script: Script, membership: AsgMembership) -> None:
    script.on(LIST, groups(group("blue"), token="a"), error(500, "InternalFailure"))
    with pytest.raises(SourceUnavailable, match="InternalFailure"):
        read(membership, "blue", "green")


def test_an_ignored_token_is_seen_by_a_group_that_comes_twice(script: Script, membership: AsgMembership) -> None:
    script.on(LIST, groups(group("blue"), token="a"), groups(group("blue"), token="b"))
    with pytest.raises(SourceUnavailable, match="listed twice"):
        read(membership, "blue", "green")


def test_a_token_that_comes_twice_ends_the_listing(script: Script, membership: AsgMembership) -> None:
    script.on(LIST, groups(group("blue"), token="a"), groups(token="a"))
    with pytest.raises(SourceUnavailable, match="token came twice"):
        read(membership, "blue", "green")


def test_a_tag_listing_that_loses_a_group_is_not_whole(script: Script, membership: AsgMembership) -> None:
    tagged = [group(name, desired="0", tags={"app": "site"}) for name in ("blue", "green")]
    script.on(LIST, groups(*tagged))
    assert len(read(membership, tags=TAG).by_name) == 2
    script.on(LIST, groups(tagged[0]), groups(tagged[1]))  # page 2 is empty; asked by name, green is there
    with pytest.raises(SourceUnavailable, match="leaves out group 'green'"):
        read(membership, tags=TAG)
    script.on(LIST, groups(tagged[0]), groups())  # green really is gone
    assert read(membership, tags=TAG).by_name.keys() == {"blue"}


def test_groups_that_nobody_asked_for_are_left_out(script: Script, membership: AsgMembership) -> None:
    script.on(LIST, groups(group("blue"), group("foreign"), group("tagged", tags={"app": "other"})))
    assert read(membership, "blue").by_name.keys() == {"blue"}
    assert read(membership, tags=TAG).by_name == {}


# --- instances ----------------------------------------------------------------------------------------------------


def test_the_primary_address_is_of_the_interface_with_index_zero(script: Script, membership: AsgMembership) -> None:
    nics = (
        f"<networkInterfaceSet>{interface(1, '10.0.0.99')}{interface(0, '10.0.0.7', 'fd00::7')}</networkInterfaceSet>"
    )
    script.on(DESCRIBE, instances(item(iid(1), "10.0.0.99", nics)))
    assert [str(i.address) for i in blue(membership).instances] == ["10.0.0.7"]
    six = membership.read(frozenset({"blue"}), frozenset(), frozenset({"blue"}))
    assert [str(i.address) for i in six.by_name["blue"].instances] == ["fd00::7"]
    assert script.count(DESCRIBE) == 1


def test_a_tag_found_group_wants_ipv6_by_its_tag(script: Script, membership: AsgMembership) -> None:
    script.on(LIST, groups(group("blue", member(iid(1)), tags={"app": "site"})))
    nics = f"<networkInterfaceSet>{interface(0, '10.0.0.7', 'fd00::7')}</networkInterfaceSet>"
    script.on(DESCRIBE, instances(item(iid(1), "10.0.0.7", nics)))
    found = membership.read(frozenset(), TAG, frozenset({"app=site"}))
    assert [str(i.address) for i in found.by_name["blue"].instances] == ["fd00::7"]


def test_an_instance_in_service_that_ec2_leaves_out_makes_the_read_partial(
    script: Script, membership: AsgMembership
) -> None:
    script.on(DESCRIBE, instances())
    with pytest.raises(SourceUnavailable, match=f"instance {iid(1)} is in service"):
        blue(membership)


def test_pending_and_leaving_instances_may_be_left_out(script: Script, membership: AsgMembership) -> None:
    script.on(DESCRIBE, instances())
    script.on(LIST, groups(group("blue", member(iid(1), "Pending"), member(iid(2), "Terminating:Wait"))))
    assert [(i.state, i.address) for i in blue(membership).instances] == [("Pending", None), ("Terminating:Wait", None)]


@pytest.mark.parametrize(
    "message", [f"The instance ID '{iid(1)}' does not exist", f"The instance IDs '{iid(1)}' do not"]
)
def test_an_id_that_ec2_does_not_know_is_left_out_and_the_rest_asked_again(
    script: Script, membership: AsgMembership, message: str
) -> None:
    script.on(LIST, groups(group("blue", member(iid(1)), member(iid(2)))))
    script.on(DESCRIBE, ec2_error(400, "InvalidInstanceID.NotFound", message), described)
    assert [str(i.address) for i in blue(membership).instances] == ["None", "10.0.0.2"]


def test_unknown_ids_that_ec2_names_one_by_one_are_left_out_one_by_one(
    script: Script, membership: AsgMembership
) -> None:
    script.on(LIST, groups(group("blue", *(member(iid(number)) for number in (1, 2, 3)))))
    refusals = [
        ec2_error(400, "InvalidInstanceID.NotFound", f"The instance ID '{iid(n)}' does not exist") for n in (3, 1)
    ]
    script.on(DESCRIBE, *refusals, described)
    assert [str(i.address) for i in blue(membership).instances] == ["None", "10.0.0.2", "None"]


def test_a_group_of_nothing_but_unknown_ids_is_read(script: Script, membership: AsgMembership) -> None:
    script.on(DESCRIBE, ec2_error(400, "InvalidInstanceID.NotFound", f"The instance ID '{iid(1)}' does not exist"))
    assert [i.address for i in blue(membership).instances] == [None]
    assert script.count(DESCRIBE) == 1


def test_a_refusal_that_names_nobody_is_a_failure(script: Script, membership: AsgMembership) -> None:
    script.on(DESCRIBE, ec2_error(400, "InvalidInstanceID.NotFound", "some instance does not exist"))
    with pytest.raises(SourceUnavailable, match="some instance"):
        blue(membership)


def test_pages_of_instances_are_followed(script: Script, membership: AsgMembership) -> None:
    script.on(LIST, groups(group("blue", member(iid(1)), member(iid(2)))))
    script.on(DESCRIBE, instances(item(iid(1)), token="a"), instances(item(iid(2), "10.0.0.2")))
    assert len({i.address for i in blue(membership).instances}) == 2


def test_a_failed_read_leaves_no_trace(script: Script, membership: AsgMembership) -> None:
    blue(membership)
    script.on(LIST, groups(group("blue", member(iid(2)))))
    script.on(DESCRIBE, ec2_error(503, "Unavailable", "no"))
    with pytest.raises(SourceUnavailable):
        blue(membership)
    script.on(LIST, groups(group("blue", member(iid(1)))))
    asked = script.count(DESCRIBE)
    assert str(blue(membership).instances[0].address) == "10.0.0.1"
    assert script.count(DESCRIBE) == asked


def test_a_vanished_instance_is_followed_until_ec2_says_that_it_ended(
    script: Script, membership: AsgMembership
) -> None:
    script.on(LIST, groups(group("blue", member(iid(1)), member(iid(2)), desired="2")))
    blue(membership)
    script.on(LIST, groups(group("blue", member(iid(1)))))
    states = ["running", "shutting-down"]
    script.on(DESCRIBE, *(instances(item(iid(2), "", state=state)) for state in states))
    assert [i.id for i in blue(membership).instances] == [iid(1)]  # running: no evidence
    for _ in range(3):
        assert [(i.id, i.state) for i in blue(membership).instances] == [(iid(1), "InService"), (iid(2), "Terminated")]
    assert script.count(DESCRIBE) == 3  # one for both, one per state; then it is known


def test_a_vanished_instance_that_ec2_does_not_know_is_no_evidence(script: Script, membership: AsgMembership) -> None:
    script.on(LIST, groups(group("blue", member(iid(1)), member(iid(2)), desired="2")))
    blue(membership)
    script.on(LIST, groups(group("blue", member(iid(1)))))
    script.on(DESCRIBE, ec2_error(400, "InvalidInstanceID.NotFound", f"The instance ID '{iid(2)}' does not exist"))
    for _ in range(3):
        assert [i.id for i in blue(membership).instances] == [iid(1)]
    assert script.count(DESCRIBE) == 2


# --- odd items ----------------------------------------------------------------------------------------------------


def test_odd_items_spoil_nothing_but_themselves(script: Script, membership: AsgMembership) -> None:
    script.on(
        LIST,
        groups(
            group(
                "blue",
                member(iid(1), extra="<WeightedCapacity>4</WeightedCapacity>"),
                member(iid(2), ""),
                member("", "InService"),
                member(iid(3), extra="<WeightedCapacity>lots</WeightedCapacity>"),
                desired="",
            )
        ),
    )
    script.on(DESCRIBE, instances(item(iid(1), "10.0.0.1"), item(iid(2), "0.0.0.0"), item(iid(3), "999.1.1.1")))
    found = blue(membership)
    assert [(i.id, i.state, str(i.address), i.capacity) for i in found.instances] == [
        ("", "InService", "None", 1),
        (iid(1), "InService", "10.0.0.1", 4),
        (iid(2), "", "None", 1),
        (iid(3), "InService", "None", 1),
    ]
    assert found.desired > 1_000_000  # not told: never taken for a whole answer


def test_a_group_without_a_name_is_no_answer(script: Script, membership: AsgMembership) -> None:
    script.on(LIST, groups(group("")))
    with pytest.raises(SourceUnavailable, match="without a name"):
        blue(membership)


# --- refusals -----------------------------------------------------------------------------------------------------

DENIED = ("AccessDenied", "UnrecognizedClientException", "InvalidClientTokenId", "", "403")


@pytest.mark.parametrize("code", DENIED)
def test_a_denial_is_told_by_status_or_code(script: Script, membership: AsgMembership, code: str) -> None:
    script.on(LIST, error(403, code))
    with pytest.raises(AwsDenied, match="allow autoscaling:DescribeAutoScalingGroups") as caught:
        blue(membership)
    assert caught.value.where == "autoscaling:DescribeAutoScalingGroups in eu-west-1"


def test_expired_credentials_have_another_remedy(script: Script, membership: AsgMembership) -> None:
    script.on(LIST, error(400, "ExpiredToken"))
    with pytest.raises(AwsDenied, match="renew the credentials"):
        blue(membership)


@pytest.mark.parametrize(("status", "code"), [(400, "Throttling"), (503, "RequestLimitExceeded"), (429, "Odd")])
def test_throttling_is_told_apart(
    script: Script, membership: AsgMembership, told: list[tuple[str, str]], status: int, code: str
) -> None:
    script.on(LIST, error(status, code))
    with pytest.raises(AwsThrottled):
        blue(membership)
    assert told == [(LIST, code)]


@pytest.mark.parametrize("reply", [(500, "<html>oops</html>"), (503, ""), (200, "<not><xml"), (0, ""), (502, "\x00")])
def test_what_is_no_answer_is_unavailable(script: Script, membership: AsgMembership, reply: Reply) -> None:
    script.on(LIST, reply)
    with pytest.raises(SourceUnavailable) as caught:
        blue(membership)
    assert not isinstance(caught.value, AwsDenied | AwsThrottled)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("script")
def test_a_server_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, str]]) -> None:
    hasty = SETTINGS.model_copy(update={"read_timeout": 0.5})
    membership = AsgMembership(Account(hasty, lambda operation, _, outcome: told.append((operation, outcome))))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(SourceUnavailable, match="Read timeout"):
            blue(membership)
    assert told == [(LIST, "ReadTimeoutError")]


def test_nobody_listens(membership: AsgMembership, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(SourceUnavailable, match="check the route"):
        blue(membership)


def test_no_credentials(script: Script, membership: AsgMembership, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(AwsDenied, match="give the instance a role"):
        blue(membership)


def test_credentials_that_come_after_the_first_read_are_found(
    script: Script, membership: AsgMembership, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a host whose metadata service, and with it the role, comes up after the agent."""
    with monkeypatch.context() as early:
        early.delenv("AWS_ACCESS_KEY_ID")
        early.setenv("AWS_EC2_METADATA_DISABLED", "true")
        early.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        with pytest.raises(AwsDenied, match="give the instance a role"):
            blue(membership)
    assert [i.id for i in blue(membership).instances] == [iid(1)]


def test_who_asks_for_nothing_needs_no_region_and_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of static servers alone, off EC2."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    assert read(AsgMembership(Account(SETTINGS.model_copy(update={"region": None})))).by_name == {}


def test_a_failed_call_is_tried_as_often_as_the_settings_say(script: Script) -> None:
    membership = AsgMembership(Account(SETTINGS.model_copy(update={"max_attempts": 2})))
    script.on(LIST, error(503, "Unavailable"), groups(group("blue", member(iid(1)))))
    assert len(blue(membership).instances) == 1
    assert script.count(LIST) == 2


# --- region, own group, clock -------------------------------------------------------------------------------------


def test_the_region_is_asked_for_when_settings_and_environment_name_none(script: Script) -> None:
    def known() -> str:
        return "eu-central-1"

    settings = SETTINGS.model_copy(update={"region": None})
    script.on(LIST, error(403, "AccessDenied"))
    with pytest.raises(AwsDenied, match="in eu-central-1"):
        blue(AsgMembership(Account(settings, region=known)))
    with pytest.raises(SourceUnavailable, match=r"set aws\.region"):
        blue(AsgMembership(Account(settings)))
    with pytest.raises(SourceUnavailable, match=r"set aws\.region"):
        blue(AsgMembership(Account(settings, region=str)))


def own(name: str) -> Reply:
    inner = f"<member><AutoScalingGroupName>{name}</AutoScalingGroupName></member>" if name else ""
    body = f"<AutoScalingInstances>{inner}</AutoScalingInstances>"
    result = f"<DescribeAutoScalingInstancesResult>{body}</DescribeAutoScalingInstancesResult>"
    return 200, f"<DescribeAutoScalingInstancesResponse>{result}</DescribeAutoScalingInstancesResponse>"


def test_the_own_group_is_asked_for_once(script: Script, membership: AsgMembership) -> None:
    script.on("DescribeAutoScalingInstances", own("edge"), own("other"))
    assert [membership.own_group(iid(1)) for _ in range(3)] == ["edge"] * 3
    assert membership.own_group(iid(2)) == "other"


def test_a_group_that_was_told_once_outlives_a_failure(script: Script, membership: AsgMembership) -> None:
    script.on("DescribeAutoScalingInstances", own("edge"), error(503, "Unavailable"))
    assert membership.own_group(iid(1)) == "edge"
    membership._own = (iid(1), "edge", -1e9)  # as if five minutes had passed
    assert membership.own_group(iid(1)) == "edge"
    assert script.count("DescribeAutoScalingInstances") == 2


def test_an_instance_in_no_group(script: Script, membership: AsgMembership) -> None:
    script.on("DescribeAutoScalingInstances", own(""))
    assert membership.own_group(iid(1)) == ""


def test_an_own_group_that_was_never_told_is_unavailable(script: Script, membership: AsgMembership) -> None:
    script.on("DescribeAutoScalingInstances", error(403, "AccessDenied"))
    with pytest.raises(AwsDenied, match="allow autoscaling:DescribeAutoScalingInstances"):
        membership.own_group(iid(1))


def test_the_clock_is_compared_with_the_date_of_the_answers(script: Script, membership: AsgMembership) -> None:
    assert membership.clock_skew() is None
    blue(membership)
    skew = membership.clock_skew()
    assert skew is not None and abs(skew) < 60
