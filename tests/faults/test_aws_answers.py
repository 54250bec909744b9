"""Rows 5 to 12 and 16: answers of AWS that lie. Nothing leaves without evidence, and evidence is obeyed at once."""

import dataclasses
import threading
from collections.abc import Callable

import pytest

from hafleet import compose
from hafleet.adapters.aws import Account
from hafleet.core import guard
from hafleet.core.model import Groups, Memory
from hafleet.core.settings import Aws
from hafleet.ports import Membership, Store
from hafleet.reconcile import ALL_RULES, Ports, Reconciler, Rules
from tests.faults.conftest import StageMaker
from tests.faults.doubles import Make, PageByPage, Recorded, TrustsListings, instead, unguarded, without
from tests.faults.stage import Stage, held, wait

pytestmark = pytest.mark.xdist_group("faults-aws_answers")

SCALING = {"service": "autoscaling"}


# --- rows 5, 7, 8, 16: one read, many ways to lie; 12 servers stay ----------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        pytest.param({"kind": "partial_page", **SCALING}, "unknown", id="f05-page-2-fails"),
        pytest.param({"kind": "empty_page", **SCALING}, "group_missing", id="f06-page-2-is-empty"),
        pytest.param({"kind": "no_instances", **SCALING}, "empty", id="f07-groups-without-instances"),
        pytest.param({"kind": "empty", **SCALING}, "group_missing", id="f07-no-group-at-all"),
        pytest.param({"kind": "half", **SCALING}, "half_answer", id="f08-half-of-them"),
        pytest.param({"kind": "tenfold"}, "ceiling", id="f16-ten-times-as-many"),
    ],
)
def test_a_lying_answer_changes_nothing_however_often_it_comes(twelve: Stage, fault: dict[str, str], rule: str) -> None:
    before = twelve.picture()
    twelve.log.entries.clear()
    with twelve.fault(**fault):
        reports = twelve.turns(12)
        assert twelve.metric("held_steps", rule=rule) >= 1
        assert twelve.healthy()
    assert rule in held(reports[-1])
    assert not any(report.commands or report.wrote or report.reloaded for report in reports)
    assert twelve.picture() == before
    assert twelve.said("'event': 'held'", f"'rule': '{rule}'")
    twelve.settle()
    assert twelve.picture() == before


def test_f16_ten_times_as_many_of_which_ec2_knows_nothing(twelve: Stage) -> None:
    before = twelve.picture()
    with twelve.fault("tenfold", **SCALING):
        report = twelve.turn()
    assert held(report) == ["quarantine"]
    assert twelve.picture() == before
    twelve.settle()


@pytest.mark.parametrize(
    ("fault", "rules"),
    [
        pytest.param("empty_page", ("group_missing",), id="f06"),
        pytest.param("no_instances", ("empty",), id="f07-groups-without-instances"),
        pytest.param("empty", ("group_missing",), id="f07-no-group-at-all"),
        pytest.param("half", ("half_answer",), id="f08"),
        pytest.param("tenfold", ("ceiling",), id="f16"),
    ],
)
def test_control_without_its_rule_the_answer_is_obeyed(
    make_stage: StageMaker, fault: str, rules: tuple[str, ...]
) -> None:
    stage = _lied_to(make_stage(), fault, without(*rules))
    before = stage.picture().rotation
    with stage.fault(fault, **({} if fault == "tenfold" else SCALING)):
        stage.turns(3)
        assert stage.picture().rotation != before or stage.installed() > {name for _, name, _ in before}


def _lied_to(stage: Stage, fault: str, reconciler: Make) -> Stage:
    """A node with the same 12 servers and another guard."""
    stage.boot({"asg": stage.group(6)}, {"asg": stage.group(6)})
    stage.reconciler = reconciler
    stage.birth()
    stage.turn()
    return stage


