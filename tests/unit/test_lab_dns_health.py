"""The lab's health checkers: opinions as values, and real probes of real servers, at sixty times the speed."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hafleet.core.dns.model import CheckConfig
from hafleet.lab.health import ENOUGH, Health, Opinion
from hafleet.lab.health_probes import Outcome, probe
from hafleet.lab.processes import wait_until
from tests.pki import Authority

HOST = "127.0.0.1"
SOURCES = "127.121.251"  # a network that no lab claims
SPEED = 60.0  # a 10 s interval takes a sixth of a second
Reply = Callable[[bytes, str], bytes | None]  # request and client's address -> answer; None: hang up

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DOWN = b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def server(reply: Reply, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server in threads that answers one request per connection. Yields its port."""
    listener = socket.create_server((HOST, 0), backlog=256)

    def talk(connection: socket.socket, client: str) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) if context else connection as stream:
                request = b""
                while b"\r\n\r\n" not in request and request[:1] != b"\x16" and (part := stream.recv(4096)):
                    request += part
                if request and (answer := reply(request, client)):
                    stream.sendall(answer)
        except OSError:
            return

    def accept() -> None:
        while True:
            try:
                connection, (client, _) = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection, client), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextmanager
def mute() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server((HOST, 0)) as listener:
        yield int(listener.getsockname()[1])


def noting(log: list[tuple[bytes, str, float]]) -> Reply:
    """All is well, and the log holds request, client and time."""

    def reply(request: bytes, client: str) -> bytes:
        log.append((request, client, time.monotonic()))
        return OK

    return reply


def free_port() -> int:
    with socket.create_server((HOST, 0)) as taken:
        return int(taken.getsockname()[1])


def http_check(port: int, kind: str = "HTTP", **more: object) -> CheckConfig:
    given: dict[str, object] = {"address": HOST, "path": "/health", "interval": 10, "threshold": 3, **more}
    return CheckConfig(kind, port=port, **given)  # type: ignore[arg-type]


def probed(config: CheckConfig, source: str = "") -> Outcome:
    return asyncio.run(probe("hc-1", config, config.address, source))


@pytest.fixture
def health() -> Iterator[Health]:
    health = Health(SOURCES)
    health.faster(SPEED)
    yield health
    health.close()


def ends_up(health: Health, wanted: bool, check: str = "hc") -> None:
    wait_until(lambda: health.healthy(check) is wanted, 20, f"{check} to be {'healthy' if wanted else 'ill'}")


class TestOpinion:
    good, bad = Outcome(True, "Success"), Outcome(False, "Failure: no")

    def hears(self, opinion: Opinion, word: str, threshold: int = 3) -> list[bool]:
        """The opinion after each probe of a word such as ++--."""
        said = []
        for sign in word:
            opinion.hear(self.good if sign == "+" else self.bad, threshold, 1.0)
            said.append(opinion.healthy)
        return said

    @pytest.mark.parametrize(
        ("word", "wanted"),
        [
            ("---", [True, True, False]),
            ("--+--+", [True] * 6),
            ("---++-+++", [True, True, False, False, False, False, False, False, True]),
        ],
    )
    def test_only_a_row_of_probes_changes_it(self, word: str, wanted: list[bool]) -> None:
        assert self.hears(Opinion(), word) == wanted

    def test_a_threshold_of_one_follows_each_probe(self) -> None:
        assert self.hears(Opinion(), "-+-", 1) == [False, True, False]

    def test_the_last_failure_is_kept(self) -> None:
        opinion = Opinion()
        opinion.hear(self.bad, 3, 1.0)
        opinion.hear(self.good, 3, 2.0)
        assert (opinion.text, opinion.at, opinion.failure, opinion.failed_at) == ("Success", 2.0, "Failure: no", 1.0)


