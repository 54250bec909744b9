"""The drop guard: each rule alone, in a story, and what happens without it."""

import pytest

from hafleet.core import guard
from hafleet.core.guard import RULES, Absence, Case, Proposal, Rule, judge
from hafleet.core.settings import Safety
from tests.fakes.worlds import Story, fleet, group, ids, iid, instance, make_settings

AT = 1000.0


def without(rule: Rule) -> tuple[Rule, ...]:
    """The rules but for one: the negative controls."""
    left = tuple(r for r in RULES if r is not rule)
    assert len(left) == len(RULES) - 1
    return left


def absences(count: int, reads: int = 9, since: float = 0.0, name: str = "blue") -> tuple[Absence, ...]:
    return tuple(Absence(iid(n), name, reads, since) for n in range(count))


def make_case(**changes: object) -> Case:
    return Case(**{"subject": "site", "at": AT, "safety": Safety(), "groups": (), "absent": (), **changes})  # type: ignore[arg-type]


# --- missing ------------------------------------------------------------------------------------------------------


def test_one_read_without_a_server_removes_nothing() -> None:
    story = Story()
    story.see(fleet("blue", range(10)))
    story.see(fleet("blue", range(9)))
    assert (len(story.names()), story.held()) == (10, ["confirm_reads"])
    story.see(fleet("blue", range(9)))
    assert (len(story.names()), story.held()) == (9, [])


def test_two_reads_within_a_moment_prove_nothing_either() -> None:
    story = Story()
    story.see(fleet("blue", range(10)))
    for _ in range(5):
        story.see(fleet("blue", range(9)), step=0.2)
        assert (len(story.names()), story.held()) == (10, ["confirm_reads"])
    story.see(fleet("blue", range(9)), step=3.0)
    assert len(story.names()) == 9
    hasty = Story(make_settings(safety={"confirm_time": 0}))
    hasty.see(fleet("blue", range(10)))
    for _ in range(2):
        hasty.see(fleet("blue", range(9)), step=0.2)
    assert len(hasty.names()) == 9  # the control: without the time, two hasty reads do


def test_without_confirm_reads_one_read_would() -> None:
    story = Story(rules=without(guard.confirm_reads))
    story.see(fleet("blue", range(10)))
    story.see(fleet("blue", range(9)))
    assert len(story.names()) == 9


def test_a_server_that_flaps_in_and_out_of_the_answers_stays() -> None:
    story = Story()
    first = story.see(fleet("blue", range(10)))
    for turn in range(20):
        story.see(fleet("blue", range(9 + turn % 2)))
        assert story.last.desired == first.desired


def test_a_missing_server_that_comes_back_while_it_drains_serves_again() -> None:
    story = Story()
    story.see(fleet("blue", range(10)))
    story.see(fleet("blue", range(9)))
    story.see(fleet("blue", range(9)))
    assert story.drained() == ids(9)
    story.see(fleet("blue", range(10)))
    assert len(story.names()) == 10


def test_half_of_a_backend_gone_without_evidence_leaves_at_the_pace_of_max_removal() -> None:
    story = Story(make_settings(backend={"drain": 3600}))
    story.see(fleet("blue", range(100)))
    counts = []
    for _ in range(8):
        story.see(fleet("blue", range(50)))
        counts.append(len(story.names()))
    assert counts == [100, 85, 73, 63, 54, 50, 50, 50]


def test_without_max_removal_half_a_backend_would_go_in_one_pass() -> None:
    story = Story(rules=without(guard.max_removal))
    story.see(fleet("blue", range(100)))
    story.see(fleet("blue", range(50)))
    story.see(fleet("blue", range(50)))
    assert len(story.names()) == 50


# --- bad answers --------------------------------------------------------------------------------------------------


def test_an_empty_group_that_wants_servers_removes_none_ever() -> None:
    story = Story()
    first = story.see(fleet("blue", range(10)))
    for _ in range(30):
        story.see(group("blue", desired=10), step=600.0)
        assert story.last.desired == first.desired
        assert story.held() == (["confirm_reads"] if story.memory.missing[f"site/{iid(1)}"].reads < 2 else ["empty"])


def test_without_the_empty_rule_it_would_shrink_to_one() -> None:
    story = Story(rules=without(guard.empty))
    story.see(fleet("blue", range(10)))
    for _ in range(30):
        story.see(group("blue", desired=10))
    assert len(story.names()) == 1


def test_a_half_answer_is_held_up_to_hold_max_and_then_obeyed_slowly() -> None:
    story = Story(make_settings(safety={"hold_max": 100}))
    story.see(fleet("blue", range(10)))
    for _ in range(10):
        story.see(fleet("blue", range(5), desired=10))
        assert len(story.names()) == 10
    assert story.held() == ["half_answer"]
    story.see(fleet("blue", range(5), desired=10))
    assert (len(story.names()), story.held()) == (9, ["max_removal"])


