"""The seams between the pass and the world. Each Protocol is what a pass needs, no more; adapters implement it.

Every read either returns a complete answer or raises a ``SourceUnavailable``/``ProxyUnavailable``/``StoreError`` of ``errors``.
"""

from hafleet.ports.aws import Addresses, Dns, Hooks, Instances, Membership, NodeTags, Orders
from hafleet.ports.disk import DnsStore, History, LifeStore, Store
from hafleet.ports.haproxy import Proxy, Renderer
from hafleet.ports.host import (
    Chance,
    Clock,
    Locks,
    NodeMetadata,
    NodeNotices,
    Notifier,
    PeerWatch,
    Tally,
    Tidings,
    Wakeups,
    Watch,
)

__all__ = [
    "Addresses",
    "Chance",
    "Clock",
    "Dns",
    "DnsStore",
    "History",
    "Hooks",
    "Instances",
    "LifeStore",
    "Locks",
    "Membership",
    "NodeMetadata",
    "NodeNotices",
    "NodeTags",
    "Notifier",
    "Orders",
    "PeerWatch",
    "Proxy",
    "Renderer",
    "Store",
    "Tally",
    "Tidings",
    "Wakeups",
    "Watch",
]
