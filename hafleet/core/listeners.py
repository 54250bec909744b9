"""Where a configuration listens: the addresses of its bind lines, and of the local peer.

``haproxy -c`` accepts an address that is taken or not on this host; the reload then stops the old listeners for two seconds.
So these addresses are tried before a reload, and for that they must be known.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SCHEME = re.compile(r"([a-z0-9]+)@")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_MANY = 1024  # a longer port range is tried at its ends only


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    """One address that HAProxy will bind."""

    address: str  # IP literal without brackets; "" for any IPv4 address, "::" for any IPv6 address
    port: int
    udp: bool = False  # a QUIC listener
    foreign: bool = False  # the address need not be on this host (``transparent``)
    line: int = 0  # line number in the text


def bind_listeners(line: str, number: int) -> tuple[Listener, ...]:
    """The listeners of one ``bind`` line; sockets, inherited file descriptors and addresses from variables are left out."""
    words = line.split(" ")
    if len(words) < 2 or "namespace" in words:
        return ()
    foreign = "transparent" in words
    found: list[Listener] = []
    for target in words[1].split(","):
        for address, port, udp in _targets(target):
            found.append(Listener(address, port, udp, foreign, number))
    return tuple(found)


def peer_listener(peers: Sequence[tuple[str, str, int]], localpeer: str) -> Listener | None:
    """The address that the local peer's line makes HAProxy bind. ``peers``: (name, address:port, line number) each."""
    for name, target, number in peers:
        if name == localpeer:
            for address, port, udp in _targets(target):
                return Listener(address, port, udp, line=number)
    return None


def _targets(target: str) -> list[tuple[str, int, bool]]:
    """(address, port, udp) for one address with a port or a range of ports; nothing for what is not an IP address."""
    scheme = _SCHEME.match(target)
    kind = scheme[1] if scheme else ""
    if kind not in {"", "ipv4", "ipv6", "tcp", "tcp4", "tcp6", "quic4", "quic6", "udp", "udp4", "udp6"}:
        return []
    address, colon, ports = (target[scheme.end() :] if scheme else target).rpartition(":")
    found = _PORTS.fullmatch(ports)
    if not colon or not found or any(sign in address for sign in "\"'$/\\"):
        return []
    first, last = int(found[1]), int(found[2] or found[1])
    every = range(first, last + 1) if last - first < _MANY else (first, last)
    address = address.removeprefix("[").removesuffix("]")
    if address in {"", "*"}:
        address = "::" if kind.endswith("6") else ""
    return [(address, port, kind.startswith(("quic", "udp"))) for port in every if 0 < port < 65536]