def test_without_the_half_answer_rule_it_would_be_obeyed_at_once() -> None:
    story = Story(rules=without(guard.half_answer))
    story.see(fleet("blue", range(10)))
    story.see(fleet("blue", range(5), desired=10))
    story.see(fleet("blue", range(5), desired=10))
    assert len(story.names()) == 9


def test_no_hold_ends_because_the_host_slept_or_its_clock_jumped() -> None:
    story = Story(make_settings(safety={"hold_max": 100}))
    story.see(fleet("blue", range(10)))
    half = fleet("blue", range(5), desired=10)
    story.see(half)
    story.see(half)
    story.see(half, step=86400.0 * 365)
    assert len(story.names()) == 10
    story.see(half, step=-86400.0 * 365, started=9e9)
    assert len(story.names()) == 10
    story.see(half, step=99.0, started=9e9 + 1)
    assert len(story.names()) == 10
    story.see(half, step=1.0, started=9e9 + 2)
    assert len(story.names()) == 9


def test_weighted_groups_are_measured_in_their_own_units() -> None:
    story = Story()
    four = [instance(n, capacity=2) for n in range(4)]
    story.see(group("blue", *four, desired=8))
    story.see(group("blue", *four[:3], desired=6))
    story.see(group("blue", *four[:3], desired=6))
    assert story.names() == ids(0, 1, 2)


def test_what_terminates_does_not_make_half_an_answer_whole() -> None:
    story = Story()
    story.see(fleet("blue", range(10)))
    half = group("blue", *(instance(n, "Terminating" if n == 4 else "InService") for n in range(5)), desired=5)
    story.see(half)
    story.see(half)
    assert story.held() == ["half_answer"]
    assert len(story.names()) == 9


def test_a_group_that_aws_does_not_know_keeps_its_servers() -> None:
    story = Story(make_settings({"asg": "blue"}, {"asg": "green"}))
    story.see(fleet("blue", [1, 2]), fleet("green", [3, 4]))
    for _ in range(30):
        story.see(fleet("blue", [1]), step=600.0)
    assert story.names() == ids(1, 3, 4)  # blue's own missing server went, green's stay
    assert story.held() == ["group_missing"]
    assert "green" in story.last.held[0].reason


def test_without_the_group_missing_rule_they_would_go() -> None:
    story = Story(make_settings({"asg": "blue"}, {"asg": "green"}), rules=without(guard.group_missing))
    story.see(fleet("blue", [1, 2]), fleet("green", [3, 4]))
    for _ in range(4):
        story.see(fleet("blue", [1, 2]))
    assert story.names() == ids(1, 2)


def test_a_tag_that_finds_no_group_any_more_removes_nothing() -> None:
    story = Story(make_settings({"asg_tag": {"app": "site"}}))
    story.see(group("blue", instance(1), instance(2), app="site"))
    for _ in range(5):
        story.see()
    assert (story.names(), story.held()) == (ids(1, 2), ["group_missing"])


def test_a_member_of_unknown_origin_is_judged_by_every_group() -> None:
    proposal = Proposal(removals=(Absence("i-1", "", 9, AT - 60),))
    short = (fleet("blue", [1], desired=2),)
    assert judge(make_case(groups=short), proposal, (guard.half_answer,)).proposal.removals == ()
    assert judge(make_case(groups=(group("blue", desired=1),)), proposal, (guard.empty,)).proposal.removals == ()
    assert judge(make_case(absent=("green",)), proposal, (guard.group_missing,)).proposal.removals == ()
    assert judge(make_case(groups=(fleet("blue", [1]),)), proposal, RULES).proposal == proposal


# --- the last server ----------------------------------------------------------------------------------------------


def test_the_last_server_stays_though_nobody_lists_it() -> None:
    story = Story(make_settings({"asg": "blue"}, {"asg": "green"}, safety={"max_removal": "100%"}))
    story.see(fleet("blue", [1, 2]), fleet("green", []))
    gone = group("blue", desired=0)
    for _ in range(5):
        story.see(gone, group("green", desired=1))
    assert story.names() == ids(2)
    assert story.held() == ["last_server"]


def test_without_the_last_server_rule_a_backend_would_be_emptied() -> None:
    settings = make_settings({"asg": "blue"}, {"asg": "green"}, safety={"max_removal": "100%"})
    story = Story(settings, rules=without(guard.last_server))
    story.see(fleet("blue", [1, 2]), fleet("green", []))
    for _ in range(5):
        story.see(group("blue", desired=0), group("green", desired=1))
    assert story.names() == []


