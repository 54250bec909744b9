from ipaddress import IPv4Address

import pytest

from hafleet.core.model import Group, Node
from hafleet.core.settings import Settings
from hafleet.errors import HafleetError, SourceUnavailable
from hafleet.registration.byhand import Reaper
from tests.fakes.dns import Stage, dns_settings, edge, iid

PLACE = Node("operator", IPv4Address("127.0.0.1"), "", "eu-west-1", "edge")


def reaper(stage: Stage, group: Group, settings: Settings | None = None) -> Reaper:
    def rest(seconds: float, _why: str) -> None:
        stage.clock.at += seconds

    settings = settings or dns_settings()
    return Reaper(settings, stage.ports(settings, "operator"), lambda: group, rest, PLACE)


def fleet(stage: Stage, numbers: list[int], settings: Settings | None = None) -> None:
    for number in numbers:
        stage.register(number, settings or dns_settings())
        stage.clock.at += 1


def test_what_dead_nodes_left_is_taken_away_with_their_checks() -> None:
    stage = Stage()
    fleet(stage, [1, 2, 3])
    stage.ec2.known = {iid(3): "terminated"}  # 2 is not known at all any more
    done = reaper(stage, edge([1])).reap()
    assert set(stage.leaves()) == {iid(1)}
    assert len(stage.checks()) == 1
    assert any(iid(3) in line for line in done.done)
    assert (done.held, done.problems) == ((), ())


def test_the_two_proofs_are_the_confirm_time_apart() -> None:
    stage = Stage()
    fleet(stage, [1, 2])
    stage.ec2.known = {iid(2): "terminated"}
    began = stage.clock.at
    reaper(stage, edge([1])).reap()
    assert stage.clock.at - began >= 120
    assert len(stage.ec2.asked) >= 2


def test_a_node_that_comes_back_between_the_proofs_stays() -> None:
    stage = Stage()
    fleet(stage, [1, 2])
    stage.ec2.known = {iid(2): "terminated"}

    def rest(seconds: float, _why: str) -> None:
        stage.clock.at += seconds
        stage.ec2.known = {iid(2): "running"}

    settings = dns_settings()
    done = Reaper(settings, stage.ports(settings, "operator"), lambda: edge([1]), rest, PLACE).reap()
    assert set(stage.leaves()) == {iid(1), iid(2)}
    assert done.done == ()


def test_a_look_writes_nothing_and_says_whom_it_suspects() -> None:
    stage = Stage()
    fleet(stage, [1, 2])
    stage.ec2.known = {iid(2): "terminated"}
    before = stage.records()
    found = reaper(stage, edge([1])).look()
    assert found.suspects == (iid(2),)
    assert len(found.records) == 2
    assert any(f"[{iid(2)}]" in line and line.startswith("delete") for line in found.lines)
    assert any(line.startswith("delete health check") for line in found.lines)
    assert stage.records() == before
    assert stage.stores["operator"].writes == 0


def test_a_look_tells_what_would_be_held() -> None:
    stage = Stage()
    fleet(stage, [1])
    stage.ec2.known = {iid(1): "terminated"}
    found = reaper(stage, Group("edge", 0, ())).look()
    assert (found.suspects, found.lines) == ((iid(1),), ())
    assert [held.rule for held in found.held] == ["last_record"]


def test_of_a_fleet_scaled_to_zero_the_last_record_stays() -> None:
    stage = Stage()
    fleet(stage, [1, 2])
    stage.ec2.known = {iid(1): "terminated", iid(2): "terminated"}
    done = reaper(stage, Group("edge", 0, ())).reap()
    assert len(stage.leaves()) == 1
    assert len(stage.checks()) == 1
    assert [held.rule for held in done.held] == ["last_record"]


def test_nobody_is_reaped_while_ec2_does_not_answer() -> None:
    stage = Stage()
    fleet(stage, [1, 2])
    stage.ec2.broken = True
    with pytest.raises(SourceUnavailable):
        reaper(stage, edge([1])).reap()
    assert set(stage.leaves()) == {iid(1), iid(2)}


def test_a_clean_zone_needs_no_second_look() -> None:
    stage = Stage()
    fleet(stage, [1])
    began = stage.clock.at
    done = reaper(stage, edge([1])).reap()
    assert (done.done, stage.clock.at - began) == ((), 0.0)


def test_many_dead_go_in_several_batches_under_the_real_limits() -> None:
    stage = Stage()
    fleet(stage, list(range(1, 61)))
    stage.ec2.known = {iid(n): "terminated" for n in range(11, 61)}
    reaper(stage, edge(list(range(1, 11)))).reap()
    assert set(stage.leaves()) == {iid(n) for n in range(1, 11)}
    assert len(stage.checks()) == 10


def test_settings_without_a_place_for_it_say_what_to_do() -> None:
    stage = Stage()
    settings = dns_settings(group="{zone}", tree={"failover": ["eu-west-1a", "eu-west-1b"]})
    with pytest.raises(HafleetError, match=r"dns\.group"):
        reaper(stage, edge([1]), settings).look()
    plain = Settings.model_validate({**dns_settings().model_dump(), "dns": None})
    with pytest.raises(HafleetError, match="no dns section"):
        Reaper(plain, stage.ports(dns_settings(), "x"), lambda: edge([1]), lambda _s, _w: None, PLACE)