class TestProbe:
    @pytest.mark.parametrize(
        ("status", "good"),
        [(200, True), (204, True), (302, True), (399, True), (404, False), (503, False), (199, False)],
    )
    def test_two_and_three_hundreds_are_good(self, status: int, good: bool) -> None:
        with server(lambda *_: f"HTTP/1.1 {status} X\r\n\r\n".encode()) as port:
            outcome = probed(http_check(port))
        assert outcome.good is good
        assert f"HTTP Status Code {status}" in outcome.text

    def test_the_request_is_what_route_53_sends(self) -> None:
        log: list[tuple[bytes, str, float]] = []
        with server(noting(log)) as port:
            probed(http_check(port, host="lb.example.test"))
            probed(http_check(port))
        seen = [request for request, _, _ in log]
        assert seen[0].startswith(b"GET /health HTTP/1.1\r\n")
        assert f"\r\nHost: lb.example.test:{port}\r\n".encode() in seen[0]
        assert b"\r\nUser-Agent: Amazon-Route53-Health-Check-Service (ref hc-1)\r\n" in seen[0]
        assert f"\r\nHost: {HOST}:{port}\r\n".encode() in seen[1]

    def test_a_checker_comes_from_its_own_address(self) -> None:
        log: list[tuple[bytes, str, float]] = []
        with server(noting(log)) as port:
            assert probed(http_check(port), f"{SOURCES}.7").good
        assert [client for _, client, _ in log] == [f"{SOURCES}.7"]

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (b"SSH-2.0-x\r\n\r\n", "not HTTP"),
            (b"HTTP/1.1\r\n\r\n", "not HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-", "closed before"),
            (None, "closed before"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", "larger than 16 KB"),
        ],
        ids=["another protocol", "no status", "cut", "hang up", "huge"],
    )
    def test_what_is_no_answer(self, answer: bytes | None, why: str) -> None:
        with server(lambda *_: answer) as port:
            outcome = probed(http_check(port))
        assert not outcome.good
        assert why in outcome.text

    def test_a_closed_port_is_bad_for_http_and_tcp(self) -> None:
        port = free_port()
        for kind in ("HTTP", "HTTPS", "TCP"):
            outcome = probed(http_check(port, kind))
            assert (outcome.good, "refused" in outcome.text) == (False, True)

    def test_tcp_needs_no_more_than_a_connection(self) -> None:
        with mute() as port:
            assert probed(http_check(port, "TCP")).good

    def test_a_server_that_says_nothing_is_bad_after_two_seconds(self) -> None:
        with mute() as port:
            began = time.monotonic()
            outcome = probed(http_check(port))
            took = time.monotonic() - began
        assert (outcome.good, outcome.text) == (False, "Failure: no HTTP status within 2 seconds")
        assert took >= 1.9

    @pytest.mark.parametrize(
        ("body", "found"),
        [(b"x" * 5000 + b"needle", True), (b"x" * 5115 + b"needle", False), (b"Needle", False), (b"", False)],
        ids=["inside", "across the 5,120 bytes", "other case", "nothing"],
    )
    @pytest.mark.parametrize("how", ["length", "close", "chunks"])
    def test_the_text_is_looked_for_in_the_first_bytes_of_the_body(self, body: bytes, found: bool, how: str) -> None:
        head = {"length": f"Content-Length: {len(body)}", "close": "X: y", "chunks": "Transfer-Encoding: chunked"}[how]
        if how == "chunks":
            parts = (body[: len(body) - 3], body[len(body) - 3 :])  # the text lies across two chunks
            sent = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
        else:
            sent = body
        with server(lambda *_: f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + sent) as port:
            outcome = probed(http_check(port, "HTTP_STR_MATCH", search="needle"))
        assert outcome.good is found

    def test_no_certificate_is_validated_and_sni_is_sent_if_wanted(self, tmp_path: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Authority("nobody trusts it").issue(tmp_path / "server.pem", "other.example.com"))
        names: list[str | None] = []
        context.sni_callback = lambda _socket, name, _context: names.append(name)
        with server(lambda *_: OK, context) as port:
            assert probed(http_check(port, "HTTPS", host="lb.example.test", sni=True)).good
            assert probed(http_check(port, "HTTPS", host="lb.example.test", sni=False)).good
        assert names == ["lb.example.test", None]

    def test_a_server_that_speaks_no_tls_is_bad(self) -> None:
        with server(lambda *_: OK) as port:
            outcome = probed(http_check(port, "HTTPS"))
        assert (outcome.good, "TLS" in outcome.text) == (False, True)


