"""Two AWS to read from: the strict one in memory, and moto's server over real HTTP."""

from typing import Protocol

import boto3

from hafleet.adapters.asg import AsgMembership
from hafleet.adapters.aws import Account
from hafleet.core.settings import Aws
from hafleet.ports import Membership
from tests.fakes.aws import FakeAws

REGION = "eu-west-1"


class Stage(Protocol):
    """What the contract suite needs of an AWS."""

    @property
    def membership(self) -> Membership:
        """The port under test."""
        ...

    @property
    def calls(self) -> list[str]:
        """Operations called so far."""
        ...

    def create(self, name: str, count: int = 0, tags: dict[str, str] | None = None) -> None:
        """A group with instances in service."""
        ...

    def scale(self, name: str, count: int) -> None:
        """Another desired capacity, obeyed at once."""
        ...

    def standby(self, name: str, instance: str) -> None:
        """Put one instance into Standby."""
        ...

    def delete(self, name: str) -> None:
        """The group is gone."""
        ...

    def untag(self, name: str, key: str) -> None:
        """Take a tag off a group."""
        ...


class InMemory(FakeAws):
    """The fake is its own port."""

    @property
    def membership(self) -> Membership:
        """Itself."""
        return self


class OverHttp:
    """AsgMembership against moto's server, which the environment's endpoint names."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        account = Account(Aws(region=REGION), lambda name, _, __: self.calls.append(name))
        self.membership: Membership = AsgMembership(account)
        session = boto3.session.Session(region_name=REGION)
        self._scaling = session.client("autoscaling")
        ec2 = session.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/16", AvailabilityZone=f"{REGION}a")
        self._subnet = subnet["Subnet"]["SubnetId"]
        data = {"ImageId": "ami-12c6146b", "InstanceType": "t3.micro"}
        ec2.create_launch_template(LaunchTemplateName="template", LaunchTemplateData=data)  # type: ignore[arg-type]

    def create(self, name: str, count: int = 0, tags: dict[str, str] | None = None) -> None:
        """See ``Stage``."""
        self._scaling.create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=1000,
            DesiredCapacity=count,
            LaunchTemplate={"LaunchTemplateName": "template", "Version": "$Latest"},
            VPCZoneIdentifier=self._subnet,
            Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": False} for key, value in (tags or {}).items()],
        )

    def scale(self, name: str, count: int) -> None:
        """See ``Stage``."""
        self._scaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=count)

    def standby(self, name: str, instance: str) -> None:
        """See ``Stage``."""
        self._scaling.enter_standby(
            InstanceIds=[instance], AutoScalingGroupName=name, ShouldDecrementDesiredCapacity=True
        )

    def delete(self, name: str) -> None:
        """See ``Stage``."""
        self._scaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)

    def untag(self, name: str, key: str) -> None:
        """See ``Stage``."""
        tag = {"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": key}
        self._scaling.delete_tags(Tags=[tag])  # type: ignore[list-item]
