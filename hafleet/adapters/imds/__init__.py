"""The instance metadata service, version 2 only, or what the settings say in its place."""

from hafleet.adapters.imds.metadata import ImdsMetadata, StaticMetadata

__all__ = ["ImdsMetadata", "StaticMetadata"]
