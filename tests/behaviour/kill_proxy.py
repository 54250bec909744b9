"""A proxy in front of the local AWS that writes down every write, and asks before and after each call whether somebody dies of it.

Who calls is told by the access key: each agent has its own. The writes go through one after the other, so that their order here is
the order in which AWS did them.
"""

import http.client
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, Literal

from hafleet.lab.aws_faults import Call, read_call

When = Literal["before", "after"]
Strike = Callable[[Call, When], bool]  # True: the caller is dead, and gets no answer

PORT = 5601
_READS = ("Describe", "Get", "List", "Receive", "DeleteMessage")  # deleting messages is the end of a read
_OWN = {"transfer-encoding", "connection", "content-length"}  # headers that belong to one connection


@dataclass(frozen=True, slots=True)
class Written:
    """One call that changed something, or was refused."""

    caller: str
    name: str  # operation
    asked: str  # path, query and body
    status: int
    answer: str

    @property
    def done(self) -> bool:
        """True when AWS did it."""
        return self.status < 300

    def field(self, name: str) -> str:
        """A field of a form or of a JSON body; "" when there is none."""
        form = re.search(rf"(?:^|[&?\n]){name}=([^&\n]*)", self.asked)
        if form:
            return form[1]
        plain = re.search(rf'"{name}": ?"([^"]*)"', self.asked)
        return plain[1] if plain else ""

    def told(self, tag: str) -> str:
        """What stands in the first element of this name of an XML answer."""
        found = re.search(rf"<{tag}>([^<]*)</{tag}>", self.answer)
        return found[1] if found else ""


def is_write(operation: str) -> bool:
    """True for a call that may change something."""
    return not operation.startswith(_READS)


class Recorder:
    """The proxy, in threads of this process.

    Args:
        host: where it listens.
        upstream: host and port of the local AWS.
        strike: asked before a call reaches AWS, and when AWS has answered it.
    """

    def __init__(self, host: str, upstream: tuple[str, int], strike: Strike) -> None:
        self.journal: list[Written] = []
        self.upstream = upstream
        self.strike = strike
        self.order = threading.Lock()
        self.url = f"http://{host}:{PORT}"
        self._server = _Server((host, PORT), self)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="recorder").start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], recorder: Recorder) -> None:
        self.recorder = recorder
        super().__init__(address, _Relay)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that is dead, or an AWS that ended: neither is ours to tell."""


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def _relay(self) -> None:
        recorder = self.server.recorder
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        call = read_call(
            {
                "HTTP_AUTHORIZATION": self.headers.get("Authorization", ""),
                "HTTP_X_AMZ_TARGET": self.headers.get("X-Amz-Target", ""),
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
            },
            body,
        )
        if recorder.strike(call, "before"):
            self.close_connection = True
            return
        if is_write(call.operation):
            with recorder.order:
                status, headers, answer = self._forward(body)
                asked = f"{self.path}\n{body.decode('utf-8', 'replace')}"
                told = answer.decode("utf-8", "replace")
                recorder.journal.append(Written(call.caller, call.operation, asked, status, told))
        else:
            status, headers, answer = self._forward(body)
        if recorder.strike(call, "after"):
            self.close_connection = True
            return
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _OWN:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.server.recorder.upstream, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def do_GET(self) -> None:
        self._relay()

    def do_POST(self) -> None:
        self._relay()

    def do_DELETE(self) -> None:
        self._relay()


def records_changed(written: Written) -> list[tuple[str, str]]:
    """CREATE, DELETE or UPSERT, and the set identifier, of each change of a ChangeResourceRecordSets."""
    changes = re.findall(r"<Change>(.*?)</Change>", written.asked, re.DOTALL)
    found = []
    for change in changes:
        action = re.search(r"<Action>(\w+)</Action>", change)
        owner = re.search(r"<SetIdentifier>([^<]*)</SetIdentifier>", change)
        found.append((action[1] if action else "", owner[1] if owner else ""))
    return found


def queue_of(written: Written) -> str:
    """The name of the queue that a call of SQS or SNS is about; "" for none."""
    for text in (written.field("QueueName"), written.field("QueueUrl"), written.field("Endpoint")):
        if text:
            return re.split(r"[:/]|%3A|%2F", text)[-1]
    return ""
