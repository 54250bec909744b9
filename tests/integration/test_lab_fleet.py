"""The lab as a whole, on the system's HAProxy: it follows EC2, cleans up after itself, and its demo tells the truth."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from hafleet.lab import remote
from hafleet.lab.cloud import Machine
from hafleet.lab.demo import run_demo
from hafleet.lab.fleet import Lab
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.network import LOCK_PORT
from hafleet.lab.node import HEALTH_PORT, Node
from hafleet.lab.plan import DNS_NAME, EDGE, ZONE
from hafleet.lab.processes import wait_until
from hafleet.lab.registered import Watch, ask
from hafleet.lab.servers import tell
from hafleet.lab.stage import Chapter, Stage, StoryError
from hafleet.lab.story_nodes import OUT
from hafleet.lab.traffic import Traffic

if TYPE_CHECKING:
    from mypy_boto3_route53.type_defs import ChangeTypeDef, ResourceRecordSetTypeDef

pytestmark = pytest.mark.xdist_group("lab fleet")  # its tests share one lab, in order


def configuration(node: Node, members: tuple[Machine, ...]) -> str:
    servers = "".join(f"  server {m.id} {m.address}:8000 check inter 100ms\n" for m in members)
    return f"""global
  stats socket {node.runtime_socket} mode 600 level admin
defaults
  mode http
  option redispatch 1
  option idle-close-on-response
  timeout connect 10s
  timeout client 30s
  timeout server 30s
  timeout check 5s
frontend web
  bind {node.http}
  default_backend shop
backend shop
  balance roundrobin
{servers}"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes without agents, three servers in rotation."""
    with Lab(agents=False) as lab:
        lab.plan.backends = lab.plan.backends[:1]
        lab.group("shop-blue", 3)
        lab.group("shop-green")
        lab.start_nodes(2)
        lab.wait_until(lambda: len(lab.members("shop-blue")) == 3, 60, "the servers")
        for node in lab.nodes:
            node.config.write_text(configuration(node, lab.members("shop-blue")))
        lab.wait_converged(60)
        yield lab


