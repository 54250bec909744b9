"""The DNS pass over the strict Route 53: one node at a time."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from hafleet.core.dns.checks import fleet_prefix, read_reference
from hafleet.core.dns.model import Batch, DnsMemory, Place, Record
from hafleet.core.dns.plan import create
from hafleet.core.model import Unknown
from hafleet.errors import (
    AwsDenied,
    AwsThrottled,
    CheckInUse,
    HafleetError,
    SourceUnavailable,
    StateCorrupt,
    StoreError,
)
from hafleet.lab.route53_engine import Limits
from hafleet.registration import Registrar
from hafleet.registration.registrar import exhaust
from tests.fakes.dns import NAME, ZONE, Actor, MemoryStore, Stage, dns_settings, edge, iid, node

ME, OTHER, THIRD = 2, 1, 3


@pytest.fixture
def stage() -> Stage:
    return Stage(limits=Limits(throttling=False, processing=0.0))


def actor(stage: Stage, number: int = ME, dns: Any = None, **section: Any) -> Actor:
    found = stage.registrar(number, dns_settings(**section), dns)
    found.group = edge([OTHER, ME, THIRD])
    return found


def hours(one: Actor, seconds: float) -> list[Any]:
    """Passes for so long, each when the last one asked for it."""
    end, reports = one.stage.clock.at + seconds, []
    while one.stage.clock.at < end:
        reports.append(one.once())
        one.stage.clock.at += reports[-1].next_at
    return reports


class Broken:
    """A port that fails in one of its calls, as often as told."""

    def __init__(self, stage: Stage, call: str, error: HafleetError, times: int = 10**9, **section: Any) -> None:
        self._inner, self._call, self._error, self.times = stage.dns(dns_settings(**section)), call, error, times

    def __getattr__(self, name: str) -> Any:
        if name == self._call and self.times > 0:
            return self._raise
        return getattr(self._inner, name)

    def _raise(self, *_: Any) -> Any:
        self.times -= 1
        raise self._error


# --- joining --------------------------------------------------------------------------------------------------------


def test_a_node_makes_its_check_then_its_record_and_says_so_when_it_is_in_force(stage: Stage) -> None:
    one = actor(stage)
    one.group = edge([ME])
    first = one.once()
    assert not first.registered and first.waiting == "the change to be in force"
    assert [line.split(":")[0] for line in first.done] == [f"health check {stage.checks()[0]} made", "join"]
    report = one.settled()
    assert report.registered
    leaf = stage.leaves()[iid(ME)]
    assert (leaf.values, leaf.weight, leaf.ttl, leaf.check) == (("127.2.0.3",), 100, 30, stage.checks()[0])
    (check,) = stage.engine.checks()
    told = read_reference(check["CallerReference"], "edge")
    assert told and (told.node, told.slot) == (iid(ME), "A/endpoint")
    config = check["HealthCheckConfig"]
    assert (config["IPAddress"], config["Port"], config["ResourcePath"]) == ("127.2.0.3", 8403, "/hafleet-health")


def test_a_node_that_does_not_serve_makes_no_call(stage: Stage) -> None:
    one = actor(stage)
    one.serves = False
    assert not hours(one, 600)[-1].registered
    assert not stage.engine.calls


def test_a_registered_node_that_no_longer_serves_keeps_its_record(stage: Stage) -> None:
    one = actor(stage)
    one.settled()
    one.serves, one.group = False, Unknown("AWS does not answer")
    assert hours(one, 600)[-1].registered
    assert set(stage.leaves()) == {iid(ME)}


def test_dual_stack_makes_a_record_and_a_check_for_each_family(stage: Stage) -> None:
    one = actor(stage, families=["ipv4", "ipv6"])
    assert one.settled().registered
    types = {key[1]: record for key, record in stage.records().items()}
    assert types["AAAA"].values == ("2600:1f18::3",)
    assert len(stage.checks()) == 2


def test_a_node_without_the_address_says_so_and_keeps_what_it_has(stage: Stage) -> None:
    one = actor(stage)
    one.settled()
    bare = Actor(stage, ME, one.registrar, one.group)
    situation = replace(bare.situation(), node=replace(node(ME), public=None))
    report = one.registrar.run(situation)
    (problem,) = report.problems
    assert problem.startswith("dns.address: this node has no public IPv4 address; give the instance one")
    assert set(stage.leaves()) == {iid(ME)} and len(stage.checks()) == 1


def test_multivalue_nodes_answer_together(stage: Stage) -> None:
    for number in (ME, OTHER):
        assert actor(stage, number, policy="multivalue").settled().registered
    assert all(leaf.multivalue and leaf.weight is None for leaf in stage.leaves().values())


def test_a_removed_record_comes_back_within_two_looks(stage: Stage) -> None:
    one = actor(stage)
    one.settled()
    stage.erase(iid(ME))
    hours(one, 150)
    assert set(stage.leaves()) == {iid(ME)}
    assert len(stage.checks()) == 1


def test_a_changed_record_is_put_right(stage: Stage) -> None:
    one = actor(stage)
    one.settled()
    leaf = stage.leaves()[iid(ME)]
    stage.write(Name=NAME, Type="A", SetIdentifier=iid(ME), Weight=3, TTL=30, ResourceRecords=[{"Value": "127.9.9.9"}])
    hours(one, 150)
    assert stage.leaves()[iid(ME)] == leaf


def test_another_weight_is_one_batch(stage: Stage) -> None:
    actor(stage).settled()
    before = stage.engine.calls["ChangeResourceRecordSets"]
    report = actor(stage, weight=5).once()
    assert [line.split(" A ")[0] for line in report.done] == [f"change of the own record: change {NAME}"]
    assert stage.engine.calls["ChangeResourceRecordSets"] == before + 1
    assert stage.leaves()[iid(ME)].weight == 5


def test_a_check_that_somebody_deleted_is_made_anew(stage: Stage) -> None:
    actor(stage).settled()
    (check,) = stage.checks()
    stage.client.delete_health_check(HealthCheckId=check)
    one = actor(stage)
    hours(one, 2 * 3600)
    (again,) = stage.checks()
    assert again != check and stage.leaves()[iid(ME)].check == again


def test_a_check_that_somebody_changed_is_replaced(stage: Stage) -> None:
    one = actor(stage)
    one.settled()
    (check,) = stage.checks()
    stage.client.update_health_check(HealthCheckId=check, FailureThreshold=9)
    hours(one, 2 * 3600)
    (again,) = stage.engine.checks()
    assert again["HealthCheckConfig"]["FailureThreshold"] == 3
    assert stage.leaves()[iid(ME)].check == again["Id"] != check


def test_a_check_that_was_deleted_between_the_two_calls_is_made_anew(stage: Stage) -> None:
    one = actor(stage)
    one.group = edge([ME])
    walk = one.registrar.walk(one.situation())
    while next(walk) != "ChangeResourceRecordSets":
        pass
    (check,) = stage.checks()
    stage.client.delete_health_check(HealthCheckId=check)
    exhaust(walk)
    assert one.settled().registered
    assert stage.leaves()[iid(ME)].check == stage.checks()[0] != check


def test_a_reference_that_was_used_before_gets_another_nonce(stage: Stage) -> None:
    actor(stage, OTHER).settled()
    stage._nonces = itertools.chain([7] * 10, itertools.count(100))  # type: ignore[assignment]
    one = actor(stage)
    one.settled()
    one.leave()
    stage.clock.at += 60
    one.settled()
    stage._nonces = itertools.chain([7] * 10, itertools.count(200))  # type: ignore[assignment]
    again = actor(stage)
    assert again.settled().registered
    assert stage.engine.refusals["HealthCheckAlreadyExists"] >= 1
    assert len(stage.checks()) == 2


# --- what stands in the way -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"Type": "A"}, f"{NAME}: a simple A record stands at {NAME}, where weighted A records of this fleet should"),
        (
            {"Type": "A", "SetIdentifier": "x", "MultiValueAnswer": True},
            f"{NAME}: a multivalue A record stands at {NAME}, where weighted A records of this fleet should stand",
        ),
        ({"Type": "A", "SetIdentifier": "x", "Region": "eu-west-1"}, f"{NAME}: a latency A record stands"),
        ({"Type": "A", "SetIdentifier": "x", "GeoLocation": {"CountryCode": "*"}}, "a geolocation A record stands"),
        ({"Type": "A", "SetIdentifier": "x", "Failover": "SECONDARY"}, "a failover A record stands"),
        (
            {"Type": "A", "SetIdentifier": "x", "GeoProximityLocation": {"AWSRegion": "eu-west-1"}},
            "a another policy A record stands",
        ),
        ({"Type": "CNAME", "ResourceRecords": [{"Value": "a.test."}]}, f"a CNAME record stands at {NAME}"),
        ({"Type": "A", "SetIdentifier": "x", "Weight": 1, "TTL": 77}, "have ttl 77, the settings say 30"),
    ],
)
def test_a_record_in_the_way_is_named_before_anything_is_written(
    stage: Stage, record: dict[str, Any], words: str
) -> None:
    stage.write(**{"Name": NAME, "TTL": 60, "ResourceRecords": [{"Value": "127.9.9.9"}], **record})
    before, one = stage.records(), actor(stage)
    stage.engine.calls.clear()
    assert words in one.registrar.plan(one.situation()).problems[0]
    report = one.once()
    assert words in report.problems[0]
    assert stage.records() == before
    assert not stage.engine.calls["ChangeResourceRecordSets"] + stage.engine.calls["CreateHealthCheck"]


def test_a_registered_node_keeps_the_ttl_of_its_group(stage: Stage) -> None:
    for number in (OTHER, ME):
        actor(stage, number).settled()
    report = actor(stage, ttl=55).once()
    assert stage.leaves()[iid(ME)].ttl == 30
    assert f"the records of {NAME} A have ttl 30, the settings say 55" in report.problems[0]


def test_a_lone_node_changes_its_ttl(stage: Stage) -> None:
    actor(stage).settled()
    actor(stage, ttl=55).settled()
    assert stage.leaves()[iid(ME)].ttl == 55


def test_settings_that_route_53_never_takes_are_sent_once(stage: Stage) -> None:
    one = actor(stage, address="private")  # the lab refuses no loopback address
    private = replace(one.situation(), node=replace(node(ME), address=node(ME).address.__class__("10.0.0.1")))
    report = one.registrar.run(private)
    for _ in range(5):
        stage.clock.at += 61
        report = one.registrar.run(private)
    assert stage.engine.calls["CreateHealthCheck"] == 1
    assert "10.0.0.1" in report.problems[0]
    assert not stage.leaves()
    stage.clock.at += 3600
    one.registrar.run(private)
    assert stage.engine.calls["CreateHealthCheck"] == 2


def test_a_batch_that_is_refused_three_times_is_not_sent_again(stage: Stage) -> None:
    stage.limits.records = len(stage.engine.dump()[0]["ResourceRecordSets"])  # the zone is full
    one = actor(stage)
    reports = hours(one, 600)
    assert stage.engine.calls["ChangeResourceRecordSets"] == 3
    assert reports[-1].problems and reports[-1].problems == reports[-2].problems
    assert not reports[-1].registered
    assert len(stage.stores[iid(ME)].kept.refused) == 1


def test_a_zone_that_does_not_exist_is_told_and_asked_for_again(stage: Stage) -> None:
    one = actor(stage, zone="other.test", name="lb.other.test")
    reports = hours(one, 100)
    assert "other.test" in reports[-1].problems[0]
    assert not reports[-1].registered and len(reports) > 3


# --- AWS away -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["tree", "record", "change", "create_check", "insync", "zone_id"])
@pytest.mark.parametrize("error", [AwsDenied("403: no"), SourceUnavailable("Read timeout")], ids=["denied", "timeout"])
def test_a_route_53_that_refuses_deregisters_nobody_and_is_joined_later(
    stage: Stage, call: str, error: HafleetError
) -> None:
    actor(stage).settled()
    port = Broken(stage, call, error, weight=7)
    one = actor(stage, dns=port, weight=7, interval=20)
    reports = hours(one, 300)
    assert set(stage.leaves()) == {iid(ME)}
    if call in {"tree", "change", "insync", "zone_id"}:
        assert str(error) in reports[-1].problems[0]
        assert max(report.next_at for report in reports) <= 300
    port.times = 0
    hours(one, 450)
    assert one.once().registered and stage.leaves()[iid(ME)].weight == 7


def test_a_registered_node_is_told_as_registered_while_aws_is_away(stage: Stage) -> None:
    port = Broken(stage, "record", AwsDenied("403: no"), times=0)
    one = actor(stage, dns=port)
    assert one.settled().registered
    port.times = 10**9
    reports = hours(one, 300)
    assert all(report.registered for report in reports)
    assert reports[-1].problems == ("403: no",)


@pytest.mark.parametrize(
    ("error", "most"),
    [(AwsThrottled("Rate exceeded"), 30), (SourceUnavailable("no route"), 300), (AwsDenied("no route"), 300)],
    ids=["throttled", "unreachable", "denied"],
)
def test_pauses_grow_and_the_pass_before_its_time_makes_no_call(stage: Stage, error: HafleetError, most: int) -> None:
    one = actor(stage, dns=Broken(stage, "tree", error))
    reports = hours(one, 3600)
    assert max(report.next_at for report in reports[:10]) <= most
    assert 150 < max(report.next_at for report in reports) <= 300
    calls = stage.engine.calls.total()
    stage.clock.at -= reports[-1].next_at / 2
    assert one.once().problems == (str(error),)
    assert stage.engine.calls.total() == calls


# --- leaving --------------------------------------------------------------------------------------------------------


def test_a_leaving_node_is_red_for_thirty_seconds_before_its_record_goes(stage: Stage) -> None:
    one, other = actor(stage), actor(stage, OTHER)
    one.settled()
    other.settled()
    one.leave()
    report = one.once()
    assert report.waiting == "clients move away while the health check turns red"
    assert 0 < report.next_at <= 30
    assert iid(ME) in stage.leaves()
    stage.clock.at += 30
    one.once()
    assert set(stage.leaves()) == {iid(OTHER)} and len(stage.checks()) == 2
    one.settled()
    assert len(stage.checks()) == 1
    assert not one.once().registered
    calls = stage.engine.calls.total()
    hours(one, 600)
    assert stage.engine.calls.total() == calls


def test_a_proxy_that_never_turns_red_delays_no_longer_than_settle(stage: Stage) -> None:
    for number in (ME, OTHER):
        actor(stage, number).settled()
    one = actor(stage)
    one.leaving = True
    start = stage.clock.at
    one.until(lambda report: not report.records)
    assert 90 <= stage.clock.at - start <= 95


def test_the_last_node_keeps_its_record_until_another_joins(stage: Stage) -> None:
    one = actor(stage)
    one.settled()
    one.leave()
    stage.clock.at += 60
    report = one.settled()
    assert [held.rule for held in report.held] == ["last_record"]
    assert set(stage.leaves()) == {iid(ME)} and len(stage.checks()) == 1
    actor(stage, OTHER).settled()
    hours(one, 150)
    assert set(stage.leaves()) == {iid(OTHER)} and len(stage.checks()) == 1


def test_a_node_that_is_ready_again_joins_again(stage: Stage) -> None:
    one, other = actor(stage), actor(stage, OTHER)
    one.settled()
    other.settled()
    one.leave()
    stage.clock.at += 60
    one.settled()
    one.leaving, one.red_since = False, 0.0
    assert one.settled().registered
    assert set(stage.leaves()) == {iid(ME), iid(OTHER)} and len(stage.checks()) == 2


def test_an_alarm_is_not_waited_for(stage: Stage) -> None:
    stage.engine.use_alarms(lambda region, name: {"EvaluationPeriods": 1, "Threshold": 1.0, "Period": 60})
    health = {"alarm": {"name": "{fleet}-{instance}"}}
    for number in (ME, OTHER):
        actor(stage, number, health=health).settled()
    names = {check["HealthCheckConfig"]["AlarmIdentifier"]["Name"] for check in stage.engine.checks()}
    assert names == {f"edge-{iid(ME)}", f"edge-{iid(OTHER)}"}
    one = actor(stage, health=health)
    one.leaving = True
    one.once()
    assert set(stage.leaves()) == {iid(OTHER)}


def test_a_check_that_another_needs_is_deleted_later(stage: Stage) -> None:
    for number in (ME, OTHER):
        actor(stage, number).settled()
    port = Broken(stage, "delete_check", CheckInUse("another needs it"), times=2)
    one = actor(stage, dns=port)
    one.leave()
    stage.clock.at += 60
    one.settled()
    assert port.times == 0 and len(stage.checks()) == 1


# --- trees and shards -----------------------------------------------------------------------------------------------

TREE: dict[str, Any] = {
    "latency": {
        "eu-west-1": {"failover": ["eu-a", "eu-b", "us-a"]},
        "us-east-1": {"geolocation": {"*": "us-a", "DE": "eu-a"}},
    }
}


def test_a_node_makes_the_aliases_of_its_own_path_and_no_others(stage: Stage) -> None:
    one = actor(stage, OTHER, group="eu-b", tree=TREE)
    assert one.settled().registered
    assert {(*key, alias.alias and alias.alias.target) for key, alias in stage.aliases().items()} == {
        (NAME, "eu-west-1", f"eu-west-1.latency.{NAME}"),
        (f"eu-west-1.latency.{NAME}", "secondary", f"chain-2.failover.eu-west-1.latency.{NAME}"),
        (f"chain-2.failover.eu-west-1.latency.{NAME}", "primary", f"eu-b.{NAME}"),
    }
    two = actor(stage, ME, group="us-a", tree=TREE)
    two.group = edge([ME])
    two.settled()
    assert set(stage.aliases()) >= {
        (NAME, "us-east-1"),
        (f"us-east-1.latency.{NAME}", "*"),
        (f"chain-2.failover.eu-west-1.latency.{NAME}", "secondary"),
    }
    assert stage.aliases()[(f"us-east-1.latency.{NAME}", "*")].place == Place()


def test_a_group_that_stands_nowhere_in_the_tree_is_told(stage: Stage) -> None:
    one = actor(stage, group="asia", tree=TREE)
    report = one.once()
    assert report.problems == (
        "dns.group: the group 'asia' of this node stands nowhere in dns.tree; name one of the groups that the tree leads to",
    )
    with pytest.raises(HafleetError, match="'asia' of this node stands nowhere"):
        one.registrar.plan(one.situation())
    assert not stage.leaves()


def test_the_leader_puts_missing_and_changed_aliases_right(stage: Stage) -> None:
    tree = {"failover": ["a", "b"]}
    one = actor(stage, OTHER, group="a", tree=tree)
    one.settled()
    stage.erase("primary")
    hours(one, 150)
    assert (NAME, "primary") in stage.aliases()
    stage.erase("primary")
    stage.write(
        Name=NAME,
        Type="A",
        SetIdentifier="primary",
        Failover="PRIMARY",
        AliasTarget={"HostedZoneId": stage.zone_id, "DNSName": f"a.{NAME}", "EvaluateTargetHealth": True},
        HealthCheckId=stage.checks()[0],
    )
    hours(one, 150)
    assert stage.aliases()[(NAME, "primary")].check == ""


def test_an_alias_that_leads_elsewhere_is_somebody_elses(stage: Stage) -> None:
    stage.write(Name=f"x.{ZONE}", Type="A", TTL=60, ResourceRecords=[{"Value": "127.9.9.9"}])
    stage.write(
        Name=NAME,
        Type="A",
        SetIdentifier="primary",
        Failover="PRIMARY",
        AliasTarget={"HostedZoneId": stage.zone_id, "DNSName": f"x.{ZONE}", "EvaluateTargetHealth": True},
    )
    before = stage.records()
    report = actor(stage, OTHER, group="a", tree={"failover": ["a", "b"]}).once()
    assert "is not this fleet's: it leads out of" in report.problems[0]
    assert stage.records() == before


def test_an_alias_that_nobody_made_is_made_by_the_next_that_sees_it_missing(stage: Stage) -> None:
    one = actor(stage, THIRD, group="a", tree={"failover": ["a", "b"]})
    one.once()  # two others of the group join too, it thinks, and the first of them will make the alias
    assert stage.leaves() == {}
    stage.clock.at += 5
    one.settled()
    assert set(stage.leaves()) == {iid(THIRD)} and not stage.aliases()
    hours(one, 150)
    assert set(stage.aliases()) == {(NAME, "primary")}


def test_shards_are_dealt_evenly_and_their_last_leaf_takes_the_alias_with_it(stage: Stage) -> None:
    actors = {}
    for number in (OTHER, ME, THIRD):
        actors[number] = actor(stage, number, tree={"shards": 3})
        actors[number].group = edge([number])
        actors[number].settled()
    assert {r.name for r in stage.leaves().values()} == {f"shard-0{n}.{NAME}" for n in range(3)}
    assert {key[1] for key in stage.aliases()} == {"shard-00", "shard-01", "shard-02"}
    actors[ME].leave()
    stage.clock.at += 60
    actors[ME].settled()
    assert {key[1] for key in stage.aliases()} == {"shard-00", "shard-02"}
    actors[THIRD].leave()
    actors[OTHER].leave()
    stage.clock.at += 60
    held = [*actors[THIRD].settled().held, *actors[OTHER].settled().held]
    assert {h.rule for h in held} == {"last_record"} and len(stage.leaves()) == 1


def test_full_shards_are_told(stage: Stage) -> None:
    stage.limits.checks = 1000
    for number in range(100, 200):
        stage.register(number, dns_settings())
    report = actor(stage).once()
    assert report.problems == (
        f"dns.tree.shards: all 1 shards of {NAME} are full; raise it on every node: a shard takes 100 nodes",
    )


def test_records_of_earlier_settings_go_when_the_new_ones_stand(stage: Stage) -> None:
    settings = {"families": ["ipv4", "ipv6"]}
    for number in (OTHER, ME):
        actor(stage, number, **settings).settled()
    one = actor(stage, tree={"shards": 2})
    one.group = edge([ME])
    one.settled()
    hours(one, 200)
    mine = {key for key in stage.records() if key[2] == iid(ME)}
    assert mine == {(f"shard-00.{NAME}", "A", iid(ME))}
    assert len(stage.checks()) == 3


# --- reaping --------------------------------------------------------------------------------------------------------


def reaped(stage: Stage, seconds: float = 1500, **changes: Any) -> list[Any]:
    """The leader's passes beside a registered node 9 that its group does not list."""
    stage.register(9, dns_settings())
    leader = actor(stage, OTHER)
    for name, value in changes.items():
        setattr(leader, name, value)
    return hours(leader, seconds)


