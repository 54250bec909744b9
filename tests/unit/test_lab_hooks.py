"""What an instance of the lab waits for, by values: timeouts, heartbeats, results, and what AWS refuses."""

from types import SimpleNamespace
from typing import Any

import pytest
from moto.autoscaling.exceptions import ValidationError

from hafleet.lab.aws_hooks import LAUNCHING, TERMINATING, LabHook, Wait, checked_result, nothing_active, put
from hafleet.lab.aws_state import target_of
from hafleet.lab.imds import Identity, Imds
from tests.resources import Loopback

DAY = 86400


def hook(name: str = "in", transition: str = LAUNCHING, **fields: Any) -> LabHook:
    return LabHook(name, "g", transition, **fields)


class TestPut:
    def test_defaults_are_those_of_aws(self) -> None:
        made = put(None, "in", "g", {"LifecycleTransition": LAUNCHING})
        assert (made.timeout, made.default, made.limit) == (3600, "ABANDON", 2 * DAY)

    def test_what_a_change_does_not_name_stays(self) -> None:
        known = put(None, "in", "g", {"LifecycleTransition": LAUNCHING, "HeartbeatTimeout": 60, "RoleARN": "arn:r"})
        changed = put(known, "in", "g", {"DefaultResult": "CONTINUE", "HeartbeatTimeout": None})
        assert (changed.timeout, changed.default, changed.role) == (60, "CONTINUE", "arn:r")

    @pytest.mark.parametrize(
        "asked",
        [
            {"LifecycleTransition": None},
            {"LifecycleTransition": "autoscaling:TEST_NOTIFICATION"},
            {"LifecycleTransition": LAUNCHING, "HeartbeatTimeout": 29},
            {"LifecycleTransition": LAUNCHING, "HeartbeatTimeout": 7201},
            {"LifecycleTransition": LAUNCHING, "DefaultResult": "RETRY"},
        ],
    )
    def test_what_aws_refuses(self, asked: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            put(None, "in", "g", asked)

    def test_only_a_lab_control_allows_a_shorter_timeout(self) -> None:
        asked = {"LifecycleTransition": LAUNCHING, "HeartbeatTimeout": 2}
        assert put(None, "in", "g", asked, least=1).timeout == 2

    def test_the_limit_is_100_timeouts_or_48_hours(self) -> None:
        assert (hook(timeout=30).limit, hook(timeout=7200).limit) == (3000, 2 * DAY)

    def test_the_answer_names_only_what_was_given(self) -> None:
        told = hook(target="arn:aws:sqs:r:1:q").answer()
        assert told["NotificationTargetARN"] == "arn:aws:sqs:r:1:q"
        assert {"RoleARN", "NotificationMetadata"} & told.keys() == set()


class TestWait:
    def test_it_lasts_until_every_hook_of_the_transition_is_completed(self) -> None:
        wait = Wait([hook("a"), hook("b"), hook("c", TERMINATING)], LAUNCHING, 0.0)
        assert sorted(wait.actions) == ["a", "b"]
        wait.actions["a"].result = "CONTINUE"
        assert wait.verdict(1.0) == ""
        wait.actions["b"].result = "CONTINUE"
        assert wait.verdict(1.0) == "CONTINUE"

    def test_one_abandon_ends_it(self) -> None:
        wait = Wait([hook("a"), hook("b")], LAUNCHING, 0.0)
        wait.actions["b"].result = "ABANDON"
        assert wait.verdict(1.0) == "ABANDON"

    @pytest.mark.parametrize("default", ["CONTINUE", "ABANDON"])
    def test_a_timeout_gives_the_default_result(self, default: str) -> None:
        wait = Wait([hook(timeout=30, default=default)], LAUNCHING, 100.0)
        assert wait.verdict(129.9) == ""
        assert wait.verdict(130.0) == default
        assert wait.actions["in"].timed_out

    def test_a_heartbeat_begins_the_timeout_anew(self) -> None:
        wait = Wait([hook(timeout=30)], LAUNCHING, 0.0)
        wait.actions["in"].beat(20.0)
        assert wait.verdict(49.9) == ""
        assert wait.verdict(50.0) == "ABANDON"

    def test_heartbeats_do_not_go_beyond_the_limit(self) -> None:
        wait = Wait([hook(timeout=30)], LAUNCHING, 0.0)
        for second in range(20, 3000, 20):
            wait.actions["in"].beat(float(second))
        assert wait.verdict(2999.9) == ""
        assert wait.verdict(3000.0) == "ABANDON"

    def test_time_can_pass_faster(self) -> None:
        wait = Wait([hook(timeout=30)], LAUNCHING, 0.0, speed=10.0)
        assert wait.verdict(2.9) == ""
        assert wait.verdict(3.0) == "ABANDON"
        slow = Wait([hook(timeout=30)], LAUNCHING, 0.0)
        assert slow.verdict(3.0) == ""

    @pytest.mark.parametrize(("transition", "result"), [(LAUNCHING, "ABANDON"), (TERMINATING, "CONTINUE")])
    def test_a_hook_that_is_deleted_ends_its_action(self, transition: str, result: str) -> None:
        wait = Wait([hook("a", transition)], transition, 0.0)
        wait.drop("other")
        assert wait.verdict(1.0) == ""
        wait.drop("a")
        assert wait.verdict(1.0) == result

    def test_an_action_is_found_by_its_own_token_only_and_only_while_it_lasts(self) -> None:
        wait = Wait([hook("a")], LAUNCHING, 0.0)
        action = wait.actions["a"]
        assert wait.active("a", None) is action
        assert wait.active("a", action.token) is action
        assert wait.active("a", "another") is None
        assert wait.active("b", None) is None
        action.result = "CONTINUE"
        wait.drop("a")
        assert (wait.active("a", None), action.result) == (None, "CONTINUE")


class TestWords:
    def test_the_refusals_are_aws_s(self) -> None:
        assert nothing_active("i-1", None).message == "No active Lifecycle Action found with instance ID i-1"
        assert nothing_active("i-1", "t").message == "No active Lifecycle Action found with token t"
        with pytest.raises(ValidationError):
            checked_result("MAYBE")

    @pytest.mark.parametrize(
        ("state", "target"),
        [
            ("Pending", "InService"),
            ("Pending:Wait", "InService"),
            ("InService", "InService"),
            ("Terminating:Wait", "Terminated"),
            ("EnteringStandby", "Standby"),
            ("Standby", "Standby"),
            ("Detaching", "Detached"),
            ("Warmed:Pending:Wait", "Warmed:Running"),
            ("Warmed:Running", "Warmed:Running"),
            ("Warmed:Terminating:Wait", "Warmed:Terminated"),
            ("Quarantined", ""),
        ],
    )
    def test_the_target_state_follows_the_lifecycle_state(self, state: str, target: str) -> None:
        group = SimpleNamespace(warm_pool=SimpleNamespace(pool_state="Running"))
        assert target_of(state, group) == target


class TestMetadata:
    def test_what_is_told_beside_the_identity_comes_and_goes(self, loopback: Loopback) -> None:
        address = loopback.address()
        imds = Imds(Identity("i-1", address, "z", "r", "g"), address, 1338)
        try:
            path = "meta-data/autoscaling/target-lifecycle-state"
            assert imds.lookup(path) is None
            imds.follow({path: "InService"})
            assert imds.lookup(path) == "InService"
            imds.put(path, "Terminated")
            imds.follow({path: "InService"})
            assert imds.lookup(path) == "Terminated"  # what was put by hand stays
            imds.put(path, None)
            assert imds.lookup(path) is None
            assert imds.lookup("meta-data/instance-id") == "i-1"
        finally:
            imds.close()
