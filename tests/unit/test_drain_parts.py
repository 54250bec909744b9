"""What is around a drain: finding the agent, and telling of the phase."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from hafleet import draining, show
from hafleet.adapters.lock import NodeLocks
from hafleet.core.dns.model import Record
from hafleet.core.model import Groups, Instance, Node, Phase
from hafleet.core.report import failed
from hafleet.errors import SourceUnavailable
from hafleet.web.metrics import Metrics
from tests.fakes.worlds import NODE, group, instance, make_settings

REPORT = replace(failed("edge", 100.0, ("timer",), ""), errors=())


def test_the_agent_is_the_process_that_has_its_lock_file_open(tmp_path: Path) -> None:
    locks = NodeLocks(tmp_path)
    assert locks.agent_pid() is None
    with locks.agent():
        assert locks.agent_pid() == os.getpid()
    assert locks.agent_pid() is None  # the pid is still in the file, but this process holds it no longer


@pytest.mark.parametrize("content", ["", "no pid", "999999999"])
def test_a_lock_file_without_a_living_pid_names_no_agent(tmp_path: Path, content: str) -> None:
    (tmp_path / "agent.lock").write_text(content)
    assert NodeLocks(tmp_path).agent_pid() is None


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_phase_is_one_of_three_gauges_and_a_broken_pass_leaves_them() -> None:
    metrics = Metrics()
    phases: tuple[Phase, ...] = ("joining", "serving", "leaving")
    for phase in phases:
        metrics.record(replace(REPORT, phase=phase, red_since=7.0 if phase == "leaving" else 0.0))
        assert [sample(metrics, "hafleet_phase", phase=each) for each in phases] == [each == phase for each in phases]
    metrics.record(REPORT)
    assert sample(metrics, "hafleet_phase", phase="leaving") == 1
    assert sample(metrics, "hafleet_health_red") == 1


def text(phase: Phase | None, leaving: tuple[str, ...] = (), red_since: float = 0.0) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(show.status(replace(REPORT, phase=phase, leaving=leaving, red_since=red_since), 100.0))
    return captured.get()


def test_status_shows_the_phase_with_its_reasons() -> None:
    assert "phase serving\n" in text("serving")
    assert "phase leaving: Auto Scaling says Standby, works on it  health red for 30s" in text(
        "leaving", ("Auto Scaling says Standby", "works on it"), 70.0
    )
    assert "phase" not in text(None)


@dataclass
class Around:
    """What of the parts the drain of a node asks: the node, its group and the records of its name."""

    records: tuple[Record, ...] | None = ()
    settings: Any = field(
        default_factory=lambda: make_settings(
            dns={"name": "lb.example.com", "zone": "example.com"}, node={"source": "imds"}
        )
    )

    @property
    def ports(self) -> Any:
        return SimpleNamespace(metadata=self, membership=self)

    @property
    def dns(self) -> Any:
        return self

    def identity(self) -> Node:
        return NODE

    def read(self, names: frozenset[str], tags: Any, ipv6: Any) -> Groups:
        assert names == {"edge"}
        mine = Instance(NODE.id, "InService", "a", None)
        return Groups({"edge": group("edge", mine, instance(1))}, 1.0)

    def dns_ports(self) -> Any:
        return self

    def tree(self, name: str) -> tuple[Record, ...]:
        assert name == "lb.example.com"
        if self.records is None:
            raise SourceUnavailable("Route 53 is away")
        return self.records


def record(set_id: str, value: str = "192.0.2.1") -> Record:
    return Record("lb.example.com", "A", set_id, 30, (value,) if value else ())


@pytest.mark.parametrize(
    ("records", "held", "note"),
    [
        ((record(NODE.id),), True, ""),  # the others are in service, and were drained before
        ((record(NODE.id), record("shard 1", ""), record("", "v=spf1 -all")), True, ""),  # none of these is a node
        ((record(NODE.id), record("i-00000000000000001")), False, ""),
        ((), False, ""),  # this node has no record that could go
        (None, False, "whether another node is in DNS is not known: Route 53 is away"),
    ],
)
def test_the_last_node_in_dns_is_held_though_others_are_in_service(
    records: tuple[Record, ...] | None, held: bool, note: str
) -> None:
    found, told = draining.guard(cast("Any", Around(records)))
    assert (found is not None) is held and told == note
    assert found is None or (found.rule, found.subject) == ("last_node", NODE.id)


def test_without_dns_only_the_group_is_asked() -> None:
    assert draining.guard(cast("Any", Around(None, make_settings()))) == (None, "")
