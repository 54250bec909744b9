"""Stub of the contract; see the proxy plan."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """One runtime command and the name of the whitelist that its reply must be on."""

    text: str
    kind: str
