"""The vars file of the load balancer that hafleet replaces, as typed, frozen values: one file per load balancer.

Source: github.com/filipenf/aws-load-balancer, vars/ and the templates and tasks that read it. ``hafleet.config.oldvars`` builds
these from YAML; ``core.migration`` turns them into settings and into variables of the role hafleet_fleet.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from hafleet.core.hostregex import Names, names_of, patterns_of
from hafleet.core.texts import FleetName, HostName, Name, Region, Shape
from hafleet.core.values import Address, Connections, Model, Refusal, Whole

# key -> why it is not carried over, and what to do
LEFT: dict[str, tuple[str, str]] = {
    "server_type": ("nothing reads a type of server", "write it into hafleet_fleet_tags if your inventory wants it"),
    "repository_name": (
        "nodes do not fetch a repository",
        "bake an image with build-ami.yml, or let nodes pull: ansible/inventory/user-data.sh",
    ),
    "branch": (
        "nodes do not fetch a repository",
        "bake an image with build-ami.yml, or let nodes pull: ansible/inventory/user-data.sh",
    ),
    "availability_zones": ("the subnets say the zones", "list a subnet of each zone in hafleet_fleet_subnets"),
    "asg_tags": ("the role tags what it makes", "write yours into hafleet_fleet_tags"),
    "haproxy_stats_password": ("the statistics page listens on loopback only", "reach it by ssh or Session Manager"),
}
# Keys that settings can do without.
ANSIBLE_ONLY = frozenset(
    {"region", "instance_type", "ami", "subnets", "key_name", "min_size", "max_size", "security_group_rules"}
)


def parse_subnets(value: object) -> object:
    """``"subnet-a,subnet-b"`` or a list -> list."""
    return [part for part in re.split(r"[\s,]+", value) if part] if isinstance(value, str) else value


def parse_expression(text: str) -> str:
    """A regular expression over names, as it is. Raises Refusal when it comes down to no list of names."""
    names_of(text)
    return text


def parse_mapping_name(text: str) -> str:
    """The name of a mapping. Raises Refusal for those that hafleet keeps for itself."""
    if text.startswith("hafleet_"):
        raise Refusal(f"the name {text!r} is reserved", "choose another; all that begin with hafleet_ are taken")
    return text


class Rule(Model):
    """One rule of the security group, in the words of Ansible's module."""

    proto: Annotated[
        str, Shape(r"tcp|udp|icmp|icmpv6|all|-?[0-9]{1,3}", "a protocol", "write tcp, udp, icmp or all")
    ] = "tcp"
    from_port: Whole
    to_port: Whole
    cidr_ip: Annotated[str, Shape(r"[0-9.]{7,15}/[0-9]{1,2}", "a network", "write it as 10.0.0.0/8")] | None = None


class Mapping(Model):
    """One site: its names, and the private addresses of its servers, which listen on 80 and 443."""

    name: Annotated[Name, Field(max_length=57), AfterValidator(parse_mapping_name)]  # with _https at most 63
    domain: Annotated[str, AfterValidator(parse_expression)]
    servers: tuple[Address, ...] = Field(min_length=1)
    mode: Literal["tcp", "http"] = "tcp"

    @property
    def names(self) -> Names:
        """What its expression comes down to."""
        return names_of(self.domain)

    def took(self, name: str) -> bool:
        """True when its expression matches this name."""
        return any(re.search(pattern, name, re.IGNORECASE) for pattern in patterns_of(self.domain))


class OldVars(Model):
    """The whole file. Defaults are those of the old roles; what is None stays unsaid."""

    region: Region | None = None
    server_name: FleetName = "loadbalancer"
    domain_name: HostName | None = None
    auto_register_domain: HostName | None = None
    instance_type: (
        Annotated[str, Shape(r"[a-z0-9.-]+", "an instance type", "write it as AWS does, such as t3.small")] | None
    ) = None
    ami: Annotated[str, Shape(r"ami-[0-9a-f]+", "an image's id", "write it as AWS does, such as ami-0abc")] | None = (
        None
    )
    subnets: Annotated[
        tuple[
            Annotated[str, Shape(r"subnet-[0-9a-f]+", "a subnet's id", "write it as AWS does, such as subnet-0abc")],
            ...,
        ],
        BeforeValidator(parse_subnets),
    ] = ()
    key_name: Annotated[str, Shape(r"[ -~]+", "a key's name", "write it as AWS shows it")] | None = None
    min_size: Annotated[Whole, Field(ge=0, le=10_000)] = 1
    max_size: Annotated[Whole, Field(ge=0, le=10_000)] = 1
    haproxy_maxconn: Connections = 40_000
    security_group_rules: tuple[Rule, ...] = ()
    lb_mappings: tuple[Mapping, ...] = Field(min_length=1)
