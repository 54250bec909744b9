"""EC2 as the lab needs it: terminated instances lose their address, and addresses come back for others after a while.

Stock moto keeps the private address of a terminated instance in its answers for ever and never gives it to another one.
AWS drops it from the answer and hands it out again, which is the case that a stale server list must survive.
"""

import time
from collections import deque
from typing import Any

from moto.ec2.models import instances as moto_instances
from moto.ec2.models.instances import Instance, InstanceState
from moto.ec2.models.managed_prefixes import ManagedPrefixListBackend

from hafleet.lab import aws_events


class AddressPool:
    """Addresses of terminated instances on their way back into their subnets."""

    def __init__(self) -> None:
        self.quarantine = 30.0  # seconds between a termination and the next possible use; AWS promises no figure
        self._released: deque[tuple[float, Any, str]] = deque()

    def release(self, subnet: Any, address: str) -> None:
        """Remember that this address of this moto subnet is free from now on."""
        self._released.append((time.monotonic(), subnet, address))

    def tick(self, now: float) -> None:
        """Give every address whose quarantine is over back to its subnet."""
        while self._released and now - self._released[0][0] >= self.quarantine:
            _, subnet, address = self._released.popleft()
            subnet.del_subnet_ip(address)


ADDRESSES = AddressPool()


class LabInstance(Instance):
    """An instance that boots, and that has no address once it is terminated."""

    target_state = ""  # what its IMDS calls target-lifecycle-state; "" until a group has had it

    def pend(self) -> None:
        """Go back to ``pending``: the machine has been asked for and does not run yet."""
        self._state = InstanceState("pending", 0)

    def run(self) -> None:
        """The machine runs."""
        self._state = InstanceState("running", 16)

    def terminate(self) -> InstanceState:
        """Terminate once; the addresses go to the pool. Returns the state before."""
        if self.state == "terminated":
            return InstanceState("terminated", 48)
        subnet = self.ec2_backend.get_subnet(self.subnet_id) if self.subnet_id else None
        for elastic in self.ec2_backend.addresses:
            if elastic.instance is self:  # AWS frees it with the instance, moto does not
                self.ec2_backend.disassociate_address(association_id=elastic.association_id)
        before = super().terminate()
        for address in self._private_ips if subnet else ():
            ADDRESSES.release(subnet, address)
        self._private_ips = set()  # moto's destructor would give them back a second time
        aws_events.state_changed(self, "shutting-down")
        return before

    @property
    def gone(self) -> bool:
        """True once the machine does not run any more and never will."""
        return self.state in {"shutting-down", "terminated"}

    @property
    def network_interfaces(self) -> list[Any]:
        """The interfaces that AWS would show: none after termination."""
        return [] if self.gone else super().network_interfaces

    @property
    def private_ip(self) -> str | None:
        """Primary private address; None after termination."""
        return None if self.gone else super().private_ip

    @property
    def private_ip_address(self) -> str | None:
        """The same under the name that moto's serializer looks for."""
        return self.private_ip

    @property
    def private_dns_name(self) -> str:
        """Empty after termination, as AWS shows it."""
        return "" if self.gone else super().private_dns_name


class LabPrefixLists(ManagedPrefixListBackend):
    """The lists of networks that AWS keeps, with the checkers of Route 53, whom moto leaves out."""

    def create_default_pls(self) -> None:
        """Those that every region has from its beginning."""
        _STOCK_LISTS(self)
        for family, inset, cidr in (("IPv4", "", "15.177.0.0/18"), ("IPv6", "ipv6.", "2600:1f1c:7ff::/48")):
            name = f"com.amazonaws.{self.region_name}.{inset}route53-healthchecks"  # type: ignore[attr-defined]
            self._create_aws_managed_prefix_list(name, family, [{"Cidr": cidr, "Description": "default"}])


_STOCK_LISTS = ManagedPrefixListBackend.create_default_pls


def install() -> None:
    """Make moto build ``LabInstance`` wherever it launches one, and know the checkers' networks."""
    if not hasattr(moto_instances, "Instance"):
        raise RuntimeError("moto.ec2.models.instances has no Instance any more; this lab fits another version of moto")
    vars(moto_instances)["Instance"] = LabInstance
    ManagedPrefixListBackend.create_default_pls = LabPrefixLists.create_default_pls  # type: ignore[assignment, method-assign]
