"""Rules about the ways from frontends to backends."""

from collections.abc import Iterator

from hafleet.core.checks.finding import NAMES, ROUTING, Finding, Path
from hafleet.core.proxy_settings import Frontend
from hafleet.core.routing import named, route_of
from hafleet.core.settings import Settings


def _references(index: int, frontend: Frontend) -> Iterator[tuple[Path, str]]:
    """Every place of a frontend that names a backend, with the name."""
    if frontend.default_backend is not None:
        yield ("frontends", index, "default_backend"), frontend.default_backend
    for number, route in enumerate(frontend.routes):
        yield ("frontends", index, "routes", number, "backend"), route.backend


def named_backends(settings: Settings) -> Iterator[Finding]:
    """A frontend names only backends that exist and have its mode."""
    for index, frontend in enumerate(settings.frontends):
        for path, name in _references(index, frontend):
            mode = settings.modes.get(name)
            if mode is None:
                known = ", ".join(sorted(settings.modes)) or "none"
                yield Finding(path, f"there is no backend {name!r}", f"backends here: {known}", also=NAMES)
            elif mode != frontend.mode:
                what = f"frontend {frontend.name!r} is {frontend.mode}, but backend {name!r} is {mode}"
                yield Finding(path, what, f"set mode: {frontend.mode} on the backend, or use another one", also=ROUTING)


def kinds(settings: Settings) -> Iterator[Finding]:
    """route_by, routes and tls fit the frontend's mode."""
    for index, frontend in enumerate(settings.frontends):
        here: Path = ("frontends", index)
        mode: Path = (*here, "mode")
        if frontend.mode == "http" and frontend.route_by == "sni":
            yield Finding(
                (*here, "route_by"), "an http frontend cannot route by sni", "use host, or mode: tcp", also=(mode,)
            )
        if frontend.mode == "tcp" and frontend.route_by == "host":
            yield Finding(
                (*here, "route_by"), "a tcp frontend cannot route by host", "use sni, or mode: http", also=(mode,)
            )
        if frontend.mode == "tcp" and frontend.routes:
            yield Finding(
                (*here, "routes"), "a tcp frontend sees no paths", "remove routes, or set mode: http", also=(mode,)
            )
        if frontend.route_by == "sni" and frontend.tls is not None:
            what = "a frontend that ends TLS has no handshake left to route by sni"
            yield Finding(
                (*here, "tls"), what, "remove tls to pass it through, or use mode: http", also=((*here, "route_by"),)
            )


def dead_ends(settings: Settings) -> Iterator[Finding]:
    """Every frontend leads somewhere."""
    for index, frontend in enumerate(settings.frontends):
        if frontend.default_backend is not None or frontend.routes:
            continue
        way, mode = route_of(frontend), frontend.mode
        if way == "none":
            what = f"frontend {frontend.name!r} leads nowhere"
            yield Finding(("frontends", index), what, "set default_backend", also=ROUTING)
        elif not any(each.domains and settings.modes[each.name] == mode for each in settings.backends):
            what = f"frontend {frontend.name!r} routes by {way}, but no {mode} backend has domains"
            fix = f"add domains to a backend of mode {mode}, or set default_backend"
            yield Finding(("frontends", index), what, fix, fatal=False, also=ROUTING)


def unreachable(settings: Settings) -> Iterator[Finding]:
    """Every backend can be reached, and so can its domains."""
    by_name = frozenset[str]().union(*(named(frontend) for frontend in settings.frontends))
    by_domain = {frontend.mode for frontend in settings.frontends if route_of(frontend) != "none"}
    for index, backend in enumerate(settings.backends):
        mode = settings.modes[backend.name]
        if backend.domains and mode not in by_domain:
            what = f"no {mode} frontend routes by name, so the domains of backend {backend.name!r} do nothing"
            fix = "set route_by: sni on a tcp frontend" if mode == "tcp" else "set route_by: host on an http frontend"
            yield Finding(("backends", index, "domains"), what, fix, fatal=False, also=ROUTING)
        elif not backend.domains and backend.name not in by_name:
            what = f"no frontend leads to backend {backend.name!r}"
            fix = "name it in default_backend or routes, or give it domains and a frontend that routes by them"
            yield Finding(("backends", index), what, fix, fatal=False, also=ROUTING)


def domains(settings: Settings) -> Iterator[Finding]:
    """A domain leads to one backend per mode, and is written once."""
    seen: dict[tuple[str, str], tuple[Path, str]] = {}
    for index, backend in enumerate(settings.backends):
        for number, domain in enumerate(backend.domains):
            key = (settings.modes[backend.name], domain)
            path: Path = ("backends", index, "domains", number)
            if key in seen:
                first, owner = seen[key]
                what = f"{domain!r} leads to {key[0]} backend {owner!r} already"
                yield Finding(path, what, "write each domain once per mode", also=(first, *ROUTING[:3], *ROUTING[4:6]))
            seen.setdefault(key, (path, backend.name))


def path_rules(settings: Settings) -> Iterator[Finding]:
    """Two path rules of one frontend differ in host or path."""
    for index, frontend in enumerate(settings.frontends):
        seen: dict[tuple[str | None, str], Path] = {}
        for number, route in enumerate(frontend.routes):
            path: Path = ("frontends", index, "routes", number)
            first = seen.setdefault((route.host, route.path), path)
            if first != path:
                what = f"the rule for {route.host or 'any host'} {route.path} stands here twice"
                yield Finding(path, what, "keep one of them", also=(first,))


RULES = (named_backends, kinds, dead_ends, unreachable, domains, path_rules)
