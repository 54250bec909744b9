"""Who this node is: from the instance metadata service, version 2 only, or from the settings.

HTTP is spoken directly, without the proxies of the environment: metadata must never leave the host.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from hafleet.core.model import IPAddress, Node
from hafleet.core.settings import Static
from hafleet.core.sources import INSTANCE_ID
from hafleet.errors import MetadataUnavailable

_ENDPOINT = "http://169.254.169.254"
_ENDPOINT_V6 = "http://[fd00:ec2::254]"
_TOKEN_FOR = 21600  # seconds; the longest life that IMDS grants
_RENEW = 300.0  # seconds before its end a token is renewed
_BELIEVED = 60.0  # seconds for which what can change on a node is believed: its group and its public addresses
_LIMIT = 4096  # bytes; no item we read is longer
_GROUP_TAG = "/latest/meta-data/tags/instance/aws:autoscaling:groupName"


class StaticMetadata:
    """Implements ``ports.NodeMetadata`` with a node described in the settings."""

    def __init__(self, static: Static) -> None:
        public = static.public_ip if isinstance(static.public_ip, IPv4Address) else None
        six = next((ip for ip in (static.public_ip, static.private_ip) if isinstance(ip, IPv6Address)), None)
        self._node = Node(static.id, static.private_ip, static.zone, static.region, static.asg, public, six)

    def identity(self) -> Node:
        """See ``ports.NodeMetadata.identity``."""
        return self._node


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    text: str


class ImdsMetadata:
    """Implements ``ports.NodeMetadata`` with IMDSv2.

    Id, address, zone and region never change while an instance lives: they are read once per process. The group, the public
    address and the IPv6 address are read again each minute, for an instance can be attached to a group, and an Elastic IP to it.
    The group is "" where instance tags are not allowed in metadata. Once known, the node stays known while IMDS is silent.

    Args:
        environ: where ``AWS_EC2_METADATA_SERVICE_ENDPOINT`` and ``..._MODE`` are looked up; the process's own by default.
        timeout: seconds for each connect and each answer.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ, timeout: float = 2.0) -> None:
        self._endpoint = _endpoint(environ)
        self._timeout = timeout
        self._token: tuple[str, float] | None = None  # the token, and the monotonic time of its end
        self._node: Node | None = None
        self._until = 0.0  # monotonic time until which what can change is believed

    def identity(self) -> Node:
        """See ``ports.NodeMetadata.identity``."""
        now = time.monotonic()
        if self._node is None:
            zone = self._item("placement/availability-zone")
            self._node = self._fresh(Node(self._id(), self._address(), zone, self.region()))
            self._until = now + _BELIEVED
        elif not self._node.group or now >= self._until:
            try:
                self._node = self._fresh(self._node)
                self._until = now + _BELIEVED
            except MetadataUnavailable:  # who we are does not depend on IMDS answering again
                pass
        return self._node

    def _fresh(self, node: Node) -> Node:
        """The node with what can change, as IMDS tells it now."""
        public, six = self._parsed("/latest/meta-data/public-ipv4"), self._parsed("/latest/meta-data/ipv6")
        return replace(
            node,
            group=self._optional(_GROUP_TAG) or "",
            public=public if isinstance(public, IPv4Address) else None,
            ipv6=six if isinstance(six, IPv6Address) else None,
        )

    def region(self) -> str:
        """The region this instance runs in. Raises MetadataUnavailable."""
        return self._node.region if self._node is not None else self._item("placement/region")

    def _id(self) -> str:
        text = self._item("instance-id")
        if not INSTANCE_ID.fullmatch(text):
            raise self._failed(f"{text[:40]!r} is not an instance id", "check who answers at the metadata address")
        return text

    def _address(self) -> IPAddress:
        """The primary private address: IPv4, or IPv6 where the instance has no other."""
        address = self._parsed("/latest/meta-data/local-ipv4") or self._parsed("/latest/meta-data/ipv6")
        if address is None:
            raise self._failed("there is no ipv6", "check who answers at the metadata address")
        return address

    def _parsed(self, path: str) -> IPAddress | None:
        """An address, or None where this instance has none."""
        text = self._optional(path)
        if text is None:
            return None
        try:
            return ip_address(text)
        except ValueError as error:
            raise self._failed(
                f"{text[:40]!r} is not an address", "check who answers at the metadata address"
            ) from error

    def _item(self, path: str) -> str:
        """A metadata item that every instance has."""
        text = self._optional(f"/latest/meta-data/{path}")
        if not text:
            raise self._failed(f"there is no {path}", "check who answers at the metadata address")
        return text

    def _optional(self, path: str) -> str | None:
        """A metadata item, or None where this instance has none (404). One new token is fetched when IMDS refuses the old one."""
        reply = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._fresh_token()})
        if reply.status == 401:
            self._token = None
            reply = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._fresh_token()})
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise self._failed(f"{path} was answered by HTTP {reply.status}", "look at the instance's metadata options")
        return reply.text.strip()

    def _fresh_token(self) -> str:
        """A session token. Version 1, which needs none, is never spoken."""
        now = time.monotonic()
        if self._token is not None and now < self._token[1]:
            return self._token[0]
        reply = self._ask("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_FOR)})
        if reply.status == 403:
            raise self._failed("the metadata service is switched off", "set the instance's HttpEndpoint to enabled")
        if reply.status != 200 or not reply.text.isascii() or not reply.text.isprintable():
            fix = "set the instance's HttpTokens to required; version 1 is not spoken"
            raise self._failed(f"no session token was given (HTTP {reply.status})", fix)
        self._token = (reply.text, now + _TOKEN_FOR - _RENEW)
        return reply.text

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> _Reply:
        """One request on a connection of its own."""
        try:
            parts = urlsplit(self._endpoint)
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
            raise self._failed(f"it does not answer: {type(error).__name__} {error}".rstrip(), fix) from error

    def _failed(self, what: str, fix: str) -> MetadataUnavailable:
        return MetadataUnavailable(what, where=f"IMDS {self._endpoint}", fix=fix)


def _endpoint(environ: Mapping[str, str]) -> str:
    """The base address, by the same variables as every AWS SDK."""
    named = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").strip()
    if named:
        return named.rstrip("/")
    six = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower() == "ipv6"
    return _ENDPOINT_V6 if six else _ENDPOINT
