"""Who this node is and what becomes of it: from the instance metadata service, or from the settings."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar

from hafleet.adapters.imds import notices
from hafleet.adapters.imds.service import META, Service
from hafleet.core.model import IPAddress, Node, Notices
from hafleet.core.settings import Static
from hafleet.core.sources import INSTANCE_ID
from hafleet.errors import MetadataUnavailable

T = TypeVar("T")

_BELIEVED = 60.0  # seconds for which what can change on a node is believed: its group and its public addresses
_GROUP_TAG = f"{META}/tags/instance/aws:autoscaling:groupName"
_TARGET = f"{META}/autoscaling/target-lifecycle-state"
_SPOT = f"{META}/spot/instance-action"
_REBALANCE = f"{META}/events/recommendations/rebalance"
_MAINTENANCE = f"{META}/events/maintenance/scheduled"
_LOOK = "check who answers at the metadata address"


class StaticMetadata:
    """Implements ``ports.NodeMetadata`` and ``ports.NodeNotices`` with a node described in the settings."""

    def __init__(self, static: Static) -> None:
        public = static.public_ip if isinstance(static.public_ip, IPv4Address) else None
        six = next((ip for ip in (static.public_ip, static.private_ip) if isinstance(ip, IPv6Address)), None)
        self._node = Node(static.id, static.private_ip, static.zone, static.region, static.asg, public, six)

    def identity(self) -> Node:
        """See ``ports.NodeMetadata.identity``."""
        return self._node

    def notices(self) -> Notices:
        """See ``ports.NodeNotices.notices``. Nobody announces anything for such a node."""
        return Notices()


class ImdsMetadata:
    """Implements ``ports.NodeMetadata`` and ``ports.NodeNotices`` with IMDSv2. ``notices`` is for any thread.

    Id, address, zone and region never change while an instance lives: they are read once per process. The group, the public
    address and the IPv6 address are read again each minute, for an instance can be attached to a group, and an Elastic IP to it.
    The group is "" where instance tags are not allowed in metadata. Once known, the node stays known while IMDS is silent.

    Args:
        environ: where ``AWS_EC2_METADATA_SERVICE_ENDPOINT`` and ``..._MODE`` are looked up; the process's own by default.
        timeout: seconds for each connect and each answer.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ, timeout: float = 2.0) -> None:
        self._service = Service(environ, timeout)
        self._node: Node | None = None
        self._until = 0.0  # monotonic time until which what can change is believed

    def identity(self) -> Node:
        """See ``ports.NodeMetadata.identity``."""
        now = time.monotonic()
        if self._node is None:
            zone = self._service.item("placement/availability-zone")
            self._node = self._fresh(Node(self._id(), self._address(), zone, self.region()))
            self._until = now + _BELIEVED
        elif not self._node.group or now >= self._until:
            try:
                self._node = self._fresh(self._node)
                self._until = now + _BELIEVED
            except MetadataUnavailable:  # who we are does not depend on IMDS answering again
                pass
        return self._node

    def notices(self) -> Notices:
        """See ``ports.NodeNotices.notices``. Four requests; an answer that cannot be read is an error, for it says something."""
        return Notices(
            target=self._announced(_TARGET, notices.target),
            spot=self._announced(_SPOT, notices.spot),
            rebalance=self._announced(_REBALANCE, notices.rebalance),
            maintenance=self._announced(_MAINTENANCE, notices.maintenance),
        )

    def _announced(self, path: str, parse: Callable[[str | None], T]) -> T:
        """What an item announces. Raises MetadataUnavailable."""
        text = self._service.optional(path)
        try:
            return parse(text)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise self._service.failed(f"{path} cannot be read: {error}", _LOOK) from error

    def _fresh(self, node: Node) -> Node:
        """The node with what can change, as IMDS tells it now."""
        public, six = self._parsed(f"{META}/public-ipv4"), self._parsed(f"{META}/ipv6")
        return replace(
            node,
            group=self._service.optional(_GROUP_TAG) or "",
            public=public if isinstance(public, IPv4Address) else None,
            ipv6=six if isinstance(six, IPv6Address) else None,
        )

    def region(self) -> str:
        """The region this instance runs in. Raises MetadataUnavailable."""
        return self._node.region if self._node is not None else self._service.item("placement/region")

    def _id(self) -> str:
        text = self._service.item("instance-id")
        if not INSTANCE_ID.fullmatch(text):
            raise self._service.failed(f"{text[:40]!r} is not an instance id", _LOOK)
        return text

    def _address(self) -> IPAddress:
        """The primary private address: IPv4, or IPv6 where the instance has no other."""
        address = self._parsed(f"{META}/local-ipv4") or self._parsed(f"{META}/ipv6")
        if address is None:
            raise self._service.failed("there is no ipv6", _LOOK)
        return address

    def _parsed(self, path: str) -> IPAddress | None:
        """An address, or None where this instance has none."""
        text = self._service.optional(path)
        if text is None:
            return None
        try:
            return ip_address(text)
        except ValueError as error:
            raise self._service.failed(f"{text[:40]!r} is not an address", _LOOK) from error