def test_f05_control_a_read_that_keeps_the_pages_it_got_loses_the_group_of_the_next(make_stage: StageMaker) -> None:
    stage = make_stage()
    stage.boot({"asg": stage.group(6)}, {"asg": stage.group(6)})
    stage.ports, stage.reconciler = instead(PageByPage), without("group_missing")
    stage.birth()
    stage.turn()
    with stage.fault("5xx", count=1, rate=1.0, **SCALING):
        report = stage.turn()
    assert "confirm_reads" in held(report)  # six servers count as missing after one failed call


def test_f06_a_listing_by_tag_that_loses_a_group_is_no_listing(make_stage: StageMaker) -> None:
    stage = make_stage()
    blue, green = _two_tagged_groups(stage)
    before = stage.picture()
    with stage.fault("empty_page", **SCALING):
        reports = stage.turns(6)
    assert all(held(report) == ["unknown"] for report in reports)
    assert "carries the tag" in reports[0].errors[0]
    assert stage.picture() == before
    assert stage.rotation() == sorted(stage.members(blue) + stage.members(green))


def test_f06_control_without_that_look_the_servers_of_the_lost_group_go(make_stage: StageMaker) -> None:
    stage = make_stage()
    _two_tagged_groups(stage)
    stage.ports = lambda ports: dataclasses.replace(
        ports, membership=TrustsListings(Account(Aws(region="eu-west-1", max_attempts=1)))
    )
    stage.birth()
    stage.turn()
    before = stage.picture().rotation
    with stage.fault("empty_page", **SCALING):
        stage.turns(6)
    assert stage.picture().rotation != before


def _two_tagged_groups(stage: Stage) -> tuple[str, str]:
    """A backend that is fed by a tag, which two groups of three carry."""
    blue, green = stage.group(3), stage.group(3)
    tag = {"Key": "hafleet:backend", "Value": stage.folder.name, "PropagateAtLaunch": False}
    for name in (blue, green):
        stage.cloud.autoscaling.create_or_update_tags(
            Tags=[{**tag, "ResourceId": name, "ResourceType": "auto-scaling-group"}]  # type: ignore[typeddict-item]
        )
    stage.boot({"asg_tag": {"hafleet:backend": stage.folder.name}})
    return blue, green


# --- row 7: what ends the hold ----------------------------------------------------------------------------------------


def test_f07_only_an_operator_empties_a_backend_without_evidence_and_never_of_its_last_server(stage: Stage) -> None:
    stage.boot({"asg": stage.group(4)})
    with stage.fault("no_instances", **SCALING):
        stage.turns(10, seconds=3600)
        assert len(stage.rotation()) == 4  # neither reads nor hours
        assert stage.assembly is not None
        reconciler = stage.assembly.reconciler
        plan = reconciler.plan(reconciler.observe(), force=True)
        assert reconciler.apply(plan).commands
    assert len(stage.rotation()) == 1
    assert [each.rule for each in plan.held] == ["last_server"]


# --- row 8: half of them gone, without a word -------------------------------------------------------------------------


def test_f08_after_the_hold_a_small_part_goes_per_pass(stage: Stage) -> None:
    stage.boot({"asg": stage.group(14)})
    with stage.fault("half", **SCALING):
        stage.turns(3, seconds=1000)
        assert len(stage.rotation()) == 14
        stage.turn(seconds=1700)  # hold_max is over
        left = [len(stage.rotation())]
        for _ in range(4):
            stage.turn()
            left.append(len(stage.rotation()))
    assert left == [12, 11, 10, 9, 8]  # 15 % of those in rotation, rounded down, one at least
    assert stage.reloads == 0


def test_f08_control_without_the_share_they_go_all_at_once(stage: Stage) -> None:
    stage.boot({"asg": stage.group(14)})
    stage.reconciler = without("half_answer", "max_removal")
    stage.birth()
    with stage.fault("half", **SCALING):
        stage.turns(3)
    assert len(stage.rotation()) == 7


# --- row 9: half of them really going ---------------------------------------------------------------------------------


