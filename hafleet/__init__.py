"""hafleet: keeps a fleet of HAProxy nodes in step with AWS Auto Scaling."""

__version__ = "0.1.0"
