"""The order of one pass, on strict doubles behind the ports: each does only what its contract says, and notes that it was asked."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

import pytest

from hafleet.core import cfgtext
from hafleet.core.command import Command
from hafleet.core.model import (
    Desired,
    Group,
    Groups,
    Installed,
    Instance,
    Memory,
    Node,
    Rendered,
    RunningServer,
    Silent,
    Unknown,
    Version,
    Worker,
)
from hafleet.core.settings import Settings
from hafleet.errors import (
    AwsThrottled,
    ConfigRejected,
    HafleetError,
    ProxyUnavailable,
    ReloadFailed,
    StateCorrupt,
    StoreError,
    TemplateError,
    UnexpectedReply,
)
from hafleet.reconcile import Ports, Reconciler

NODE = Node("i-0123456789abcdef0", IPv4Address("10.0.0.1"), "a", "eu-west-1")
SETTINGS = Settings.model_validate(
    {
        "fleet": "edge",
        "frontends": [{"name": "web", "bind": ":80", "default_backend": "site"}],
        "backends": [{"name": "site", "sources": [{"asg": "blue"}], "drain": 30}],
    }
)


@dataclass
class Stage:
    """All ports in one, with a journal of what was asked of them."""

    numbers: list[int] = field(default_factory=lambda: [1, 2])
    option: str = "check"
    files: Installed = field(default_factory=lambda: Installed(None, {}))
    running: Worker | None = None
    kept: Memory = field(default_factory=Memory)
    journal: list[str] = field(default_factory=list)
    faults: dict[str, HafleetError] = field(default_factory=dict)
    at: float = 1000.0
    uptime: float = 500.0
    master: bool = False  # the master answers where the worker does not
    hangs: bool = False

    def _do(self, what: str) -> None:
        name = what.split(" ", maxsplit=1)[0]
        if name in self.faults:
            raise self.faults[name]
        if name not in {"identity", "groups", "installed", "observe", "load", "render", "version"}:
            self.journal.append(what)

    # clock
    def wall(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def wait(self, event: threading.Event, seconds: float) -> bool:
        raise AssertionError("a pass does not wait")

    # membership, metadata, renderer, store
    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        assert names == {"blue"} and not tags and not ipv6
        self._do("groups")
        members = tuple(
            Instance(f"i-{n:017x}", "InService", "a", IPv4Address(f"10.0.1.{n}")) for n in sorted(self.numbers)
        )
        return Groups({"blue": Group("blue", len(members), members)}, self.at)

    def identity(self) -> Node:
        self._do("identity")
        return NODE

    def render(self, desired: Desired, version: Version) -> Rendered:
        self._do("render")
        lines = [
            f"  server {m.name} {m.address}:{m.port} id {int(m.name[-4:], 16)} weight {m.rendered_weight} {self.option}"
            for m in desired.members["site"]
        ]
        body = "\n".join(["backend site", f"  # hafleet:options {self.option}", *lines])
        return Rendered(cfgtext.finish(body, source="test", author="test"), {})

    def load(self, node_id: str | None) -> Memory:
        self._do("load")
        return self.kept

    def save(self, memory: Memory) -> None:
        self._do("save")
        self.kept = memory

    # proxy
    def installed(self) -> Installed:
        self._do("installed")
        return self.files

    def version(self) -> Version:
        self._do("version")
        return (3, 0, 11)

    def observe(self, map_names: Sequence[str]) -> Worker:
        self._do("observe")
        if self.running is None:
            raise ProxyUnavailable("no socket", where="/run/x.sock")
        return replace(self.running, uptime=self.uptime)

    def silent(self, reason: str) -> Silent:
        if self.running is None or not self.master:
            raise ProxyUnavailable("no master", where="/run/m.sock")
        return Silent(reason, replace(self.running, uptime=self.uptime, stamp="", servers={}), self.hangs)

    def check(self, candidate: Rendered) -> None:
        self._do("check")

    def run(self, worker_pid: int, commands: Sequence[Command]) -> None:
        assert self.running and worker_pid == self.running.pid
        self._do("run")
        assert self.files.text and not self.files.maps
        stamp = self.running.stamp
        self.load_servers(self.wanted.text if self.wanted else self.files.text)
        self.running = replace(self.running, stamp=stamp)  # commands do not load a structure

    wanted: Rendered | None = None

    def install(self, candidate: Rendered) -> None:
        self._do("install")
        self.files = Installed(candidate.text, dict(candidate.maps))

    def reload(self, candidate: Rendered, worker: Worker) -> None:
        self._do("reload")
        self.files = Installed(candidate.text, dict(candidate.maps))
        self.cold_start()

    def cold_start(self) -> None:
        """HAProxy loads what is installed."""
        assert self.files.text
        self.load_servers(self.files.text)

    def load_servers(self, text: str) -> None:
        parsed = cfgtext.parse(text)
        servers = {
            key: RunningServer(key[0], key[1], s.id or 0, s.address, s.port, False, False, s.weight, True, True, 1)
            for key, s in parsed.servers.items()
        }
        pid = self.running.pid if self.running and self.running.stamp == parsed.structure else 7
        self.running = Worker((3, 0, 11), 1, pid, 900.0, self.uptime, parsed.structure, servers, {}, 0)

    def one_pass(self, *, force: bool = False) -> tuple[list[str], "Reconciler"]:
        """One pass by a new process; what it did, in order."""
        reconciler = Reconciler(SETTINGS, Ports(self, self, self, self, self, self))
        return self.go_on(reconciler, force=force), reconciler

    def go_on(self, reconciler: Reconciler, *, force: bool = False) -> list[str]:
        """One more pass of the same process."""
        self.journal.clear()
        self.at += 10
        plan = reconciler.plan(reconciler.observe(), force=force)
        self.plan, self.wanted = plan, plan.wanted
        self.outcome = reconciler.apply(plan)
        return list(self.journal)

    def errors(self) -> list[type[HafleetError]]:
        return [type(e) for e in (*self.plan.errors, *self.outcome.errors)]

    def rules(self) -> list[str]:
        return [held.rule for held in self.plan.held]


@pytest.fixture
def stage() -> Stage:
    """A node that converged."""
    made = Stage()
    assert made.one_pass()[0] == [
        "save",
        "check",
        "install",
    ]  # HAProxy does not run yet: it will start on the right file
    made.cold_start()
    assert made.one_pass()[0] == ["save"]
    return made


def test_a_new_member_costs_commands_then_a_checked_file_and_no_reload(stage: Stage) -> None:
    stage.numbers.append(3)
    assert stage.one_pass()[0] == ["save", "run", "check", "install"]
    assert stage.outcome.commands and stage.outcome.wrote and not stage.outcome.reloaded
    assert stage.one_pass()[0] == ["save"]


def test_a_structural_change_is_checked_then_reloaded(stage: Stage) -> None:
    stage.option = "check inter 5s"
    assert stage.one_pass()[0] == ["save", "check", "reload"]
    assert stage.outcome.reloaded == ("the structure changed",)
    assert stage.one_pass()[0] == ["save"]


def test_a_held_reload_does_not_hold_the_commands_but_the_file(stage: Stage) -> None:
    stage.option = "check inter 5s"
    stage.numbers.append(3)
    stage.uptime = 1.0
    before = stage.files
    assert stage.one_pass()[0] == ["save", "check", "run"]
    assert stage.rules() == ["min_interval"] and stage.files == before
    stage.uptime = 60.0
    assert "reload" in stage.one_pass()[0]
    stage.option = "check inter 6s"
    stage.uptime = 1.0
    assert "reload" in stage.one_pass(force=True)[0]  # the operator's word


def test_a_refused_command_is_met_by_a_reload(stage: Stage) -> None:
    stage.numbers.append(3)
    stage.faults["run"] = UnexpectedReply("add server: 'out of memory'")
    assert stage.one_pass()[0] == ["save", "check", "reload"]
    assert stage.errors() == []  # mended at once: the reason of the reload tells it
    assert stage.outcome.reloaded == ("runtime command refused: add server: 'out of memory'",)


def test_a_refused_command_within_the_gap_waits_for_its_reload(stage: Stage) -> None:
    stage.numbers.append(3)
    stage.uptime = 2.0
    stage.faults["run"] = UnexpectedReply("no")
    before = stage.files
    assert stage.one_pass()[0] == ["save"]
    assert stage.files == before and not stage.outcome.reloaded and stage.errors() == [UnexpectedReply]
    stage.uptime = 60.0
    assert stage.one_pass()[0] == ["save", "check", "reload"]


def test_a_rejected_candidate_is_never_installed(stage: Stage) -> None:
    before = stage.files
    stage.option = "chek"
    stage.faults["check"] = ConfigRejected("unknown keyword", where="haproxy.cfg.candidate:3")
    assert stage.one_pass()[0] == ["save"]
    assert stage.errors() == [ConfigRejected] and stage.files == before


@pytest.mark.parametrize("uptime", [500.0, 1.0], ids=["due", "held"])
def test_no_command_of_a_rejected_structure_is_sent(stage: Stage, uptime: float) -> None:
    stage.numbers.append(3)
    stage.option = "chek"
    stage.uptime = uptime
    stage.faults["check"] = ConfigRejected("cut off")
    assert stage.one_pass()[0] == ["save"]
    assert stage.errors() == [ConfigRejected]


def test_a_failed_reload_is_counted_then_held_then_tried_again_and_forgotten(stage: Stage) -> None:
    stage.option = "check inter 5s"
    stage.faults["reload"] = ReloadFailed("no new worker")
    assert stage.one_pass()[0] == ["save", "check", "save"]
    assert stage.kept.reload_failures == 1 and stage.errors() == [ReloadFailed]
    stage.at -= 9
    assert stage.one_pass()[0] == ["save"] and stage.rules() == ["reload_failing"]
    stage.at += 60
    del stage.faults["reload"]
    assert stage.one_pass()[0] == ["save", "check", "reload", "save"]
    assert stage.kept.reload_failures == 0


def test_an_unreadable_aws_changes_nothing(stage: Stage) -> None:
    stage.faults["groups"] = AwsThrottled("slow down", where="autoscaling")
    assert stage.one_pass()[0] == ["save"]
    assert stage.rules() == ["unknown"] and not stage.plan.pending


def test_a_silent_imds_uses_the_remembered_identity(stage: Stage) -> None:
    stage.faults["identity"] = AwsThrottled("no answer")
    stage.numbers.append(3)
    assert stage.one_pass()[0] == ["save", "run", "check", "install"]


def test_a_node_that_was_never_known_wants_nothing() -> None:
    stage = Stage(faults={"identity": AwsThrottled("no answer")})
    assert stage.one_pass()[0] == ["save"]
    assert stage.plan.wanted is None and not stage.plan.pending


def test_a_broken_template_changes_nothing(stage: Stage) -> None:
    stage.numbers.append(3)
    stage.faults["render"] = TemplateError("no such filter", where="haproxy.cfg.j2:3")
    assert stage.one_pass()[0] == ["save"]
    assert stage.errors() == [TemplateError] and stage.plan.wanted is None


def test_unreadable_files_change_nothing(stage: Stage) -> None:
    stage.numbers.append(3)
    stage.faults["installed"] = StoreError("permission denied")
    assert stage.one_pass()[0] == ["save"]


def test_a_hanging_haproxy_still_gets_its_file(stage: Stage) -> None:
    stage.numbers.append(3)
    stage.faults["observe"] = ProxyUnavailable("no answer in 2 s")
    assert stage.one_pass()[0] == ["save", "check", "install"]


def test_a_worker_that_hangs_for_three_passes_is_replaced_once(stage: Stage) -> None:
    stage.master = stage.hangs = True
    stage.faults["observe"] = ProxyUnavailable("no answer in 2 s")
    done, reconciler = stage.one_pass()
    assert done == ["save"]
    assert stage.go_on(reconciler) == ["save"]
    assert stage.go_on(reconciler) == ["save", "check", "reload"]
    assert stage.outcome.reloaded == ("the worker hangs (3 passes)",)
    del stage.faults["observe"]
    assert stage.go_on(reconciler) == ["save"]
    stage.faults["observe"] = ProxyUnavailable("no answer in 2 s")
    assert stage.go_on(reconciler) == ["save"]  # counted anew


def test_a_worker_without_its_socket_gets_changes_by_reload_and_no_other_reload(stage: Stage) -> None:
    stage.master = True
    stage.faults["observe"] = ProxyUnavailable("no such file")
    done, reconciler = stage.one_pass()
    for _ in range(4):
        assert stage.go_on(reconciler) == ["save"]
    stage.numbers.append(3)
    stage.uptime = 1.0
    assert stage.go_on(reconciler) == ["save"]
    assert stage.rules() == ["min_interval"]
    stage.uptime = 60.0
    assert stage.go_on(reconciler) == ["save", "check", "reload"]
    assert stage.go_on(reconciler) == ["save"]
    assert done == ["save"]


def test_a_full_disk_keeps_the_memory_in_the_process_and_goes_on(stage: Stage) -> None:
    stage.numbers.append(3)
    stage.faults["save"] = StoreError("no space left on device")
    done, reconciler = stage.one_pass()
    assert done == ["run", "check", "install"] and stage.errors() == [StoreError]
    assert len(stage.kept.members["site"]) == 2
    stage.numbers.remove(3)
    assert stage.go_on(reconciler) == []  # the member is missed, but not yet confirmed: the process remembers it
    assert stage.rules() == ["confirm_reads"]
    del stage.faults["save"]
    assert stage.go_on(reconciler)[0] == "save"
    assert len(stage.kept.members["site"]) == 3


def test_a_lost_memory_is_rebuilt_from_the_installed_file(stage: Stage) -> None:
    stage.faults["load"] = StateCorrupt("fails its checksum")
    stage.faults["groups"] = AwsThrottled("slow down")
    before = stage.files
    assert stage.one_pass()[0] == ["save"]
    assert stage.files == before and len(stage.kept.members["site"]) == 2
    del stage.faults["load"], stage.faults["groups"]
    stage.kept = Memory()
    stage.numbers = []
    assert stage.one_pass()[0] == ["save"]  # an empty answer against a lost memory empties nothing
    assert len(stage.kept.members["site"]) == 2


def test_a_freeze_holds_everything_until_it_ends(stage: Stage) -> None:
    old = stage.files
    assert old.text
    stage.option = "check inter 5s"
    assert stage.one_pass()[0] == ["save", "check", "reload"]
    reconciler = Reconciler(SETTINGS, Ports(stage, stage, stage, stage, stage, stage))
    outcome = reconciler.put_back(Rendered(old.text, {}), "rollback")
    assert not outcome.errors and outcome.reloaded and stage.files.text == old.text
    stage.numbers.append(3)
    assert stage.one_pass()[0] == ["save"] and stage.rules() == ["frozen"]
    assert stage.one_pass(force=True)[0] != ["save"]
    stage.kept = replace(stage.kept, frozen="")
    stage.one_pass()
    assert "frozen" not in stage.rules()


def test_nothing_is_put_back_where_the_files_cannot_be_read(stage: Stage) -> None:
    stage.faults["installed"] = StoreError("permission denied")
    reconciler = Reconciler(SETTINGS, Ports(stage, stage, stage, stage, stage, stage))
    assert reconciler.put_back(Rendered("x", {}), "rollback").errors
    assert not stage.kept.frozen


def test_an_unknown_part_is_reported_with_its_name(stage: Stage) -> None:
    stage.faults["groups"] = AwsThrottled("slow down", where="autoscaling:DescribeAutoScalingGroups")
    stage.one_pass()
    assert [str(e) for e in stage.plan.errors] == [
        "groups: autoscaling:DescribeAutoScalingGroups: slow down; the last good state keeps serving"
    ]
    assert isinstance(stage.plan.world.groups, Unknown)