class TestFleet:
    def test_traffic_reaches_every_server_through_every_node(self, lab: Lab) -> None:
        with Traffic(lab.processes, [node.http for node in lab.nodes], rate=200) as traffic:
            wait_until(lambda: traffic.count().sent > 60, 60, "some requests")
        count = traffic.stop()
        assert count.failed == 0
        assert set(count.instances) == {m.id for m in lab.members("shop-blue")}

    def test_convergence_is_asked_of_haproxy_and_not_believed(self, lab: Lab) -> None:
        lab.wait_converged()
        victim = lab.members("shop-blue")[0]
        lab.crash(victim.id)
        lab.wait_until(lambda: not lab.converged(), 60, "HAProxy to find the crashed server")
        with pytest.raises(OSError):
            tell(victim.address, "/healthz")
        lab.revive(victim.id)
        lab.wait_converged(60)

    def test_a_weight_of_zero_expects_no_server_of_that_group(self, lab: Lab) -> None:
        assert lab.expected("shop") == {m.id for m in lab.members("shop-blue")}
        lab.plan.set_weight("shop", "shop-blue", 0)
        assert lab.expected("shop") == frozenset()
        assert not lab.converged()
        lab.plan.set_weight("shop", "shop-blue", 100)
        lab.wait_converged()

    def test_a_killed_haproxy_comes_back_and_its_reloads_are_still_known(self, lab: Lab) -> None:
        node = lab.nodes[0]
        before, first = node.reloads(), node.master()
        assert first is not None
        node.haproxy.kill()
        lab.wait_until(lambda: (now := node.master()) is not None and now.pid != first.pid, 60, "another master")
        assert node.reloads() == before
        lab.wait_converged(60)

    def test_servers_are_processes_that_come_and_go_with_their_instances(self, lab: Lab) -> None:
        lab.scale("shop-green", 1)
        lab.wait_until(lambda: len(lab.members("shop-green")) == 1, 60, "an instance")
        [machine] = lab.members("shop-green")
        lab.wait_until(lambda: machine.id in lab.servers.running, 60, "its process")
        process = lab.servers.running[machine.id]
        lab.kill(machine.id)
        assert process.poll() is not None
        lab.wait_until(lambda: machine.id not in {m.id for m in lab.members("shop-green")}, 60, "its replacement")
        lab.scale("shop-green", 0)

    def test_nodes_come_and_go_with_the_edge_group(self, lab: Lab) -> None:
        lab.cloud.control("POST", "physics", {"groups": {EDGE: {"terminating": 0.2}}})
        oldest = lab.nodes[0]
        lab.scale(EDGE, 3)
        lab.wait_until(lambda: len(lab.nodes) == 3, 60, "a third node")
        newest = lab.nodes[-1]
        newest.config.write_text(configuration(newest, lab.members("shop-blue")))
        lab.wait_converged(60)
        pid = oldest.haproxy.pid
        assert pid is not None
        lab.scale(EDGE, 2)
        lab.wait_until(lambda: oldest not in lab.nodes, 60, "the oldest node to leave")
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), 60, "its HAProxy to end")

    def test_a_node_that_fails_stays_dead_until_it_recovers(self, lab: Lab) -> None:
        node = lab.nodes[0]
        starts = node.haproxy.starts
        node.fail()
        wait_until(lambda: node.haproxy.pid is None, 60, "its HAProxy to end")
        lab.crash(lab.members("shop-blue")[0].id)  # something that takes a moment to be seen by the other node
        lab.wait_until(lambda: len(lab.nodes[1].in_rotation("shop")) == 2, 60, "the other node to see it")
        assert (node.haproxy.pid, node.haproxy.starts) == (None, starts)
        lab.revive(lab.members("shop-blue")[0].id)
        node.recover()
        lab.wait_converged(60)
        assert node.haproxy.starts == starts + 1

    def test_a_node_that_has_gone_takes_no_reloads_with_it(self, lab: Lab) -> None:
        before = lab.reloads()
        lab.nodes[-1].haproxy.signal(signal.SIGUSR2)
        lab.wait_until(lambda: lab.reloads() == before + 1, 60, "a reload")
        lab.scale(EDGE, 1)
        lab.wait_until(lambda: len(lab.nodes) == 1, 60, "a node to leave")
        assert lab.reloads() >= before + 1
        lab.scale(EDGE, 2)
        lab.wait_until(lambda: len(lab.nodes) == 2, 60, "another node")
        newest = lab.nodes[-1]
        newest.config.write_text(configuration(newest, lab.members("shop-blue")))
        lab.wait_converged(60)

    def test_two_labs_run_side_by_side(self, lab: Lab) -> None:
        with Lab(agents=False) as other:
            assert other.network.number != lab.network.number
            assert other.cloud.machines() == ()
        lab.wait_converged()


class TestWatch:
    """What the story says of DNS rests on this: it must see a node that is answered too early."""

    def test_a_node_that_is_answered_before_it_serves_is_caught(self, lab: Lab) -> None:
        zone = lab.cloud.create_zone(ZONE)
        first, second = lab.nodes
        serving = [first]  # the health listener of the first node; the second one has none
        first.config.write_text(configuration(first, lab.members("shop-blue")) + health_listener(first))
        first.haproxy.signal(signal.SIGUSR2)
        lab.wait_until(lambda: first.health() == 200, 60, "a health listener")
        with Watch(lab.cloud.dns, DNS_NAME, lambda: [*serving, second], "shop") as watch:
            lab.wait_until(lambda: watch.of(first.address).ready is not None, 60, "the watch to find it")
            change(lab, zone, "CREATE", first, second)
            lab.wait_until(lambda: watch.of(second.address).first is not None, 60, "the second node's answer")
            lab.wait_until(lambda: watch.of(first.address).first is not None, 60, "the first node's answer")
            assert (watch.of(first.address).early, watch.of(second.address).early) == (False, True)
            assert {leaf.node: leaf.healthy for leaf in lab.registered()} == {first.id: True, second.id: True}
            change(lab, zone, "DELETE", second)
            lab.wait_until(lambda: watch.of(second.address).since >= OUT, 60, "the second node to leave DNS")
            assert watch.of(first.address).since < OUT
        assert [leaf.node for leaf in lab.registered()] == [first.id]

    def test_a_health_listener_that_does_not_answer_is_not_200(self, lab: Lab) -> None:
        node = lab.nodes[1]
        assert node.health() == 0
        node.config.write_text(configuration(node, lab.members("shop-blue")) + health_listener(node, 503))
        node.haproxy.signal(signal.SIGUSR2)
        lab.wait_until(lambda: node.health() == 503, 60, "a red health listener")

    def test_a_name_server_that_is_silent_is_an_error(self, lab: Lab) -> None:
        with pytest.raises(OSError, match=DNS_NAME):
            ask(f"{lab.network.home}:{LOCK_PORT}", DNS_NAME)


