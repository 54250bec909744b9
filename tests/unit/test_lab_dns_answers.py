"""What the lab's name server answers: every policy, alone and in trees, with healthy, ill and dead nodes."""

import random
from collections import Counter
from typing import Any

import pytest

from hafleet.core.dns.model import Place
from hafleet.lab import dns_shapes
from hafleet.lab.dns_answers import Client, Reply, Zone, answer

Shape = dict[str, Any]
SOMEBODY = Client("eu-west-1", Place("EU", "IE"))


def leaf(name: str, value: str, type_: str = "A", **more: Any) -> Shape:
    return {"Name": f"{name}.", "Type": type_, "TTL": 30, "ResourceRecords": [{"Value": value}], **more}


def alias(name: str, target: str, *, evaluate: bool = True, zone: str = "Z1", **more: Any) -> Shape:
    to = {"HostedZoneId": zone, "DNSName": f"{target}.", "EvaluateTargetHealth": evaluate}
    return {"Name": f"{name}.", "Type": "A", "AliasTarget": to, **more}


def node(name: str, number: int, weight: int = 100, *, checked: bool = True) -> Shape:
    check = {"HealthCheckId": f"hc-{number}"} if checked else {}
    return leaf(name, f"192.0.2.{number}", SetIdentifier=f"i-{number}", Weight=weight, **check)


def zone(*shapes: Shape, name: str = "example.test", zone_id: str = "Z1", private: bool = False) -> Zone:
    return Zone.of(zone_id, name, tuple(map(dns_shapes.record, shapes)), private=private)


def ask(
    zones: Zone | tuple[Zone, ...],
    name: str,
    *,
    ill: frozenset[str] = frozenset(),
    client: Client = SOMEBODY,
    seed: int = 0,
    type_: str = "A",
) -> Reply:
    many = zones if isinstance(zones, tuple) else (zones,)
    return answer(many, (name, type_), client, lambda check: check not in ill, random.Random(seed))


def values(*args: Any, **more: Any) -> set[str]:
    return {value for found in ask(*args, **more).found for value in found.values}


def drawn(here: Zone, name: str, times: int = 400, **more: Any) -> Counter[str]:
    """How often each address is answered."""
    return Counter(value for seed in range(times) for value in values(here, name, seed=seed, **more))


def checks(*numbers: int) -> frozenset[str]:
    return frozenset(f"hc-{number}" for number in numbers)


class TestNames:
    here = zone(
        leaf("example.test", "192.0.2.1"),
        leaf("a.b.example.test", "192.0.2.2"),
        leaf("\\052.example.test", "192.0.2.3"),
        leaf("www.example.test", "a.b.example.test.", "CNAME"),
        leaf("far.example.test", "example.net.", "CNAME"),
        leaf("loop.example.test", "loop.example.test.", "CNAME"),
        leaf("lost.example.test", "no.b.example.test.", "CNAME"),
    )

    def test_names_outside_every_zone_are_refused(self) -> None:
        assert ask(self.here, "example.net").code == "REFUSED"
        assert ask(self.here, "badexample.test").code == "REFUSED"

    def test_a_name_that_exists_without_the_type_is_no_nxdomain(self) -> None:
        reply = ask(self.here, "a.b.example.test", type_="AAAA")
        assert (reply.code, reply.found, reply.zone) == ("NOERROR", (), self.here)

    def test_a_name_between_two_names_exists_and_hides_the_wildcard(self) -> None:
        assert (ask(self.here, "b.example.test").code, ask(self.here, "b.example.test").found) == ("NOERROR", ())
        assert ask(self.here, "c.b.example.test").code == "NXDOMAIN"

    def test_a_wildcard_answers_under_the_name_that_was_asked(self) -> None:
        (found,) = ask(self.here, "x.y.example.test").found
        assert (found.name, found.values) == ("x.y.example.test", ("192.0.2.3",))

    def test_cnames_are_followed_inside_the_zone_only(self) -> None:
        assert [found.type for found in ask(self.here, "www.example.test").found] == ["CNAME", "A"]
        assert [found.type for found in ask(self.here, "far.example.test").found] == ["CNAME"]
        assert [found.type for found in ask(self.here, "www.example.test", type_="CNAME").found] == ["CNAME"]

    def test_a_cname_to_nowhere_and_one_to_itself_end(self) -> None:
        lost = ask(self.here, "lost.example.test")
        assert (lost.code, len(lost.found)) == ("NXDOMAIN", 1)
        assert {found.type for found in ask(self.here, "loop.example.test").found} == {"CNAME"}

    def test_the_most_specific_zone_answers_and_the_clients_side_of_the_vpc(self) -> None:
        public = zone(leaf("lb.example.test", "192.0.2.1"))
        inside = zone(leaf("lb.example.test", "10.0.0.1"), zone_id="Z2", private=True)
        deeper = zone(leaf("lb.deep.example.test", "192.0.2.9"), zone_id="Z3", name="deep.example.test")
        zones = (public, inside, deeper)
        assert values(zones, "lb.example.test") == {"192.0.2.1"}
        assert values(zones, "lb.example.test", client=Client(private=True)) == {"10.0.0.1"}
        assert values(zones, "lb.deep.example.test", client=Client(private=True)) == {"192.0.2.9"}


