"""IMDSv2 for one lab node: token first, then the few keys that a node asks for; everything else is 404.

Breakable: ``refuse`` (no listener's answer), ``hang``, ``unauthorized`` (401 whatever the token), ``error`` (500) and
``v1`` (no token route, as on hosts that only know IMDSv1).
"""

import json
import secrets
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

FAULTS = frozenset({"", "refuse", "hang", "unauthorized", "error", "v1"})
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the metadata of one instance says."""

    instance_id: str
    address: str
    zone: str
    region: str
    group: str = ""  # "" where no group has it, or where what it follows says so
    tags: Mapping[str, str] = field(default_factory=dict)

    def tree(self) -> dict[str, str]:
        """Path under /latest/ -> text. Lists of keys are built from these by ``Imds``."""
        document = {
            "accountId": "123456789012",
            "availabilityZone": self.zone,
            "instanceId": self.instance_id,
            "privateIp": self.address,
            "region": self.region,
        }
        tags = {"aws:autoscaling:groupName": self.group, **self.tags} if self.group else dict(self.tags)
        return {
            "meta-data/instance-id": self.instance_id,
            "meta-data/local-ipv4": self.address,
            "meta-data/public-ipv4": self.address,  # 127.0.0.0/8 is the lab's own internet
            "meta-data/mac": "02:00:00:00:00:01",
            "meta-data/placement/availability-zone": self.zone,
            "meta-data/placement/region": self.region,
            "meta-data/services/domain": "amazonaws.com",
            "meta-data/events/maintenance/history": "[]",
            "meta-data/events/maintenance/scheduled": "[]",
            **{f"meta-data/tags/instance/{key}": value for key, value in tags.items()},
            "dynamic/instance-identity/document": json.dumps(document),
        }


class Metadata:
    """What one node is told."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.fault = ""
        self.requests = 0
        self._followed: Mapping[str, str] = {}  # what EC2 says beside the identity
        self._put: dict[str, str | None] = {}  # by hand; None: the key does not exist
        self.tokens: dict[str, float] = {}  # token -> monotonic time at which it ends

    def break_(self, fault: str) -> None:
        """Fail from now on in this way; an empty text heals.

        Raises:
            ValueError: no such fault.
        """
        if fault not in FAULTS:
            raise ValueError(
                f"{fault!r} is no fault of the metadata service; choose one of {', '.join(sorted(FAULTS))}"
            )
        self.fault = fault

    def follow(self, told: Mapping[str, str]) -> None:
        """Serve these beside the identity, path under /latest/ -> text; what was followed before and is not here is gone."""
        self._followed = dict(told)

    def put(self, path: str, text: str | None) -> None:
        """Serve this text at this path under /latest/, whatever EC2 says; None: 404."""
        self._put = {**self._put, path: text}

    def lookup(self, path: str) -> str | None:
        """The text at this path under /latest/, a list of keys for a folder, None for neither."""
        told = {**self.identity.tree(), **self._followed, **self._put}
        tree = {key: text for key, text in told.items() if text is not None}
        if path in tree:
            return tree[path]
        folder = path.rstrip("/") + "/"
        below = {key.removeprefix(folder) for key in tree if key.startswith(folder)}
        names = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in below})
        return "\n".join(names) or None


class Imds(Metadata):
    """The server of one node, on an address and port of its own, in threads of this process."""

    def __init__(self, identity: Identity, address: str, port: int) -> None:
        super().__init__(identity)
        self._server = _Server((address, port), lambda _: self)
        self.url = f"http://{address}:{port}/"

    def close(self) -> None:
        """Stop serving."""
        self._server.end()


class Desk:
    """One address for several nodes, which are told apart by where they ask from. ``nodes`` has them by address."""

    def __init__(self, address: str, port: int) -> None:
        self.nodes: dict[str, Metadata] = {}
        self._server = _Server((address, port), self.nodes.get)

    def close(self) -> None:
        """Stop serving."""
        self._server.end()


class _Server(socketserver.ThreadingTCPServer):
    """Serves as soon as it exists. Not HTTPServer, which looks names up."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], told: Callable[[str], Metadata | None]) -> None:
        self.told = told  # by the address that asks; None: nobody knows it
        super().__init__(address, _Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True, name="imds").start()

    def end(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing to tell of a node that was killed while it asked."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it came


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        """A new token."""
        imds = self._asked()
        if imds is None:
            return
        if self.path != "/latest/api/token" or imds.fault == "v1":
            self._answer(404, "")
            return
        seconds = self.headers.get(TTL_HEADER, "")
        if not seconds.isdigit() or not 1 <= int(seconds) <= 21600:
            self._answer(400, "")
            return
        token = secrets.token_urlsafe(24)
        imds.tokens[token] = time.monotonic() + int(seconds)
        self._answer(200, token)

    def do_GET(self) -> None:
        """One key, for the holder of a token that has not ended."""
        imds = self._asked()
        if imds is None:
            return
        ends = imds.tokens.get(self.headers.get(TOKEN_HEADER, ""), 0.0)
        if imds.fault != "v1" and (imds.fault == "unauthorized" or ends < time.monotonic()):
            self._answer(401, "")
            return
        text = imds.lookup(self.path.removeprefix("/latest/"))
        self._answer(404, "") if text is None else self._answer(200, text)

    def _asked(self) -> Metadata | None:
        """What the one who asks is told; None when it was answered already, or will not be."""
        imds = self.server.told(self.client_address[0])
        if imds is None:
            self._answer(404, "")
        return None if imds is None or self._broken(imds) else imds

    def _broken(self, imds: Metadata) -> bool:
        imds.requests += 1
        if imds.fault == "error":
            self._answer(500, "")
        elif imds.fault == "hang":
            while imds.fault == "hang":
                time.sleep(0.05)
        if imds.fault == "refuse":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        return imds.fault in {"error", "refuse"}

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