def health_listener(node: Node, status: int = 200) -> str:
    return f"""frontend health
  bind {node.address}:{HEALTH_PORT}
  http-request return status {status}
"""


def change(lab: Lab, zone: str, action: Literal["CREATE", "DELETE"], *nodes: Node) -> None:
    """Write nodes' records as somebody else might, and leave it at that."""
    changes: list[ChangeTypeDef] = [{"Action": action, "ResourceRecordSet": leaf(node)} for node in nodes]
    lab.cloud.route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})


def leaf(node: Node) -> "ResourceRecordSetTypeDef":
    own: ResourceRecordSetTypeDef = {"Name": DNS_NAME, "Type": "A", "SetIdentifier": node.id, "Weight": 1, "TTL": 1}
    return {**own, "ResourceRecords": [{"Value": node.address}]}


def own_processes(folder: Path) -> list[str]:
    """Command lines of processes that speak of this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


class TestCommands:
    @pytest.fixture(autouse=True)
    def own_socket(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Tests side by side do not take each other's lab for their own."""
        monkeypatch.setenv("HAFLEET_LAB_SOCKET", str(tmp_path / "lab.sock"))

    @pytest.fixture
    def up(self, own_socket: None) -> Iterator[subprocess.Popen[str]]:
        """`hafleet lab up`, once it says that it is up."""
        process = subprocess.Popen(
            [sys.executable, "-m", "hafleet.cli", "lab", "up"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "The lab is up" in line:
                break
        else:
            pytest.fail(f"the lab did not come up: {''.join(said)}")
        yield process
        process.kill()
        process.wait()
        process.stdout.close()

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hafleet.cli", "lab", *words],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def status(self) -> remote.Json:
        found: remote.Json = json.loads(self.ask("status", "--json").stdout)
        return found

    def test_the_verbs_reach_the_running_lab_and_down_leaves_nothing(self, up: subprocess.Popen[str]) -> None:
        before = self.status()
        folder = Path(before["nodes"][0]["folder"]).parent
        assert self.ask("scale", "shop-blue", "4").returncode == 0
        wait_until(
            lambda: all(len(n["in_rotation"].get("shop", [])) == 4 for n in self.status()["nodes"]), 60, "four servers"
        )
        refused = self.ask("scale", "nobody", "1")
        assert (refused.returncode, "there is no group nobody; there are cart, edge" in refused.stderr) == (1, True)
        assert self.ask("weight", "shop", "shop-red", "1").returncode == 1
        assert self.ask("fault", "gremlin").returncode == 1
        assert self.ask("fault", "throttle").returncode == 0
        assert self.ask("fault", "heal").returncode == 0
        victim = before["groups"]["shop-blue"][0].split()[0]
        assert self.ask("kill", victim).returncode == 0
        wait_until(lambda: victim not in str(self.status()["groups"]), 60, "the killed instance to be replaced")
        said = self.ask("status").stdout
        assert f"node {before['nodes'][0]['id']}" in said
        assert f"dns {before['dns']}  dig +short @" in said
        assert all(f"{DNS_NAME}  {node['id']}  {node['address']}  weight 100" in said for node in before["nodes"])
        assert self.ask("down").returncode == 0
        assert up.wait(120) == 0
        wait_until(lambda: not folder.exists() and not own_processes(folder), 60, "everything to be gone")
        gone = self.ask("status")
        assert (gone.returncode, "hafleet lab up" in gone.stderr) == (1, True)

    @pytest.mark.parametrize(
        "number", [signal.SIGINT, *(pytest.param(n, marks=pytest.mark.deep) for n in (signal.SIGTERM, signal.SIGKILL))]
    )
    def test_no_process_outlives_it(self, up: subprocess.Popen[str], number: signal.Signals) -> None:
        folder = Path(self.status()["nodes"][0]["folder"]).parent
        assert own_processes(folder)
        up.send_signal(number)
        up.wait(120)
        wait_until(lambda: not folder.exists() and not own_processes(folder), 60, "everything to be gone")


@pytest.mark.deep  # two and a half minutes each
@pytest.mark.timeout(600)
def test_the_demo_loses_nothing_and_speaks_json(haproxy: Haproxy) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hafleet.cli", "demo", "--json", "--haproxy", str(haproxy.binary)],
        capture_output=True,
        text=True,
        timeout=560,  # for a busy machine; the story itself takes two and a half minutes
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"steps", "failed_total", "lost_with_node_total"}
    assert found["failed_total"] == 0
    keys = {"name", "converged_s", "reloads", "requests", "failed", "may_lose", "dns_s"}
    assert all(set(step) == keys for step in found["steps"])
    steps = {step["name"]: step for step in found["steps"]}
    assert all(step["requests"] > 0 and step["converged_s"] is not None for step in steps.values())
    assert [name for name, step in steps.items() if step["may_lose"]] == ["node killed"]
    assert all(step["failed"] == 0 for name, step in steps.items() if name != "node killed")
    assert found["lost_with_node_total"] == steps["node killed"]["failed"] > 0  # or nobody was sent to it
    about_nodes = {"node joins", "node replaced through hooks", "node drained", "node restart", "zone drained"}
    about_nodes |= {"node killed", "dead node reaped", "spot notice"}
    assert {name for name, step in steps.items() if step["dns_s"] is not None} == about_nodes
    reloads = {name: step["reloads"] for name, step in steps.items() if step["reloads"]}
    peers = {"node joins", "node replaced through hooks", "dead node reaped", "spot notice"}  # their list changes
    assert {"node joins", "template edit"} <= reloads.keys() <= peers | {"template edit"}
    assert reloads["template edit"] == 3


def hard_stop(stage: Stage) -> str:
    """What hafleet never does: HAProxy ends under the requests of its clients."""
    for node in stage.lab.nodes:
        node.haproxy.kill()
    stage.follow()
    return ""


def nothing(stage: Stage) -> str:
    """A chapter that finds a fault with the fleet."""
    raise StoryError("the moon is missing")


@pytest.mark.deep  # a lab of their own each
@pytest.mark.parametrize(("play", "converged"), [(hard_stop, True), (nothing, False)])
def test_a_demo_that_loses_requests_or_fails_says_so(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    play: Callable[[Stage], str],
    converged: bool,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where the evidence is kept
    assert run_demo(json_output=True, rate=400, story=(Chapter("control", play),)) == 1
    found = json.loads(capsys.readouterr().out)
    [step] = found["steps"]
    assert (step["converged_s"] is not None) == converged
    assert found["failed_total"] == step["failed"]
    assert (step["failed"] > 0) == converged
    [kept] = tmp_path.glob("hafleet-lab-kept-*")
    assert len(list(kept.glob("*agent.log"))) == 2


@pytest.mark.deep  # a lab of its own
def test_a_step_that_may_lose_requests_shows_them_and_fails_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    step = Chapter("control", hard_stop, may_lose="its HAProxy is killed")
    assert run_demo(json_output=True, rate=400, story=(step,)) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["failed_total"], found["steps"][0]["may_lose"]) == (0, True)
    assert found["lost_with_node_total"] == found["steps"][0]["failed"] > 0
    assert "requests were lost; its HAProxy is killed" in said.err
