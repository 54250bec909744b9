"""Network namespaces for several machines: one for what is AWS, one per machine, and a wire from each to the first."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ansible.machine import run

NEWNET = 0x40000000  # CLONE_NEWNET of setns(2)
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(space: str) -> Iterator[None]:
    """This thread, and every thread and process that it starts meanwhile, in another network namespace."""
    with Path("/proc/thread-self/ns/net").open("rb") as home, Path(f"/run/netns/{space}").open("rb") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Ground:
    """The namespace of AWS with these addresses of its own. Machines are plugged in; it passes on what they send each other."""

    def __init__(self, *own: str) -> None:
        self.name = f"hafleet-{os.getpid()}-region"  # a single node's network may be there at the same time
        self._home = own[0]
        self._plugged: dict[str, str] = {}  # address -> namespace
        run("ip", "netns", "add", self.name)
        self._ip("link", "set", "lo", "up")
        for address in own:
            self.house(address)
        forward = "/proc/sys/net/ipv4/ip_forward"
        run("ip", "netns", "exec", self.name, "sh", "-c", f"echo 1 >{forward}")

    def house(self, address: str) -> None:
        """Something in AWS's own namespace may have this address from now on. Again is no error."""
        self._ip("addr", "replace", f"{address}/32", "dev", "lo")

    def plug(self, address: str, gateway: str) -> str:
        """A new namespace for a machine with this address; returns its name.

        Args:
            address: the machine's.
            gateway: an address of AWS's namespace, by which the machine reaches everything.
        """
        name = f"{self.name}-{address.replace('.', '-')}"
        wire = f"v{address.replace('.', '')}"  # at most 15 characters
        run("ip", "netns", "add", name)
        self._plugged[address] = name
        self._ip("link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._ip("link", "set", wire, "up")
        self._ip("route", "replace", f"{address}/32", "dev", wire, "src", self._home)
        for device in ("lo", "eth0"):
            run("ip", "-n", name, "link", "set", device, "up")
        run("ip", "-n", name, "addr", "add", f"{address}/32", "dev", "eth0")
        run("ip", "-n", name, "route", "add", "default", "via", gateway, "dev", "eth0", "onlink", "src", address)
        return name

    def unplug(self, address: str) -> None:
        """The machine with this address is gone."""
        name = self._plugged.pop(address, "")
        if name:
            run("ip", "netns", "delete", name)

    def close(self) -> None:
        """Nothing is left."""
        for address in list(self._plugged):
            self.unplug(address)
        run("ip", "netns", "delete", self.name)

    def _ip(self, *words: str) -> None:
        run("ip", "-n", self.name, *words)
