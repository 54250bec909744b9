"""Which frontend can reach which backend, and the mode of a backend that follows from it."""

from collections.abc import Iterable, Mapping
from typing import Literal

from hafleet.core.backend_settings import Backend
from hafleet.core.proxy_settings import Frontend, Mode


def route_of(frontend: Frontend) -> Literal["host", "sni", "none"]:
    """Which name chooses among the backends' domains at this frontend."""
    if frontend.route_by is not None:
        return frontend.route_by
    return "host" if frontend.mode == "http" else "none"


def named(frontend: Frontend) -> frozenset[str]:
    """The backends that a frontend names: its default and those of its path rules."""
    default = {frontend.default_backend} if frontend.default_backend is not None else set()
    return frozenset(default | {route.backend for route in frontend.routes})


def modes_of(frontends: Iterable[Frontend], backends: Iterable[Backend]) -> Mapping[str, Mode]:
    """The mode of each backend: the one it names, else tcp if only tcp frontends can reach it, else http."""
    http_names, tcp_names = set[str](), set[str]()
    http_domains = tcp_domains = False
    for frontend in frontends:
        by_domain = route_of(frontend) != "none"
        if frontend.mode == "http":
            http_names |= named(frontend)
            http_domains |= by_domain
        else:
            tcp_names |= named(frontend)
            tcp_domains |= by_domain

    def inferred(backend: Backend) -> Mode:
        by_http = backend.name in http_names or (bool(backend.domains) and http_domains)
        by_tcp = backend.name in tcp_names or (bool(backend.domains) and tcp_domains)
        return "tcp" if by_tcp and not by_http else "http"

    return {backend.name: backend.mode or inferred(backend) for backend in backends}
