"""What a lab is made of: the groups behind each backend, and the settings that all its nodes share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hafleet.core import foundation
from hafleet.lab.node import PEER_PORT, Node
from hafleet.lab.servers import PORT

FLEET = "lab"
EDGE = "edge"  # the load balancers' own group
JOIN_HOOK, LEAVE_HOOK = foundation.JOIN_HOOK, foundation.LEAVE_HOOK  # of that group
DRAIN_HOOK = "hafleet-drain"  # of the shop's groups
SIZES = {"shop-blue": 3, "shop-green": 0, "cart": 2}  # of the demo's other groups at the start
STICKY_HEADER = "x-user"
ZONE = "example.test"
DNS_NAME = f"lb.{ZONE}"
DNS_TTL = 2  # seconds
INTERVAL, THRESHOLD = 10, 1  # of the nodes' health checks: seconds, probes in a row


def shop_backends() -> list[dict[str, Any]]:
    """The backends of the demo: a shop that moves from blue to green, and carts that stick to a user."""
    check = {"path": "/healthz", "expect": "200", "interval": "500ms", "timeout": "3s", "rise": 2, "fall": 2}
    return [
        {
            "name": "shop",
            "domains": ["shop.example.com"],
            "port": PORT,
            "sources": [{"asg": "shop-blue", "weight": 100}, {"asg": "shop-green", "weight": 0}],
            "check": check,
            "drain": "2s",
        },
        {
            "name": "cart",
            "domains": ["cart.example.com"],
            "port": PORT,
            "sources": [{"asg": "cart"}],
            "stick": {"on": f"req.hdr({STICKY_HEADER})", "type": "string", "size": "10k", "expire": "10m"},
            "check": check,
            "drain": "2s",
        },
    ]


def shop_dns() -> dict[str, Any]:
    """The dns section of the demo: real health checks, and everything else quick enough to watch."""
    return {
        "name": DNS_NAME,
        "zone": ZONE,
        "ttl": DNS_TTL,
        "health": {"endpoint": {"interval": INTERVAL, "threshold": THRESHOLD}},
        "interval": "1s",
        "settle": "5s",
        "reap": {"interval": "1s", "confirm": "1s"},
    }


def shop_life() -> dict[str, Any]:
    """The lifecycle section of the demo: the agents attend to the hooks of their group."""
    return {"join_timeout": "120s", "peers_timeout": "20s", "drain": {"quiet": "1s", "max": "60s"}}


def shop_plan() -> "Plan":
    """All of the demo: a fleet in DNS whose nodes join and leave by hooks, as the shop's servers leave, and that hears events.

    Events let a fleet read AWS once a minute; here it is read at every pass all the same, so that AWS's faults show at once.
    """
    made = Plan(dns=shop_dns(), extra={"lifecycle": shop_life(), "events": {"queue": "auto", "interval": "1s"}})
    for source in made.backends[0]["sources"]:
        source["terminate_hook"] = DRAIN_HOOK
    return made


@dataclass(slots=True)
class Plan:
    """The part of hafleet.yaml that a story changes while the lab runs."""

    backends: list[dict[str, Any]] = field(default_factory=shop_backends)
    default_backend: str = "shop"
    interval: float = 1.0  # seconds between passes
    dns: dict[str, Any] | None = None  # the dns section; None: the nodes stay out of DNS
    extra: dict[str, Any] = field(default_factory=dict)  # sections that replace the lab's own, such as safety
    away: set[str] = field(default_factory=set)  # zones that an operator has drained: no setting, an order to the nodes

    def settings(self, node: Node) -> dict[str, Any]:
        """The whole of one node's hafleet.yaml, as plain data."""
        frontend = {"name": "web", "bind": node.http, "mode": "http", "default_backend": self.default_backend}
        shared: dict[str, Any] = {
            "fleet": FLEET,
            "aws": {"connect_timeout": "2s", "read_timeout": "10s", "max_attempts": 2},
            "peers": {"port": PEER_PORT, "settle": "1s"},
            "frontends": [frontend],
            "backends": self.backends,
            "passes": {"interval": f"{self.interval:g}s", "settle_min": "50ms", "settle_max": "300ms"},
            "safety": {"reload_min_interval": "1s"},
        }
        if self.dns is not None:
            shared["dns"] = self.dns
        return {**shared, **node.own_settings(), **self.extra}

    def set_weight(self, backend: str, group: str, weight: int) -> None:
        """Change the share of one group.

        Raises:
            KeyError: there is no such backend, or the group is no source of it.
        """
        for source in self._sources(backend):
            if source.get("asg") == group:
                source["weight"] = weight
                return
        raise KeyError(f"{group} is no source of backend {backend}")

    def groups(self, backend: str) -> Mapping[str, int | None]:
        """Group name -> weight for the sources of a backend that are groups."""
        return {source["asg"]: source.get("weight") for source in self._sources(backend) if "asg" in source}

    @property
    def names(self) -> tuple[str, ...]:
        """The backends, in order."""
        return tuple(backend["name"] for backend in self.backends)

    def _sources(self, backend: str) -> list[dict[str, Any]]:
        for item in self.backends:
            if item["name"] == backend:
                sources: list[dict[str, Any]] = item["sources"]
                return sources
        raise KeyError(f"there is no backend {backend}; there are {', '.join(self.names)}")