def test_f09_what_really_terminates_leaves_at_once_through_drain_without_a_reload(stage: Stage) -> None:
    group = stage.group(10)
    stage.boot({"asg": group})
    stage.cloud.scale(group, 5)
    going = stage.members(group, "Terminating")
    assert len(going) == 5
    report = stage.turn()
    assert held(report) == []
    assert stage.rotation() == stage.members(group)
    assert {row.name: row.weight for row in stage.rows() if row.name in going} == dict.fromkeys(going, 0)
    assert report.backends[0].draining == 5
    stage.turn(seconds=31)  # the drain is over
    assert {row.name for row in stage.rows() if row.status == "MAINT"} == set(going)
    assert stage.installed() == set(stage.members(group))
    assert stage.reloads == 0
    assert stage.healthy()


def test_f09_control_without_the_word_of_aws_the_same_servers_are_held(stage: Stage) -> None:
    group = stage.group(10)
    stage.boot({"asg": group})
    stage.ports = instead(_Speechless)
    stage.birth()
    stage.turn()
    stage.cloud.scale(group, 5)
    report = stage.turn()
    assert held(report) == ["confirm_reads"]
    assert len(stage.rotation()) == 10


@dataclasses.dataclass
class _Speechless:
    """Leaves out every instance that AWS says is leaving."""

    real: Membership

    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        groups = self.real.read(names, tags, ipv6)
        cut = {
            name: dataclasses.replace(group, instances=tuple(i for i in group.instances if not i.leaves))
            for name, group in groups.by_name.items()
        }
        return dataclasses.replace(groups, by_name=cut)


# --- row 10: the group is gone ----------------------------------------------------------------------------------------


def test_f10_a_deleted_group_leaves_its_servers_where_they_are(stage: Stage) -> None:
    group = stage.group(3)
    stage.boot({"asg": group})
    before = stage.picture()
    stage.cloud.autoscaling.delete_auto_scaling_group(AutoScalingGroupName=group, ForceDelete=True)
    reports = stage.turns(8, seconds=600)
    assert all("group_missing" in held(report) for report in reports[1:])
    assert group in reports[-1].held[0].reason
    assert stage.picture() == before
    assert stage.metric("held_steps", rule="group_missing") == 1


def test_f10_control_without_its_rule_the_backend_shrinks(stage: Stage) -> None:
    group = stage.group(3)
    stage.boot({"asg": group})
    stage.reconciler = without("group_missing")
    stage.birth()
    stage.cloud.autoscaling.delete_auto_scaling_group(AutoScalingGroupName=group, ForceDelete=True)
    stage.turns(8, seconds=600)
    assert len(stage.rotation()) < 3


# --- row 11: in and out of the answers --------------------------------------------------------------------------------


def test_f11_instances_that_flap_in_and_out_of_the_answers_stay(twelve: Stage) -> None:
    assert _flap(twelve, 10) == 0


def test_f11_control_without_damping_every_flap_is_a_change(stage: Stage) -> None:
    stage.boot({"asg": stage.group(12)})
    stage.reconciler = without("confirm_reads", "half_answer", "max_removal")
    stage.birth()
    stage.turn()
    assert _flap(stage, 4) >= 4


def _flap(stage: Stage, rounds: int) -> int:
    """Every second answer lists half of the instances. Returns how many passes changed something."""
    before, changes = stage.picture(), 0
    for _ in range(rounds):
        with stage.fault("half", **SCALING):
            first = stage.turn()
        second = stage.turn()
        changes += sum(bool(report.commands or report.wrote) for report in (first, second))
        assert not first.reloaded and not second.reloaded
    assert stage.reloads == before.reloads
    return changes


# --- row 12: an old answer after a new one ----------------------------------------------------------------------------


def test_f12_a_stale_answer_after_a_newer_one_changes_nothing(stage: Stage) -> None:
    group = stage.group(4)
    stage.boot({"asg": group})
    stage.scale(group, 6)
    stage.settle()
    before = stage.picture()
    assert len(before.rotation) == 6
    with stage.fault("stale", age=3600, **SCALING):
        report = stage.turn()
    assert held(report) == ["confirm_reads"]
    assert stage.picture() == before
    assert stage.said("'rule': 'confirm_reads'")
    stage.settle()
    assert stage.picture() == before