def test_a_dead_nodes_record_and_check_go_on_the_second_proof(stage: Stage) -> None:
    stage.ec2.known = {iid(9): "terminated"}
    reaped(stage, 60)
    assert iid(9) in stage.leaves()
    stage.clock.at += 60
    leader = actor(stage, OTHER)
    done = [line for report in hours(leader, 900) for line in report.done]
    assert set(stage.leaves()) == {iid(OTHER)} and len(stage.checks()) == 1
    assert any(line.startswith(f"reap: delete {NAME} A [{iid(9)}]") for line in done)
    assert stage.stores[iid(OTHER)].kept.suspects == {}


def test_a_node_that_ec2_does_not_know_is_dead_if_it_was_of_this_region(stage: Stage) -> None:
    reaped(stage)
    assert set(stage.leaves()) == {iid(OTHER)}


def test_a_node_of_another_region_is_not_known_here_and_lives(stage: Stage) -> None:
    actor(stage, OTHER).settled()
    far = stage.registrar(9)
    situation = replace(far.situation(), node=node(9, "us-east-1"), group=None)
    far.registrar.run(situation)
    hours(actor(stage, OTHER), 1500)
    assert set(stage.leaves()) == {iid(OTHER), iid(9)}


@pytest.mark.parametrize("state", ["running", "stopped", "shutting-down"])
def test_a_node_that_ec2_knows_as_anything_but_terminated_lives(stage: Stage, state: str) -> None:
    stage.ec2.known = {iid(9): state}
    reaped(stage)
    assert iid(9) in stage.leaves()