class TestHealth:
    def test_a_new_check_is_healthy_until_there_is_data(self, health: Health) -> None:
        health.faster(0.001)
        health.watch({"hc": http_check(free_port()), "not": http_check(free_port(), inverted=True)})
        assert (health.healthy("hc"), health.healthy("not")) == (True, False)

    def test_a_dead_endpoint_is_ill_after_threshold_probes_and_comes_back(self, health: Health) -> None:
        answers = {"now": DOWN}
        with server(lambda *_: answers["now"]) as port:
            health.watch({"hc": http_check(port), "not": http_check(port, inverted=True)})
            ends_up(health, False)
            assert health.probes >= 3 * 14  # 14 of 16 checkers must have changed their mind
            ends_up(health, True, "not")
            answers["now"] = OK
            ends_up(health, True)
            ends_up(health, False, "not")

    @pytest.mark.parametrize(("reached", "wanted"), [(2, False), (3, True)])
    def test_more_than_18_percent_of_the_checkers_make_it_healthy(
        self, health: Health, reached: int, wanted: bool
    ) -> None:
        assert (reached > ENOUGH * 16) is wanted  # 2 of 16 are 12.5 %, 3 are 18.75 %
        friends = {f"{SOURCES}.{number + 1}" for number in range(reached)}
        with server(lambda _, client: OK if client in friends else DOWN) as port:
            health.watch({"hc": http_check(port, threshold=2)})
            wait_until(lambda: len(seen(health, "Failure")) == 16 - reached, 20, "the others to see it down")
            wait_until(lambda: health.probes > 16 * 3, 20, "everyone to have probed three times")
            assert len(seen(health, "Success")) == reached
            ends_up(health, wanted)

    def test_checkers_of_the_wanted_regions_only(self, health: Health) -> None:
        regions = ("eu-west-1", "us-east-1", "us-west-1")
        health.watch({"hc": http_check(free_port(), regions=regions)})
        assert {seen.region for seen in health.observations("hc")} == set(regions)
        assert len(health.observations("hc")) == 6
        ends_up(health, False)

    def test_disabled_is_healthy_or_ill_for_good_and_not_probed(self, health: Health) -> None:
        port = free_port()
        off, down = http_check(port, disabled=True), http_check(port, disabled=True, inverted=True)
        health.watch({"hc": off, "not": down})
        time.sleep(0.5)
        assert (health.healthy("hc"), health.healthy("not"), health.probes) == (True, False, 0)

    def test_a_check_that_is_gone_is_unhealthy_and_no_longer_probed(self, health: Health) -> None:
        with server(lambda *_: OK) as port:
            health.watch({"hc": http_check(port)})
            wait_until(lambda: health.probes > 16, 20, "probes")
            health.watch({})
            assert not health.healthy("hc")
            time.sleep(0.3)  # what is under way ends
            before = health.probes
            time.sleep(0.7)
        assert (health.probes, health.observations("hc"), health.names()) == (before, (), ())

    def test_a_changed_check_is_probed_as_it_is_now(self, health: Health) -> None:
        with server(lambda *_: OK) as port:
            health.watch({"hc": http_check(free_port(), threshold=1)})
            ends_up(health, False)
            health.watch({"hc": http_check(port, threshold=1)})
            assert not health.healthy("hc")  # nobody has looked at the new port yet
            ends_up(health, True)

    def test_probes_are_spread_over_the_interval(self, health: Health) -> None:
        log: list[tuple[bytes, str, float]] = []
        with server(noting(log)) as port:
            health.faster(10)
            health.watch({"hc": http_check(port)})
            wait_until(lambda: len(log) >= 16, 20, "one round")
        times = [at for _, _, at in log]
        assert max(times[:16]) - min(times[:16]) > 0.5  # of the second that one round takes

    def test_a_name_without_an_address_is_ill_and_one_with_is_probed(self) -> None:
        with server(lambda *_: OK) as port:
            health = Health("", {"lb.example.test": HOST}.get)
            health.faster(SPEED)
            known = http_check(port, address="", host="lb.example.test", threshold=1)
            health.watch({"hc": known, "no": http_check(port, address="", host="no.example.test", threshold=1)})
            ends_up(health, False, "no")
            wait_until(lambda: "Success" in health.observations("hc")[0].text, 20, "a probe")
            health.close()


def seen(health: Health, word: str) -> list[str]:
    return [seen.text for seen in health.observations("hc") if seen.text.startswith(word)]


class TestOtherChecks:
    def test_a_calculated_check_counts_its_healthy_children(self, health: Health) -> None:
        on, off = (CheckConfig("TCP", disabled=True), CheckConfig("TCP", disabled=True, inverted=True))
        for wanted, healthy in ((0, True), (1, True), (2, True), (3, False)):
            total = CheckConfig("CALCULATED", children=("a", "b", "c"), healthy=wanted)
            health.watch({"a": on, "b": on, "c": off, "sum": total})
            assert health.healthy("sum") is healthy

    def test_a_child_that_is_gone_counts_as_ill(self, health: Health) -> None:
        health.watch({"sum": CheckConfig("CALCULATED", children=("gone",), healthy=1)})
        assert not health.healthy("sum")

    @pytest.mark.parametrize(
        ("insufficient", "wanted"), [("Healthy", True), ("Unhealthy", False), ("LastKnownStatus", True)]
    )
    def test_an_alarm_without_data_means_what_the_check_says(
        self, health: Health, insufficient: str, wanted: bool
    ) -> None:
        config = CheckConfig("CLOUDWATCH_METRIC", alarm="node", alarm_region="eu-west-1", insufficient=insufficient)
        health.watch({"hc": config})
        assert health.healthy("hc") is wanted

    def test_an_alarm_decides_and_its_last_word_can_last(self, health: Health) -> None:
        config = CheckConfig(
            "CLOUDWATCH_METRIC", alarm="node", alarm_region="eu-west-1", insufficient="LastKnownStatus"
        )
        health.watch({"hc": config})
        for state, healthy in (("alarm", False), ("insufficient", False), ("ok", True), ("insufficient", True)):
            health.tell_alarms({("eu-west-1", "node"): state})  # type: ignore[dict-item]
            assert health.healthy("hc") is healthy
        health.tell_alarms({("us-east-1", "node"): "alarm"})
        assert health.healthy("hc")

    def test_the_last_word_is_kept_though_nobody_asked_meanwhile(self, health: Health) -> None:
        config = CheckConfig(
            "CLOUDWATCH_METRIC", alarm="node", alarm_region="eu-west-1", insufficient="LastKnownStatus"
        )
        health.watch({"hc": config})
        health.tell_alarms({("eu-west-1", "node"): "alarm"})
        health.tell_alarms({("eu-west-1", "node"): "insufficient"})
        assert not health.healthy("hc")
