"""Membership from EC2 Auto Scaling and EC2."""

from hafleet.adapters.asg.membership import AsgMembership

__all__ = ["AsgMembership"]