def test_zero_is_believed_where_every_group_says_zero() -> None:
    story = Story(make_settings(safety={"max_removal": "100%"}))
    story.see(fleet("blue", [1, 2]))
    story.see(group("blue", desired=0))
    assert story.names() == ids(1, 2)
    story.see(group("blue", desired=0))
    assert (story.names(), story.drained()) == ([], ids(1, 2))


def test_a_missing_server_stays_while_its_replacement_is_not_up() -> None:
    story = Story()
    story.see(fleet("blue", [1]))
    story.obey()
    for _ in range(4):
        story.see(fleet("blue", [2]))
        story.obey(down=[iid(2)])
    assert story.names() == ids(1, 2)
    story.obey()
    story.see(fleet("blue", [2]))
    assert (story.names(), story.drained()) == (ids(2), ids(1))


@pytest.mark.parametrize("name", ["", "i-x", "i-0000000a\n"])
def test_an_item_without_a_readable_id_may_be_any_of_the_missing_ones(name: str) -> None:
    story = Story()
    story.see(fleet("blue", range(3)))
    for _ in range(3):
        story.see(group("blue", instance(0), instance(1), instance(2, id=name), desired=3))
    assert (len(story.names()), story.held()) == (3, ["quarantine", "half_answer"])


# --- ceiling ------------------------------------------------------------------------------------------------------


def test_ten_times_the_servers_are_not_believed() -> None:
    story = Story()
    first = story.see(fleet("blue", range(20)))
    story.see(fleet("blue", range(200)))
    assert (story.last.desired, story.held()) == (first.desired, ["ceiling"])
    assert story.last.held[0].reason == "200 servers where 20 were: 10 times or more; 180 not added"
    assert {v.outcome for v in story.last.verdicts} == {"held"}
    story.see(fleet("blue", range(199)))
    assert len(story.names()) == 199


def test_without_the_ceiling_they_would_be() -> None:
    story = Story(rules=without(guard.ceiling))
    story.see(fleet("blue", range(20)))
    story.see(fleet("blue", range(200)))
    assert len(story.names()) == 200


def test_a_small_backend_may_grow_to_99() -> None:
    story = Story()
    story.see(fleet("blue", [1]))
    story.see(fleet("blue", range(1, 100)))
    assert len(story.names()) == 99


def test_an_empty_backend_may_become_whatever_its_groups_want() -> None:
    story = Story()
    story.see(group("blue", desired=0))
    story.see(fleet("blue", range(300)))
    assert (len(story.names()), story.held()) == (300, [])


def test_an_empty_backend_does_not_take_ten_times_what_its_group_wants() -> None:
    story = Story()
    story.see(group("blue", desired=0))
    story.see(fleet("blue", range(300), desired=30))
    assert (len(story.names()), story.held()) == (0, ["ceiling"])


def test_a_group_that_lists_ten_times_what_it_wants_is_not_believed_however_small() -> None:
    story = Story()
    story.see(fleet("blue", range(3)))
    story.see(fleet("blue", range(30), desired=3))
    assert (len(story.names()), story.held()) == (3, ["ceiling"])
    assert story.last.held[0].reason == "group blue lists 30 where it wants 3; 27 not added"
    story.see(fleet("blue", range(29), desired=3))
    assert len(story.names()) == 29


# --- reasons ------------------------------------------------------------------------------------------------------


def test_a_reason_names_five_and_counts_the_rest() -> None:
    ruling = judge(make_case(), Proposal(removals=absences(7, reads=1)), (guard.confirm_reads,))
    assert ruling.held[0].reason == (
        f"missing without evidence, in fewer than 2 reads or for less than 3 s: {', '.join(iid(n) for n in range(5))} and 2 more"
    )
    assert ruling.reasons.keys() == {iid(n) for n in range(7)}


@pytest.mark.parametrize(("rotation", "most"), [(1, 1), (6, 1), (13, 1), (14, 2), (100, 15)])
def test_max_removal_rounds_down_but_never_to_none(rotation: int, most: int) -> None:
    proposal = Proposal(removals=absences(rotation))
    ruling = judge(make_case(rotation=rotation), proposal, (guard.max_removal,))
    assert len(ruling.proposal.removals) == most


def test_the_longest_missing_goes_first() -> None:
    story = Story(make_settings(safety={"max_removal": "1%"}, backend={"drain": 3600}))
    story.see(fleet("blue", range(10)))
    story.see(fleet("blue", [0, 1, 2, 3, 4, 5, 6, 7, 8]))
    story.see(fleet("blue", [1, 2, 3, 4, 5, 6, 7, 8]))
    story.see(fleet("blue", [1, 2, 3, 4, 5, 6, 7, 8]))
    assert story.drained() == ids(0, 9)[:2]