LEAVING = edge({OTHER: "InService", 9: "Terminating:Wait"})


@pytest.mark.parametrize("known", [{iid(9): "running"}, {iid(9): "shutting-down"}, {}], ids=["runs", "ends", "unknown"])
def test_who_terminates_in_the_group_is_left_to_itself_while_it_lives(stage: Stage, known: dict[str, str]) -> None:
    stage.ec2.known = known
    reaped(stage, group=LEAVING)
    assert iid(9) in stage.leaves() and len(stage.checks()) == 2


def test_who_died_while_it_terminated_is_reaped_though_its_hook_still_waits(stage: Stage) -> None:
    stage.ec2.known = {iid(9): "terminated"}
    reaped(stage, group=LEAVING)
    assert set(stage.leaves()) == {iid(OTHER)} and len(stage.checks()) == 1


@pytest.mark.parametrize("group", [Unknown("AWS does not answer"), None])
def test_without_a_complete_group_nobody_reaps(stage: Stage, group: Any) -> None:
    reaped(stage, group=group)
    assert iid(9) in stage.leaves() and not stage.ec2.asked


def test_without_ec2s_word_nobody_is_reaped(stage: Stage) -> None:
    stage.ec2.broken = True
    reports = reaped(stage)
    assert iid(9) in stage.leaves()
    assert any("ec2:DescribeInstances" in problem for report in reports for problem in report.problems)


