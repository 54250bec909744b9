"""The peers list: self always, the own group's instances, and patience with changes."""

from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st

from hafleet.core.model import Instance, Node, Unknown
from tests.fakes.worlds import NODE, Story, fleet, group, iid, instance, make_settings

SELF = Instance(NODE.id, "InService", NODE.zone, NODE.address)
SITE = fleet("blue", [1])


def own(*others: Instance, desired: int | None = None) -> "group":  # type: ignore[valid-type]
    return group("edge", SELF, *others, desired=desired)


def patient(**peers: object) -> Story:
    return Story(make_settings(peers={"settle": 5, **peers}))


def test_every_instance_that_is_not_on_its_way_out_is_a_peer() -> None:
    story = patient()
    story.see(
        SITE,
        own(
            instance(1),
            instance(2, "Pending"),
            instance(3, "Terminating:Wait"),
            instance(4, address=None),
            instance(5, "Standby"),
            instance(6, id="evil\nname"),
        ),
    )
    assert story.peers() == sorted([NODE.id, iid(1), iid(2), iid(5)])


def test_self_is_there_alone_when_nothing_else_is_known() -> None:
    story = Story(make_settings({"static": ["10.0.9.10"]}))
    story.blind()
    assert story.peers() == [NODE.id]


def test_peers_stay_while_aws_is_away_or_the_group_is_not_in_the_answer() -> None:
    story = patient()
    story.see(SITE, own(instance(1)))
    story.blind()
    assert story.peers() == [iid(1), NODE.id]
    for _ in range(5):
        story.see(SITE)
        assert story.peers() == [iid(1), NODE.id]


def test_a_changed_list_settles_before_it_is_taken() -> None:
    story = patient()
    story.see(SITE, own(instance(1)))
    more = own(instance(1), instance(2))
    story.see(SITE, more, step=1.0)
    assert (len(story.peers()), story.held()) == (2, ["peers_settle"])
    story.see(SITE, more, step=4.0)
    assert len(story.peers()) == 2
    story.see(SITE, more, step=1.0)
    assert (len(story.peers()), story.held(), story.memory.confirmed_peers) == (3, [], None)


def test_another_change_starts_the_wait_anew() -> None:
    story = patient()
    story.see(SITE, own(instance(1)))
    story.see(SITE, own(instance(1), instance(2)), step=1.0)
    story.see(SITE, own(instance(1), instance(2), instance(3)), step=4.0)
    story.see(SITE, own(instance(1), instance(2), instance(3)), step=4.0)
    assert len(story.peers()) == 2
    story.see(SITE, own(instance(1), instance(2), instance(3)), step=1.0)
    assert len(story.peers()) == 4


def test_a_clock_that_goes_back_starts_the_wait_anew() -> None:
    story = patient()
    story.see(SITE, own(instance(1)))
    more = own(instance(1), instance(2))
    story.see(SITE, more, step=1.0)
    story.see(SITE, more, step=-1000.0, started=1e6)
    assert len(story.peers()) == 2
    story.see(SITE, more, step=5.0)
    assert len(story.peers()) == 3


def test_the_first_list_is_taken_at_once_and_without_a_wait_so_is_every_list() -> None:
    story = patient(settle=0)
    story.see(SITE, own(instance(1)))
    story.see(SITE, own(instance(1), instance(2)))
    assert len(story.peers()) == 3


def test_a_peer_that_terminates_leaves_and_one_that_is_missing_is_confirmed_first() -> None:
    story = patient(settle=0)
    story.see(SITE, own(instance(1), instance(2), instance(3)))
    story.see(SITE, own(instance(1), instance(2, "Terminating")))
    assert story.peers() == [iid(1), iid(3), NODE.id]
    assert story.held() == ["confirm_reads"]
    story.see(SITE, own(instance(1), instance(2)))  # stale
    assert story.peers() == [iid(1), NODE.id]


def test_peers_missing_from_half_an_answer_are_kept() -> None:
    story = patient(settle=0)
    story.see(SITE, own(instance(1), instance(2)))
    for _ in range(5):
        story.see(SITE, own(desired=3))
    assert len(story.peers()) == 3
    for _ in range(5):
        story.see(SITE, group("edge", desired=3))
    assert (len(story.peers()), story.held()) == (3, ["empty"])
    story.blind()
    assert len([key for key in story.memory.missing if key.startswith("@peers/")]) == 2


def test_the_port_follows_the_settings_at_once() -> None:
    story = patient()
    story.see(SITE, own(instance(1)))
    story.settings = make_settings(peers={"port": 10001})
    story.blind()
    assert {peer.port for peer in story.memory.peers} == {10001}


def test_an_address_that_changed_settles_too() -> None:
    story = patient()
    story.see(SITE, own(instance(1)))
    moved = own(instance(1, address=IPv4Address("10.7.7.7")))
    story.see(SITE, moved, step=1.0)
    assert "10.7.7.7" not in {str(peer.address) for peer in story.memory.peers}
    story.see(SITE, moved, step=5.0)
    assert "10.7.7.7" in {str(peer.address) for peer in story.memory.peers}


STATES = st.sampled_from(["InService", "Pending", "Terminating", "Terminated", "Standby", "", "Odd"])
LISTS = st.lists(st.tuples(st.integers(1, 5), STATES), max_size=5, unique_by=lambda pair: pair[0])
SEEN = st.one_of(st.none(), st.just("away"), LISTS)


@settings(max_examples=300, deadline=None)
@given(st.lists(SEEN, min_size=1, max_size=6), st.booleans(), st.sampled_from(["edge", "", "other"]))
def test_a_list_without_self_never_comes_out(reads: list[object], listed: bool, name: str) -> None:
    story = patient(settle=0)
    story.node = Node(NODE.id, NODE.address, "", "", name)
    for seen in reads:
        if seen == "away":
            story.blind()
        elif isinstance(seen, list):
            some = [instance(n, state) for n, state in seen]
            story.see(SITE, group("edge", *some, *([SELF] if listed else []), desired=3))
        else:
            story.see(SITE)
        if isinstance(story.last.desired, Unknown):
            continue
        peers = story.last.desired.peers
        mine = [peer for peer in peers if peer.name == NODE.id]
        assert [peer.address for peer in mine] == [NODE.address]
        assert list(peers) == sorted(peers, key=lambda peer: peer.name)
        assert len({peer.name for peer in peers}) == len(peers)
