"""Membership and instances from EC2 Auto Scaling and EC2."""

from hafleet.adapters.asg.instances import Ec2Instances
from hafleet.adapters.asg.membership import AsgMembership

__all__ = ["AsgMembership", "Ec2Instances"]