def test_who_does_not_lead_does_not_reap(stage: Stage) -> None:
    stage.register(9, dns_settings())
    hours(actor(stage, ME), 1500)
    assert iid(9) in stage.leaves()


def test_the_last_record_of_the_dead_stays(stage: Stage) -> None:
    stage.register(9, dns_settings())
    leader = actor(stage, OTHER)
    leader.serves = False
    stage.stores[iid(OTHER)] = MemoryStore(DnsMemory(changed_at=1.0))
    leader = actor(stage, OTHER)
    leader.serves = False
    reports = hours(leader, 1500)
    assert set(stage.leaves()) == {iid(9)} and len(stage.checks()) == 1
    assert any(held.rule == "last_record" for report in reports for held in report.held)


def test_many_dead_go_in_several_batches(stage: Stage) -> None:
    for number in range(100, 145):
        stage.register(number, dns_settings())
    leader = actor(stage, OTHER)
    hours(leader, 1500)
    assert set(stage.leaves()) == {iid(OTHER)} and len(stage.checks()) == 1


def test_a_dead_record_whose_check_is_no_more_goes_and_another_is_kept(stage: Stage) -> None:
    for number in (8, 9):
        stage.register(number, dns_settings())
    stage.client.delete_health_check(HealthCheckId=stage.leaves()[iid(8)].check)
    stage.stores[iid(OTHER)] = MemoryStore(DnsMemory(changed_at=1.0))
    stage.ec2.known = {iid(8): "terminated", iid(9): "terminated"}
    leader = actor(stage, OTHER)
    leader.serves = False
    hours(leader, 3000)
    assert set(stage.leaves()) == {iid(9)}


