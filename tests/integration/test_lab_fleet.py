"""The lab as a whole, on the system's HAProxy: it follows EC2, cleans up after itself, and its demo tells the truth."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hafleet.lab import remote
from hafleet.lab.cloud import Machine
from hafleet.lab.demo import run_demo
from hafleet.lab.fleet import Lab
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.node import Node
from hafleet.lab.plan import EDGE
from hafleet.lab.processes import wait_until
from hafleet.lab.servers import tell
from hafleet.lab.stage import Chapter, Stage, StoryError
from hafleet.lab.traffic import Traffic


def configuration(node: Node, members: tuple[Machine, ...]) -> str:
    servers = "".join(f"  server {m.id} {m.address}:8000 check inter 100ms\n" for m in members)
    return f"""global
  stats socket {node.runtime_socket} mode 600 level admin
defaults
  mode http
  option redispatch 1
  option idle-close-on-response
  timeout connect 1s
  timeout client 5s
  timeout server 5s
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
        lab.wait_until(lambda: len(lab.members("shop-blue")) == 3, 20, "the servers")
        for node in lab.nodes:
            node.config.write_text(configuration(node, lab.members("shop-blue")))
        lab.wait_converged(20)
        yield lab


class TestFleet:
    def test_traffic_reaches_every_server_through_every_node(self, lab: Lab) -> None:
        with Traffic(lab.processes, [node.http for node in lab.nodes], rate=200) as traffic:
            wait_until(lambda: traffic.count().sent > 60, 20, "some requests")
        count = traffic.stop()
        assert count.failed == 0
        assert set(count.instances) == {m.id for m in lab.members("shop-blue")}

    def test_convergence_is_asked_of_haproxy_and_not_believed(self, lab: Lab) -> None:
        assert lab.converged()
        victim = lab.members("shop-blue")[0]
        lab.crash(victim.id)
        lab.wait_until(lambda: not lab.converged(), 10, "HAProxy to find the crashed server")
        with pytest.raises(OSError):
            tell(victim.address, "/healthz")
        lab.revive(victim.id)
        lab.wait_converged(10)

    def test_a_weight_of_zero_expects_no_server_of_that_group(self, lab: Lab) -> None:
        assert lab.expected("shop") == {m.id for m in lab.members("shop-blue")}
        lab.plan.set_weight("shop", "shop-blue", 0)
        assert lab.expected("shop") == frozenset()
        assert not lab.converged()
        lab.plan.set_weight("shop", "shop-blue", 100)
        assert lab.converged()

    def test_a_killed_haproxy_comes_back_and_its_reloads_are_still_known(self, lab: Lab) -> None:
        node = lab.nodes[0]
        before, first = node.reloads(), node.master()
        assert first is not None
        node.haproxy.kill()
        lab.wait_until(lambda: (now := node.master()) is not None and now.pid != first.pid, 10, "another master")
        assert node.reloads() == before
        lab.wait_converged(10)

    def test_servers_are_processes_that_come_and_go_with_their_instances(self, lab: Lab) -> None:
        lab.scale("shop-green", 1)
        lab.wait_until(lambda: len(lab.members("shop-green")) == 1, 10, "an instance")
        [machine] = lab.members("shop-green")
        lab.wait_until(lambda: machine.id in lab.servers.running, 10, "its process")
        process = lab.servers.running[machine.id]
        lab.kill(machine.id)
        assert process.poll() is not None
        lab.wait_until(lambda: machine.id not in {m.id for m in lab.members("shop-green")}, 10, "its replacement")
        lab.scale("shop-green", 0)

    def test_nodes_come_and_go_with_the_edge_group(self, lab: Lab) -> None:
        lab.cloud.control("POST", "physics", {"groups": {EDGE: {"terminating": 0.2}}})
        oldest = lab.nodes[0]
        lab.scale(EDGE, 3)
        lab.wait_until(lambda: len(lab.nodes) == 3, 20, "a third node")
        newest = lab.nodes[-1]
        newest.config.write_text(configuration(newest, lab.members("shop-blue")))
        lab.wait_converged(20)
        pid = oldest.haproxy.pid
        assert pid is not None
        lab.scale(EDGE, 2)
        lab.wait_until(lambda: oldest not in lab.nodes, 20, "the oldest node to leave")
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10, "its HAProxy to end")

    def test_two_labs_run_side_by_side(self, lab: Lab) -> None:
        with Lab(agents=False) as other:
            assert other.network.number != lab.network.number
            assert other.cloud.machines() == ()
        assert lab.converged()


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
            timeout=30,
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
            lambda: all(len(n["in_rotation"].get("shop", [])) == 4 for n in self.status()["nodes"]), 20, "four servers"
        )
        refused = self.ask("scale", "nobody", "1")
        assert (refused.returncode, "there is no group nobody; there are cart, edge" in refused.stderr) == (1, True)
        assert self.ask("weight", "shop", "shop-red", "1").returncode == 1
        assert self.ask("fault", "gremlin").returncode == 1
        assert self.ask("fault", "throttle").returncode == 0
        assert self.ask("fault", "heal").returncode == 0
        victim = before["groups"]["shop-blue"][0].split()[0]
        assert self.ask("kill", victim).returncode == 0
        wait_until(lambda: victim not in str(self.status()["groups"]), 20, "the killed instance to be replaced")
        assert f"node {before['nodes'][0]['id']}" in self.ask("status").stdout
        assert self.ask("down").returncode == 0
        assert up.wait(20) == 0
        wait_until(lambda: not folder.exists() and not own_processes(folder), 10, "everything to be gone")
        gone = self.ask("status")
        assert (gone.returncode, "hafleet lab up" in gone.stderr) == (1, True)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_no_process_outlives_it(self, up: subprocess.Popen[str], number: signal.Signals) -> None:
        folder = Path(self.status()["nodes"][0]["folder"]).parent
        assert own_processes(folder)
        up.send_signal(number)
        up.wait(20)
        wait_until(lambda: not folder.exists() and not own_processes(folder), 10, "everything to be gone")


@pytest.mark.deep(besides="2.6")  # 70 s each
@pytest.mark.timeout(240)
def test_the_demo_loses_nothing_and_speaks_json(haproxy: Haproxy) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hafleet.cli", "demo", "--json", "--haproxy", str(haproxy.binary)],
        capture_output=True,
        text=True,
        timeout=180,  # the promise; the story itself takes about 70 s
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"steps", "failed_total"}
    assert found["failed_total"] == 0
    assert all(set(step) == {"name", "converged_s", "reloads", "requests", "failed"} for step in found["steps"])
    assert all(step["requests"] > 0 and step["failed"] == 0 for step in found["steps"])
    reloads = {step["name"]: step["reloads"] for step in found["steps"] if step["reloads"]}
    assert reloads == {"template edit": 2}


def hard_stop(stage: Stage) -> str:
    """What hafleet never does: HAProxy ends under the requests of its clients."""
    for node in stage.lab.nodes:
        node.haproxy.kill()
    stage.follow()
    return ""


def nothing(stage: Stage) -> str:
    """A chapter that finds a fault with the fleet."""
    raise StoryError("the moon is missing")


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
