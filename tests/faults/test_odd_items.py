"""Rows 13, 15, 41, 42, 44 and 64: single items of an answer that are odd, hostile, double, or speak IPv6."""

import dataclasses
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest

from hafleet.adapters.templates import JinjaRenderer
from hafleet.core import cfgtext
from hafleet.core.cfgtext import parse
from hafleet.core.model import Groups
from hafleet.errors import SourceUnavailable, TemplateError
from hafleet.lab.haproxies import Haproxy
from hafleet.ports import Membership
from tests.faults.doubles import (
    Change,
    Edit,
    Tampered,
    field_gone,
    field_new,
    field_to,
    instead,
    local,
    of_instance,
    of_instances,
    tampering,
)
from tests.faults.stage import Stage, held
from tests.renderings import make_desired, make_settings, member

pytestmark = pytest.mark.xdist_group("faults-odd_items")


@pytest.fixture
def tampered(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tampered]:
    """AWS as this node's calls find it: its answers can be changed."""
    with tampering(stage.network.address(), stage.cloud.url) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
        yield found


# --- row 13 -----------------------------------------------------------------------------------------------------------


def test_f13_an_instance_without_an_address_waits_and_harms_nobody(stage: Stage, tampered: Tampered) -> None:
    group = stage.group(2)
    stage.boot({"asg": group})
    stage.scale(group, 4)
    late, fine = sorted(set(stage.members(group)) - set(stage.rotation()))
    tampered.edit = of_instance(late, field_gone("privateIpAddress"))
    report = stage.turn()
    assert tampered.edited
    assert held(report) == ["quarantine"]
    assert fine in stage.rotation() and late not in stage.rotation()
    tampered.edit = lambda _operation, body: body
    stage.settle()
    assert late in stage.rotation()


def test_f13_a_pending_instance_is_not_rendered(stage: Stage) -> None:
    group = stage.group(2)
    stage.boot({"asg": group})
    stage.cloud.control("POST", "physics", {"groups": {group: {"boot": 600.0}}})
    stage.cloud.scale(group, 3)
    assert len(stage.members(group, "Pending")) == 1
    before = stage.picture()
    report = stage.turn()
    assert (held(report), report.errors) == ([], ())
    assert stage.picture() == before


# --- row 15 -----------------------------------------------------------------------------------------------------------

ODD: dict[str, Change] = {
    "blank id": field_to("InstanceId", ""),
    "no id": field_gone("InstanceId"),
    "an id that is none": field_to("InstanceId", "i-xyz"),
    "blank state": field_to("LifecycleState", ""),
    "no state": field_gone("LifecycleState"),
    "unknown state": field_to("LifecycleState", "InSurvice"),
    "blank zone": field_to("AvailabilityZone", ""),
    "huge capacity": field_new("WeightedCapacity", "99999"),
}


def test_f15_an_odd_item_is_left_as_it_is_and_the_rest_is_applied(stage: Stage, tampered: Tampered) -> None:
    group = stage.group(3)
    stage.boot({"asg": group})
    victim = stage.rotation()[0]
    for size, (odd, change) in enumerate(ODD.items(), 4):
        edited = tampered.edited
        tampered.edit = of_instance(victim, change)
        stage.scale(group, size)
        report = stage.turn()
        assert tampered.edited > edited, odd
        assert stage.rotation() == stage.members(group), (
            odd
        )  # the rest is applied in the same pass, and the odd one stays
        assert not any("internal error" in error for error in report.errors), odd
        tampered.edit = lambda _operation, body: body
        stage.turn()
    assert stage.reloads == 0


def test_f15_control_a_reader_that_refuses_the_whole_answer_does_not_follow(stage: Stage, tampered: Tampered) -> None:
    group = stage.group(3)
    stage.boot({"asg": group})
    stage.ports = instead(_Strict)
    stage.birth()
    tampered.edit = of_instance(stage.rotation()[0], ODD["blank state"])
    stage.scale(group, 4)
    stage.turn()
    assert len(stage.rotation()) == 3


