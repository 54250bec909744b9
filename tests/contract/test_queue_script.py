"""The listener against an SQS of a script: a thousand messages, duplicates, and every way in which a call can fail."""

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

import pytest

from hafleet.adapters.aws import Account
from hafleet.adapters.clock import SystemClock
from hafleet.adapters.queue import FixedQueue, Hearing, NoTally, Prover, QueueListener
from hafleet.adapters.wakeup import Wakeups
from hafleet.core.events import Heard, Scope
from hafleet.core.settings import Aws
from hafleet.lab.processes import wait_until

ACCOUNT = "123456789012"
SCOPE = Scope(ACCOUNT, frozenset({"site"}))
LONG = 60.0  # seconds; a bound for waiting


def event(kind: str = "Launch", group: str = "site") -> str:
    told = {"detail-type": f"EC2 Instance {kind} Successful", "source": "aws.autoscaling", "account": ACCOUNT}
    return json.dumps(told | {"detail": {"AutoScalingGroupName": group}})


@dataclass
class Sqs:
    """A queue whose messages stay until they are deleted, hidden meanwhile: the quickest SQS there is."""

    waiting: list[str] = field(default_factory=list)
    hidden: dict[str, str] = field(default_factory=dict)  # receipt -> body
    failures: dict[str, list[tuple[int, str]]] = field(default_factory=dict)  # operation -> status and code, in order
    asked: list[str] = field(default_factory=list)
    receipts: int = 0
    closed: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def answer(self, operation: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.lock:
            self.asked.append(operation)
            if self.failures.get(operation):
                status, code = self.failures[operation].pop(0)
                return status, {"__type": f"com.amazonaws.sqs#{code}", "message": "no"}
        if operation == "ReceiveMessage":
            assert (asked["MaxNumberOfMessages"], asked["WaitTimeSeconds"]) == (10, 20)
            if not self.waiting:
                self.closed.wait(0.1)
            return 200, {"Messages": self._receive()}
        assert operation == "DeleteMessageBatch"
        with self.lock:
            for entry in asked["Entries"]:
                self.hidden.pop(entry["ReceiptHandle"], None)
        return 200, {"Successful": [{"Id": entry["Id"]} for entry in asked["Entries"]], "Failed": []}

    def _receive(self) -> list[dict[str, str]]:
        found = []
        with self.lock:
            for body in self.waiting[:10]:
                self.receipts += 1
                receipt = f"r{self.receipts}"
                self.hidden[receipt] = body
                found.append({"MessageId": receipt, "ReceiptHandle": receipt, "Body": body})
            del self.waiting[:10]
        return found

    def reappear(self) -> None:
        """The visibility timeout of every hidden message is over."""
        with self.lock:
            self.waiting += self.hidden.values()
            self.hidden.clear()


@pytest.fixture(scope="module")
def account_and_servers() -> Iterator[tuple[Account, dict[str, Sqs]]]:
    """One server and one account for all: making clients is what takes long. A queue per test, by the path of its URL."""
    queues: dict[str, Sqs] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:  # the name that http.server calls
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            status, told = queues[asked["QueueUrl"]].answer(operation, asked)
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server, pytest.MonkeyPatch.context() as environ:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        environ.setenv("AWS_ACCESS_KEY_ID", "test")
        environ.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environ.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        account = Account(Aws(region="eu-west-1", max_attempts=1))
        account.messages()
        yield account, queues
        server.shutdown()
        thread.join()


@pytest.fixture
def sqs(account_and_servers: tuple[Account, dict[str, Sqs]], request: pytest.FixtureRequest) -> Iterator[Sqs]:
    made = Sqs(url=f"http://127.0.0.1/{ACCOUNT}/{request.node.name}")
    account_and_servers[1][made.url] = made
    yield made
    made.closed.set()


class Quick(SystemClock):
    """Pauses are asked for as ever, and not waited in full."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(min(seconds, 0.02))


@dataclass
class Ear:
    wakeups: Wakeups
    told: list[Heard]
    listener: QueueListener


@pytest.fixture
def listen(sqs: Sqs, account_and_servers: tuple[Account, dict[str, Sqs]]) -> Iterator[Callable[[], Ear]]:
    running: list[QueueListener] = []

    def start() -> Ear:
        wakeups, told = Wakeups(SystemClock()), list[Heard]()
        hearing = Hearing(wakeups, lambda: SCOPE, told.append, Prover(60.0, SystemClock(), NoTally()))
        running.append(QueueListener(account_and_servers[0], FixedQueue(sqs.url), hearing, Quick()))
        return Ear(wakeups, told, running[-1])

    yield start
    for listener in running:
        listener.stop()
        assert not listener._thread.is_alive()


def drained(sqs: Sqs) -> None:
    wait_until(lambda: not sqs.waiting and not sqs.hidden, LONG, "every message to be deleted")


def test_a_thousand_events_are_few_reasons_and_a_line_for_each_poison(sqs: Sqs, listen: Callable[[], Ear]) -> None:
    kinds = [event("Launch"), event("Terminate"), event("Launch"), "{poison", event("Launch", group="others")]
    sqs.waiting = [kinds[number % 5] for number in range(1000)]  # disorder and duplicates by nature
    ear = listen()
    drained(sqs)
    assert ear.wakeups.take() == ("event: site came", "event: site left")
    wait_until(lambda: len(ear.told) == 400, LONG, "the last line")
    assert sorted(found.kind for found in ear.told) == ["aside"] * 200 + ["poison"] * 200
    assert sqs.asked.count("DeleteMessageBatch") == 100


def test_memory_is_flat(sqs: Sqs, listen: Callable[[], Ear]) -> None:
    ear = listen()

    def flood(count: int) -> int:
        sqs.waiting = [event("Launch"), event("Terminate")] * (count // 2)
        drained(sqs)
        ear.wakeups.take()
        sqs.asked.clear()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = flood(400)
        grown = flood(1000) - before
    finally:
        tracemalloc.stop()
    assert grown < 200_000  # bytes, for a thousand messages of 150; what varies is buffers of connections


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (400, "RequestThrottled", "RequestThrottled"),
        (403, "AccessDenied", "allow sqs:ReceiveMessage"),
        (400, "QueueDoesNotExist", "QueueDoesNotExist"),
        (500, "InternalError", "InternalError"),
        (503, "", "no events"),
    ],
)
def test_no_failure_of_a_poll_ends_it(sqs: Sqs, listen: Callable[[], Ear], status: int, code: str, says: str) -> None:
    sqs.failures["ReceiveMessage"] = [(status, code)] * 5
    sqs.waiting = [event()]
    ear = listen()
    drained(sqs)
    assert ear.wakeups.take() == ("event: site came",)
    assert len(ear.told) == 3  # after the first, the second and the fourth failure
    assert all(found.kind == "fault" and says in found.text for found in ear.told)


def test_a_message_that_could_not_be_deleted_comes_again_and_harms_nobody(sqs: Sqs, listen: Callable[[], Ear]) -> None:
    failures = sqs.failures["DeleteMessageBatch"] = [(500, "InternalError")] * 3
    sqs.waiting = [event()]
    ear = listen()
    for left in (2, 1, 0):
        wait_until(lambda left=left: len(failures) == left, LONG, "a delete to fail")  # type: ignore[misc]
        sqs.reappear()
    drained(sqs)
    assert ear.wakeups.take() == ("event: site came",)
    assert sqs.receipts == 4


def test_a_message_without_a_body_is_odd(sqs: Sqs, listen: Callable[[], Ear]) -> None:
    sqs.waiting = [""]
    ear = listen()
    drained(sqs)
    wait_until(lambda: [found.kind for found in ear.told] == ["poison"], LONG, "its line")
    assert ear.wakeups.take() == ()
