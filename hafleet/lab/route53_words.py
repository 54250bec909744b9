"""Words that the parts of the local Route 53 share: its error, names as it spells and sorts them, addresses it probes."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

Shape = dict[str, Any]  # a value in botocore's shape

_ESCAPE = re.compile(r"\\([0-3][0-7]{2})")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
# RFC 5735, 6598 and 5156, as botocore's text on HealthCheckConfig.IPAddress names them, but for two kinds: 127.0.0.0/8 is
# the lab's own internet, and the documentation ranges are the public addresses of tests, for they belong to nobody.
_UNREACHABLE: tuple[IPv4Network | IPv6Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/127",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    )
)


class ApiError(Exception):
    """An error answer of the API."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        self.code = code
        self.message = message
        self.status = status
        super().__init__(f"{code}: {message}")


def canonical(name: str) -> str:
    """The name in lower case, with the dot at its end, without escapes: what names are compared by."""
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), name).lower()
    return plain if plain.endswith(".") else f"{plain}."


def shown(name: str) -> str:
    """A canonical name as the API returns it: whatever is no letter, digit, ``-``, ``_`` or dot as an octal escape."""
    if _PLAIN.issuperset(name):
        return name
    return "".join(char if char in _PLAIN else f"\\{ord(char):03o}" for char in name)


def reversed_labels(name: str) -> str:
    """``com.example.www.`` for ``www.example.com.``: what ListResourceRecordSets sorts by, the dot at the end included."""
    return ".".join(reversed(name.rstrip(".").split("."))) + "."


def bare(identifier: str) -> str:
    """An id without the path in front of it, as in ``/hostedzone/Z1``."""
    return identifier.rpartition("/")[2]


def copied(value: Any) -> Any:
    """A deep copy of plain data; several times faster than the copy module's."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


def probed(address: str) -> str:
    """The address of a health check as the API returns it: IPv6 in full length.

    Raises:
        ApiError: it is no address, or none that a checker on the internet may reach.
    """
    try:
        parsed = ip_address(address)
    except ValueError as error:
        raise ApiError("InvalidInput", f"Invalid parameter : Invalid IP address: {address}") from error
    if any(parsed in network for network in _UNREACHABLE if network.version == parsed.version):
        raise ApiError(
            "InvalidInput", f"Invalid parameter : IP address {address} is in a private, local or reserved range"
        )
    return parsed.exploded
