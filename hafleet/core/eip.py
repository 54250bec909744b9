"""A pool of Elastic IP addresses: which one is this node's, and which it tries to get. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address


@dataclass(frozen=True, slots=True)
class Address:
    """An Elastic IP address of the pool."""

    allocation: str  # its id, eipalloc-...
    ip: IPv4Address
    association: str = ""  # eipassoc-...; "" while nobody has it
    instance: str = ""  # who has it; "" for nobody, or for a network interface of no instance


def mine(pool: Sequence[Address], node: str) -> Address | None:
    """The address that this node has; of several the first by id. The others are left alone: somebody else gave them."""
    own = sorted((a for a in pool if a.association and a.instance == node), key=lambda a: a.allocation)
    return own[0] if own else None


def free(pool: Sequence[Address], node: str) -> tuple[Address, ...]:
    """The addresses that nobody has, in an order of this node's own: nodes that join at once try different ones first."""

    def place(address: Address) -> bytes:
        return sha256(f"{node} {address.allocation}".encode()).digest()

    return tuple(sorted((a for a in pool if not a.association), key=place))
