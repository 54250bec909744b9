"""What the demo makes of its chapters: what counts as lost, what is shown, what machines read."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from hafleet.lab.demo import Clock, Result
from hafleet.lab.plan import INTERVAL, THRESHOLD, Plan, shop_dns
from hafleet.lab.progress import Progress
from hafleet.lab.story import STORY

GOOD = Result("quiet", 1.5, 0, 100, 0)
LOST = replace(GOOD, name="lossy", failed=7)
EXCUSED = replace(LOST, name="killed", may_lose="nobody knows yet", dns_s=17.25)


def shown(*results: Result) -> str:
    text = io.StringIO()
    Progress(Console(file=text, width=132)).summary([result.row() for result in results])
    return text.getvalue()


@pytest.mark.parametrize(
    ("result", "good", "wrongly"),
    [(GOOD, True, 0), (LOST, False, 7), (EXCUSED, True, 0)],
    ids=["none", "lost", "excused"],
)
def test_only_losses_without_an_excuse_make_a_chapter_bad(result: Result, good: bool, wrongly: int) -> None:
    assert (result.good, result.wrongly_lost) == (good, wrongly)


def test_an_excuse_for_losses_excuses_nothing_else() -> None:
    assert not replace(EXCUSED, trouble="the fleet did not follow").good


def test_the_contract_for_machines() -> None:
    assert EXCUSED.data() == {
        "name": "killed",
        "converged_s": 1.5,
        "reloads": 0,
        "requests": 100,
        "failed": 7,
        "may_lose": True,
        "dns_s": 17.25,
    }
    assert (GOOD.data()["may_lose"], GOOD.data()["dns_s"]) == (False, None)


def test_the_summary_counts_excused_losses_apart_and_says_why() -> None:
    said = shown(GOOD, EXCUSED)
    assert "0 of 200 requests failed, apart from killed" in said
    assert "killed: 7 requests were lost; nobody knows yet" in said
    assert "17.25 s" in said


def test_the_summary_of_a_story_without_an_excuse_speaks_of_none() -> None:
    said = shown(GOOD, LOST)
    assert "7 of 200 requests failed, in" in said
    assert "apart from" not in said


@pytest.mark.parametrize(
    ("result", "style"),
    [(GOOD, None), (LOST, "red"), (EXCUSED, "yellow"), (replace(GOOD, converged_s=None), "red")],
    ids=["good", "lost", "excused", "not converged"],
)
def test_a_row_looks_as_bad_as_it_is(result: Result, style: str | None) -> None:
    assert result.row().style == style


def test_the_clock_keeps_what_dns_took_apart_from_the_slowest_change() -> None:
    clock = Clock()
    assert (clock.seconds, clock.dns) == (None, None)
    clock.dns_took(12.3456)
    assert (clock.seconds, clock.dns) == (None, 12.35)
    clock.stop()
    assert clock.seconds is not None and clock.dns == 12.35


def test_exactly_one_chapter_of_the_story_may_lose_requests() -> None:
    names = [chapter.name for chapter in STORY]
    assert len(set(names)) == len(names)
    assert [chapter.name for chapter in STORY if chapter.may_lose] == ["node killed"]
    order = [names.index(name) for name in ("node joins", "node killed", "dead node reaped", "node drained")]
    assert order == sorted(order)


def test_nodes_stay_out_of_dns_unless_the_plan_says_so() -> None:
    assert Plan().dns is None
    endpoint = shop_dns()["health"]["endpoint"]
    assert (endpoint["interval"], endpoint["threshold"]) == (INTERVAL, THRESHOLD)
