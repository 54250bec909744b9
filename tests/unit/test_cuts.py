"""Connections that were cut: counted once, with their reason, and none that ended by itself."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from hafleet.core.cuts import Cut, Ledger, Seen, after, old_sessions
from hafleet.core.life import Deed, LifeReport
from hafleet.core.model import OldWorker, RunningServer, Unknown, Verdict, Worker

SITE = ("site", "i-0a")
HARD_STOP = 300.0


def server(sessions: int, name: str = "i-0a") -> RunningServer:
    return RunningServer("site", name, 1, "10.0.0.9", 80, False, False, 0, True, True, sessions)


def old(
    pid: int = 50, *, age: float = 10.0, sessions: Mapping[tuple[str, str], int] | None, loads: int = 1
) -> OldWorker:
    return OldWorker(pid, loads, age, sessions)


def worker(*olds: OldWorker, servers: tuple[RunningServer, ...] = (), pid: int = 60) -> Worker:
    rows = {("site", row.name): row for row in servers}
    return Worker((3, 2, 26), 1, pid, 500.0, 100.0, "stamp", rows, {}, len(olds), old=olds)


def seen(world: Worker | Unknown, at: float = 1000.0) -> Seen:
    return Seen(at, "i-0node", world, hard_stop=HARD_STOP, max_reloads=5)


def folded(*passes: Seen) -> Ledger:
    ledger = Ledger()
    for each in passes:
        ledger = after(ledger, each)
    return ledger


# --- servers --------------------------------------------------------------------------------------------------------


def test_a_server_that_is_removed_cuts_the_sessions_it_has_and_old_workers_keep_theirs() -> None:
    world = worker(old(sessions={SITE: 2, ("other", "i-0a"): 7}), servers=(server(3),))
    why = (Verdict("site", "i-0b", "absent", "no"), Verdict("site", "i-0a", "absent", "AWS says Terminating"))
    found = folded(replace(seen(world), removed=(SITE,), verdicts=why))
    assert found.cuts == (Cut(1, 1000.0, "server", "site/i-0a", 3, 2, "AWS says Terminating"),)
    wanted = "3 connections of site/i-0a cut (AWS says Terminating); 2 more go on in old workers"
    assert found.cuts[0].sentence == wanted


@pytest.mark.parametrize(
    ("name", "instance", "reason"),
    [("i-0a-8080", "i-0a", "told"), ("i-0ab", "i-0a", "it was removed"), ("static-1", "10.0.0.1", "it was removed")],
)
def test_the_reason_is_the_one_of_the_server_s_instance(name: str, instance: str, reason: str) -> None:
    world = worker(servers=(server(1, name),))
    told = replace(seen(world), removed=(("site", name),), verdicts=(Verdict("site", instance, "absent", "told"),))
    assert [cut.reason for cut in folded(told).cuts] == [reason]


def test_a_server_without_sessions_or_that_was_never_seen_cuts_nothing() -> None:
    world = worker(servers=(server(0),))
    removed = replace(seen(world), removed=(SITE, ("site", "i-0gone")))
    assert folded(removed) == replace(folded(seen(world)), cuts=())
    assert folded(replace(seen(Unknown("no socket")), removed=(SITE,))).cuts == ()


def test_only_the_last_cuts_are_told_and_numbers_go_on() -> None:
    busy = replace(seen(worker(servers=(server(1),))), removed=(SITE,))
    found = folded(*([busy] * 25))
    assert [cut.number for cut in found.cuts] == list(range(6, 26))


# --- the node -------------------------------------------------------------------------------------------------------


def test_what_the_node_no_longer_waits_for_counts_once() -> None:
    first, last = Deed(990.0, "heartbeat"), Deed(995.0, "completed", cut=4)
    told = replace(seen(worker()), life=LifeReport(1000.0, done=(first, last)))
    found = folded(told, told, replace(told, life=None))
    assert found.cuts == (Cut(1, 995.0, "node", "i-0node", 4, 0, "completed"),)
    later = after(found, replace(told, life=LifeReport(1001.0, done=(first, last, Deed(996.0, "again", cut=1)))))
    assert [cut.connections for cut in later.cuts] == [4, 1]


# --- old workers ----------------------------------------------------------------------------------------------------


def test_an_old_worker_that_is_gone_when_its_time_is_over_has_cut_what_it_had() -> None:
    alive = worker(old(age=10.0, sessions={SITE: 2, ("cart", "x"): 1}))
    found = folded(seen(alive), seen(worker(), at=1000.0 + HARD_STOP - 10.0))
    assert found.cuts == (Cut(1, 1290.0, "reload", "old worker 50", 3, 0, "hard_stop_after of 300 s is over"),)
    assert after(found, seen(worker(), at=1400.0)).cuts == found.cuts


def test_one_that_is_gone_before_had_its_last_connection_end() -> None:
    alive = worker(old(age=10.0, sessions={SITE: 2}))
    assert folded(seen(alive), seen(worker(), at=1200.0)).cuts == ()


def test_one_that_held_no_more_cuts_nothing() -> None:
    alive = worker(old(age=10.0, sessions={SITE: 2}))
    assert folded(seen(alive), seen(worker(old(age=20.0, sessions={}))), seen(worker(), at=1290.0)).cuts == ()


def test_one_that_does_not_answer_keeps_what_it_had_and_the_longest_age_counts() -> None:
    mute = old(age=0.0, sessions=None)
    found = folded(
        seen(worker(old(age=10.0, sessions={SITE: 2}))), seen(worker(mute), at=1100.0), seen(worker(), at=1290.0)
    )
    assert [cut.connections for cut in found.cuts] == [2]
    assert folded(seen(worker(mute)), seen(worker(), at=1400.0)).cuts == ()  # nobody knows of any


@pytest.mark.parametrize(("loads", "pid", "cuts"), [(5, 70, [2]), (4, 70, []), (5, 60, [])])
def test_one_that_had_survived_all_the_reloads_it_may_is_cut_by_the_next(loads: int, pid: int, cuts: list[int]) -> None:
    alive = worker(old(age=10.0, sessions={SITE: 2}, loads=loads))
    found = folded(seen(alive), seen(worker(pid=pid), at=1010.0))
    assert [cut.connections for cut in found.cuts] == cuts
    assert all(cut.reason == "it had survived 5 reloads, and max_reloads is 5" for cut in found.cuts)


def test_a_haproxy_that_does_not_answer_tells_nothing_and_a_cold_start_is_no_cut_of_ours() -> None:
    alive = seen(worker(old(age=10.0, sessions={SITE: 2})))
    found = folded(alive, seen(Unknown("gone"), at=1290.0), seen(worker(), at=1300.0))
    assert [cut.at for cut in found.cuts] == [1300.0]
    assert folded(alive, seen(replace(worker(), master_pid=2), at=1290.0)).cuts == ()


def test_connections_of_old_workers_are_summed_as_far_as_they_are_known() -> None:
    olds = (old(sessions={SITE: 2, ("cart", "x"): 1}), old(51, sessions=None), old(52, sessions={SITE: 1}))
    assert old_sessions(olds) == 4
    assert old_sessions(olds, SITE) == 3
    assert old_sessions((), SITE) == 0
