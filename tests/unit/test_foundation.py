"""What is made in AWS once per fleet: from the settings alone, and the same as the lab founds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hafleet.cli import main
from hafleet.core.foundation import MOST_PATTERN, Foundation, Hook, Ports, foundation
from hafleet.core.queues import PULSE, Place, rules, topic_policy
from hafleet.core.settings import Settings

PLACE = Place("aws", "eu-west-1", "123456789012")


def told(**sections: Any) -> dict[str, Any]:
    return {
        "fleet": "edge",
        "frontends": [{"name": "web", "bind": ":80", "default_backend": "site"}],
        "backends": [{"name": "site", "port": 8080, "sources": [{"asg": "blue"}, {"static": ["10.0.0.1"]}]}],
        **sections,
    }


def founded(**sections: Any) -> Foundation:
    return foundation(Settings.model_validate(told(**sections)), PLACE, "lbs")


def test_events_need_a_topic_a_dead_letter_queue_and_four_rules() -> None:
    made = founded(events={"queue": "auto"})
    assert made.events
    assert (made.topic, made.dead_letters, made.queues) == ("hafleet-edge", "hafleet-edge-dead", "hafleet-edge-")
    assert made.topic_policy == topic_policy("edge", PLACE)
    patterns = {rule.name: rule.pattern for rule in made.rules if rule.pattern}
    assert patterns == rules("edge", frozenset({"blue", "lbs"}))
    assert [(rule.name, rule.schedule) for rule in made.rules if not rule.pattern] == [("hafleet-edge-pulse", PULSE)]


def test_dead_letters_are_never_carried_in_the_clear() -> None:
    policy: Any = founded(events={"queue": "auto"}).dead_letters_policy
    (statement,) = policy["Statement"]
    assert (statement["Effect"], statement["Resource"]) == ("Deny", PLACE.arn("sqs", "hafleet-edge-dead"))
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_groups_found_by_tag_are_not_named_in_the_rule() -> None:
    tagged = [{"name": "site", "port": 8080, "sources": [{"asg_tag": {"role": "site"}}]}]
    made = founded(events={"queue": "auto"}, backends=tagged)
    assert made.rules[0].pattern == rules("edge", frozenset())["hafleet-edge-groups"]


def test_groups_whose_names_a_pattern_does_not_hold_are_not_named_in_the_rule() -> None:
    def with_group(length: int) -> dict[str, Any]:
        several = [{"asg": f"{number:0>220}"} for number in range(7)]
        return {"backends": [{"name": "site", "port": 8080, "sources": [*several, {"asg": "x" * length}]}]}

    def pattern(length: int) -> Any:
        return founded(events={"queue": "auto"}, **with_group(length)).rules[0].pattern

    room = MOST_PATTERN - len(json.dumps(pattern(1)))
    assert len(json.dumps(pattern(1 + room))) == MOST_PATTERN
    assert pattern(2 + room) == rules("edge", frozenset())["hafleet-edge-groups"]


@pytest.mark.parametrize("sections", [{}, {"events": {}}, {"events": {"queue": "none"}}])
def test_without_own_queues_it_says_so_and_names_what_earlier_settings_had(sections: dict[str, Any]) -> None:
    made = founded(**sections)
    assert not made.events and made.ports == Ports(0, 10000, 8405)
    assert replace(made, events=True) == founded(events={"queue": "auto"})


@pytest.mark.parametrize(
    ("health", "port"),
    [
        (None, 8403),
        ({"endpoint": {"protocol": "tcp", "port": 443}}, 443),
        ({"alarm": {"name": "a"}}, 0),
    ],
)
def test_checkers_ask_the_port_that_the_settings_say(health: dict[str, Any] | None, port: int) -> None:
    dns = {"name": "lb.example.com", "zone": "example.com"} | ({} if health is None else {"health": health})
    assert founded(dns=dns).ports.health == port


def test_a_launch_that_nobody_completes_is_given_up_and_an_end_goes_on() -> None:
    assert founded(lifecycle={"join_timeout": "10m"}).hooks == (
        Hook("hafleet-join", "autoscaling:EC2_INSTANCE_LAUNCHING", 600, "ABANDON"),
        Hook("hafleet-leave", "autoscaling:EC2_INSTANCE_TERMINATING", 300, "CONTINUE"),
    )


@pytest.mark.parametrize(("asked", "beat"), [("5s", 30), ("3h", 7200)])
def test_a_hooks_timeout_stays_within_what_auto_scaling_takes(asked: str, beat: int) -> None:
    assert founded(lifecycle={"join_timeout": asked}).hooks[0].heartbeat == beat


def test_ports_are_those_of_the_settings() -> None:
    dns = {"name": "lb.example.com", "zone": "example.com"}
    made = founded(dns=dns, haproxy={"health": ":9000"}, peers={"port": 9001}, status={"listen": "10.0.0.1:9002"})
    assert made.ports == Ports(9000, 9001, 9002)


@pytest.mark.parametrize("names", [("born", "gone"), ("born",)])
def test_named_hooks_keep_their_names(names: tuple[str, ...]) -> None:
    assert tuple(hook.name for hook in founded(lifecycle={"hooks": list(names)}).hooks) == names


# --- the command ----------------------------------------------------------------------------------------------------


def run(folder: Path, *words: str) -> Any:
    path = folder / "hafleet.yaml"
    path.write_text(json.dumps(told(events={"queue": "auto"}, lifecycle={})))
    return CliRunner().invoke(main, ["foundation", "-c", str(path), "--group", "lbs", *words])


def test_the_command_prints_all_of_it(tmp_path: Path) -> None:
    done = run(tmp_path, "--account", PLACE.account, "--region", "cn-north-1")
    assert done.exit_code == 0
    made = json.loads(done.stdout)
    assert made["topic_policy"] == topic_policy("edge", Place("aws-cn", "cn-north-1", PLACE.account))
    assert [hook["result"] for hook in made["hooks"]] == ["ABANDON", "CONTINUE"]


def test_the_command_needs_account_and_region(tmp_path: Path) -> None:
    assert "--account" in run(tmp_path).stderr
    assert "add --region" in run(tmp_path, "--account", PLACE.account).stderr
    wrong = run(tmp_path, "--account", "1234-5678-9012", "--region", "eu-west-1")
    assert wrong.exit_code == 2 and "'1234-5678-9012' is no account: write its 12 digits" in wrong.stderr
