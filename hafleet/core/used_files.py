"""The files beside the templates that HAProxy reads when it loads: a change of one of them needs a reload."""

from collections.abc import Iterator

from hafleet.core.settings import Settings


def used_files(settings: Settings) -> tuple[str, ...]:
    """Paths of certificates and authorities named by the settings, sorted. A folder stands for all files in it."""
    return tuple(sorted(set(_paths(settings))))


def _paths(settings: Settings) -> Iterator[str]:
    if settings.peers.tls is not None:
        yield settings.peers.tls.cert
        yield settings.peers.tls.ca
    for frontend in settings.frontends:
        if frontend.tls is not None:
            yield frontend.tls.cert
    for backend in settings.backends:
        if backend.tls is not None and backend.tls.verify and not backend.tls.ca.startswith("@"):
            yield backend.tls.ca