def test_an_orphaned_check_of_the_dead_goes(stage: Stage) -> None:
    stage.register(9, dns_settings())
    actor(stage, OTHER).settled()
    stage.erase(iid(9))
    hours(actor(stage, OTHER), 1500)
    assert len(stage.checks()) == 1


def test_an_orphaned_check_of_the_living_goes_after_an_hour(stage: Stage) -> None:
    stage.register(ME, dns_settings())
    dns = stage.dns(dns_settings())
    used = dns.checks(fleet_prefix("edge"))[0]
    dns.create_check(f"{used.reference[:-8]}ffffffff", used.config)
    leader = actor(stage, OTHER)
    hours(leader, 3000)
    assert len(stage.checks()) == 3
    hours(leader, 1800)
    assert stage.checks() == tuple(sorted(leaf.check for leaf in stage.leaves().values()))


# --- the memory -----------------------------------------------------------------------------------------------------


class BadStore(MemoryStore):
    """A disk that fails."""

    def __init__(self, load: StoreError | None = None, save: StoreError | None = None) -> None:
        super().__init__()
        self._load, self._save = load, save

    def load(self, node_id: str) -> DnsMemory:
        if self._load:
            raise self._load
        return super().load(node_id)

    def save(self, memory: DnsMemory) -> None:
        if self._save:
            raise self._save
        super().save(memory)


