"""Rows 18, 19 and 57: who this node is, while IMDS fails, speaks the old version only, or the disk is another node's."""

import dataclasses
import urllib.request
from collections.abc import Iterator

import pytest

from hafleet.core.model import Memory
from hafleet.lab.imds import Identity, Imds
from hafleet.ports import Store
from tests.faults.stage import NODE, Stage, held

pytestmark = pytest.mark.xdist_group("faults-identity")


@pytest.fixture
def imds(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Imds]:
    """The metadata service of this node, which its settings name."""
    identity = Identity("i-0000000000000bbb0", stage.address, "eu-west-1a", "eu-west-1", "")
    made = Imds(identity, stage.network.address(), 1338)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", made.url)
    stage.sections["node"] = {"source": "imds"}
    try:
        yield made
    finally:
        made.break_("")
        made.close()


# --- row 18 -----------------------------------------------------------------------------------------------------------


def test_f18_a_start_without_imds_goes_on_with_the_identity_on_disk(stage: Stage, imds: Imds) -> None:
    group = stage.group(2)
    stage.boot({"asg": group})
    for size, fault in enumerate(["refuse", "unauthorized", "error"], 3):
        imds.break_(fault)
        stage.birth()
        stage.scale(group, size)
        report = stage.turn()
        assert report.node == "i-0000000000000bbb0"
        assert "IMDS" in report.errors[0]
        assert stage.rotation() == stage.members(group)
    assert stage.reloads == 0


def test_f18_a_hanging_imds_ends_with_its_timeout(stage: Stage, imds: Imds) -> None:
    stage.boot({"asg": stage.group(1)})
    before = stage.picture()
    imds.break_("hang")
    stage.birth()
    report = stage.turn()
    assert "TimeoutError" in report.errors[0]
    assert stage.picture() == before


def test_f18_a_node_that_boots_without_imds_and_aws_serves_its_last_known_good(stage: Stage, imds: Imds) -> None:
    group = stage.group(2)
    stage.boot({"asg": group})
    before = stage.picture()
    stage.stop_haproxy()
    imds.break_("refuse")
    with stage.fault("unreachable"):
        stage.start_haproxy()
        stage.birth()
        reports = stage.turns(3)
        assert stage.healthy()
    assert not any(report.wrote or report.reloaded for report in reports)
    after = stage.picture()
    assert (after.text, after.rotation) == (before.text, before.rotation)


def test_f18_control_without_the_identity_on_disk_nothing_is_followed(stage: Stage, imds: Imds) -> None:
    group = stage.group(2)
    stage.boot({"asg": group})
    before = stage.picture()
    (stage.state / "memory.json").unlink()
    imds.break_("refuse")
    stage.birth()
    stage.scale(group, 3)
    report = stage.turn()
    assert report.node == ""
    assert stage.picture() == before


# --- row 19 -----------------------------------------------------------------------------------------------------------


def test_f19_the_first_version_of_imds_is_refused(stage: Stage, imds: Imds) -> None:
    imds.break_("v1")
    stage.feed({"asg": stage.group(1)})
    report = stage.turn()
    assert any("version 1 is not spoken" in error for error in report.errors)
    assert not stage.config.exists()


def test_f19_control_version_1_would_have_answered(imds: Imds) -> None:
    imds.break_("v1")
    url = f"{imds.url}latest/meta-data/instance-id"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30) as answer:
        assert answer.read() == b"i-0000000000000bbb0"


# --- row 57 -----------------------------------------------------------------------------------------------------------


def test_f57_the_state_of_a_cloned_image_is_put_aside(stage: Stage) -> None:
    group = stage.group(3)
    stage.boot({"asg": group})
    memory = (stage.state / "memory.json").read_bytes()
    _become_another(stage)
    report = stage.turn()
    assert any(f"is of node {NODE}" in error for error in report.errors)
    (aside,) = stage.state.glob("memory.json.bad-*")
    assert aside.read_bytes() == memory
    assert stage.turn().errors == ()
    assert stage.memory.node is not None
    assert stage.memory.node.id == "i-0000000000000ccc0"
    assert stage.rotation() == stage.members(group)


def test_f57_the_memory_that_is_put_aside_takes_no_server_with_it(stage: Stage) -> None:
    stage.boot({"asg": stage.group(3)})
    _become_another(stage)
    before = stage.rotation()
    with stage.fault("no_instances", service="autoscaling"):
        reports = stage.turns(6)
    assert stage.rotation() == before  # the installed file tells what was served
    assert "empty" in held(reports[-1])


def test_f57_control_a_store_that_does_not_look_takes_the_other_nodes_drains_over(stage: Stage) -> None:
    stage.boot({"asg": stage.group(3)})
    _become_another(stage)
    stage.ports = lambda ports: dataclasses.replace(ports, store=_Careless(ports.store))
    stage.birth()
    assert not any("is of node" in error for error in stage.turn().errors)


@dataclasses.dataclass
class _Careless:
    """Does not compare the node."""

    real: Store

    def load(self, node_id: str | None) -> Memory:
        return self.real.load(None)

    def save(self, memory: Memory) -> None:
        self.real.save(memory)


def _become_another(stage: Stage) -> None:
    """An instance that was launched from an image of this node's disk."""
    stage.sections["node"]["static"]["id"] = "i-0000000000000ccc0"
    stage.write()
    stage.birth()
