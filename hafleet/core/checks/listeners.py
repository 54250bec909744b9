"""Rules about names and about what listens where."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from hafleet.core.checks.finding import Finding, Path
from hafleet.core.settings import Model, Settings
from hafleet.core.values import Endpoint, parse_endpoint

_RESERVED = frozenset({"hafleet", "GLOBAL", "MASTER"})  # the peers section; two proxies of HAProxy's own


@dataclass(frozen=True, slots=True)
class _Listener:
    path: Path
    label: str
    endpoint: Endpoint | None  # None: this node's own address, which only IMDS knows
    port: int
    written: bool  # stands in the file, so that a problem there has a line


def names(settings: Settings) -> Iterator[Finding]:
    """Names are unique, over frontends and backends together, and none is hafleet's or HAProxy's own."""
    seen: dict[str, Path] = {}
    groups = (
        ("frontends", [each.name for each in settings.frontends]),
        ("backends", [each.name for each in settings.backends]),
    )
    for section, group in groups:
        for index, name in enumerate(group):
            path: Path = (section, index, "name")
            if name in _RESERVED or name.startswith("hafleet_"):
                yield Finding(
                    path, f"the name {name!r} is reserved", "choose another; all that begin with hafleet_ are taken"
                )
            if name in seen:
                first = seen[name]
                kind = str(first[0]).removesuffix("s")
                # One name for a frontend and a backend is a warning in HAProxy 3.2 and an error from 3.3 on.
                yield Finding(path, f"the name {name!r} is taken by another {kind}", "give each its own", also=(first,))
            seen.setdefault(name, path)


def binds(settings: Settings) -> Iterator[Finding]:
    """No two listeners of this host overlap: frontends, statistics, health, peers and the agent's own."""
    by_port: dict[int, list[_Listener]] = defaultdict(list)
    for listener in _listeners(settings):
        by_port[listener.port].append(listener)
    for group in by_port.values():
        for one, other in combinations(group, 2):
            if not _overlap(one, other):
                continue
            here, there = (one, other) if one.written and not other.written else (other, one)
            what = f"{here.label} overlaps with {there.label}"
            yield Finding(
                here.path, what, "give each its own port, or its own address", also=(there.path, ("node", "static"))
            )


def stats(settings: Settings) -> Iterator[Finding]:
    """The statistics page shows and exports everything, so it stays on loopback."""
    address = parse_endpoint(settings.haproxy.stats).address
    if address is None or not address.is_loopback:
        what = f"the statistics page on {settings.haproxy.stats!r} could be reached from outside"
        yield Finding(("haproxy", "stats"), what, 'write a loopback address, such as "127.0.0.1:8404"')


def _listeners(settings: Settings) -> Iterator[_Listener]:
    """All listeners; those that the file need not name come first, so that a clash is reported at a frontend."""
    own: tuple[tuple[str, str, Model, str], ...] = (
        ("haproxy", "stats", settings.haproxy, settings.haproxy.stats),
        ("haproxy", "health", settings.haproxy, settings.haproxy.health),
        ("status", "listen", settings.status, settings.status.listen),
    )
    for section, field, model, text in own:
        endpoint = parse_endpoint(text)
        written = field in model.model_fields_set
        yield _Listener((section, field), f"{section}.{field} {text!r}", endpoint, endpoint.port, written)
    node = settings.node.static
    port = settings.peers.port
    address = Endpoint(node.private_ip, port) if node is not None else None
    written = "port" in settings.peers.model_fields_set
    yield _Listener(("peers", "port"), f"peers.port {port}", address, port, written)
    for index, frontend in enumerate(settings.frontends):
        endpoint = parse_endpoint(frontend.bind)
        label = f"the bind {frontend.bind!r} of frontend {frontend.name!r}"
        yield _Listener(("frontends", index, "bind"), label, endpoint, endpoint.port, written=True)


def _overlap(one: _Listener, other: _Listener) -> bool:
    if one.endpoint is None or other.endpoint is None:
        return any(each.endpoint is not None and each.endpoint.wildcard for each in (one, other))
    return one.endpoint.overlaps(other.endpoint)


RULES = (names, binds, stats)
