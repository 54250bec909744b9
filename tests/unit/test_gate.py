"""When a reload may happen."""

from dataclasses import replace

import pytest

from hafleet.core.gate import RULES, Question, cold_start, failing, hold_reload, min_interval, old_workers
from hafleet.core.model import Memory, Worker
from hafleet.core.settings import Safety

WORKER = Worker((3, 0, 11), 10, 11, 1000.0, 500.0, "abc", {}, {}, 0)
QUESTION = Question(WORKER, Memory(), Safety(), 10_000.0, removes=False)


def test_a_reload_that_comes_alone_goes_at_once() -> None:
    assert hold_reload(QUESTION) is None


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"worker": replace(WORKER, master_uptime=9.0)}, "cold_start"),
        ({"worker": replace(WORKER, uptime=3.0)}, "min_interval"),
        ({"worker": replace(WORKER, old_workers=5)}, "old_workers"),
        ({"memory": Memory(reload_failures=1, reload_failed_at=9_995.0)}, "reload_failing"),
        ({"memory": Memory(reload_failures=3, reload_failed_at=9_965.0)}, "reload_failing"),
        ({"memory": Memory(reload_failures=60, reload_failed_at=9_500.0)}, "reload_failing"),
    ],
)
def test_each_rule_holds_and_only_it_does(change: dict[str, object], rule: str) -> None:
    question = replace(QUESTION, **change)  # type: ignore[arg-type]  # a table of mixed fields
    held = hold_reload(question)
    assert held is not None and held.rule == rule and held.subject == "reload"
    others = tuple(r for r in RULES if r(question) is None)
    assert len(others) == len(RULES) - 1
    assert hold_reload(question, others) is None  # the negative control: without the rule it would go


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        (cold_start, {"worker": replace(WORKER, master_uptime=10.0)}),
        (min_interval, {"worker": replace(WORKER, uptime=10.0)}),
        (old_workers, {"worker": replace(WORKER, old_workers=9), "removes": True}),
        (failing, {"memory": Memory(reload_failures=2, reload_failed_at=9_980.0)}),
        (failing, {"memory": Memory(reload_failures=2, reload_failed_at=20_000.0)}),
    ],
)
def test_each_rule_lets_go_at_its_edge(rule: object, change: dict[str, object]) -> None:
    assert rule(replace(QUESTION, **change)) is None  # type: ignore[operator,arg-type]
