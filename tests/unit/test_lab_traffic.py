"""The load generator counts every loss, and no more: each failure is made by a real server. And the application server."""

import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hafleet.lab import network
from hafleet.lab.processes import LIGHT, Processes, wait_until
from hafleet.lab.servers import PORT, SCRIPT, tell
from hafleet.lab.traffic import Count, Traffic

Reply = Callable[[str, int], bytes | None]  # path and number of the request on its connection -> answer, None: hang up


def good(path: str, close: bool = False) -> bytes:
    body = f"i-1 blue 1 {path}\n"
    word = "close" if close else "keep-alive"
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: {word}\r\n\r\n{body}".encode()


@contextmanager
def server(reply: Reply) -> Iterator[str]:
    """A server in threads that answers what ``reply`` says. Yields host:port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def talk(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            number = 0
            while line := lines.readline():
                while lines.readline().strip():
                    pass
                answer = reply(line.split()[1].decode(), number)
                number += 1
                if answer is None:
                    return
                connection.sendall(answer)
                if b"Connection: close" in answer:
                    return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    processes = Processes(tmp_path_factory.mktemp("lab") / "none")
    yield processes
    processes.close()


def run(processes: Processes, target: str, requests: int = 40) -> Count:
    """Totals of a bounded run."""
    traffic = Traffic(processes, [target], rate=0, clients=4, requests=str(requests))
    wait_until(lambda: traffic._process.poll() is not None, 30, "the load to end")
    return traffic.stop()


class TestLoad:
    def test_good_answers_are_no_failures(self, processes: Processes) -> None:
        with server(lambda path, _: good(path)) as target:
            count = run(processes, target)
        assert (count.sent, count.failed, count.groups, count.instances) == (40, 0, {"blue": 40}, {"i-1": 40})

    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            (lambda _p, _n: b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "status 503"),
            (lambda _p, _n: good("/r/999999"), "answer"),
            (
                lambda _p, _n: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nshort",
                "IncompleteReadError",
            ),
            (lambda _p, _n: None, "IncompleteReadError"),
        ],
        ids=["503", "another's answer", "cut", "hang up"],
    )
    def test_every_bad_answer_is_a_failure(self, processes: Processes, reply: Reply, reason: str) -> None:
        with server(reply) as target:
            count = run(processes, target, 8)
        assert (count.sent, count.failed) == (8, 8)
        assert all(reason in why for why in count.errors)

    def test_a_refused_connection_is_a_failure(self, processes: Processes) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        count = run(processes, f"127.0.0.1:{port}", 8)
        assert (count.sent, count.failed) == (8, 8)

    def test_a_connection_closed_under_a_request_is_lost_and_not_sent_again(self, processes: Processes) -> None:
        seen = []

        def reply(path: str, number: int) -> bytes | None:
            seen.append(path)
            return good(path) if number == 0 else None  # the second request on a connection finds it closed

        with server(reply) as target:
            count = run(processes, target, 40)
        assert count.failed > 0
        assert len(seen) == len(set(seen)) == count.sent == 40

    def test_a_connection_that_says_close_is_not_used_again(self, processes: Processes) -> None:
        with server(lambda path, number: good(path, close=True) if number == 0 else None) as target:
            count = run(processes, target, 40)
        assert (count.sent, count.failed) == (40, 0)

    def test_the_load_moves_and_stops_on_command(self, processes: Processes) -> None:
        with (
            server(lambda path, _: good(path)) as first,
            server(lambda path, _: good(path).replace(b"i-1", b"i-2")) as second,
        ):
            with Traffic(processes, [first], rate=200, clients=4) as traffic:
                traffic.aim([second])
                wait_until(lambda: traffic.count().instances.get("i-2", 0) > 5, 20, "the load to move")
                before = traffic.count()
                later = traffic.count().since(before)
            total = traffic.stop()
        assert later.failed == 0
        assert set(later.instances) <= {"i-2"}
        assert total.failed == 0
        assert total.sent >= before.sent + later.sent


class TestAppServer:
    @pytest.fixture
    def address(self) -> Iterator[str]:
        with network.claim() as net:
            yield net.home

    @contextmanager
    def running(self, address: str, boot: float = 0.0) -> Iterator[subprocess.Popen[bytes]]:
        argv = [sys.executable, *LIGHT, str(SCRIPT), address, str(PORT), "i-1", "blue", str(boot)]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE)
        try:
            wait_until(lambda: self.answers(address), 10, "the server to boot")
            yield process
        finally:
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()

    def answers(self, address: str) -> bool:
        try:
            return tell(address, "/healthz") == "ok\n"
        except OSError:
            return False

    def test_it_says_who_it_is_and_counts(self, address: str) -> None:
        with self.running(address, boot=0.2):
            assert tell(address, "/a") == "i-1 blue 1 /a\n"
            assert tell(address, "/b") == "i-1 blue 2 /b\n"
            assert tell(address, "/_app/count") == "2\n"

    def test_connections_are_kept_and_bodies_read(self, address: str) -> None:
        with self.running(address):
            connection = http.client.HTTPConnection(address, PORT, timeout=5)
            for number in (1, 2):
                connection.request("POST", "/a", body="x" * 1000)
                assert connection.getresponse().read() == f"i-1 blue {number} /a\n".encode()
            connection.close()

    def test_health_can_be_told_to_fail(self, address: str) -> None:
        with self.running(address):
            tell(address, "/_app/health/503")
            assert tell(address, "/healthz") == "ill\n"

    def test_sigterm_finishes_what_was_begun_and_refuses_the_rest(self, address: str) -> None:
        with self.running(address) as process:
            tell(address, "/_app/slow/400")
            connection = http.client.HTTPConnection(address, PORT, timeout=5)
            connection.request("GET", "/slow")
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not self.answers(address), 5, "the listener to close")
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("Connection")) == (200, "keep-alive")
            assert answer.read() == b"i-1 blue 1 /slow\n"
            assert process.wait(5) == 0
            connection.close()

    def test_it_ends_with_the_lab(self, address: str) -> None:
        with self.running(address) as process:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(5) == 0
