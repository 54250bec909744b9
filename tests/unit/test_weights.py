"""Weights: shares of sources, capacities, and how little a change moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafleet.core.cfgtext import parse
from hafleet.core.membership import decide, from_installed
from hafleet.core.model import Group, Groups, Memory, Unknown, World
from hafleet.core.weights import scale
from tests.fakes.worlds import NODE, Story, fleet, group, iid, instance, make_settings

BLUE_GREEN = ({"asg": "blue", "weight": 90}, {"asg": "green", "weight": 10})


def test_without_shares_every_server_counts_the_same() -> None:
    story = Story(make_settings({"asg": "blue", "weight": 7}, {"asg": "green"}))
    story.see(fleet("blue", [1]), fleet("green", [2, 3]))
    assert set(story.weights().values()) == {100}


def test_shares_hold_whatever_the_number_of_servers() -> None:
    story = Story(make_settings(*BLUE_GREEN))
    story.see(fleet("blue", [1, 2, 3]), fleet("green", [9]))
    assert story.weights() == {iid(1): 240, iid(2): 240, iid(3): 240, iid(9): 80}  # 720 : 80


def test_a_new_server_moves_only_the_weights_of_its_own_source() -> None:
    story = Story(make_settings(*BLUE_GREEN))
    story.see(fleet("blue", [1, 2, 3]), fleet("green", [9]))
    story.see(fleet("blue", [1, 2, 3, 4]), fleet("green", [9]))
    assert story.weights() == {iid(1): 180, iid(2): 180, iid(3): 180, iid(4): 180, iid(9): 80}


def test_a_missing_server_keeps_its_part_and_moves_no_weight() -> None:
    story = Story(make_settings(*BLUE_GREEN))
    first = story.see(fleet("blue", [1, 2, 3]), fleet("green", [9]))
    story.see(fleet("blue", [1], desired=3), fleet("green", [9]))
    assert story.last.desired == first.desired


def test_a_shift_of_shares_reaches_the_servers_even_while_some_are_missing() -> None:
    story = Story(make_settings(*BLUE_GREEN))
    story.see(fleet("blue", [1, 2]), fleet("green", [9]))
    story.settings = make_settings({"asg": "blue", "weight": 0}, {"asg": "green", "weight": 100})
    story.see(fleet("blue", [1], desired=2), fleet("green", [9]))
    assert story.weights() == {iid(1): 0, iid(2): 0, iid(9): 200}


def test_a_server_of_unknown_source_keeps_its_weight_and_so_do_the_others() -> None:
    text = "\n".join(
        [
            "backend site",
            *(f"    server {iid(n)} 10.0.0.{n}:80 id {n} weight {w}" for n, w in ((1, 200), (2, 11), (3, 50))),
        ]
    )
    settings = make_settings(*BLUE_GREEN)
    known = from_installed(settings, parse(text))
    groups: dict[str, Group] = {"blue": fleet("blue", [1, 4], desired=3), "green": fleet("green", [2])}
    decision = decide(settings, World(9.0, NODE, Groups(groups, 1.0), Unknown(""), Unknown("")), Memory(), known=known)
    found = {m.name: m.weight for m in decision.memory.members["site"]}
    assert (found[iid(1)], found[iid(2)], found[iid(3)]) == (200, 11, 50)
    assert found[iid(4)] > 0


def test_a_source_without_weight_beside_weighted_ones_has_average_servers() -> None:
    story = Story(make_settings(*BLUE_GREEN, {"static": ["10.0.9.10"]}))
    story.see(fleet("blue", [1]), fleet("green", [2]))
    assert story.weights() == {iid(1): 180, iid(2): 20, "static-10.0.9.10": 100}


def test_shares_without_servers_leave_the_rest_to_the_others() -> None:
    story = Story(make_settings(*BLUE_GREEN, {"static": ["10.0.9.10"]}))
    story.see(fleet("blue", []), fleet("green", []))
    assert story.weights() == {"static-10.0.9.10": 256}


def test_a_share_of_zero_is_zero_even_alone() -> None:
    story = Story(make_settings({"asg": "blue", "weight": 0}))
    story.see(fleet("blue", [1]))
    assert story.weights() == {iid(1): 0}


def test_shares_that_are_all_zero_stay_zero() -> None:
    story = Story(make_settings({"asg": "blue", "weight": 0}, {"asg": "green", "weight": 0}))
    story.see(fleet("blue", [1]), fleet("green", [2]))
    assert set(story.weights().values()) == {0}


def test_capacity_is_weight_where_the_backend_asks_for_it() -> None:
    blue = group("blue", instance(1, capacity=1), instance(2, capacity=4))
    story = Story(make_settings(backend={"capacity_weights": True}))
    story.see(blue)
    assert story.weights() == {iid(1): 64, iid(2): 256}
    story = Story(make_settings({"asg": "blue", "weight": 0}, backend={"capacity_weights": True}))
    story.see(blue)
    assert set(story.weights().values()) == {0}


def test_capacity_divides_a_share() -> None:
    story = Story(make_settings(*BLUE_GREEN, backend={"capacity_weights": True}))
    story.see(group("blue", instance(1, capacity=1), instance(2, capacity=2)), group("green", instance(9, capacity=5)))
    assert story.weights() == {iid(1): 120, iid(2): 240, iid(9): 40}


def test_what_drains_keeps_its_weight_aside() -> None:
    story = Story(make_settings(*BLUE_GREEN))
    story.see(fleet("blue", [1, 2]), fleet("green", [9]))
    story.see(group("blue", instance(1), instance(2, "Terminating")), fleet("green", [9]))
    gone = next(m for m in story.members() if m.draining)
    assert (gone.weight, gone.rendered_weight) == (180, 0)
    assert story.weights() == {iid(1): 180, iid(9): 20}


@pytest.mark.parametrize(
    ("figures", "weights"),
    [
        ([], []),
        ([0.0], [0]),
        ([1.0], [256]),
        ([256.0], [256]),
        ([257.0], [128]),
        ([1.0, 1000.0], [1, 250]),
        ([3.0], [192]),
    ],
)
def test_scale(figures: list[float], weights: list[int]) -> None:
    assert scale(figures) == weights


@given(st.lists(st.floats(1e-6, 1e6) | st.just(0.0), max_size=30))
def test_scaled_weights_fit_haproxy_and_only_nothing_is_nothing(figures: list[float]) -> None:
    weights = scale(figures)
    assert all(0 <= weight <= 256 for weight in weights)
    assert [weight == 0 for weight in weights] == [figure == 0 for figure in figures]
    assert not any(figures) or max(weights) >= 128