class TestPolicies:
    def test_a_simple_record_answers_all_its_values_in_any_order(self) -> None:
        many = [{"Value": f"192.0.2.{number}"} for number in range(4)]
        here = zone(leaf("lb.example.test", "") | {"ResourceRecords": many})
        orders = {ask(here, "lb.example.test", seed=seed).found[0].values for seed in range(40)}
        assert len(orders) > 5
        assert {frozenset(order) for order in orders} == {frozenset(item["Value"] for item in many)}

    def test_weights_share_the_answers_of_the_healthy(self) -> None:
        here = zone(*(node("lb.example.test", number, number * 10) for number in (1, 2, 3)))
        seen = drawn(here, "lb.example.test", 1200)
        assert seen["192.0.2.1"] == pytest.approx(200, abs=60)
        assert seen["192.0.2.3"] == pytest.approx(600, abs=80)
        assert set(drawn(here, "lb.example.test", ill=checks(3))) == {"192.0.2.1", "192.0.2.2"}

    def test_one_address_per_weighted_answer_and_its_ttl(self) -> None:
        (found,) = ask(zone(node("lb.example.test", 1), node("lb.example.test", 2)), "lb.example.test").found
        assert (len(found.values), found.ttl) == (1, 30)

    def test_all_ill_is_all_healthy(self) -> None:
        here = zone(node("lb.example.test", 1), node("lb.example.test", 2))
        assert set(drawn(here, "lb.example.test", 60, ill=checks(1, 2))) == {"192.0.2.1", "192.0.2.2"}

    def test_a_record_without_a_check_is_healthy_and_hides_that_the_others_are_dead(self) -> None:
        here = zone(node("lb.example.test", 1), node("lb.example.test", 2, checked=False))
        assert set(drawn(here, "lb.example.test", 40, ill=checks(1))) == {"192.0.2.2"}

    def test_weight_zero_waits_until_all_others_are_ill(self) -> None:
        here = zone(node("lb.example.test", 1), node("lb.example.test", 2, 0), node("lb.example.test", 3, 0))
        assert set(drawn(here, "lb.example.test", 60)) == {"192.0.2.1"}
        assert set(drawn(here, "lb.example.test", 60, ill=checks(1))) == {"192.0.2.2", "192.0.2.3"}
        assert set(drawn(here, "lb.example.test", 60, ill=checks(1, 2, 3))) == {"192.0.2.1"}

    def test_only_weights_of_zero_are_equal(self) -> None:
        here = zone(*(node("lb.example.test", number, 0, checked=False) for number in (1, 2)))
        assert min(drawn(here, "lb.example.test", 100).values()) > 20

    def test_multivalue_answers_eight_of_the_healthy(self) -> None:
        here = zone(
            *(
                leaf(
                    "lb.example.test",
                    f"192.0.2.{number}",
                    SetIdentifier=f"i-{number}",
                    MultiValueAnswer=True,
                    HealthCheckId=f"hc-{number}",
                )
                for number in range(12)
            )
        )
        assert len(values(here, "lb.example.test")) == 8
        assert len(drawn(here, "lb.example.test", 40)) == 12
        assert values(here, "lb.example.test", ill=checks(*range(10))) == {"192.0.2.10", "192.0.2.11"}
        assert len(values(here, "lb.example.test", ill=checks(*range(12)))) == 8

    def test_latency_goes_to_the_nearest_region_and_then_to_the_next(self) -> None:
        regions = ("us-east-1", "eu-central-1", "ap-southeast-2")
        here = zone(
            *(
                leaf(
                    "lb.example.test",
                    f"192.0.2.{number}",
                    SetIdentifier=region,
                    Region=region,
                    HealthCheckId=f"hc-{number}",
                )
                for number, region in enumerate(regions)
            )
        )
        for region, wanted in (("eu-west-1", 1), ("us-west-2", 0), ("ap-southeast-2", 2), ("ap-southeast-4", 2)):
            assert values(here, "lb.example.test", client=Client(region)) == {f"192.0.2.{wanted}"}, region
        assert values(here, "lb.example.test", client=Client("eu-west-1"), ill=checks(1)) == {"192.0.2.0"}
        assert values(here, "lb.example.test", client=Client("eu-west-1"), ill=checks(0, 1)) == {"192.0.2.2"}
        assert values(here, "lb.example.test", client=Client("eu-west-1"), ill=checks(0, 1, 2)) == {"192.0.2.1"}

    def test_an_unknown_region_still_gets_one_answer(self) -> None:
        here = zone(
            *(
                leaf("lb.example.test", f"192.0.2.{n}", SetIdentifier=r, Region=r)
                for n, r in enumerate(("mars-1", "io-1"))
            )
        )
        assert values(here, "lb.example.test", client=Client("")) == {"192.0.2.1"}

    def test_places_from_the_smallest_to_the_default(self) -> None:
        places: tuple[Shape, ...] = (
            {"CountryCode": "*"},
            {"ContinentCode": "NA"},
            {"CountryCode": "US"},
            {"CountryCode": "US", "SubdivisionCode": "CA"},
        )
        records = [
            leaf(
                "lb.example.test",
                f"192.0.2.{number}",
                SetIdentifier=f"p{number}",
                GeoLocation=place,
                HealthCheckId=f"hc-{number}",
            )
            for number, place in enumerate(places)
        ]
        here, california = zone(*records), Client(place=Place("NA", "US", "CA"))
        for number, ill in ((3, ()), (2, (3,)), (1, (2, 3)), (0, (1, 2, 3)), (3, (0, 1, 2, 3))):
            assert values(here, "lb.example.test", client=california, ill=checks(*ill)) == {f"192.0.2.{number}"}
        assert values(here, "lb.example.test", client=Client(place=Place("NA", "US", "NY"))) == {"192.0.2.2"}
        assert values(here, "lb.example.test", client=Client(place=Place("NA", "MX"))) == {"192.0.2.1"}
        assert values(here, "lb.example.test", client=SOMEBODY) == {"192.0.2.0"}
        without_default = ask(zone(*records[1:]), "lb.example.test", client=SOMEBODY)
        assert (without_default.code, without_default.found) == ("NOERROR", ())

    def test_failover_answers_the_secondary_only_while_the_primary_is_ill(self) -> None:
        here = zone(
            leaf("lb.example.test", "192.0.2.2", SetIdentifier="b", Failover="SECONDARY", HealthCheckId="hc-2"),
            leaf("lb.example.test", "192.0.2.1", SetIdentifier="a", Failover="PRIMARY", HealthCheckId="hc-1"),
        )
        for ill, wanted in (((), 1), ((1,), 2), ((2,), 1), ((1, 2), 1)):
            assert values(here, "lb.example.test", ill=checks(*ill)) == {f"192.0.2.{wanted}"}


