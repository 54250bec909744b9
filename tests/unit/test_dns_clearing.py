"""A fleet that is gone for good: all that it left in Route 53 goes, and nothing else does."""

from dataclasses import replace

import pytest

from hafleet.adapters.route53 import Route53Dns
from hafleet.core.dns.model import Situation
from hafleet.core.settings import Settings
from hafleet.errors import AwsThrottled, HafleetError
from hafleet.registration.clearing import Clearer
from tests.fakes.dns import NAME, Actor, HandClock, Stage, dns_settings, edge, iid, node

LATENCY = {"group": "{region}", "tree": {"latency": {"eu-west-1": "eu-west-1", "us-east-1": "us-east-1"}}}


def clearer(stage: Stage, settings: Settings | None = None, region: str = "eu-west-1") -> Clearer:
    def rest(seconds: float, _why: str) -> None:
        stage.clock.at += max(seconds, 0.1)

    settings = settings or dns_settings()
    return Clearer(settings, region, stage.ports(settings, "operator"), rest)


def fleet(stage: Stage, numbers: list[int], settings: Settings | None = None) -> None:
    for number in numbers:
        stage.register(number, settings or dns_settings())
        stage.clock.at += 1


def joined(stage: Stage, settings: Settings, number: int, region: str = "eu-west-1") -> None:
    """A node that registered by itself, with the aliases above it."""

    class Elsewhere(Actor):
        def situation(self) -> Situation:
            return replace(super().situation(), node=node(self.number, region))

    Elsewhere(stage, number, stage.registrar(number, settings).registrar, group=edge([number])).settled()


def test_all_records_and_checks_go_the_last_one_too() -> None:
    stage = Stage()
    fleet(stage, [1, 2])
    stage.ec2.known = {iid(1): "terminated"}  # 2 is not known any more
    done = clearer(stage).clear()
    assert (stage.records(), stage.checks()) == ({}, ())
    assert len(done) == 4
    assert clearer(stage).clear() == ()


def test_a_look_writes_nothing() -> None:
    stage = Stage()
    fleet(stage, [1])
    found = clearer(stage).look()
    assert [change.record.set_id for change in found.batch] == [iid(1)] and len(found.checks) == 1
    assert set(stage.leaves()) == {iid(1)} and len(stage.checks()) == 1


def test_what_lives_keeps_its_record_and_its_check() -> None:
    stage = Stage()
    fleet(stage, [1, 2])
    stage.ec2.known = {iid(1): "running", iid(2): "shutting-down"}
    assert [held.subject for held in clearer(stage).look().held] == [iid(1)]
    clearer(stage).clear()
    assert set(stage.leaves()) == {iid(1)} and len(stage.checks()) == 1


def test_other_fleets_and_other_records_stay() -> None:
    stage = Stage()
    fleet(stage, [1])
    other = dns_settings().model_copy(update={"fleet": "other"})
    fleet(stage, [2], other)
    stage.write(Name=f"www.{NAME}", Type="A", TTL=60, ResourceRecords=[{"Value": "192.0.2.1"}])
    clearer(stage).clear()
    assert {key[0::2] for key in stage.records()} == {(NAME, iid(2)), (f"www.{NAME}", "")}
    assert len(stage.checks()) == 1


def test_shards_go_with_their_aliases() -> None:
    stage, settings = Stage(), dns_settings(tree={"shards": 2})
    for number in (1, 2):
        stage.register(number, settings, shard=number - 1)
        stage.clock.at += 1
    stage.ec2.known = {iid(2): "running"}
    clearer(stage, settings).clear()
    assert set(stage.aliases()) == {(NAME, "shard-01")} and set(stage.leaves()) == {iid(2)}
    stage.ec2.known = {}
    clearer(stage, settings).clear()
    assert (stage.records(), stage.checks()) == ({}, ())


def test_another_region_keeps_its_branch_of_the_tree() -> None:
    stage, settings = Stage(), dns_settings(**LATENCY)
    joined(stage, settings, 1)
    joined(stage, settings, 2, "us-east-1")
    clearer(stage, settings).clear()
    assert set(stage.aliases()) == {(NAME, "us-east-1")} and set(stage.leaves()) == {iid(2)}
    clearer(stage, settings, "us-east-1").clear()
    assert (stage.records(), stage.checks()) == ({}, ())


def test_a_chain_of_aliases_goes_from_the_top() -> None:
    stage, settings = Stage(), dns_settings(group="c", tree={"failover": ["a", "b", "c"]})
    joined(stage, settings, 1)
    assert len(stage.aliases()) >= 2
    names = [change.record.name for change in clearer(stage, settings).look().batch]
    assert names == [NAME, f"chain-2.failover.{NAME}", f"c.{NAME}"]
    clearer(stage, settings).clear()
    assert stage.records() == {}


def test_a_check_with_children_goes_before_them() -> None:
    stage = Stage()
    health = {"endpoint": {}, "alarm": {"name": "{instance}"}, "calculated": {"children": ["endpoint", "alarm"]}}
    settings = dns_settings(health=health)
    joined(stage, settings, 1)
    assert len(stage.checks()) == 3
    clearer(stage, settings).clear()
    assert stage.checks() == ()


def test_a_record_of_somebody_else_stays_with_the_check_that_it_uses() -> None:
    stage = Stage()
    fleet(stage, [1])
    (check,) = stage.checks()
    stage.write(
        Name=f"www.{NAME}",
        Type="A",
        TTL=60,
        SetIdentifier="x",
        Weight=1,
        HealthCheckId=check,
        ResourceRecords=[{"Value": "192.0.2.1"}],
    )
    clearer(stage).clear()
    assert stage.checks() == (check,) and set(stage.leaves()) == {"x"}


class Slow(Route53Dns):
    """A Route 53 that throttles so many calls, and whose changes may never be in force."""

    throttles = 0
    never = False

    def zone_id(self) -> str:
        if self.throttles:
            self.throttles -= 1
            raise AwsThrottled("slow down", where="route53")
        return super().zone_id()

    def insync(self, change_id: str) -> bool:
        return not self.never and super().insync(change_id)


def slow(stage: Stage, throttles: int = 0, never: bool = False) -> Clearer:
    def rest(seconds: float, _why: str) -> None:
        stage.clock.at += seconds

    settings = dns_settings()
    assert settings.dns is not None
    dns = Slow(settings.dns, lambda: stage.client, HandClock())  # type: ignore[arg-type, return-value]
    dns.throttles, dns.never = throttles, never
    return Clearer(settings, "eu-west-1", stage.ports(settings, "operator", dns), rest)


def test_throttling_is_waited_out_and_not_for_ever() -> None:
    stage = Stage()
    fleet(stage, [1])
    assert len(slow(stage, throttles=3).look().batch) == 1
    with pytest.raises(AwsThrottled):
        slow(stage, throttles=1000).look()


def test_a_change_that_is_never_in_force_leaves_the_checks() -> None:
    stage = Stage()
    fleet(stage, [1])
    with pytest.raises(HafleetError, match="not in force"):
        slow(stage, never=True).clear()
    assert stage.leaves() == {} and len(stage.checks()) == 1


def test_settings_without_dns_are_refused() -> None:
    stage, settings = Stage(), dns_settings()
    with pytest.raises(HafleetError, match="no dns section"):
        Clearer(settings.model_copy(update={"dns": None}), "eu-west-1", stage.ports(settings, "operator"), print)