@dataclasses.dataclass
class _Strict:
    """Refuses an answer because of one odd item."""

    real: Membership

    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        groups = self.real.read(names, tags, ipv6)
        if any(not item.state for group in groups.by_name.values() for item in group.instances):
            raise SourceUnavailable("an item is odd")
        return groups


# --- row 41: a few; the big fuzz is elsewhere --------------------------------------------------------------------------

INJECTION = "x\n  stats socket ipv4@127.0.0.1:9 level admin\n"
HOSTILE = [INJECTION, "x\r\ny", "x\x85y", "x#y", "x\"y'z", "$HOME", "x\\x0ay", "x" * 300, ".if true", "x y", "\u2028x"]


@pytest.mark.parametrize("field", ["InstanceId", "AvailabilityZone", "LifecycleState"])
def test_f41_hostile_text_in_an_answer_changes_no_directive(stage: Stage, tampered: Tampered, field: str) -> None:
    group = stage.group(1)
    stage.feed({"asg": group})
    stage.turn()
    before = parse(stage.config.read_text())
    ((_, victim),) = before.servers
    for size, text in enumerate(HOSTILE, 2):
        edited = tampered.edited
        tampered.edit = of_instance(victim, field_to(field, text))
        stage.scale(group, size)
        stage.turn()
        assert tampered.edited > edited
        written = stage.config.read_text()
        after = parse(written)
        assert len(after.servers) == size, text  # the good ones come all the same
        assert after.structure == before.structure, text
        assert {server.options for server in after.servers.values()} == {
            server.options for server in before.servers.values()
        }
        assert "stats socket ipv4" not in written


def test_f41_a_name_that_got_past_the_reader_stops_at_the_renderer(one_haproxy: Haproxy) -> None:
    hostile = make_desired({"site": [member("i-0aaaaaaaa", zone=INJECTION), member(INJECTION)]})
    with pytest.raises(TemplateError):
        JinjaRenderer(make_settings(), source="x", digest="0").render(hostile, one_haproxy.version)