class TestTrees:
    regions = zone(
        alias("lb.example.test", "eu.lb.example.test", SetIdentifier="eu-west-1", Region="eu-west-1"),
        alias("lb.example.test", "us.lb.example.test", SetIdentifier="us-east-1", Region="us-east-1"),
        node("eu.lb.example.test", 1),
        node("eu.lb.example.test", 2),
        node("us.lb.example.test", 3),
    )

    def test_an_alias_answers_under_its_own_name_with_the_leafs_ttl(self) -> None:
        (found,) = ask(self.regions, "lb.example.test").found
        assert (found.name, found.ttl) == ("lb.example.test", 30)

    def test_an_alias_is_healthy_while_any_of_its_targets_is(self) -> None:
        assert set(drawn(self.regions, "lb.example.test", 40, ill=checks(1))) == {"192.0.2.2"}

    def test_a_dead_branch_is_backed_out_of(self) -> None:
        assert set(drawn(self.regions, "lb.example.test", 40, ill=checks(1, 2))) == {"192.0.2.3"}

    def test_a_tree_that_is_all_dead_answers_as_if_it_were_all_healthy(self) -> None:
        assert set(drawn(self.regions, "lb.example.test", 60, ill=checks(1, 2, 3))) == {"192.0.2.1", "192.0.2.2"}

    def test_an_alias_that_does_not_evaluate_pins_its_clients_to_the_dead(self) -> None:
        here = zone(
            alias("lb.example.test", "eu.example.test", evaluate=False, SetIdentifier="eu", Region="eu-west-1"),
            alias("lb.example.test", "us.example.test", SetIdentifier="us", Region="us-east-1"),
            node("eu.example.test", 1),
            node("us.example.test", 2),
        )
        assert values(here, "lb.example.test", ill=checks(1)) == {"192.0.2.1"}

    def test_a_check_of_the_alias_itself_must_pass_too(self) -> None:
        here = zone(
            alias("lb.example.test", "a.example.test", SetIdentifier="a", Failover="PRIMARY", HealthCheckId="hc-off"),
            alias("lb.example.test", "b.example.test", SetIdentifier="b", Failover="SECONDARY"),
            node("a.example.test", 1),
            node("b.example.test", 2),
        )
        assert values(here, "lb.example.test", ill=frozenset({"hc-off"})) == {"192.0.2.2"}
        # With everything off the primary is answered, and there the healthy ones.
        assert values(here, "lb.example.test", ill=frozenset({"hc-off", "hc-2"})) == {"192.0.2.1"}

    def test_a_failover_chain_of_three(self) -> None:
        top, below = "lb.example.test", "failover-1.lb.example.test"
        here = zone(
            alias(top, "a.lb.example.test", SetIdentifier="primary", Failover="PRIMARY"),
            alias(top, below, SetIdentifier="secondary", Failover="SECONDARY"),
            alias(below, "b.lb.example.test", SetIdentifier="primary", Failover="PRIMARY"),
            alias(below, "c.lb.example.test", SetIdentifier="secondary", Failover="SECONDARY"),
            *(node(f"{letter}.lb.example.test", number) for number, letter in enumerate("abc", start=1)),
        )
        for ill, wanted in (((), 1), ((1,), 2), ((1, 2), 3), ((2, 3), 1), ((1, 2, 3), 1)):
            assert values(here, top, ill=checks(*ill)) == {f"192.0.2.{wanted}"}

    def test_backing_out_two_levels_up_for_a_place_that_the_branch_does_not_serve(self) -> None:
        here = zone(
            alias("lb.example.test", "one.example.test", SetIdentifier="a", Failover="PRIMARY"),
            alias("lb.example.test", "two.example.test", SetIdentifier="b", Failover="SECONDARY"),
            alias("one.example.test", "us.example.test", SetIdentifier="US", GeoLocation={"CountryCode": "US"}),
            node("us.example.test", 1),
            node("two.example.test", 2),
        )
        assert values(here, "lb.example.test", client=Client(place=Place("NA", "US"))) == {"192.0.2.1"}
        assert values(here, "lb.example.test", client=SOMEBODY) == {"192.0.2.2"}

    def test_shards_share_by_their_weights_whatever_their_size(self) -> None:
        here = zone(
            alias("lb.example.test", "s0.example.test", SetIdentifier="shard-00", Weight=3),
            alias("lb.example.test", "s1.example.test", SetIdentifier="shard-01", Weight=1),
            *(node("s0.example.test", number) for number in (1, 2, 3)),
            node("s1.example.test", 4),
        )
        seen = drawn(here, "lb.example.test", 1200)
        assert all(count == pytest.approx(300, abs=70) for count in seen.values())
        assert set(drawn(here, "lb.example.test", 80, ill=checks(1, 2, 3))) == {"192.0.2.4"}

    @pytest.mark.parametrize("target", ["gone.example.test", "lb.example.test"])
    def test_an_alias_to_nothing_or_to_itself_has_no_answer(self, target: str) -> None:
        reply = ask(zone(alias("lb.example.test", target)), "lb.example.test")
        assert (reply.code, reply.found) == ("NOERROR", ())

    def test_an_alias_into_another_zone_is_passed_over(self) -> None:
        here = zone(
            alias("lb.example.test", "elb.example.com", zone="Z9", SetIdentifier="a", Failover="PRIMARY"),
            leaf("lb.example.test", "192.0.2.2", SetIdentifier="b", Failover="SECONDARY"),
        )
        assert values(here, "lb.example.test") == {"192.0.2.2"}
        assert values(zone(alias("lb.example.test", "elb.example.com", zone="Z9")), "lb.example.test") == set()

    def test_an_alias_of_a_multivalue_group_answers_eight(self) -> None:
        here = zone(
            alias("lb.example.test", "many.example.test"),
            *(
                leaf("many.example.test", f"192.0.2.{n}", SetIdentifier=f"i-{n}", MultiValueAnswer=True)
                for n in range(9)
            ),
        )
        assert len(values(here, "lb.example.test")) == 8