def test_a_full_disk_stops_no_registration(stage: Stage) -> None:
    stage.stores[iid(ME)] = BadStore(save=StoreError("disk full"))
    report = actor(stage).settled()
    assert report.registered
    assert set(stage.leaves()) == {iid(ME)}


def test_a_corrupt_memory_is_rebuilt_from_the_record(stage: Stage) -> None:
    actor(stage).settled()
    before = stage.checks()
    stage.stores[iid(ME)] = BadStore(load=StateCorrupt("dns.json: checksum"))
    one = actor(stage)
    assert "checksum" in one.once().problems[0]
    one.settled()
    assert stage.checks() == before
    assert [memo.id for memo in stage.stores[iid(ME)].kept.checks.values()] == list(before)


def test_a_memory_that_cannot_be_read_now_is_not_taken_for_lost(stage: Stage) -> None:
    actor(stage).settled()
    stage.stores[iid(ME)] = BadStore(load=StoreError("input/output error"))
    stage.engine.calls.clear()
    report = actor(stage, weight=3).once()
    assert report.problems[0] == "input/output error"
    assert not stage.engine.calls


def test_a_lost_answer_is_looked_for_and_waited_for(stage: Stage) -> None:
    actor(stage).settled()
    inner = stage.dns(dns_settings(weight=4))

    class Lossy:
        lost = 0

        def change(self, batch: Batch) -> str:
            change = inner.change(batch)
            if not self.lost:
                self.lost += 1
                raise SourceUnavailable("Connection reset")
            return change

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    one = actor(stage, dns=Lossy(), weight=4)
    assert not one.once().registered
    assert stage.stores[iid(ME)].kept.change == "?"
    start = stage.clock.at
    one.until(lambda report: report.registered)
    assert 55 <= stage.clock.at - start <= 70
    assert stage.leaves()[iid(ME)].weight == 4


