"""Which servers a pass says that it removed: those whose commands were answered well, whatever failed after them."""

import pytest

from hafleet.core import cuts
from hafleet.errors import ConfigRejected, HafleetError, UnexpectedReply
from hafleet.reconcile import cut_by
from tests.unit.test_reconcile import SETTINGS, Stage, stage

__all__ = ["stage"]  # the fixture

GONE = ("site", f"i-{2:017x}")


def drained(stage: Stage) -> None:
    """Instance 2 leaves: held while it is merely missing, then drained to the end of its time."""
    stage.numbers.remove(2)
    for _ in range(20):
        stage.one_pass()
        if stage.plan.proxy.removed:
            return
    raise AssertionError("it never left")


def test_a_removed_server_is_named_and_its_sessions_counted(stage: Stage) -> None:
    drained(stage)
    assert stage.outcome.removed == (GONE,)
    (cut,) = cuts.after(cuts.Ledger(), cut_by(SETTINGS, stage.plan, stage.outcome)).cuts
    assert (cut.kind, cut.where, cut.connections, cut.left) == ("server", "/".join(GONE), 1, 0)
    assert "drained for" in cut.reason
    stage.one_pass()
    assert not stage.outcome.removed


@pytest.mark.parametrize(
    ("call", "fault", "removed"),
    [("run", UnexpectedReply("no"), ()), ("install", ConfigRejected("no", where="x"), (GONE,))],
)
def test_only_what_was_answered_well_counts(
    stage: Stage, call: str, fault: HafleetError, removed: tuple[tuple[str, str], ...]
) -> None:
    stage.faults[call] = fault
    drained(stage)
    assert stage.outcome.removed == removed
