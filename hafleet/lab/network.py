"""A /16 of loopback addresses for one lab, so that several labs run side by side without root."""

import random
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self

LOCK_PORT = 5599
FIRST, LAST = 16, 120  # second byte; low ones are left to whoever uses 127.0.0.x and 127.1.x by hand


@dataclass(slots=True)
class Network:
    """127.N.0.0/16, held for as long as the lock socket is open."""

    number: int
    lock: socket.socket

    @property
    def cidr(self) -> str:
        """The whole of it, the VPC."""
        return f"127.{self.number}.0.0/16"

    def subnet(self, zone: int) -> str:
        """The /20 of a zone, 0 or 1."""
        return f"127.{self.number}.{zone * 16}.0/20"

    @property
    def home(self) -> str:
        """The address of the lab's own services, outside of the subnets."""
        return f"127.{self.number}.255.254"

    def client(self, number: int) -> str:
        """A source address for the load generator."""
        return f"127.{self.number}.250.{number % 250 + 1}"

    def close(self) -> None:
        """Let another lab have it."""
        self.lock.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def claim(preferred: int | None = None) -> Network:
    """Take a network that no other lab on this machine uses.

    Raises:
        OSError: every one of them is taken, or the preferred one is.
    """
    numbers = [preferred] if preferred is not None else random.sample(range(FIRST, LAST + 1), LAST - FIRST + 1)
    for number in numbers:
        lock = socket.socket()
        try:
            lock.bind((f"127.{number}.255.254", LOCK_PORT))
            lock.listen(1)
        except OSError:
            lock.close()
            continue
        return Network(number, lock)
    raise OSError(f"no free loopback network: tried {len(numbers)}; end a lab that still runs, or wait for it")
