"""What the demo makes of its chapters: what counts as lost, what is shown, what machines read."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from hafleet.lab.demo import Clock, Result
from hafleet.lab.plan import DRAIN_HOOK, INTERVAL, THRESHOLD, Plan, shop_dns, shop_plan
from hafleet.lab.progress import LiveProgress, Progress
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
    chapters = [chapter for act in STORY for chapter in act.played]
    names = [chapter.name for chapter in chapters]
    assert len(set(names)) == len(names)
    assert [chapter.name for chapter in chapters if chapter.may_lose] == ["node killed"]
    assert not any(act.meanwhile for act in STORY if act.may_lose)  # its losses would be counted as another one's
    order = [names.index(name) for name in ("node joins", "node killed", "dead node reaped")]
    assert order == sorted(order)


def test_the_story_tells_what_the_demo_promises() -> None:
    told = {chapter.name for act in STORY for chapter in act.played}
    core = {"scale out", "scale in", "blue/green weights", "rolling replace", "template edit", "broken template"}
    faults = {"AWS unreachable", "partial answer", "agent killed"}
    nodes = {"node joins", "node killed", "dead node reaped", "node drained", "node restart"}
    lifecycle = {"node replaced through hooks", "spot notice", "zone drained"}
    assert told == core | faults | nodes | lifecycle


def test_a_live_table_shows_every_chapter_that_is_under_way() -> None:
    text = io.StringIO()
    console = Console(file=text, width=132)
    shown = LiveProgress(console)
    shown.begin("outer", lambda: (10, 0))
    shown.say("it waits", "outer")
    shown.begin("inner", lambda: (3, 1))
    shown.end("inner", True, "quick")
    console.print(shown.table())
    said = text.getvalue()
    assert all(part in said for part in ("outer", "it waits", "inner", "done", "quick"))
    assert said.index("inner") < said.index("outer")  # what is over stands above


def test_nodes_stay_out_of_dns_unless_the_plan_says_so() -> None:
    assert Plan().dns is None
    endpoint = shop_dns()["health"]["endpoint"]
    assert (endpoint["interval"], endpoint["threshold"]) == (INTERVAL, THRESHOLD)


def test_the_demo_joins_and_leaves_by_hooks_and_hears_events() -> None:
    plan = shop_plan()
    assert plan.dns == shop_dns()
    assert plan.extra.keys() == {"lifecycle", "events"}
    assert [source["terminate_hook"] for source in plan.backends[0]["sources"]] == [DRAIN_HOOK, DRAIN_HOOK]
    assert not any("terminate_hook" in source for backend in Plan().backends for source in backend["sources"])
