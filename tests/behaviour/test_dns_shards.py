"""250 nodes in five shards on the strict Route 53: a check and a record for each, even answers, and no budget passed."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hafleet.adapters.aws import Account
from hafleet.core.dns.model import Record
from hafleet.core.settings import Aws
from hafleet.lab.dns_answers import Zone
from hafleet.lab.route53_engine import Limits
from tests.behaviour.crowd import Crowd, chi_squared, chi_squared_limit, draws, public, served_zone
from tests.contract.dns_stages import served
from tests.fakes.dns import NAME, Stage, dns_settings, iid

if TYPE_CHECKING:
    from mypy_boto3_route53 import Route53Client

NODES, SHARDS, DRAWS = 250, 5, 20_000
SETTINGS = dns_settings(tree={"shards": SHARDS}, reap={"interval": 120, "confirm": 60})
pytestmark = pytest.mark.deep

CHECKS = 300  # the quota of 200 health checks per account, raised as docs/examples/round-robin-shards.yaml says
HOUR = 3600.0


def crowd_of(nodes: int, stage: Stage | None = None, client: "Route53Client | None" = None) -> Crowd:
    crowd = Crowd(stage or strict(), SETTINGS, client)
    crowd.launch(range(1, nodes + 1))
    return crowd


def strict() -> Stage:
    return Stage(limits=Limits(checks=CHECKS))


def by_shard(stage: Stage) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {f"shard-{n:02}.{NAME}": [] for n in range(SHARDS)}
    for leaf in stage.leaves().values():
        found[leaf.name].append(leaf)
    return found


def alias_weights(stage: Stage) -> list[int]:
    records = stage.records()
    return [records[NAME, "A", f"shard-{n:02}"].weight or 0 for n in range(SHARDS)]


def unevenness(zone: Zone, numbers: Iterable[int]) -> float:
    """Chi-squared of many answers over the addresses of these nodes, as a share of what chance exceeds once in 1,000."""
    addresses = [public(number) for number in numbers]
    return chi_squared(draws(zone, DRAWS, seed=7), addresses) / chi_squared_limit(len(addresses) - 1)


def all_alike(zone: Zone) -> Zone:
    """The zone with a weight of 1 for every alias: as if nobody kept them."""
    sets = {
        key: tuple(replace(record, weight=1) if record.alias else record for record in records)
        for key, records in zone.sets.items()
    }
    return replace(zone, sets=sets)


def whole(crowd: Crowd, numbers: Iterable[int]) -> None:
    """Each of these has one record and one check, used by nothing else, and there are no others."""
    stage = crowd.stage
    leaves = stage.leaves()
    assert sorted(leaves) == sorted(iid(number) for number in numbers)
    checks = {leaf.check: leaf for leaf in leaves.values()}
    assert len(checks) == len(leaves)
    assert stage.checks() == tuple(sorted(checks))
    asked = {check["Id"]: check["HealthCheckConfig"]["IPAddress"] for check in stage.engine.checks()}
    assert {id_: leaf.values[0] for id_, leaf in checks.items()} == asked


def throttled(crowd: Crowd) -> int:
    """Calls that Route 53 has refused for being too many, since this was asked last."""
    return crowd.stage.engine.refusals.pop("Throttling", 0)


def test_chi_squared_s_limit_is_that_of_the_tables() -> None:
    for degrees, table in ((30, 59.703), (60, 99.607), (100, 149.449)):
        assert chi_squared_limit(degrees) == pytest.approx(table, rel=0.005)


def test_250_nodes_join_at_once_and_lose_40_percent_within_the_budgets_and_answer_evenly() -> None:
    crowd = crowd_of(NODES)
    stage, engine = crowd.stage, crowd.stage.engine
    everyone = range(1, NODES + 1)
    took = crowd.run(crowd.settled, HOUR, "all registered")
    whole(crowd, everyone)
    sizes = {name: len(leaves) for name, leaves in by_shard(stage).items()}
    assert set(sizes.values()) == {NODES // SHARDS}
    assert engine.calls["CreateHealthCheck"] == NODES
    # 50 checks of the burst, and one every two seconds after: nobody can be faster than Route 53 grants.
    assert (NODES - 50) / 0.5 <= took < 1.3 * (NODES - 50) / 0.5
    assert throttled(crowd) == 0
    crowd.wait(120)
    assert set(alias_weights(stage)) == {255}
    assert unevenness(served_zone(stage), everyone) < 1

    # 40 % go, and not evenly: half of them in order, half without a word.
    victims = _victims(stage, (45, 30, 15, 10, 0))
    assert len(victims) == 0.4 * NODES
    orderly, dead = victims[::2], victims[1::2]
    stay = sorted(set(everyone) - set(victims))
    crowd.leave(orderly)
    crowd.die(dead)
    crowd.run(lambda: len(stage.leaves()) == len(stay), HOUR, "the dead and the leaving out of DNS")
    crowd.run(lambda: len(stage.checks()) == len(stay), HOUR, "their health checks deleted")
    crowd.die(orderly)
    # 50 nodes that leave at one moment want to delete 50 checks; Route 53 grants 15 at once. Each is told to wait once or twice.
    assert throttled(crowd) <= len(orderly)
    crowd.wait(300)
    whole(crowd, stay)
    sizes = {name: len(leaves) for name, leaves in by_shard(stage).items()}
    assert list(sizes.values()) == [5, 20, 35, 40, 50]
    assert alias_weights(stage) == [25, 100, 175, 200, 250]
    zone = served_zone(stage)
    assert unevenness(zone, stay) < 1
    assert unevenness(all_alike(zone), stay) > 10  # control: the measure sees weights that nobody keeps
    assert throttled(crowd) == 0

    # Those that replace them fill the emptiest shards.
    new = range(NODES + 1, NODES + len(victims) + 1)
    crowd.launch(new)
    crowd.run(lambda: len(stage.leaves()) == NODES and crowd.settled(), 1000, "all registered again")
    crowd.wait(300)
    whole(crowd, [*stay, *new])
    assert {name: len(leaves) for name, leaves in by_shard(stage).items()} == dict.fromkeys(sizes, NODES // SHARDS)
    assert alias_weights(stage) == [255] * SHARDS
    assert unevenness(served_zone(stage), [*stay, *new]) < 1
    assert throttled(crowd) == 0

    # Half an hour in which nothing happens.
    calls = sum(engine.calls.values())
    changes = engine.calls["ChangeResourceRecordSets"]
    crowd.wait(HOUR / 2)
    assert (sum(engine.calls.values()) - calls) / NODES / 30 <= 1.0
    assert engine.calls["ChangeResourceRecordSets"] == changes
    assert throttled(crowd) == 0


def test_the_same_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """With boto3 and XML between; the clock is the same, so no call is slower for Route 53 than it was in process."""
    stage = strict()
    with served(stage.engine) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        crowd = crowd_of(NODES, stage, Account(Aws(region="eu-west-1")).route53())
        crowd.run(crowd.settled, HOUR, "all registered")
        whole(crowd, range(1, NODES + 1))
        assert {len(leaves) for leaves in by_shard(stage).values()} == {NODES // SHARDS}
        assert throttled(crowd) == 0
        victims = [number for number in range(1, NODES + 1) if number % 5 < 2]
        crowd.die(victims)
        crowd.run(lambda: len(stage.checks()) == NODES - len(victims), HOUR, "the dead out of DNS, and their checks")
        crowd.wait(150)
    stay = sorted(crowd.actors)
    whole(crowd, stay)
    assert unevenness(served_zone(stage), stay) < 1
    assert throttled(crowd) == 0


def _victims(stage: Stage, from_each: tuple[int, ...]) -> list[int]:
    """Numbers of so many nodes of each shard, the leader among them where its shard loses any."""
    taken = [
        sorted(leaf.set_id for leaf in leaves)[:count]
        for leaves, count in zip(by_shard(stage).values(), from_each, strict=True)
    ]
    ids = {iid(number): number for number in range(1, NODES + 1)}
    return sorted(ids[set_id] for shard in taken for set_id in shard)
