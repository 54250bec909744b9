"""DNS on Amazon Route 53."""

from hafleet.adapters.route53.dns import Route53Dns

__all__ = ["Route53Dns"]
