"""AWS's answers, parsed once. What is odd in one instance stays with that instance; what is odd in a group counts against it."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from hafleet.core.model import Instance, IPAddress
from hafleet.errors import SourceUnavailable

_UNREACHED = 1_000_000_000  # stands for a DesiredCapacity that the answer does not tell: no group lists so many, so the
# guard takes the answer for half of one and removes nothing on its account


@dataclass(frozen=True, slots=True)
class RawGroup:
    """A group as listed: its instances have no address yet."""

    name: str
    desired: int
    instances: tuple[Instance, ...]  # sorted by id
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Addresses:
    """Primary private addresses of one instance."""

    v4: IPv4Address | None = None
    v6: IPv6Address | None = None

    def of(self, *, ipv6: bool) -> IPAddress | None:
        """The one of this family."""
        return self.v6 if ipv6 else self.v4


def parse_group(raw: Mapping[str, Any], where: str) -> RawGroup:
    """One item of DescribeAutoScalingGroups. Raises SourceUnavailable when it has no name, so that it cannot be told apart."""
    name = raw.get("AutoScalingGroupName")
    if not isinstance(name, str) or not name:
        raise SourceUnavailable(
            "a group without a name is in the answer", where=where, fix="nothing now: it is tried again"
        )
    desired = raw.get("DesiredCapacity")
    instances = sorted((_parse_instance(item) for item in raw.get("Instances") or ()), key=lambda i: i.id)
    pairs = ((tag.get("Key"), tag.get("Value")) for tag in raw.get("Tags") or ())
    return RawGroup(
        name=name,
        desired=desired if isinstance(desired, int) and desired >= 0 else _UNREACHED,
        instances=tuple(instances),
        tags={key: value or "" for key, value in pairs if isinstance(key, str)},
    )


def parse_addresses(raw: Mapping[str, Any]) -> Addresses:
    """The primary private addresses of one item of DescribeInstances.

    Primary is the interface with DeviceIndex 0, wherever it stands in the list; where EC2 lists no interface, its own summary.
    """
    interfaces = raw.get("NetworkInterfaces") or ()
    nothing: Mapping[str, Any] = {}
    primary = next((nic for nic in interfaces if (nic.get("Attachment") or {}).get("DeviceIndex") == 0), nothing)
    v4 = _address(primary.get("PrivateIpAddress") or raw.get("PrivateIpAddress"))
    listed = primary.get("Ipv6Addresses") or ()
    first = next((item for item in listed if item.get("IsPrimaryIpv6")), next(iter(listed), nothing))
    v6 = _address(first.get("Ipv6Address") or raw.get("Ipv6Address"))
    return Addresses(v4 if isinstance(v4, IPv4Address) else None, v6 if isinstance(v6, IPv6Address) else None)


def _parse_instance(raw: Mapping[str, Any]) -> Instance:
    """One member of a group. A field that is missing or odd becomes one that the core quarantines."""
    return Instance(
        id=_text(raw.get("InstanceId")),
        state=_text(raw.get("LifecycleState")),
        zone=_text(raw.get("AvailabilityZone")),
        address=None,
        capacity=_capacity(raw.get("WeightedCapacity")),
    )


def _capacity(raw: object) -> int:
    """WeightedCapacity comes as text, and only in groups with weights."""
    return int(raw) if isinstance(raw, str) and raw.isascii() and raw.isdigit() and 1 <= int(raw) <= 999 else 1


def _text(raw: object) -> str:
    return raw if isinstance(raw, str) else ""


def _address(raw: object) -> IPAddress | None:
    """An address to connect to, or None: what is none, and what no server has (unspecified, multicast)."""
    try:
        address = ip_address(raw) if isinstance(raw, str) else None
    except ValueError:
        return None
    return None if address is None or address.is_unspecified or address.is_multicast else address