def test_f41_control_a_template_engine_alone_lets_the_same_name_open_an_admin_socket(
    one_haproxy: Haproxy, tmp_path: Path
) -> None:
    plain = "backend site\n  server {{ name }} 127.0.0.1:80\n\n"
    text = "defaults\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n" + jinja2.Environment(
        autoescape=True
    ).from_string(plain).render(
        name="x 127.0.0.1:9\nglobal\n  stats socket ipv4@127.0.0.1:9 level admin\nbackend b\n  server y"
    )
    path = tmp_path / "naive.cfg"
    path.write_text(text)
    assert "\n  stats socket ipv4@127.0.0.1:9 level admin\n" in text
    done = subprocess.run([one_haproxy.binary, "-c", "-dW", "-f", path], capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr  # HAProxy has nothing against it


# --- row 42 -----------------------------------------------------------------------------------------------------------


def test_f42_a_host_name_where_an_address_belongs_is_no_address(stage: Stage, tampered: Tampered) -> None:
    group = stage.group(2)
    stage.boot({"asg": group})
    stage.scale(group, 3)
    victim = (set(stage.members(group)) - set(stage.rotation())).pop()
    tampered.edit = of_instance(victim, field_to("privateIpAddress", "db.example.invalid"))
    report = stage.turn()
    assert tampered.edited
    assert held(report) == ["quarantine"]
    assert "invalid" not in stage.config.read_text()
    assert victim not in stage.rotation()


def test_f42_control_a_host_name_in_the_file_would_block_every_reload(one_haproxy: Haproxy, stage: Stage) -> None:
    stage.boot({"asg": stage.group(1)})
    name = stage.folder / "named.cfg"
    (server,) = parse(stage.config.read_text()).servers.values()
    name.write_text(stage.config.read_text().replace(f" {server.address}:", " db.example.invalid:"))
    done = subprocess.run([one_haproxy.binary, "-c", "-f", name], capture_output=True, check=False, timeout=120)
    assert done.returncode == 1
    assert b"could not resolve" in done.stderr


# --- row 44 -----------------------------------------------------------------------------------------------------------


def test_f44_an_instance_of_two_sources_is_one_server(stage: Stage) -> None:
    group = stage.group(2)
    tag = {"Key": "app", "Value": group, "PropagateAtLaunch": False}
    stage.cloud.autoscaling.create_or_update_tags(
        Tags=[{**tag, "ResourceId": group, "ResourceType": "auto-scaling-group"}]  # type: ignore[typeddict-item]
    )
    stage.boot({"asg": group}, {"asg_tag": {"app": group}})
    assert [row.name for row in stage.rows()] == stage.members(group)


def test_f44_an_item_that_comes_twice_is_one_server(stage: Stage, tampered: Tampered) -> None:
    group = stage.group(2)
    stage.boot({"asg": group})
    before = stage.picture()
    tampered.edit = _every_item_twice
    assert stage.turn().errors == ()
    assert tampered.edited
    assert stage.picture() == before


def _every_item_twice(operation: str, body: str) -> str:
    start, end = body.find("<Instances>"), body.find("</Instances>")
    if operation != "DescribeAutoScalingGroups" or start < 0:
        return body
    inside = body[start + len("<Instances>") : end]
    return body[:start] + f"<Instances>{inside}{inside}" + body[end:]


def test_f44_control_haproxy_refuses_a_name_that_comes_twice(stage: Stage, one_haproxy: Haproxy) -> None:
    stage.boot({"asg": stage.group(1)})
    line = next(line for line in stage.config.read_text().split("\n") if line.strip().startswith("server i-"))
    twice = stage.folder / "twice.cfg"
    twice.write_text(stage.config.read_text().replace(line, f"{line}\n{line}"))
    assert subprocess.run([one_haproxy.binary, "-c", "-f", twice], capture_output=True, check=False).returncode == 1


def test_f44_ids_are_the_same_on_every_node_whatever_the_order(one_haproxy: Haproxy) -> None:
    servers = [member(f"i-0000000{n}", f"10.0.1.{n}") for n in range(1, 9)]
    settings = make_settings()
    found = []
    for order in (servers, servers[::-1], servers[3:6]):
        text = JinjaRenderer(settings, source="x", digest="0").render(make_desired({"site": order}), (3, 0, 0)).text
        found.append({key: line.id for key, line in cfgtext.parse(text).servers.items()})
    assert found[0] == found[1]
    assert found[2].items() <= found[0].items()
    assert len(set(found[0].values())) == 8


# --- row 64 -----------------------------------------------------------------------------------------------------------


def test_f64_an_ipv6_backend_is_written_with_brackets_and_runs(stage: Stage, tampered: Tampered) -> None:
    group = stage.group(1)
    stage.site["family"] = "ipv6"
    stage.site["check"] = {"interval": "500ms", "timeout": "3s"}
    tampered.edit = _with_ipv6()
    stage.feed({"asg": group})
    stage.turn()
    stage.start_haproxy()
    assert " [fd00::1]:" in stage.config.read_text()
    stage.scale(group, 2)
    report = stage.turn()
    assert report.commands > 0
    assert report.errors == ()
    assert stage.turn().commands == 0  # the address that HAProxy prints is taken for the same
    assert sorted(line.address for line in parse(stage.config.read_text()).servers.values()) == ["fd00::1", "fd00::2"]
    assert stage.reloads == 0


def _with_ipv6() -> Edit:
    """Gives every instance in EC2's answers an IPv6 address, the first seen fd00::1."""
    known: list[str] = []

    def change(name: str, item: ET.Element) -> None:
        known.extend([name] if name not in known else [])
        for listed in [each for each in item.iter() if local(each) == "ipv6AddressesSet"]:
            space = listed.tag.removesuffix("ipv6AddressesSet")
            six = ET.SubElement(ET.SubElement(listed, f"{space}item"), f"{space}ipv6Address")
            six.text = f"fd00::{known.index(name) + 1}"

    return of_instances(change)
