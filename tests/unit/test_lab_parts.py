"""The small parts of the lab, each on real sockets and processes: version pin, network, IMDS, faults, sockets of HAProxy."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hafleet.lab import aws_answers, network, proxy
from hafleet.lab.aws import MOTO_VERSION
from hafleet.lab.aws_answers import Answer
from hafleet.lab.aws_faults import Call, Faults, Rule, parse_rule, read_call
from hafleet.lab.imds import TOKEN_HEADER, TTL_HEADER, Identity, Imds
from hafleet.lab.plan import Plan
from hafleet.lab.processes import Processes, Supervised, wait_until

DESCRIBE = Call("autoscaling", "DescribeAutoScalingGroups", (("Action", "DescribeAutoScalingGroups"),))


def test_the_lab_is_pinned_to_the_moto_it_patches() -> None:
    moto = pytest.importorskip("moto")
    assert moto.__version__ == MOTO_VERSION
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert f'"moto[server]=={MOTO_VERSION}"' in pyproject.read_text(encoding="utf-8")


class TestNetwork:
    def test_two_labs_never_share_a_network(self) -> None:
        with network.claim() as first, network.claim() as second:
            assert first.number != second.number
            with pytest.raises(OSError, match="no free loopback network"):
                network.claim(first.number)
        with network.claim(first.number) as again:
            assert again.cidr == f"127.{first.number}.0.0/16"


class TestImds:
    @pytest.fixture
    def imds(self) -> Iterator[Imds]:
        with network.claim() as net:
            identity = Identity("i-1", "127.9.0.4", "eu-west-1a", "eu-west-1", "edge", {"team": "web"})
            imds = Imds(identity, net.home, 1338)
            yield imds
            imds.break_("")
            imds.close()

    def ask(self, imds: Imds, path: str, *, token: str = "", method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection(imds.url.split("/")[2], timeout=0.5)
        try:
            headers = {TTL_HEADER: "60"} if method == "PUT" else {TOKEN_HEADER: token} if token else {}
            connection.request(method, f"/latest/{path}", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def test_a_token_opens_the_keys_of_this_instance(self, imds: Imds) -> None:
        status, token = self.ask(imds, "api/token", method="PUT")
        assert status == 200
        found = {
            path: self.ask(imds, f"meta-data/{path}", token=token)
            for path in (
                "instance-id",
                "local-ipv4",
                "public-ipv4",
                "placement/availability-zone",
                "placement/region",
                "tags/instance/team",
            )
        }
        assert [text for _, text in found.values()] == [
            "i-1",
            "127.9.0.4",
            "127.9.0.4",
            "eu-west-1a",
            "eu-west-1",
            "web",
        ]
        assert self.ask(imds, "meta-data/tags/instance/", token=token) == (200, "aws:autoscaling:groupName\nteam")
        assert self.ask(imds, "meta-data/autoscaling/target-lifecycle-state", token=token)[0] == 404

    def test_without_a_token_nothing_is_told(self, imds: Imds) -> None:
        assert self.ask(imds, "meta-data/instance-id") == (401, "")
        assert self.ask(imds, "meta-data/instance-id", token="guessed") == (401, "")

    def test_a_token_needs_a_lifetime(self, imds: Imds) -> None:
        connection = http.client.HTTPConnection(imds.url.split("/")[2], timeout=2)
        connection.request("PUT", "/latest/api/token", headers={TTL_HEADER: "999999"})
        assert connection.getresponse().status == 400
        connection.close()

    @pytest.mark.parametrize(("fault", "status"), [("unauthorized", 401), ("error", 500)])
    def test_faults_that_answer(self, imds: Imds, fault: str, status: int) -> None:
        _, token = self.ask(imds, "api/token", method="PUT")
        imds.break_(fault)
        assert self.ask(imds, "meta-data/instance-id", token=token)[0] == status

    def test_v1_hosts_have_no_tokens_and_tell_everyone(self, imds: Imds) -> None:
        imds.break_("v1")
        assert self.ask(imds, "api/token", method="PUT")[0] == 404
        assert self.ask(imds, "meta-data/instance-id") == (200, "i-1")

    @pytest.mark.parametrize("fault", ["refuse", "hang"])
    def test_faults_that_do_not_answer(self, imds: Imds, fault: str) -> None:
        imds.break_(fault)
        with pytest.raises((http.client.HTTPException, OSError)):
            self.ask(imds, "api/token", method="PUT")

    def test_an_unknown_fault_is_refused(self, imds: Imds) -> None:
        with pytest.raises(ValueError, match="no fault of the metadata service"):
            imds.break_("gremlin")


class TestFaults:
    def test_a_rule_hits_its_service_and_operation_only(self) -> None:
        faults = Faults()
        faults.add(Rule("5xx", service="autoscaling", operation="DescribeAutoScalingGroups"))
        assert faults.pick(DESCRIBE) is not None
        assert faults.pick(Call("ec2", "DescribeAutoScalingGroups", ())) is None
        assert faults.pick(Call("autoscaling", "DescribeTags", ())) is None

    def test_a_count_runs_out(self) -> None:
        faults = Faults()
        faults.add(Rule("5xx", count=2))
        assert [faults.pick(DESCRIBE) is not None for _ in range(4)] == [True, True, False, False]
        assert faults.counts() == {"calls": {DESCRIBE.name: 4}, "faulted": {DESCRIBE.name: 2}}

    def test_a_rate_hits_its_share(self) -> None:
        faults = Faults()
        faults.add(Rule("5xx", rate=0.3))
        hits = sum(faults.pick(DESCRIBE) is not None for _ in range(2000))
        assert 500 < hits < 700

    def test_one_rule_or_all_are_cleared(self) -> None:
        faults = Faults()
        first, second = faults.add(Rule("5xx")), faults.add(Rule("denied"))
        faults.clear(first.id)
        assert faults.rules == [second]
        faults.clear()
        assert faults.rules == []

    @pytest.mark.parametrize(
        "text", [b'{"kind": "gremlin"}', b"{}", b'{"kind": "5xx", "rate": 0}', b'{"kind": "5xx", "x": 1}', b"{"]
    )
    def test_a_rule_that_would_never_happen_is_refused(self, text: bytes) -> None:
        with pytest.raises(ValueError):
            parse_rule(text)

    def test_the_call_is_read_from_scope_and_form(self) -> None:
        environ = {
            "HTTP_AUTHORIZATION": "AWS4-HMAC-SHA256 Credential=lab/20260101/eu-west-1/ec2/aws4_request, Signature=x",
            "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8",
        }
        call = read_call(environ, b"Action=DescribeInstances&InstanceId.1=i-1")
        assert (call.name, call.has("InstanceId.1"), call.has("NextToken")) == ("ec2.DescribeInstances", True, False)
        assert read_call({}, b"\xff").name == "."

    def test_an_error_is_never_edited(self) -> None:
        wrong = Answer("500 Internal Server Error", (), b"not XML")
        assert aws_answers.edit("half", wrong) is wrong


class TestHaproxySockets:
    def answer_with(self, folder: Path, text: str) -> Path:
        """A socket that answers one connection with this text."""
        path = folder / "s.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1)

        def serve() -> None:
            connection, _ = listener.accept()
            with listener, connection:
                while connection.recv(4096):
                    pass
                connection.sendall(text.encode())

        threading.Thread(target=serve, daemon=True).start()
        return path

    def test_the_master_of_2_6_after_a_failed_reload(self, tmp_path: Path) -> None:
        text = (
            "#<PID>          <type>          <reloads>       <uptime>        <version>\n"
            "100             master          3 [failed: 1]   0d00h00m04s     2.6.12-1\n"
            "# workers\n"
            "120             worker          1               0d00h00m02s     2.6.12-1\n"
            "# old workers\n"
            "110             worker          2               0d00h00m03s     2.6.12-1\n"
            "# programs\n\n"
        )
        assert proxy.master(self.answer_with(tmp_path, text)) == proxy.Master(100, 3, 1, 120, 1)

    def test_the_master_of_3_2(self, tmp_path: Path) -> None:
        text = (
            "#<PID>          <type>          <reloads>       <uptime>        <version>\n"
            "200             master          0               0d00h00m04s     3.2.26\n"
            "# workers\n"
            "201             worker          0               0d00h00m02s     3.2.26\n"
        )
        assert proxy.master(self.answer_with(tmp_path, text)) == proxy.Master(200, 0, 0, 201, 0)

    def test_nonsense_is_not_a_master(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="show proc answered"):
            proxy.master(self.answer_with(tmp_path, "Unknown command\n"))

    def test_servers_in_rotation_are_up_and_have_weight(self, tmp_path: Path) -> None:
        text = (
            "# pxname,svname,type,status,weight,scur,stot\n"
            "web,FRONTEND,0,OPEN,,1,2\n"
            "shop,i-1,2,UP,100,1,5\nshop,i-2,2,UP 1/2,100,0,5\nshop,i-3,2,UP,0,0,5\nshop,i-4,2,MAINT,100,0,5\n"
            "shop,i-5,2,no check,1,0,0\nshop,i-6,2,DOWN,100,0,0\nshop,i-7,2,DRAIN,0,0,0\nshop,BACKEND,1,UP,200,1,10\n"
        )
        rows = proxy.servers(self.answer_with(tmp_path, text))
        assert [row.name for row in rows if row.in_rotation] == ["i-1", "i-2", "i-5"]


class TestPlan:
    def test_weights_change_in_place_and_unknown_names_are_refused(self) -> None:
        plan = Plan()
        plan.set_weight("shop", "shop-green", 40)
        assert plan.groups("shop") == {"shop-blue": 100, "shop-green": 40}
        with pytest.raises(KeyError, match="shop-red is no source"):
            plan.set_weight("shop", "shop-red", 1)
        with pytest.raises(KeyError, match="there is no backend"):
            plan.groups("bakery")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").read_text().split()[2].startswith("Z")


class TestProcesses:
    def test_what_ends_is_started_again_until_stopped(self, tmp_path: Path) -> None:
        processes = Processes(tmp_path / "none")
        loop = Supervised(processes, ["sleep", "60"], log=tmp_path / "log")
        loop.start()
        wait_until(lambda: loop.pid is not None, 5, "the first start")
        first = loop.pid
        loop.kill()
        wait_until(lambda: loop.pid not in (None, first), 5, "the second start")
        assert loop.starts == 2
        second = loop.pid
        loop.stop()
        processes.close()
        assert second is not None
        assert not alive(second)
        assert loop.starts == 2

    def test_nothing_starts_before_it_is_ready(self, tmp_path: Path) -> None:
        processes = Processes(tmp_path / "none")
        gate = tmp_path / "gate"
        loop = Supervised(processes, ["sleep", "60"], log=tmp_path / "log")
        loop.ready = gate.exists
        loop.start()
        assert loop.pid is None
        gate.touch()
        wait_until(lambda: loop.pid is not None, 5, "the start")
        loop.stop()
        processes.close()

    def test_a_killed_lab_leaves_no_process_and_no_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "lab"
        folder.mkdir()
        script = (
            "import sys, time; from pathlib import Path; from hafleet.lab.processes import Processes\n"
            f"p = Processes(Path({str(folder)!r})).start(['sh', '-c', 'sleep 61 & sleep 61'])\n"
            "print(p.pid, flush=True); time.sleep(60)"
        )
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
        wait_until(lambda: not alive(child) and not folder.exists(), 10, "the lab's warden to clean up")

    def test_waiting_names_what_did_not_come(self) -> None:
        with pytest.raises(TimeoutError, match=r"waited 0\.1 s for the moon"):
            wait_until(lambda: False, 0.1, "the moon")
