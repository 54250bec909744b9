"""What an adversary tries on the DNS side: clocks that jump, settings that change under way, AWS that says no for days."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from hafleet.core.dns import pace
from hafleet.core.dns.model import DnsMemory, Record, Situation
from hafleet.core.dns.plan import Look, Remember, Scene, Seen, Want
from hafleet.core.dns.steps import move_out
from hafleet.core.dns.want import Timing, make_want
from hafleet.core.model import Group
from hafleet.errors import (
    AwsDenied,
    AwsThrottled,
    ChangeRefused,
    CheckInUse,
    CheckTaken,
    HafleetError,
    SourceUnavailable,
)
from hafleet.lab.route53_engine import Limits
from hafleet.ports import Dns
from hafleet.registration import Registrar
from tests.fakes.dns import NAME, Actor, Stage, dns_settings, edge, iid, lose, node

YEAR = 31_536_000.0
HOUR = 3600.0


class Port:
    """A port that counts calls and fails those that it is told to."""

    def __init__(self, inner: Dns, **failures: HafleetError) -> None:
        self._inner, self.failures = inner, failures
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            self.calls[name] += 1
            if error := self.failures.get(name):
                raise error
            return getattr(self._inner, name)(*args)

        return call


@pytest.fixture
def stage() -> Stage:
    return Stage(limits=Limits(throttling=False, processing=0.0))


def registered(stage: Stage, *numbers: int, **dns: Any) -> None:
    """Nodes that registered long ago and run."""
    for number in numbers:
        stage.register(number, dns_settings(**dns))
        stage.ec2.known[iid(number)] = "running"
    stage.clock.at += 100


def actor(stage: Stage, number: int, group: Group | Iterable[int], port: Dns | None = None, **dns: Any) -> Actor:
    found = stage.registrar(number, dns_settings(**dns), port)
    found.group = group if isinstance(group, Group) else edge(list(group))
    return found


def drive(one: Actor, seconds: float) -> Any:
    """Passes for so long, each when the one before asked for it; the last report."""
    end = one.stage.clock.at + seconds
    while True:
        report = one.once()
        one.stage.clock.at += max(0.05, report.next_at)
        if one.stage.clock.at >= end:
            return report


def situated(one: Actor, **address: Any) -> None:
    """The node has other addresses."""
    told = one.situation
    one.situation = lambda: replace(told(), node=replace(node(one.number), **address))  # type: ignore[method-assign]


# --- the clock ------------------------------------------------------------------------------------------------------


def test_a_clock_that_was_a_year_ahead_does_not_end_reaping(stage: Stage) -> None:
    registered(stage, 1, 2)
    stage.ec2.known[iid(2)] = "terminated"
    lose(stage.stores[iid(1)], reaped_at=stage.clock.at + YEAR)
    drive(actor(stage, 1, [1]), HOUR)
    assert set(stage.leaves()) == {iid(1)}


def test_a_clock_that_was_a_year_ahead_does_not_keep_a_change_open(stage: Stage) -> None:
    registered(stage, 1)
    lose(stage.stores[iid(1)], change="?", changed_at=stage.clock.at + YEAR)
    one = actor(stage, 1, [1])
    assert one.once().waiting
    assert drive(one, 300).registered
    assert stage.stores[iid(1)].kept.change == ""


# --- settings that change -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("serves", [True, False])
def test_another_family_that_the_node_cannot_have_takes_no_record_away(stage: Stage, serves: bool) -> None:
    registered(stage, 1, 2)
    one = actor(stage, 2, [1, 2], families=["ipv6"])
    one.serves = serves
    situated(one, ipv6=None)
    report = drive(one, 600)
    assert set(stage.leaves()) == {iid(1), iid(2)}
    assert any("no IPv6 address" in problem for problem in report.problems)


def test_another_family_takes_the_old_record_away_when_the_new_one_stands(stage: Stage) -> None:
    registered(stage, 1, 2)
    drive(actor(stage, 2, [1, 2], families=["ipv6"]), 600)
    assert {key[1] for key in stage.records() if key[2] == iid(2)} == {"AAAA"}
    assert len(stage.checks()) == 2


def test_a_renamed_fleet_marks_its_checks_anew(stage: Stage) -> None:
    registered(stage, 1, 2)
    old = stage.leaves()[iid(2)].check
    renamed = dns_settings().model_copy(update={"fleet": "renamed"})
    one = Actor(stage, 2, Registrar(renamed, stage.ports(renamed, iid(2))), edge([1, 2]))
    assert drive(one, 600).registered
    assert stage.leaves()[iid(2)].check != old and old not in stage.checks()
    assert len(stage.checks()) == 2


def test_while_nodes_move_into_shards_no_node_gets_most_of_the_traffic(stage: Stage) -> None:
    everyone = range(1, 21)
    registered(stage, *everyone)
    top: list[Record] = []
    for number in range(1, 20):  # the last one does not hear of the new settings
        drive(actor(stage, number, everyone, tree={"shards": 5}), 150)
        top = [r for r in stage.records().values() if r.name == NAME and r.type == "A"]
        heaviest = max(r.weight or 0 for r in top if r.alias is None)
        assert heaviest <= 0.15 * sum(r.weight or 0 for r in top)
    assert [r.set_id for r in top if r.alias is None] == [iid(20)]


# --- whose is what --------------------------------------------------------------------------------------------------


def test_record_sets_of_others_under_a_nodes_id_are_not_its_own(stage: Stage) -> None:
    registered(stage, 1, 2)
    text = {"Name": NAME, "Type": "TXT", "SetIdentifier": iid(1), "Weight": 1, "TTL": 60}
    stage.write(**text, ResourceRecords=[{"Value": '"theirs"'}])
    near = {"Name": f"near.{NAME}", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "127.9.9.9"}]}
    stage.write(**near, SetIdentifier=iid(1), Region="eu-west-1")
    stage.write(**near, SetIdentifier="other", Region="us-west-1")
    before = stage.records()
    port = Port(stage.dns(dns_settings()))
    one = actor(stage, 1, edge({1: "Pending", 2: "InService"}), port)
    report = drive(one, HOUR)
    assert report.registered and not report.held
    assert stage.records() == before
    assert sum(port.calls.values()) <= 62


def test_a_check_that_somebody_elses_check_needs_stops_neither_reaping_nor_the_rest(stage: Stage) -> None:
    registered(stage, 1, 2)
    stage.ec2.known[iid(2)] = "terminated"
    changed = {"health": {"endpoint": {"interval": 30}}}
    port = Port(stage.dns(dns_settings(**changed)), delete_check=CheckInUse("another needs it"))
    assert drive(actor(stage, 1, [1], port, **changed), HOUR).registered
    assert set(stage.leaves()) == {iid(1)}
    assert port.calls["delete_check"] <= 20


# --- AWS says no ----------------------------------------------------------------------------------------------------

DENIED, GONE = AwsDenied("403: no"), SourceUnavailable("Read timeout")


@pytest.mark.parametrize(
    ("failures", "most"),
    [
        ({"zone_id": DENIED}, 1.0),
        ({"zone_id": HafleetError("the name is not of the zone")}, 1.0),
        ({"tree": DENIED}, 1.0),
        ({"tree": GONE}, 1.0),
        ({"change": DENIED}, 1.0),
        ({"change": GONE}, 1.0),
        ({"change": ChangeRefused("the zone is full")}, 1.0),
        ({"create_check": SourceUnavailable("TooManyHealthChecks: the quota is reached")}, 1.0),
        ({"create_check": ChangeRefused("never")}, 1.0),
        ({"create_check": CheckTaken("used before")}, 2.0),
        ({"change": AwsThrottled("Rate exceeded")}, 1.0),
    ],
    ids=lambda value: "-".join(f"{k} {e.what}" for k, e in value.items()) if isinstance(value, dict) else None,
)
def test_a_join_that_fails_for_hours_asks_seldom(stage: Stage, failures: dict[str, HafleetError], most: float) -> None:
    port = Port(stage.dns(dns_settings()), **failures)
    one = actor(stage, 1, [1], port)
    drive(one, 3 * HOUR)
    port.calls.clear()
    report = drive(one, 5 * HOUR)
    assert port.calls.total() / 300 <= most  # calls a minute
    assert report.problems
    port.failures.clear()
    drive(one, 1.2 * HOUR)
    assert set(stage.leaves()) == {iid(1)}


def test_a_node_that_is_told_to_leave_does_not_wait_out_a_long_pause(stage: Stage) -> None:
    registered(stage, 1, 2)
    port = Port(stage.dns(dns_settings()), tree=DENIED)
    one = actor(stage, 2, [1, 2], port)
    drive(one, HOUR)
    assert iid(2) in stage.leaves()
    one.leave()
    drive(one, 120)
    port.failures.clear()
    drive(one, 60)
    assert set(stage.leaves()) == {iid(1)}


def test_ec2_that_denies_keeps_the_leader_from_reaping_only(stage: Stage) -> None:
    registered(stage, 1, 2)
    stage.ec2.broken = True
    port = Port(stage.dns(dns_settings(weight=7)))
    one = actor(stage, 1, [1], port, weight=7)
    report = drive(one, HOUR)
    assert report.registered and not report.waiting
    assert any("DescribeInstances" in problem for problem in report.problems)
    assert stage.leaves()[iid(1)].weight == 7
    assert 3 <= port.calls["checks"] <= 7
    stage.ec2.broken, stage.ec2.known[iid(2)] = False, "terminated"
    assert not drive(one, HOUR).problems
    assert set(stage.leaves()) == {iid(1)}


def test_a_change_that_never_comes_into_force_is_asked_for_less_and_less(stage: Stage) -> None:
    port = Port(stage.dns(dns_settings()))
    one = actor(stage, 1, [1], port)
    stage.limits.insync = 24 * HOUR
    drive(one, HOUR)
    port.calls.clear()
    assert drive(one, HOUR).waiting
    assert port.calls["insync"] <= 100
    assert [pace.poll_most(polls) for polls in (7, 8, 20)] == [20, 120, 120]


def test_a_check_that_route_53_does_not_know_everywhere_yet_delays_a_join_by_seconds(stage: Stage) -> None:
    class Late:
        """Refuses a record on a check that is younger than five seconds."""

        def __init__(self, inner: Dns) -> None:
            self.inner, self.made = inner, 0.0

        def create_check(self, *args: Any) -> Any:
            self.made = stage.clock.at
            return self.inner.create_check(*args)

        def change(self, batch: Any) -> str:
            if stage.clock.at < self.made + 5:
                raise ChangeRefused("InvalidChangeBatch: the health check does not exist")
            return self.inner.change(batch)

        def __getattr__(self, name: str) -> Callable[..., Any]:
            found: Callable[..., Any] = getattr(self.inner, name)
            return found

    late: Any = Late(stage.dns(dns_settings()))
    assert drive(actor(stage, 1, [1], late), 120).registered
    assert len(stage.checks()) == 1


# --- thrift ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [1, 3, 90])
def test_a_leader_makes_one_call_a_minute(stage: Stage, nodes: int) -> None:
    registered(stage, *range(1, nodes + 1))
    port = Port(stage.dns(dns_settings()))
    one = actor(stage, 1, range(1, nodes + 1), port)
    drive(one, HOUR)
    port.calls.clear()
    drive(one, 5 * HOUR)
    assert port.calls.total() <= 300


# --- another name ---------------------------------------------------------------------------------------------------

NEW_NAME = "www.example.test"


def zone_of(stage: Stage) -> dict[tuple[str, str], str]:
    """Check of every leaf of the whole zone, by name and SetIdentifier."""
    (zone,) = stage.engine.dump()
    return {(r["Name"], r["SetIdentifier"]): r["HealthCheckId"] for r in zone["ResourceRecordSets"] if r["Type"] == "A"}


def test_another_name_takes_the_old_records_away_but_the_last(stage: Stage) -> None:
    numbers = (1, 2, 3)
    nodes = [actor(stage, n, numbers) for n in numbers]
    for one in nodes:
        drive(one, 200)
    nodes = [actor(stage, n, numbers, name=NEW_NAME) for n in numbers]
    reports = [drive(one, 300) for one in nodes]
    new = {(f"{NEW_NAME}.", iid(n)) for n in numbers}
    assert zone_of(stage).keys() == new | {(f"{NAME}.", iid(3))}
    assert [held.rule for held in reports[2].held] == ["last_record"]
    assert all(report.registered for report in reports)
    assert stage.stores[iid(1)].kept.names == (NEW_NAME,)
    nodes[2].leave()
    drive(nodes[2], 600)
    assert set(zone_of(stage).values()) <= set(stage.checks())  # no record on a check that is gone
    stage.erase(iid(3), f"{NAME}.".rstrip("."))
    drive(nodes[2], 600)
    assert zone_of(stage).keys() == new - {(f"{NEW_NAME}.", iid(3))}
    assert set(stage.checks()) == set(zone_of(stage).values())


def test_a_crash_between_the_new_record_and_the_old_ones_end_is_no_end(stage: Stage) -> None:
    for n in (1, 2):
        drive(actor(stage, n, (1, 2)), 200)
    one = actor(stage, 1, (1, 2), name=NEW_NAME)
    one.until(lambda report: (f"{NEW_NAME}.", iid(1)) in zone_of(stage))
    assert (f"{NAME}.", iid(1)) in zone_of(stage)
    drive(actor(stage, 1, (1, 2), name=NEW_NAME), 300)
    assert zone_of(stage).keys() == {(f"{NEW_NAME}.", iid(1)), (f"{NAME}.", iid(2))}


def test_an_earlier_name_is_forgotten_only_after_a_look_at_it() -> None:
    settings = dns_settings()
    assert settings.dns
    told = Situation(1000.0, node(1), True, False, 0.0, None)
    want = make_want(settings, settings.dns, told, "Z1", Timing())
    assert isinstance(want, Want)
    memory = DnsMemory(names=(NAME, "old.example.test"))
    assert move_out(Scene(want, Seen(), memory, 1000.0)).step == Look()
    assert move_out(Scene(want, Seen(fresh=True), memory, 1000.0)).step == Remember(DnsMemory(names=(NAME,)))


def test_the_leader_collects_its_own_orphan_too(stage: Stage) -> None:
    registered(stage, 1, 2)
    stage.erase(iid(1))
    stage.stores[iid(1)].kept = DnsMemory()  # record and disk lost: nobody remembers the check
    assert drive(actor(stage, 1, [1, 2]), 3 * HOUR).registered
    assert set(stage.checks()) == {leaf.check for leaf in stage.leaves().values()}
    kept = stage.stores[iid(1)].kept
    assert {memo.id for memo in kept.checks.values()} == {stage.leaves()[iid(1)].check}


@pytest.mark.parametrize(("region", "left"), [("us-east-1", {1, 2}), ("eu-west-1", {1})])
def test_a_region_that_is_not_the_nodes_own_proves_no_death(stage: Stage, region: str, left: set[int]) -> None:
    registered(stage, 1, 2)
    del stage.ec2.known[iid(2)]  # EC2 of the region that is asked does not know it
    settings = dns_settings()
    settings = settings.model_copy(update={"aws": settings.aws.model_copy(update={"region": region})})
    drive(Actor(stage, 1, Registrar(settings, stage.ports(settings, iid(1))), edge([1])), HOUR)
    assert set(stage.leaves()) == {iid(n) for n in left}
