"""Three booted nodes under traffic by name: upgraded one by one, deployed to, rolled back, drained. In this order."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hafleet.lab.traffic import Traffic
from tests.ansible.cloud import SETTINGS, Booted, Region
from tests.ansible.conftest import Packages, lacking
from tests.ansible.rolling import Playbooks, Rolled, rebuilt, registered

pytestmark = [
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
    pytest.mark.timeout(3600),  # a whole image is made for the first test
]
TEMPLATES = "templates/partials/defaults.cfg.j2"
SECOND = {"name": "second", "bind": ":81", "default_backend": "site"}
TWO = {**SETTINGS, "frontends": [*SETTINGS["frontends"], SECOND]}
PATIENT = {"hafleet_gate_retries": 12}  # for what is known to end badly


@dataclass(frozen=True)
class Fleet:
    """Three nodes, the playbooks on them, and the packages."""

    region: Region
    playbooks: Playbooks
    old: Path
    new: Path
    bad: Path
    newest: Path

    @property
    def nodes(self) -> list[Booted]:
        """As Ansible comes to them."""
        return sorted(self.region.nodes, key=lambda node: node.id)

    def versions(self) -> list[str]:
        """What is installed on each."""
        ask = ("dpkg-query", "--show", "--showformat=${Version}", "hafleet")
        return [node.machine.run(*ask) for node in self.nodes]

    def package(self) -> Path:
        """What is installed on all of them."""
        (version,) = set(self.versions())
        return next(path for path in (self.old, self.new, self.newest) if f"_{version}_" in path.name)

    def mains(self, unit: str) -> list[str]:
        """The main process of a unit on each."""
        return [node.machine.shown(unit, "MainPID") for node in self.nodes]

    def settings(self) -> list[str]:
        """What lies on each."""
        return [(node.machine.root / "etc/hafleet/hafleet.yaml").read_text() for node in self.nodes]

    @contextmanager
    def unharmed(self) -> Iterator[Traffic]:
        """The block costs no request and no HAProxy."""
        masters = self.mains("haproxy")
        with Traffic(self.region.processes, self.region.by_name, rate=30, clients=6) as traffic:
            everybody = {f"{node.address}:80" for node in self.nodes}
            self.region.until(lambda: set(traffic.latest.targets) == everybody, "clients are on all nodes")
            yield traffic
        done = traffic.stop()
        assert (done.failed, dict(done.errors)) == (0, {})
        assert self.mains("haproxy") == masters


def misprint(tree: Path) -> None:
    """The mistake of a bad build: its file is one that HAProxy refuses. The agent itself runs on."""
    (template,) = tree.glob(f"opt/hafleet/lib/**/{TEMPLATES}")
    template.write_text(template.read_text() + "    timeout clinet 10s\n")


@pytest.fixture(scope="module")
def fleet(region: Region, packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    folder = tmp_path_factory.mktemp("rolling")
    bad = rebuilt(packages.old, "0.1.0-3", folder, misprint)
    nodes = region.scale(3)
    newest = rebuilt(packages.old, "0.1.0-4", folder)
    return Fleet(region, Playbooks(nodes, folder, packages.old), packages.old, packages.new, bad, newest)


def answers(node: Booted, port: int) -> bool:
    """It answers a request at this port."""
    connection = http.client.HTTPConnection(node.address, port, timeout=30)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def failed(played: Rolled) -> list[str]:
    """The nodes on which it failed."""
    return [node for node, counts in played.hosts.items() if counts["failed"]]


def test_a_bad_build_stops_at_the_first_node_which_goes_back(fleet: Fleet) -> None:
    agents = fleet.mains("hafleet")
    with fleet.unharmed(), registered(fleet.region) as seen:
        done = fleet.playbooks.play("rolling.yml", hafleet_package=str(fleet.bad), **PATIENT)
    assert (done.code, len(failed(done))) == (2, 1), done.said
    (first,) = failed(done)
    assert f"{first} was not upgraded to {fleet.bad.name}" in done.flat, done.said
    assert f"It has {fleet.old.name} and its settings again and serves" in done.flat
    assert "Wait until the node serves" in done.flat and "timeout clinet" in done.flat
    assert fleet.versions() == ["0.1.0-1"] * 3
    every = frozenset(node.id for node in fleet.nodes)
    assert seen == [every, every - {first}, every]
    after = fleet.mains("hafleet")
    assert [was == now for was, now in zip(agents, after, strict=True)] == [node.id != first for node in fleet.nodes]


def test_a_better_one_comes_to_all_nodes_one_after_the_other(fleet: Fleet) -> None:
    agents = fleet.mains("hafleet")
    with fleet.unharmed(), registered(fleet.region) as seen:
        done = fleet.playbooks.play("rolling.yml", hafleet_package=str(fleet.new))
    assert (done.code, failed(done)) == (0, []), done.said
    assert fleet.versions() == ["0.1.0-2"] * 3
    assert all(was != now for was, now in zip(agents, fleet.mains("hafleet"), strict=True))
    every = frozenset(node.id for node in fleet.nodes)
    assert seen[::2] == [every] * 4
    assert seen[1::2] == [every - {node.id} for node in fleet.nodes]


def test_the_second_run_changes_nothing_and_drains_nobody(fleet: Fleet) -> None:
    agents = fleet.mains("hafleet")
    with registered(fleet.region) as seen:
        done = fleet.playbooks.play("rolling.yml", hafleet_package=str(fleet.new))
    assert (done.code, done.changed) == (0, 0), done.said
    assert seen == [frozenset(node.id for node in fleet.nodes)]
    assert fleet.mains("hafleet") == agents


# --- a deployment, and the way back -----------------------------------------------------------------------------------


def test_check_mode_shows_what_a_deployment_would_change_and_changes_nothing(fleet: Fleet) -> None:
    before, agents, package = fleet.settings(), fleet.mains("hafleet"), str(fleet.package())
    done = fleet.playbooks.play("deploy.yml", "--check", "--diff", hafleet_package=package, hafleet_settings=TWO)
    assert (done.code, failed(done)) == (0, []), done.said
    shown = [line for line in done.said.splitlines() if line.startswith("+") and "name: second" in line]
    assert len(shown) == len(fleet.nodes)
    assert (fleet.settings(), fleet.mains("hafleet")) == (before, agents)


def test_settings_that_the_agent_refuses_stop_at_the_first_node(fleet: Fleet) -> None:
    before, package = fleet.settings(), str(fleet.package())
    done = fleet.playbooks.play("deploy.yml", hafleet_package=package, hafleet_settings={**SETTINGS, "backends": []})
    assert (done.code, len(failed(done)), len(done.hosts)) == (2, 1, 1), done.said
    assert "backends" in done.flat
    assert fleet.settings() == before


def test_a_deployment_comes_to_all_nodes_under_traffic_and_a_rollback_undoes_it(fleet: Fleet) -> None:
    before, package = fleet.settings(), fleet.package()
    over = {"hafleet_package": str(fleet.newest), "hafleet_settings": TWO}
    with fleet.unharmed(), registered(fleet.region) as seen:
        first = fleet.playbooks.play("deploy.yml", **over)
        assert (first.code, failed(first)) == (0, []), first.said
        assert fleet.package() == fleet.newest
        assert all(answers(node, 81) for node in fleet.nodes)  # the gate has waited for that
        second = fleet.playbooks.play("deploy.yml", **over)
        assert (second.code, second.changed) == (0, 0), second.said
        back = fleet.playbooks.play("rollback.yml")
        assert (back.code, failed(back)) == (0, []), back.said
        assert not any(answers(node, 81) for node in fleet.nodes)
    assert (fleet.package(), fleet.settings()) == (package, before)
    assert len(seen) == 1  # nobody was drained


def test_a_second_rollback_goes_no_further_and_says_so(fleet: Fleet) -> None:
    before, package = fleet.settings(), fleet.package()
    done = fleet.playbooks.play("rollback.yml")
    assert (done.code, done.changed) == (0, 0), done.said
    for node in fleet.nodes:
        assert f"{node.id} has {package.name} and the settings of then already: nothing was done" in done.flat
    assert (fleet.package(), fleet.settings()) == (package, before)


def test_a_rollback_passes_by_who_has_no_way_back_and_leaves_drained_who_is_drained(fleet: Fleet) -> None:
    package, (booted, drained, _third) = fleet.package(), fleet.nodes
    done = fleet.playbooks.play("deploy.yml", hafleet_package=str(fleet.newest))
    assert (done.code, failed(done)) == (0, []), done.said
    booted.machine.run("rm", "/var/cache/hafleet/previous.deb")  # as after a boot from an image with this package
    drained.command("hafleet", "drain", "--wait")
    done = fleet.playbooks.play("rollback.yml")
    assert (done.code, failed(done)) == (0, []), done.said
    assert f"{booted.id} has {fleet.newest.name} and nothing to go back to" in done.flat
    old, new = (path.name.split("_")[1] for path in (package, fleet.newest))
    assert fleet.versions() == [new, old, old]
    assert "phase leaving" in drained.status()
    drained.command("hafleet", "ready")
    fleet.region.until(lambda: "phase serving" in drained.status(), "it serves again")
    done = fleet.playbooks.play("node.yml", hafleet_package=str(package))
    assert set(fleet.versions()) == {old}, done.said


# --- nodes by name ----------------------------------------------------------------------------------------------------


def test_a_named_node_is_drained_and_brought_back(fleet: Fleet) -> None:
    node = fleet.nodes[1]
    every = frozenset(node.id for node in fleet.nodes)
    with fleet.unharmed(), registered(fleet.region) as seen:
        for want, left in (("drain", every - {node.id}), ("ready", every)):
            over = {"hafleet_hosts": node.id, "hafleet_want": want}
            first = fleet.playbooks.play("drain.yml", **over)
            assert (first.code, first.changed) == (0, 1), first.said
            assert {record.node for record in fleet.region.records()} == left
            second = fleet.playbooks.play("drain.yml", **over)
            assert (second.code, second.changed) == (0, 0), second.said
    assert seen == [every, every - {node.id}, every]


def test_the_gate_believes_no_status_of_an_agent_that_stands_still(fleet: Fleet) -> None:
    node = fleet.nodes[0]
    agent = node.machine.shown("hafleet", "MainPID")
    over = {"hafleet_hosts": node.id, "hafleet_want": "ready", "hafleet_gate_retries": 2}
    node.machine.run("sh", "-c", f"kill -STOP {agent}")
    try:
        done = fleet.playbooks.play("drain.yml", **over)
    finally:
        node.machine.run("sh", "-c", f"kill -CONT {agent}")
    assert "phase serving" in node.status()  # that is what the status file said all the time
    assert done.code == 2 and "the agent has made no pass" in done.flat, done.said


def test_the_traffic_would_notice_a_node_that_dies_undrained(fleet: Fleet) -> None:
    with Traffic(fleet.region.processes, fleet.region.by_name, rate=30, clients=6) as traffic:
        fleet.nodes[0].machine.run("sh", "-c", "kill -KILL $(ps -C haproxy -o pid=)")
        fleet.region.until(lambda: traffic.latest.failed > 0, "a request fails")
