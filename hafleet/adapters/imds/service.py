"""IMDSv2 itself: a session token, and items by their path.

HTTP is spoken directly, without the proxies of the environment: metadata must never leave the host.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from hafleet.errors import MetadataUnavailable

_ENDPOINT = "http://169.254.169.254"
_ENDPOINT_V6 = "http://[fd00:ec2::254]"
_TOKEN_FOR = 21600  # seconds; the longest life that IMDS grants
_RENEW = 300.0  # seconds before its end a token is renewed
_LIMIT = 65536  # bytes; no item we read is longer
META = "/latest/meta-data"


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    text: str


class Service:
    """The metadata service of this host. For any thread.

    Args:
        environ: where ``AWS_EC2_METADATA_SERVICE_ENDPOINT`` and ``..._MODE`` are looked up; the process's own by default.
        timeout: seconds for each connect and each answer.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ, timeout: float = 2.0) -> None:
        self.endpoint = _endpoint(environ)
        self._timeout = timeout
        self._token: tuple[str, float] | None = None  # the token, and the monotonic time of its end

    def item(self, path: str) -> str:
        """A metadata item that every instance has."""
        text = self.optional(f"{META}/{path}")
        if not text:
            raise self.failed(f"there is no {path}", "check who answers at the metadata address")
        return text

    def optional(self, path: str) -> str | None:
        """A metadata item, or None where this instance has none (404). One new token is fetched when IMDS refuses the old one."""
        reply = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._fresh_token()})
        if reply.status == 401:
            self._token = None
            reply = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._fresh_token()})
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise self.failed(f"{path} was answered by HTTP {reply.status}", "look at the instance's metadata options")
        return reply.text.strip()

    def _fresh_token(self) -> str:
        """A session token. Version 1, which needs none, is never spoken."""
        now = time.monotonic()
        token = self._token  # another thread may forget it meanwhile
        if token is not None and now < token[1]:
            return token[0]
        reply = self._ask("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_FOR)})
        if reply.status == 403:
            raise self.failed("the metadata service is switched off", "set the instance's HttpEndpoint to enabled")
        if reply.status != 200 or not reply.text.isascii() or not reply.text.isprintable():
            fix = "set the instance's HttpTokens to required; version 1 is not spoken"
            raise self.failed(f"no session token was given (HTTP {reply.status})", fix)
        self._token = (reply.text, now + _TOKEN_FOR - _RENEW)
        return reply.text

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> _Reply:
        """One request on a connection of its own."""
        try:
            parts = urlsplit(self.endpoint)
            if not parts.hostname:
                raise ValueError("the endpoint names no host")
            connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=self._timeout)
            try:
                connection.request(method, parts.path.rstrip("/") + path, headers=dict(headers))
                reply = connection.getresponse()
                return _Reply(reply.status, reply.read(_LIMIT).decode("utf-8", "replace"))
            finally:
                connection.close()
        except (OSError, HTTPException, ValueError) as error:
            self._token = None
            fix = "in a container raise the hop limit (HttpPutResponseHopLimit 2); off EC2 describe the node under node.static"
            raise self.failed(f"it does not answer: {type(error).__name__} {error}".rstrip(), fix) from error

    def failed(self, what: str, fix: str) -> MetadataUnavailable:
        """The error of an answer: what is wrong with it, and what to do."""
        return MetadataUnavailable(what, where=f"IMDS {self.endpoint}", fix=fix)


def _endpoint(environ: Mapping[str, str]) -> str:
    """The base address, by the same variables as every AWS SDK."""
    named = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").strip()
    if named:
        return named.rstrip("/")
    six = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower() == "ipv6"
    return _ENDPOINT_V6 if six else _ENDPOINT
