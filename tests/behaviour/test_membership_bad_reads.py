"""Ten thousand sequences of bad reads: what no sequence may do, and that each rule is what keeps it from happening."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from hafleet.core import guard
from hafleet.core.guard import RULES, Rule, listed
from hafleet.core.model import Group
from tests.fakes.worlds import Story, group, instance, make_settings

SETTINGS = make_settings({"asg": "blue"}, {"asg_tag": {"app": "site"}})
KINDS = ("good", "unknown", "empty", "gone", "half", "shrunk", "ten", "stale", "same", "odd", "zero", "left")
SEQUENCES = st.tuples(
    st.integers(1, 3) | st.integers(4, 20),  # servers in blue at the start
    st.integers(0, 4),  # servers in green
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2**16)), min_size=3, max_size=10),
)
Sequence_ = tuple[int, int, list[tuple[str, int]]]
RUN = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=2_500)


@dataclass
class Reader:
    """An AWS whose every instance is well, and whose answers are not."""

    blue: int
    green: int

    def groups(self, kind: str, dice: random.Random) -> list[Group]:
        """One answer."""
        blue = group("blue", *(instance(n) for n in range(1, self.blue + 1)), app="other")
        green = group("green", *(instance(1000 + n) for n in range(self.green)), app="site")
        answers: dict[str, Callable[[], list[Group]]] = {
            "empty": lambda: [replace(blue, instances=()), replace(green, instances=())],
            "gone": list,
            "half": lambda: [part(blue, dice), part(green, dice)],
            "shrunk": lambda: [believed(part(blue, dice)), believed(part(green, dice))],
            "zero": lambda: [replace(blue, instances=(), desired=0), replace(green, instances=(), desired=0)],
            "left": lambda: [replace(blue, instances=(), desired=0), replace(green, instances=(), desired=1)],
            "ten": lambda: [group("blue", *blue.instances, *(instance(5000 + n) for n in range(200))), green],
            "odd": lambda: [odd(blue, dice), odd(green, dice)],
        }
        return answers.get(kind, lambda: [blue, green])()


def part(whole: Group, dice: random.Random) -> Group:
    share = dice.random()
    return replace(whole, instances=tuple(i for i in whole.instances if dice.random() < share))


def believed(some: Group) -> Group:
    return replace(some, desired=len(some.instances))


def odd(whole: Group, dice: random.Random) -> Group:
    """Blank and null fields, doubled items."""
    faults: tuple[dict[str, Any], ...] = (
        {"id": ""},
        {"state": ""},
        {"state": "Sideways"},
        {"address": None},
        {"id": "i-0\n"},
        {"zone": ""},
        {},
    )
    spoilt = [replace(i, **dice.choice(faults)) for i in whole.instances if dice.random() < 0.9]
    return replace(whole, instances=(*spoilt, *spoilt[:2]))


def violations(sequence: Sequence_, rules: tuple[Rule, ...]) -> set[str]:
    """Play a sequence; the promises it broke."""
    blue, green, reads = sequence
    reader = Reader(blue, green)
    story = Story(SETTINGS, rules=rules)
    story.see(*reader.groups("good", random.Random(0)))
    broken: set[str] = set()
    unseen: dict[str, int] = {}
    for kind, seed in reads:
        dice = random.Random(seed)
        before, count = story.names(), len(story.members())
        if dice.random() < 0.5:
            story.obey(down=[name for name in before if dice.random() < 0.1])
        answer = reader.groups(kind, dice)
        step = dice.choice((0.1, 10.0, 10.0, 60.0, 600.0, -50.0))
        played = play(story, kind, answer, step)
        seen = {i.id for g in answer for i in g.instances}
        if played == "fresh":
            unseen = {name: 0 if name in seen else unseen.get(name, 0) + 1 for name in before}
        broken |= judge(before, story.names(), answer if played == "fresh" else [], unseen)
        if count and len(story.members()) > 10 * max(count, 10):  # an empty backend takes what there is
            broken.add("ceiling")
        if played == "none" and before != story.names():
            broken.add("unknown")
    return broken


def play(story: Story, kind: str, answer: list[Group], step: float) -> str:
    """One pass: with a fresh read, with the same one again, or with none."""
    if kind == "unknown":
        story.blind(step=step)
        return "none"
    if kind == "stale":
        story.see(*answer, step=step, started=story.memory.read_started - 1.0)
        return "none"
    if kind == "same":
        story.again(*answer)
        return "same"
    story.see(*answer, step=step, started=story.started + 10.0)
    return "fresh"


def judge(before: Sequence[str], after: Sequence[str], answer: list[Group], unseen: dict[str, int]) -> set[str]:
    """The promises that one pass broke."""
    broken: set[str] = set()
    left = set(before) - set(after)
    if len(left) > max(1, floor(0.15 * len(before))):
        broken.add("max_removal")
    if before and not after and not (answer and all(g.desired == 0 for g in answer)):
        broken.add("last_server")
    if left and any(unseen.get(name, 0) < 2 for name in left):
        broken.add("confirm_reads")
    if left and not answer:
        broken.add("group_missing")
    if left and answer and all(not g.instances and g.desired > 0 for g in answer):
        broken.add("empty")
    short = {g.name for g in answer if g.instances and listed(g) < g.desired}
    if short >= {"blue", "green"} and left:
        broken.add("half_answer")
    return broken


@pytest.mark.timeout(600)
# Several workers share the ten thousand; `make test` runs the first quarter.
@pytest.mark.parametrize("quarter", [0, *(pytest.param(n, marks=pytest.mark.deep) for n in (1, 2, 3))])
@RUN
@given(sequence=SEQUENCES)
def test_no_sequence_of_bad_reads_breaks_a_promise(quarter: int, sequence: Sequence_) -> None:
    assert violations(sequence, RULES) == set()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_without_a_rule_its_promise_is_broken(rule: Rule) -> None:
    rest = tuple(r for r in RULES if r is not rule)
    found = find(
        SEQUENCES,
        lambda sequence: rule.__name__ in violations(sequence, rest),
        settings=settings(RUN, phases=[Phase.generate], max_examples=3000, database=None),
    )
    assert violations(found, RULES) == set()


def test_the_search_finds_nothing_where_nothing_is() -> None:
    with pytest.raises(NoSuchExample):
        find(
            SEQUENCES,
            lambda sequence: bool(violations(sequence, RULES)),
            settings=settings(RUN, phases=[Phase.generate], max_examples=50, database=None),
        )


def test_the_play_of_answers_holds_what_it_says() -> None:
    dice = random.Random(1)
    reader = Reader(10, 3)
    assert {len(reader.groups(kind, dice)) for kind in KINDS} == {0, 2}
    story = Story(SETTINGS)
    story.see(*reader.groups("good", dice))
    assert len(story.names()) == 13
    assert play(story, "stale", reader.groups("good", dice), 1.0) == "none"
    assert story.held() == ["stale"]
    assert guard.RULES == RULES