# --- the dry plan ---------------------------------------------------------------------------------------------------


def kinds(one: Actor) -> list[str]:
    return [type(step).__name__ for step in one.registrar.plan(one.situation()).steps]


def test_a_plan_tells_every_step_and_takes_none(stage: Stage) -> None:
    one = actor(stage, OTHER, tree={"shards": 2})
    stage.engine.calls.clear()
    assert kinds(one) == ["CreateCheck", "Apply", "AwaitInsync"]
    assert not stage.records() and not stage.checks()
    one.settled()
    assert kinds(one) == []
    actor(stage, ME, tree={"shards": 2}).settled()
    one.leave()
    assert kinds(one) == ["Wait", "Apply", "AwaitInsync", "DeleteCheck"]
    assert stage.stores[iid(OTHER)].kept.old_checks == ()


def test_a_plan_after_a_lost_memory_reads_the_check(stage: Stage) -> None:
    actor(stage).settled()
    actor(stage, OTHER).settled()
    stage.stores[iid(ME)] = MemoryStore()
    one = actor(stage, health={"endpoint": {"interval": 30}})
    assert kinds(one) == ["CreateCheck", "Apply", "AwaitInsync", "DeleteCheck"]


def test_a_registrar_without_a_dns_section_is_a_mistake(stage: Stage) -> None:
    settings = dns_settings()
    with pytest.raises(HafleetError, match="no dns section"):
        Registrar(settings.model_copy(update={"dns": None}), stage.ports(settings, iid(ME)))


def test_a_record_of_a_foreign_check_gets_its_own(stage: Stage) -> None:
    stage.register(OTHER, dns_settings())
    theirs = stage.leaves()[iid(OTHER)].check
    mine = Record(NAME, "A", iid(ME), 30, ("127.2.0.3",), weight=100, check=theirs)
    stage.dns(dns_settings()).change((create(mine),))
    assert actor(stage).settled().registered
    assert stage.leaves()[iid(ME)].check not in {"", theirs}
    assert len(stage.checks()) == 2
