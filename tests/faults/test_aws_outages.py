"""Rows 1 to 4 and 17: AWS is away, hangs, throttles, fails now and then, or refuses. The backends stay as they are."""

import threading
from dataclasses import replace

import pytest

from hafleet.agent import Agent
from hafleet.core.settings import Settings
from tests.faults.conftest import StageMaker
from tests.faults.doubles import FailsOpen, instead, unguarded
from tests.faults.stage import Stage, all_held, held

pytestmark = pytest.mark.xdist_group("faults-aws_outages")

DAY = 86400.0


# --- row 1: a blackout of a day ---------------------------------------------------------------------------------------


def test_f01_a_day_without_aws_changes_nothing(stage: Stage) -> None:
    group = stage.group(3)
    stage.sections["passes"]["interval"] = "300s"
    stage.boot({"asg": group})
    before, began = stage.picture(), stage.clock.wall()
    with stage.fault("unreachable"):
        stage.cloud.scale(group, 6)
        stage.run(160)
        assert stage.metric("membership_age_seconds") > DAY / 3
        assert stage.healthy()
        stage.run(160)  # a new agent, whose memory comes from the disk
        assert stage.clock.wall() - began >= DAY
    assert stage.picture() == before
    assert stage.healthy()
    assert stage.metric("membership_age_seconds") >= DAY
    assert stage.metric("held_steps", rule="unknown") == 1
    assert stage.metric("reloads_total") == 0
    assert stage.said("'event': 'held'", "'rule': 'unknown'", "every backend stays as it is")
    stage.in_service(group, 6)
    stage.settle()
    assert stage.rotation() == stage.members(group)  # nobody had to help it
    assert stage.reloads == before.reloads


def test_f01_control_an_agent_that_takes_no_answer_for_an_empty_one_empties_the_backend(stage: Stage) -> None:
    stage.boot({"asg": stage.group(3)})
    stage.ports, stage.reconciler = instead(FailsOpen), unguarded
    stage.birth()
    stage.turn()
    before = stage.picture()
    with stage.fault("unreachable"):
        stage.turns(4, seconds=40)
    assert stage.picture().rotation != before.rotation


def test_f01_control_the_drop_guard_alone_holds_what_fails_open(stage: Stage) -> None:
    stage.boot({"asg": stage.group(3)})
    stage.ports = instead(FailsOpen)
    stage.birth()
    stage.turn()
    before = stage.picture()
    with stage.fault("unreachable"):
        assert "group_missing" in all_held(stage.turns(4, seconds=40))
    assert stage.picture() == before


# --- row 2: AWS accepts and never answers -----------------------------------------------------------------------------


def test_f02_a_hanging_aws_ends_with_the_read_timeout_and_the_loop_goes_on(stage: Stage) -> None:
    stage.sections["aws"]["read_timeout"] = "300ms"
    stage.boot({"asg": stage.group(3)})
    before, calls = stage.picture(), stage.cloud.calls()
    with stage.fault("hang"):
        reports = stage.turns(3)
        asked = stage.cloud.calls()
    assert all(held(report) == ["unknown"] for report in reports)
    assert all("Read timeout" in report.errors[0] for report in reports)
    assert sum(asked.values()) - sum(calls.values()) == 3  # one try each: nothing piles up behind a hanging call
    assert stage.picture() == before
    assert stage.metric("aws_calls_total", operation="DescribeAutoScalingGroups", outcome="ReadTimeoutError") == 3


def test_f02_the_longest_pass_of_default_settings_is_shorter_than_a_minute() -> None:
    """What the watchdog of the service has to allow: every call of a pass fails at its first one's last try."""
    aws = Settings.model_fields["aws"].default
    backoffs = 1 + 2  # botocore's standard mode: up to 2**n s before try n + 1
    assert aws.max_attempts * (aws.connect_timeout + aws.read_timeout) + backoffs < 60


def test_f02_control_without_the_read_timeout_the_pass_does_not_end(stage: Stage) -> None:
    stage.boot({"asg": stage.group(1)})
    stage.sections["aws"]["read_timeout"] = "1h"
    stage.write()
    ended = threading.Event()
    with stage.fault("hang"):
        thread = threading.Thread(target=_pass_and_tell, args=(stage, ended))
        thread.start()
        assert not ended.wait(3)
        stage.cloud.heal()
        thread.join(60)
    assert ended.is_set()


def _pass_and_tell(stage: Stage, ended: threading.Event) -> None:
    stage.turn()
    ended.set()


# --- row 3: throttling ------------------------------------------------------------------------------------------------


