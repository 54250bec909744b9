"""Tags of the nodes' own instances: on the lab's AWS, and against answers that the local AWS never gives."""

from collections.abc import Callable, Iterator

import pytest

from hafleet.adapters.aws import Account
from hafleet.adapters.node_tags import Ec2NodeTags
from hafleet.core.settings import Aws
from hafleet.errors import AwsDenied, AwsThrottled, SourceUnavailable
from hafleet.lab.cloud import Cloud
from hafleet.lab.fleet import Lab
from hafleet.lab.processes import wait_until
from hafleet.ports import NodeTags
from tests.fakes.awshttp import Reply, Script, ec2_error, serve

KEY = "hafleet:drained"
ONE, TWO = "i-0123456789abcdef0", "i-0123456789abcdef1"


# --- the lab's AWS --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Lab(agents=False) as lab:
        lab.cloud.control("POST", "physics", {"boot": 0.1, "terminating": 0.2})
        lab.cloud.create_group("tagged", 2, {})
        wait_until(lambda: len(lab.cloud.machines()) == 2, 60, "two instances")
        yield lab.cloud


def test_what_is_written_is_read_and_nothing_else(cloud: Cloud) -> None:
    with pytest.MonkeyPatch.context() as environ:
        for name, value in cloud.environment.items():
            environ.setenv(name, value)
        port: NodeTags = Ec2NodeTags(Account(Aws(region="eu-west-1", max_attempts=1)))
        one, two = (machine.id for machine in cloud.machines())
        both = frozenset({one, two, ONE})  # the third is none that EC2 knows
        assert port.tags(both, KEY) == {}
        port.tag(one, KEY, "0123abcd 89abcdef")
        port.tag(two, "hafleet:other", "x")
        assert port.tags(both, KEY) == {one: "0123abcd 89abcdef"}
        assert port.tags(frozenset({two}), KEY) == {}
        port.tag(one, KEY, "")
        assert port.tags(both, KEY) == {one: ""}
        assert port.tags(frozenset(), KEY) == {}


# --- a script -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Script, NodeTags]]:
    """One server and one account for all: making clients is what takes long."""
    with pytest.MonkeyPatch.context() as environ, serve(Script()) as script:
        environ.setenv("AWS_ACCESS_KEY_ID", "test")
        environ.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environ.setenv("AWS_ENDPOINT_URL", script.endpoint)
        yield script, Ec2NodeTags(Account(Aws(region="eu-west-1", max_attempts=1)))


@pytest.fixture
def script(served: tuple[Script, NodeTags]) -> Script:
    served[0].asked.clear()
    return served[0]


@pytest.fixture
def port(served: tuple[Script, NodeTags]) -> NodeTags:
    return served[1]


def listing(*tags: tuple[str, str, str], token: str = "") -> Reply:
    items = "".join(
        f"<item><resourceId>{who}</resourceId><resourceType>instance</resourceType><key>{key}</key><value>{value}</value></item>"
        for who, key, value in tags
    )
    more = f"<nextToken>{token}</nextToken>" if token else ""
    return 200, f"<DescribeTagsResponse><tagSet>{items}</tagSet>{more}</DescribeTagsResponse>"


def test_every_page_is_read(script: Script, port: NodeTags) -> None:
    script.on("DescribeTags", listing((ONE, KEY, "a"), token="t"), listing((TWO, KEY, "b")))
    assert port.tags(frozenset({TWO, ONE}), KEY) == {ONE: "a", TWO: "b"}
    assert [asked.get("NextToken") for asked in script.asked] == [None, "t"]
    first = script.asked[0]
    assert (first["Filter.2.Name"], first["Filter.2.Value.1"], first["Filter.2.Value.2"]) == ("resource-id", ONE, TWO)
    assert (first["Filter.3.Name"], first["Filter.3.Value.1"]) == ("key", KEY)


def test_a_listing_that_runs_in_a_circle_is_none(script: Script, port: NodeTags) -> None:
    script.on("DescribeTags", listing((ONE, KEY, "a"), token="t"))
    with pytest.raises(SourceUnavailable, match="the same page token came twice"):
        port.tags(frozenset({ONE}), KEY)


def test_more_ids_than_a_filter_takes_are_asked_in_parts(script: Script, port: NodeTags) -> None:
    script.on("DescribeTags", listing())
    ids = frozenset(f"i-{number:017x}" for number in range(201))
    assert port.tags(ids, KEY) == {}
    asked = [sum(key.startswith("Filter.2.Value.") for key in each) for each in script.asked]
    assert asked == [200, 1]


def test_what_was_not_asked_for_is_not_taken(script: Script, port: NodeTags) -> None:
    script.on("DescribeTags", listing((TWO, KEY, "a"), (ONE, "Name", "b")))
    assert port.tags(frozenset({ONE}), KEY) == {}


def test_a_value_is_cut_to_what_ec2_takes(script: Script, port: NodeTags) -> None:
    script.on("CreateTags", (200, "<CreateTagsResponse><return>true</return></CreateTagsResponse>"))
    port.tag(ONE, KEY, "x" * 300)
    asked = script.asked[0]
    assert (asked["ResourceId.1"], asked["Tag.1.Key"], asked["Tag.1.Value"]) == (ONE, KEY, "x" * 256)


CALLS: dict[str, Callable[[NodeTags], object]] = {
    "DescribeTags": lambda port: port.tags(frozenset({ONE}), KEY),
    "CreateTags": lambda port: port.tag(ONE, KEY, "a"),
}


REFUSALS = {
    AwsThrottled: ec2_error(503, "RequestLimitExceeded", "slow down"),
    AwsDenied: ec2_error(403, "UnauthorizedOperation", "not you"),
    SourceUnavailable: ec2_error(500, "InternalError", "try again"),
}


@pytest.mark.parametrize("action", CALLS)
@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_is_one_of_ours(script: Script, port: NodeTags, action: str, kind: type[SourceUnavailable]) -> None:
    script.on(action, REFUSALS[kind])
    with pytest.raises(kind) as caught:
        CALLS[action](port)
    assert caught.value.where == f"ec2:{action} in eu-west-1"
