"""The health endpoint within a pass: it turns first, whatever else is held, cannot be rendered or goes wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from hafleet.core import cfgtext, phase
from hafleet.core.cfgtext import SWITCH
from hafleet.core.command import Command
from hafleet.core.model import Desired, Rendered, RunningServer, Version
from hafleet.errors import SourceUnavailable, StoreError, TemplateError, UnexpectedReply
from tests.unit.test_reconcile import Stage as Plain

RED = "set server hafleet_ready/ready state maint"
GREEN = "set server hafleet_ready/ready state ready"


@dataclass
class Stage(Plain):
    """A stage whose configuration has the switch; ``sent`` are the commands of the last pass."""

    maint: bool = False
    sent: list[str] = field(default_factory=list)

    def render(self, desired: Desired, version: Version) -> Rendered:
        body = super().render(desired, version).text.partition("\n\n")[2].partition("\n\n# The agent")[0]
        body += "\nbackend hafleet_ready\n  server ready 127.0.0.1:9 id 1 weight 1"
        return Rendered(cfgtext.finish(body, source="test", author="test"), {})

    def run(self, worker_pid: int, commands: Sequence[Command]) -> None:
        texts = [command.text for command in commands]
        turns = set(texts) & {RED, GREEN}
        assert not turns or len(texts) == 1
        if not turns:
            super().run(worker_pid, commands)
        else:
            self._do("turn")
            self.maint = RED in turns
            self.load_servers(self.files.text or "")
        self.sent += texts

    def cold_start(self) -> None:
        self.maint = "weight 1 disabled" in (self.files.text or "")
        super().cold_start()

    def load_servers(self, text: str) -> None:
        super().load_servers(text)
        assert self.running
        switch = RunningServer(*SWITCH, 1, "127.0.0.1", 9, self.maint, False, 1, not self.maint, False, 0)
        self.running = replace(self.running, servers={**self.running.servers, SWITCH: switch})

    def drain(self) -> None:
        self.kept = phase.drained(self.kept, "works on it", self.at)

    def ready(self) -> None:
        self.kept = phase.readied(self.kept)


@pytest.fixture
def stage() -> Stage:
    """A node that converged and serves."""
    made = Stage()
    made.one_pass()
    made.cold_start()
    made.one_pass()
    assert made.one_pass()[0] == ["save"] and made.kept.phase == "serving"
    return made


def test_a_drain_is_a_command_and_a_file_and_then_nothing(stage: Stage) -> None:
    stage.drain()
    assert stage.one_pass()[0] == ["save", "turn", "check", "install"]
    assert stage.plan.lines() == (f"runtime: {RED}", "files: write")
    assert stage.outcome.commands == 1 and not stage.outcome.reloaded
    stage.one_pass()
    assert stage.one_pass()[0] == ["save"] and not stage.plan.pending
    stage.ready()
    assert stage.one_pass()[0] == ["save", "turn", "check", "install"]
    assert stage.sent == [RED, GREEN]


def test_it_turns_before_servers_change(stage: Stage) -> None:
    stage.drain()
    stage.numbers.append(3)
    assert stage.one_pass()[0] == ["save", "turn", "run", "check", "install"]
    assert stage.outcome.commands == len(stage.sent) > 1


def test_it_turns_though_the_reload_is_held(stage: Stage) -> None:
    stage.drain()
    stage.option = "check inter 5s"
    stage.uptime = 1.0
    assert stage.one_pass()[0] == ["save", "turn"]
    assert stage.rules() == ["min_interval"]


def test_it_turns_though_nothing_can_be_rendered_or_read(stage: Stage) -> None:
    stage.drain()
    stage.faults = {"render": TemplateError("no"), "groups": SourceUnavailable("AWS is away")}
    assert stage.one_pass()[0] == ["save", "turn"]
    assert stage.plan.wanted is None and stage.plan.lines() == (f"runtime: {RED}",)


def test_it_turns_though_the_node_is_frozen(stage: Stage) -> None:
    stage.kept = replace(stage.kept, frozen="a rollback")
    stage.drain()
    assert stage.one_pass()[0] == ["save", "turn"]
    assert stage.rules() == ["frozen"]


def test_a_switch_that_does_not_turn_is_a_fault_and_the_servers_still_follow(stage: Stage) -> None:
    stage.drain()
    stage.numbers.append(3)
    stage.faults["turn"] = UnexpectedReply("No such server.")
    assert stage.one_pass()[0] == ["save", "run", "check", "install"]
    assert stage.errors() == [UnexpectedReply]
    stage.faults.clear()
    assert stage.one_pass()[0] == ["save", "turn"]


def test_a_lost_turn_is_mended_by_the_next_pass_and_a_hand_on_the_socket_too(stage: Stage) -> None:
    stage.drain()
    stage.one_pass()
    stage.maint = False
    stage.load_servers(stage.files.text or "")
    assert stage.one_pass()[0] == ["save", "turn"] and stage.sent == [RED, RED]
    stage.ready()
    stage.one_pass()
    stage.maint = True
    stage.load_servers(stage.files.text or "")
    assert stage.one_pass()[0] == ["save", "turn"] and stage.sent[-1] == GREEN


def test_a_reload_while_it_leaves_comes_up_red_without_a_command(stage: Stage) -> None:
    stage.drain()
    stage.one_pass()
    stage.option = "check inter 5s"
    assert stage.one_pass()[0] == ["save", "check", "reload"]
    assert stage.maint
    assert stage.one_pass()[0] == ["save"]


def test_a_drain_is_heard_though_the_agent_s_own_memory_could_not_be_kept(stage: Stage) -> None:
    stage.faults["save"] = StoreError("no space")
    stage.numbers.append(3)
    _, agent = stage.one_pass()
    stage.drain()
    assert "turn" in stage.go_on(agent)
    del stage.faults["save"]
    stage.go_on(agent)
    assert stage.kept.leaving.keys() == {phase.OPERATOR} and len(stage.kept.members["site"]) == 3
    stage.ready()
    assert "turn" in stage.go_on(agent)
