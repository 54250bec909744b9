"""What every membership port does, in memory as over HTTP."""

from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer

from hafleet.core.model import Group, Groups
from tests.contract.stages import InMemory, OverHttp, Stage

NONE: frozenset[str] = frozenset()
NO_TAGS: frozenset[tuple[str, str]] = frozenset()


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["memory", "http"])
def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Stage:
    if request.param == "memory":
        return InMemory()
    endpoint = request.getfixturevalue("moto_endpoint")
    urlopen(Request(f"{endpoint}/moto-api/reset", method="POST"), timeout=60).close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return OverHttp()


def read(stage: Stage, *names: str, tags: frozenset[tuple[str, str]] = NO_TAGS) -> Groups:
    return stage.membership.read(frozenset(names), tags, NONE)


def serving(group: Group) -> list[str]:
    return [i.id for i in group.instances if i.serves]


def test_a_group_comes_with_its_instances_and_their_addresses(stage: Stage) -> None:
    stage.create("blue", 3)
    blue = read(stage, "blue").by_name["blue"]
    assert (blue.name, blue.desired, len(serving(blue))) == ("blue", 3, 3)
    assert serving(blue) == sorted(serving(blue))
    assert len({i.address for i in blue.instances} - {None}) == 3
    assert {(i.zone, i.capacity) for i in blue.instances} == {("eu-west-1a", 1)}


def test_a_group_that_aws_does_not_know_is_absent(stage: Stage) -> None:
    stage.create("blue", 1)
    assert read(stage, "blue", "typo").by_name.keys() == {"blue"}
    assert read(stage, "typo").by_name == {}


def test_only_groups_asked_for_are_in_the_answer(stage: Stage) -> None:
    stage.create("blue", 1)
    stage.create("green", 1)
    assert read(stage, "blue").by_name.keys() == {"blue"}


def test_nothing_asked_costs_no_call(stage: Stage) -> None:
    stage.create("blue", 1)
    assert read(stage).by_name == {}
    assert stage.calls == []


def test_groups_are_found_by_any_of_the_tags(stage: Stage) -> None:
    stage.create("blue", 1, {"app": "site", "env": "prod"})
    stage.create("green", 1, {"app": "site"})
    stage.create("red", 1, {"app": "other"})
    found = read(stage, tags=frozenset({("app", "site")}))
    assert found.by_name.keys() == {"blue", "green"}
    assert dict(found.by_name["blue"].tags) == {"app": "site", "env": "prod"}
    both = read(stage, "red", tags=frozenset({("app", "site"), ("env", "prod")}))
    assert both.by_name.keys() == {"blue", "green", "red"}


def test_more_groups_than_a_page_holds(stage: Stage) -> None:
    names = [f"group-{n:03}" for n in range(130)]
    for name in names:
        stage.create(name, 0, {"app": "site"})
    assert sorted(read(stage, *names).by_name) == names
    assert sorted(read(stage, tags=frozenset({("app", "site")})).by_name) == names
    assert stage.calls == ["DescribeAutoScalingGroups"] * 4


def test_more_instances_than_one_question_asks_for(stage: Stage) -> None:
    stage.create("blue", 230)
    blue = read(stage, "blue").by_name["blue"]
    assert len({i.address for i in blue.instances} - {None}) == 230


def test_a_steady_pass_costs_one_call(stage: Stage) -> None:
    stage.create("blue", 5)
    stage.create("green", 5)
    read(stage, "blue", "green")
    stage.calls.clear()
    for _ in range(3):
        read(stage, "blue", "green")
    assert stage.calls == ["DescribeAutoScalingGroups"] * 3


def test_reads_are_ordered(stage: Stage) -> None:
    stage.create("blue", 1)
    started = [read(stage, "blue").started for _ in range(5)]
    assert started == sorted(set(started))


def test_an_instance_in_standby_says_so(stage: Stage) -> None:
    stage.create("blue", 2)
    first = serving(read(stage, "blue").by_name["blue"])[0]
    stage.standby("blue", first)
    blue = read(stage, "blue").by_name["blue"]
    assert {i.id: i.state for i in blue.instances}[first] == "Standby"
    assert (blue.desired, len(serving(blue))) == (1, 1)


def test_a_scaled_group_shows_new_instances_with_addresses(stage: Stage) -> None:
    stage.create("blue", 1)
    read(stage, "blue")
    stage.scale("blue", 4)
    blue = read(stage, "blue").by_name["blue"]
    assert len({i.address for i in blue.instances} - {None}) == 4


def test_an_instance_that_vanished_because_it_was_terminated_is_shown_as_terminated(stage: Stage) -> None:
    stage.create("blue", 3)
    before = set(serving(read(stage, "blue").by_name["blue"]))
    stage.scale("blue", 1)
    for _ in range(2):
        blue = read(stage, "blue").by_name["blue"]
        left = set(serving(blue))
        assert len(left) == 1
        assert {i.id for i in blue.instances if i.terminates} == before - left


def test_a_group_that_lost_its_tag_or_was_deleted_is_not_in_the_answer(stage: Stage) -> None:
    wanted = frozenset({("app", "site")})
    for name in ("blue", "green", "red"):
        stage.create(name, 1, {"app": "site"})
    assert len(read(stage, tags=wanted).by_name) == 3
    stage.untag("green", "app")
    stage.delete("red")
    assert read(stage, tags=wanted).by_name.keys() == {"blue"}