def test_f03_throttled_passes_hold_and_count(twelve: Stage) -> None:
    before = twelve.picture()
    with twelve.fault("throttle"):
        reports = twelve.turns(3)
    assert all(held(report) == ["unknown"] for report in reports)
    assert "Throttling: Rate exceeded" in reports[0].errors[0]
    assert twelve.picture() == before
    assert twelve.metric("aws_calls_total", operation="DescribeAutoScalingGroups", outcome="Throttling") == 3
    twelve.settle()


def test_f03_an_hour_of_throttling_costs_no_more_calls_than_an_hour_of_calm(make_stage: StageMaker) -> None:
    assert _calls_in_an_hour(make_stage(), Agent) <= 1.1 * 360


def test_f03_control_without_backoff_the_retries_multiply_the_calls(make_stage: StageMaker) -> None:
    class Hasty(Agent):
        def _pause(self, settings: Settings) -> float:
            return settings.passes.interval

    assert _calls_in_an_hour(make_stage(), Hasty) > 1.1 * 360


def _calls_in_an_hour(stage: Stage, kind: type[Agent]) -> float:
    """Calls of an hour in which every one is throttled, at 3 tries per pass, an interval of 10 s, and no HAProxy."""
    stage.feed({"asg": stage.group(1)})
    stage.turn()
    stage.agent = kind(stage, stage.clock, stage.wakeups, stage.agent._notifier, stage._published)
    before, began = sum(stage.cloud.calls().values()), stage.clock.wall()
    with stage.fault("throttle"):
        stage.run(60)
    passes = sum(stage.cloud.calls().values()) - before
    assert passes == 60
    tries: int = Settings.model_fields["aws"].default.max_attempts
    return tries * passes * 3600 / (stage.clock.wall() - began)


def test_f03_the_sdk_tries_as_often_as_the_settings_say_and_no_more(stage: Stage) -> None:
    stage.sections["aws"]["max_attempts"] = 2
    stage.feed({"asg": stage.group(1)})
    before = sum(stage.cloud.calls().values())
    with stage.fault("throttle"):
        stage.turn()
        assert sum(stage.cloud.calls().values()) - before == 2


# --- row 4: three calls in ten fail -----------------------------------------------------------------------------------


def test_f04_with_three_calls_in_ten_failing_it_converges_and_never_uses_a_part(stage: Stage) -> None:
    blue, green = stage.group(2), stage.group(2)
    stage.boot({"asg": blue}, {"asg": green})
    known = set(stage.rotation())
    with stage.fault("5xx", rate=0.3):
        stage.scale(blue, 4)
        wanted = known | set(stage.members(blue))
        seen = []
        for report in (stage.turn() for _ in range(25)):
            seen.append(stage.installed())
            assert not report.reloaded
    assert all(each in (known, wanted) for each in seen)  # the old set or the new one, nothing between
    assert seen[-1] == wanted
    stage.settle()
    assert stage.rotation() == sorted(wanted)


# --- row 17: credentials ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "code"), [("expired", "ExpiredToken"), ("denied", "AccessDenied")])
def test_f17_refused_credentials_hold_everything_and_have_their_own_count(twelve: Stage, kind: str, code: str) -> None:
    before, calls = twelve.picture(), sum(twelve.cloud.calls().values())
    with twelve.fault(kind):
        reports = twelve.turns(3)
    assert all(held(report) == ["unknown"] for report in reports)
    assert code in reports[0].errors[0]
    assert sum(twelve.cloud.calls().values()) - calls == 3  # no tight loop
    assert twelve.metric("aws_calls_total", operation="DescribeAutoScalingGroups", outcome=code) == 3
    assert twelve.said("fault", code, "renew the credentials" if kind == "expired" else "allow autoscaling:")
    assert twelve.picture() == before
    twelve.settle()


def test_f17_an_hour_of_refusals_is_no_tight_loop(stage: Stage) -> None:
    stage.feed({"asg": stage.group(1)})
    stage.turn()
    began = stage.clock.wall()
    with stage.fault("expired"):
        stage.run(30)
    assert stage.clock.wall() - began > 30 * 10 * 1.5  # slower than the calm interval of 10 s


def test_f17_control_fails_open(stage: Stage) -> None:
    stage.boot({"asg": stage.group(3)})
    stage.ports = lambda ports: replace(ports, membership=FailsOpen(ports.membership))
    stage.reconciler = unguarded
    stage.birth()
    stage.turn()
    before = stage.picture().rotation
    with stage.fault("expired"):
        stage.turns(3, seconds=40)
    assert stage.picture().rotation != before


def test_f17_no_credentials_at_all_is_a_refusal_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    group = stage.group(2)
    stage.boot({"asg": group})
    before = stage.picture()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(stage.folder / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(stage.folder / "none"))
    stage.birth()
    report = stage.turn()
    assert held(report) == ["unknown"]
    assert "give the instance a role" in report.errors[0]
    assert stage.picture() == before
