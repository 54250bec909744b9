import pytest

from hafleet.core.dns.checks import Author, make_reference, wanted_checks
from hafleet.core.dns.layout import Layout, make_layout
from hafleet.core.dns.model import Record
from hafleet.core.dns.places import zones
from hafleet.core.dns.plan import create
from hafleet.core.model import Group, Groups
from hafleet.core.settings import Settings
from hafleet.errors import SourceUnavailable
from hafleet.registration.byhand import Nowhere, Reaper, place, together
from tests.fakes.dns import NAME, Stage, dns_settings, edge, iid, node

CHAIN = {"failover": ["eu-west-1a", "eu-west-1b", "us-east-1a"]}


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (dns_settings(), ()),
        (dns_settings(group="{region}", tree={"latency": {"eu-west-1": "eu-west-1"}}), ()),
        (dns_settings(group="{zone}"), ()),  # without a tree all leaves stand at the name itself
        (dns_settings(group="{zone}", tree=CHAIN), ("eu-west-1a", "eu-west-1b")),
        (dns_settings(group="web-{zone}-x", tree={"failover": ["web-eu-west-1b-x", "eu-west-1a"]}), ("eu-west-1b",)),
        (
            dns_settings(
                group="{zone}",
                tree={"failover": [{"latency": {"eu-west-1": "eu-west-1a", "us-east-1": "us-east-1a"}}, "eu-west-1c"]},
            ),
            ("eu-west-1a", "eu-west-1c"),
        ),
    ],
)
def test_zones_with_a_leaf_group_of_their_own(settings: Settings, found: tuple[str, ...]) -> None:
    assert settings.dns
    assert zones(settings.dns, "eu-west-1") == found


def test_whoever_is_no_node_finds_the_fleets_place() -> None:
    settings = dns_settings(group="{zone}", tree=CHAIN)
    where = place(settings, "eu-west-1", "edge")
    assert (where.region, where.zone, where.group) == ("eu-west-1", "eu-west-1a", "edge")
    assert settings.dns and isinstance(make_layout(settings.dns, where, "Z"), Layout)
    assert place(dns_settings(), "eu-west-1", "edge").zone == ""


def test_one_auto_scaling_group_over_several_zones_is_reaped_in_all_of_them() -> None:
    stage, settings = Stage(), dns_settings(group="{zone}", tree=CHAIN)
    for number, zone in ((1, "eu-west-1a"), (2, "eu-west-1a"), (3, "eu-west-1b"), (4, "eu-west-1b"), (5, "us-east-1a")):
        leave(stage, settings, number, zone)
    leave(stage, settings, 6, "us-east-1a")
    stage.ec2.known = {iid(1): "running", iid(3): "running"}

    def rest(seconds: float, _why: str) -> None:
        stage.clock.at += seconds

    where = place(settings, "eu-west-1", "edge")
    reaper = Reaper(settings, stage.ports(settings, "x"), lambda: edge([1, 3]), rest, where)
    done = reaper.reap()
    assert set(stage.leaves()) == {iid(n) for n in (1, 3, 5, 6)}, done
    assert len(stage.checks()) == 4
    assert not frozenset().union(*stage.ec2.asked) & {iid(5), iid(6)}  # EC2 knows nothing of another region


def leave(stage: Stage, settings: Settings, number: int, zone: str) -> None:
    """The record and check of a node in this zone."""
    who, dns = node(number, zone[:-1]), stage.dns(settings)
    (wanted,) = wanted_checks(settings, who, "A", str(who.public))
    reference = make_reference(Author(settings.fleet, who.id, who.region), wanted.slot, wanted.config, "00000000")
    check = dns.create_check(reference, wanted.config)
    dns.change((create(Record(f"{zone}.{NAME}", "A", who.id, 30, (str(who.public),), weight=100, check=check.id)),))
    stage.clock.at += 1


class Listed:
    """Implements ``ports.Membership``."""

    def __init__(self, *groups: Group) -> None:
        self._groups = {group.name: group for group in groups}

    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        return Groups({name: group for name, group in self._groups.items() if name in names}, 0.0)


def test_several_groups_are_one_fleet_and_one_that_is_not_known_is_an_error() -> None:
    one, two = edge([1, 2]), Group("spot", 1, edge([3]).instances)
    found = together(Listed(one, two), frozenset({"edge", "spot"}))
    assert {instance.id for instance in found.instances} == {iid(1), iid(2), iid(3)}
    assert found.desired == one.desired + 1
    with pytest.raises(SourceUnavailable, match="AWS knows no group other"):
        together(Listed(one), frozenset({"edge", "other"}))


def test_nothing_is_kept_where_no_node_is() -> None:
    store = Nowhere()
    store.save(store.load("x"))
    assert store.load("x").node == "x"