def test_f12_control_without_the_second_read_the_newer_servers_go(stage: Stage) -> None:
    group = stage.group(4)
    stage.boot({"asg": group})
    stage.scale(group, 6)
    stage.settle()
    stage.reconciler = without("confirm_reads")
    stage.birth()
    with stage.fault("stale", age=3600, **SCALING):
        stage.turn()
    assert len(stage.rotation()) == 5


def test_f12_a_terminated_server_does_not_come_back_with_a_stale_answer(stage: Stage) -> None:
    group = stage.group(4)
    stage.boot({"asg": group})
    stage.cloud.scale(group, 2)
    stage.turn()
    stage.turn(seconds=40)
    assert len(stage.rotation()) == 2
    before = stage.picture()
    with stage.fault("stale", age=3600, **SCALING):
        stage.turns(3)
    assert stage.picture() == before


@pytest.mark.parametrize("guarded", [True, False], ids=["", "control"])
def test_f12_of_two_reads_in_flight_the_one_that_began_earlier_never_wins(stage: Stage, guarded: bool) -> None:
    group = stage.group(4)
    stage.boot({"asg": group})
    late: list[Groups] = []
    other = compose.build(stage.path).membership
    with stage.fault("slow", seconds=1.0, count=1, **SCALING):
        first = threading.Thread(target=lambda: late.append(other.read(frozenset({group}), frozenset(), frozenset())))
        first.start()
        wait(lambda: stage.cloud.control("GET", "faults")["faults"][0]["count"] == 0, 60, lambda: "the first question")
        stage.turn()  # the second read: it began later, and is taken first
        first.join(60)
    before = stage.picture()
    seen = late[0].by_name[group]
    shrunk = dataclasses.replace(seen, desired=1, instances=seen.instances[:1])  # what the group was then
    stage.ports = _old_answer(dataclasses.replace(late[0], by_name={group: shrunk}), guarded=guarded)
    stage.reconciler = unguarded
    stage.birth()
    report = stage.turn()
    assert (held(report) == ["stale"]) is guarded
    assert (stage.picture() == before) is guarded


def _old_answer(answer: Groups, *, guarded: bool) -> Callable[[Ports], Ports]:
    def put(ports: Ports) -> Ports:
        store = ports.store if guarded else _NoOrder(ports.store)
        return dataclasses.replace(ports, membership=Recorded(answer), store=store)

    return put


@dataclasses.dataclass
class _NoOrder:
    """A memory that forgets when its reads began."""

    real: Store

    def load(self, node_id: str | None) -> Memory:
        return dataclasses.replace(self.real.load(node_id), read_started=0.0)

    def save(self, memory: Memory) -> None:
        self.real.save(memory)


# --- the last net ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rules", "left"), [((guard.last_server,), 1), ((), 0)], ids=["guarded", "control"])
def test_f07_the_last_server_stays_even_where_every_other_rule_is_gone(
    stage: Stage, rules: tuple[guard.Rule, ...], left: int
) -> None:
    stage.boot({"asg": stage.group(4)})
    stage.reconciler = lambda settings, ports: Reconciler(settings, ports, Rules(members=rules))
    stage.birth()
    with stage.fault("no_instances", **SCALING):
        stage.turns(5, seconds=40)
    assert len(stage.rotation()) == left


CONTROLS = {
    "ceiling": "f16",
    "confirm_reads": "f12",
    "group_missing": "f06, f07, f10",
    "empty": "f07",
    "half_answer": "f08",
    "max_removal": "f08",
    "last_server": "f07",
    "cold_start": "f51",
    "min_interval": "f53",
    "failing": "f45",
    "old_workers": "f54",
}


def test_every_rule_of_the_guard_has_its_control() -> None:
    """A new rule needs a fault, a control that runs without it, and a line above."""
    assert {rule.__name__ for rule in (*ALL_RULES.members, *ALL_RULES.reloads)} == CONTROLS.keys()
