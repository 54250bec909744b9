"""Orders for the fleet: their form as tags, and what the members of a backend and the nodes of a zone make of them."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from hafleet.core import obeying, orders, phase
from hafleet.core.explain import explain
from hafleet.core.guard import FORCED
from hafleet.core.model import Claim, Desired, Groups, Instance, Member, Memory, Unknown, World
from hafleet.core.orders import Order
from hafleet.core.report import backend_reports
from hafleet.core.values import Refusal
from tests.fakes.worlds import NODE, Story, fleet, group, iid, instance, make_settings

AT = 1_000_000.0
ONE, TWO, THREE = iid(1), iid(2), iid(3)
A, B = "eu-west-1a", "eu-west-1b"


def drain(number: int, at: float = AT, **more: object) -> Order:
    return replace(Order("drain", at, server=iid(number), backend="site", by="kim"), **more)  # type: ignore[arg-type]


def zone(name: str, at: float = AT, **more: object) -> Order:
    return replace(Order("drain", at, zone=name, by="kim"), **more)  # type: ignore[arg-type]


def tags(*given: Order) -> dict[str, Any]:
    return {order.key: order.value for order in given}


# --- the form ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order",
    [
        drain(1),
        drain(1, until=AT + 3600, force=True, reason="a new disk: please wait"),
        Order("maint", AT, server="static-10.0.0.1-8080", backend="a.b:c"),
        Order("maint", AT, server="fd00::1", backend="site", by="kim@host"),
        zone(A),
        zone(A, backend="site", until=AT + 60),
    ],
)
def test_an_order_survives_its_tag(order: Order) -> None:
    assert orders.parse(order.key, order.value) == order == orders.checked(order)
    assert all(c.isalnum() or c in " +-=._:/@" for c in order.key + order.value)


def test_the_text_is_one_that_a_person_reads() -> None:
    order = drain(1, until=AT + 3600, reason="a disk", force=True)
    assert order.key == f"hafleet:server:site/{ONE}"
    told = "drain at=1970-01-12T13:46:40Z until=1970-01-12T14:46:40Z force=yes by=kim reason=a disk"
    assert order.value == told
    assert order.sentence == (
        f"kim ordered drain of site/{ONE} at 1970-01-12T13:46:40Z until 1970-01-12T14:46:40Z, by force: a disk"
    )
    assert zone(A, by="").sentence == "somebody ordered drain of zone eu-west-1a at 1970-01-12T13:46:40Z"
    assert zone(A, backend="site").subject == "zone eu-west-1a in site"


def test_what_a_tag_cannot_hold_is_left_out_or_cut() -> None:
    order = drain(1, by="kim the great", reason='x;y\n"z" (w)' + " long" * 100)
    kept = orders.checked(order)
    assert len(order.value) <= 256
    assert kept.by == "kim-the-great" and kept.reason.startswith("x y z w long long")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hafleet:server:site", "drain at=1970-01-12T13:46:40Z"),
        ("hafleet:server:site/i-1/2", "drain at=1970-01-12T13:46:40Z"),
        ("hafleet:server:" + "s" * 63 + "/" + "i" * 51, "drain at=1970-01-12T13:46:40Z"),
        ("hafleet:zone:EU", "drain at=1970-01-12T13:46:40Z"),
        ("hafleet:zone:eu-west-1a", "maint at=1970-01-12T13:46:40Z"),
        ("hafleet:zone:eu-west-1a", "stop at=1970-01-12T13:46:40Z"),
        ("hafleet:zone:eu-west-1a", "drain"),
        ("hafleet:zone:eu-west-1a", ""),
        ("hafleet:zone:eu-west-1a", "drain at=yesterday"),
        ("hafleet:zone:eu-west-1a", "drain at=1970-01-12T13:46:40Z until=9"),
        ("hafleet:zone:eu-west-1a", "drain at=1970-01-12T13:46:40Z and more"),
    ],
)
def test_a_tag_that_is_no_order_is_refused(key: str, value: str) -> None:
    with pytest.raises(Refusal):
        orders.parse(key, value)


def test_an_unreadable_order_stays_what_it_was_and_others_are_heard() -> None:
    known = (drain(1), drain(2))
    told = orders.read({drain(1).key: "nonsense", zone(A).key: "nonsense", "other": "x", **tags(drain(3))}, known, AT)
    assert told.orders == (drain(1), drain(3))  # 2 was taken back; the zone was never known
    assert told.odd.keys() == {drain(1).key, zone(A).key}


def test_an_order_ends_by_time() -> None:
    order = drain(1, until=AT + 60)
    assert order.stands(AT + 59.9) and not order.stands(AT + 60)
    assert drain(1).stands(AT + 1e9)
    assert orders.read(tags(order, drain(2)), (), AT + 61).orders == (drain(2),)


# --- the servers of a backend -----------------------------------------------------------------------------------------


def weights(story: Story, backend: str = "site") -> dict[str, int]:
    desired = story.last.desired
    assert isinstance(desired, Desired)
    return {member.name: member.rendered_weight for member in desired.members[backend]}


def three(story: Story, *given: Order) -> None:
    """One pass over three servers of group blue, with these orders, and HAProxy follows."""
    own = group("edge", instance(0xAAA), instance(0xBBB, zone=B), **tags(*given))
    story.see(fleet("blue", (1, 2, 3)), own)
    story.obey()


def test_a_drained_server_has_weight_zero_until_it_is_taken_back() -> None:
    story = Story()
    three(story)
    three(story, drain(1, reason="a disk"))
    assert weights(story) == {ONE: 0, TWO: 100, THREE: 100}
    assert [(v.instance, v.outcome) for v in story.last.verdicts] == [(ONE, "draining")]
    assert "kim ordered drain" in story.last.verdicts[0].reason and "a disk" in story.last.verdicts[0].reason
    rows = backend_reports(story.memory.members, story.worker)
    assert (rows[0].members, rows[0].draining, rows[0].up) == (3, 1, 2)
    for _ in range(20):  # it does not go: an order has no drain time
        three(story, drain(1))
    assert weights(story)[ONE] == 0
    three(story)
    assert weights(story) == {ONE: 100, TWO: 100, THREE: 100} and story.last.verdicts == ()


def test_a_server_in_maintenance_is_not_rendered_and_comes_back() -> None:
    story = Story()
    three(story)
    maint = drain(1, verb="maint")
    three(story, maint)
    assert weights(story) == {TWO: 100, THREE: 100}
    assert [m.name for m in story.memory.members["site"]] == [ONE, TWO, THREE]
    assert [(v.instance, v.outcome) for v in story.last.verdicts] == [(ONE, "in maintenance")]
    world = World(story.at, NODE, Unknown("x"), story.worker, Unknown("x"))
    assert explain(story.last, world, ONE)[0].startswith("site: in maintenance: kim ordered maint")
    three(story)
    assert weights(story) == {ONE: 100, TWO: 100, THREE: 100}


def test_a_new_node_obeys_in_its_first_pass() -> None:
    story = Story()
    three(story, drain(1), drain(2, verb="maint"))
    assert weights(story) == {ONE: 0, THREE: 100}


def test_an_order_outlives_blind_passes_and_ends_in_one() -> None:
    story = Story()
    three(story, drain(1, until=story.at + 25))
    story.blind()
    assert weights(story)[ONE] == 0
    story.blind()
    assert weights(story)[ONE] == 100 and story.memory.orders == ()


def test_an_unreadable_order_changes_nothing_and_is_told() -> None:
    story = Story()
    three(story, drain(1))
    own = replace(group("edge", instance(0xAAA), instance(0xBBB)), tags={drain(1).key: "garbage"})
    story.see(fleet("blue", (1, 2, 3)), own)
    assert weights(story)[ONE] == 0
    assert [(held.rule, held.subject) for held in story.last.held] == [("order", drain(1).key)]


def test_a_zone_drains_in_one_backend_or_in_all() -> None:
    more = {"name": "other", "sources": [{"asg": "blue"}]}
    for backend, there, elsewhere in (("", 0, 0), ("site", 0, 100)):
        story = Story(make_settings(more_backends=[more]))
        blue = group("blue", instance(1, zone=B), instance(2), instance(3))
        story.see(blue, group("edge", instance(0xAAA), instance(0xBBB, zone=B), **tags(zone(B, backend=backend))))
        assert weights(story) == {ONE: there, TWO: 100, THREE: 100}
        assert weights(story, "other")[ONE] == elsewhere


def test_the_newest_order_that_leaves_nobody_is_held() -> None:
    story = Story()
    three(story)
    three(story, drain(1, AT), drain(3, AT + 1), drain(2, AT + 2))
    assert weights(story) == {ONE: 0, TWO: 100, THREE: 0}
    assert [(held.rule, held.subject) for held in story.last.held] == [("last_server", f"site/{TWO}")]
    three(story, drain(1, AT), drain(3, AT + 1), drain(2, AT + 2, force=True))
    assert weights(story) == {ONE: 0, TWO: 0, THREE: 0} and story.last.held == ()


def test_a_pass_by_force_does_not_let_the_last_server_go() -> None:
    story = Story(rules=FORCED)
    three(story, drain(1), drain(2), drain(3, AT + 1))
    assert sum(weights(story).values()) == 100


def test_a_drained_server_comes_back_while_the_others_are_down() -> None:
    story = Story()
    three(story, drain(1))
    story.obey(down=(TWO, THREE))
    story.see(fleet("blue", (1, 2, 3)), group("edge", instance(0xAAA), **tags(drain(1))))
    assert weights(story)[ONE] == 100 and story.last.held[0].rule == "last_server"
    three(story, drain(1))
    three(story, drain(1))
    assert weights(story)[ONE] == 0


def test_maintenance_is_kept_though_the_others_are_down() -> None:
    story = Story()
    three(story, drain(1, verb="maint"))
    story.obey(down=(TWO, THREE))
    three(story, drain(1, verb="maint"))
    assert weights(story) == {TWO: 100, THREE: 100} and story.last.held == ()


def test_maint_counts_more_than_a_drain_of_its_zone() -> None:
    for first, second in ((AT, AT + 1), (AT + 1, AT)):
        story = Story()
        blue = group("blue", instance(1), instance(2, zone=B))
        own = group(
            "edge", instance(0xBBB, zone=B), **tags(zone(A, first, backend="site"), drain(1, second, verb="maint"))
        )
        story.see(blue, own)
        assert weights(story) == {TWO: 100}


def test_a_share_moves_to_those_of_the_source_that_are_left() -> None:
    settings = make_settings({"asg": "blue", "weight": 50}, {"asg": "green", "weight": 50})
    story = Story(settings)
    groups = (fleet("blue", (1, 2)), fleet("green", (3, 4)))
    story.see(*groups, group("edge", instance(0xAAA)))
    story.see(*groups, group("edge", instance(0xAAA), **tags(drain(1))))
    found = weights(story)
    assert found[ONE] == 0 and found[TWO] == found[THREE] + found[iid(4)]


def test_one_that_leaves_does_not_rely_on_servers_that_were_ordered_out() -> None:
    story = Story()
    three(story, drain(2), drain(3, AT - 1))
    story.worker = Unknown("not seen")
    own = group("edge", instance(0xAAA), **tags(drain(2), drain(3, AT - 1)))
    story.see(group("blue", instance(1, "Terminating"), instance(2), instance(3)), own)
    assert weights(story)[ONE] == 100  # fail open: nobody else takes traffic


def test_a_static_server_is_ordered_by_its_address_or_name() -> None:
    for name in ("10.0.0.9", "static-10.0.0.9"):
        story = Story(make_settings({"static": ["10.0.0.9", "10.0.0.8"]}))
        order = Order("drain", AT, server=name, backend="site")
        for _ in range(2):
            story.see(group("edge", instance(0xAAA), **tags(order)))
        assert weights(story) == {"static-10.0.0.9": 0, "static-10.0.0.8": 100}


def test_orders_are_of_the_own_group_alone() -> None:
    story = Story()
    story.see(group("blue", instance(1), instance(2), **tags(drain(1))), group("edge", instance(0xAAA)))
    assert weights(story)[ONE] == 100
    alone = Story(node=replace(NODE, group=""))
    alone.see(group("blue", instance(1), instance(2), **tags(drain(1))))
    assert weights(alone)[ONE] == 100


# --- the node's own zone ----------------------------------------------------------------------------------------------


def claims(story: Story) -> Mapping[str, Claim]:
    return story.memory.leaving


def test_a_node_leaves_with_its_zone_and_comes_back() -> None:
    story = Story()
    three(story, zone(A, reason="slow"))
    claim = claims(story)[phase.ZONE]
    assert not claim.final and claim.since == AT and claim.reason.endswith("slow")
    story.blind()
    assert phase.ZONE in claims(story)
    three(story)
    assert claims(story) == {}


def test_a_node_of_another_zone_stays_and_so_does_one_whose_backend_drains() -> None:
    for order in (zone(B), zone(A, backend="site")):
        story = Story()
        three(story, order)
        assert claims(story) == {}


def test_the_last_zone_stays_unless_it_is_forced() -> None:
    story = Story()
    three(story, zone(B, AT), zone(A, AT + 1))
    assert claims(story) == {} and ("last_zone", A) in [(h.rule, h.subject) for h in story.last.held]
    other = Story(node=replace(NODE, zone=B))
    three(other, zone(B, AT), zone(A, AT + 1))
    assert phase.ZONE in claims(other) and "last_zone" not in [h.rule for h in other.last.held]
    three(story, zone(B, AT), zone(A, AT + 1, force=True))
    assert phase.ZONE in claims(story)


def test_a_claim_of_a_zone_ends_by_time_though_aws_is_away() -> None:
    story = Story()
    three(story, zone(A, until=story.at + 25))
    assert phase.ZONE in claims(story)
    story.blind()
    story.blind()
    assert claims(story) == {}


# --- what the commands refuse -----------------------------------------------------------------------------------------


def refused(order: Order, *stand: Order, **sections: object) -> list[str]:
    settings = make_settings(**sections)
    blue = group("blue", instance(1), instance(2, zone=B))
    own = group("edge", instance(0xAAA), instance(0xBBB, zone=B))
    groups = Groups({"blue": blue, "edge": own}, 1.0)
    return [held.rule for held in obeying.refused(settings, groups, own, stand, order)]


def test_an_order_that_would_leave_nobody_is_refused() -> None:
    assert refused(drain(1)) == []
    assert refused(drain(1, AT + 1), drain(2)) == ["last_server"]
    assert refused(drain(1, AT + 1), drain(1)) == []  # it replaces its own
    assert refused(zone(A)) == []
    assert refused(zone(A, AT + 1), zone(B)) == ["last_zone", "last_server"]
    assert refused(zone(A, AT + 1), drain(2)) == ["last_server"]
    assert refused(zone(A, AT + 1, force=True), drain(2)) == []


def test_a_backend_that_has_nobody_refuses_nothing() -> None:
    nobody = Member(ONE, ONE, ip_address("10.0.0.1"), 80, A, draining=True)
    assert obeying.servers("site", [nobody], [drain(1)], None).held == ()


def test_nobody_in_service_means_that_no_node_leaves() -> None:
    own = group("edge", Instance(NODE.id, "Pending", A, None))
    assert [held.rule for _, held in obeying.nodes(own, [zone(A)]).held] == ["last_zone"]


def test_hearing_nothing_new_keeps_the_memory_itself() -> None:
    memory = Memory(orders=(drain(1),))
    assert obeying.hear(memory, None, "edge", AT)[0] is memory
