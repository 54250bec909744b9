"""The map files that lead a request to its backend: domains and path rules, so that 10,000 domains cost no ACL.

A map file is one ``key value`` per line. The first line is the stamp, ``hafleet-stamp.invalid <digest of the other lines>``:
asked at run time, it tells which content the worker has. The other lines are sorted by key.

==================  ============================================  =================================================
file                key                                           looked up at
==================  ============================================  =================================================
hosts.map           ``example.com``                               http frontends, route_by host
hosts-wild.map      ``example.com`` for ``*.example.com``         the same, with the ends of the name
sni.map             ``example.com``                               tcp frontends, route_by sni
sni-wild.map        ``example.com`` for ``*.example.com``         the same, with the ends of the name
paths-NAME.map      ``/p``, ``example.com/p``, ``*.example.com/p``  the http frontend NAME, if it has routes
==================  ============================================  =================================================

The four domain maps always exist, be it with their stamp alone: a first domain needs no reload.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256

from hafleet.core.mapplan import STAMP_KEY  # under .invalid, which is reserved: no real host has this name
from hafleet.core.settings import Backend, Frontend, Mode, Route, Settings
from hafleet.errors import Problem, SettingsError

HOSTS = "hosts.map"
HOSTS_WILD = "hosts-wild.map"
SNI = "sni.map"
SNI_WILD = "sni-wild.map"

DEEPEST = 8  # labels of the longest suffix a wildcard may have; each depth is one look-up of a name without exact match


def map_files(settings: Settings) -> dict[str, str]:
    """Content of every map file that the shipped templates refer to, by file name (no folder).

    Raises:
        SettingsError: one domain leads to two backends, a wildcard is deeper than ``DEEPEST`` labels, or a route leads to
            no http backend. All such faults at once.
    """
    problems: list[Problem] = []
    files: dict[str, str] = {}
    modes: tuple[tuple[Mode, str, str], ...] = (("http", HOSTS, HOSTS_WILD), ("tcp", SNI, SNI_WILD))
    for mode, exact, wild in modes:
        backends = [backend for backend in settings.backends if settings.modes[backend.name] == mode]
        entries = _domains(backends, problems)
        files[exact] = map_text({key: value for key, value in entries.items() if not key.startswith("*.")})
        files[wild] = map_text({key[2:]: value for key, value in entries.items() if key.startswith("*.")})
    for frontend in settings.frontends:
        if frontend.routes:
            files[paths_file(frontend)] = map_text(_routes(frontend, settings.modes, problems))
    if problems:
        raise SettingsError(tuple(problems))
    return files


def paths_file(frontend: Frontend) -> str:
    """Name of the map file of a frontend's path rules."""
    return f"paths-{frontend.name}.map"


def route_depths(routes: Iterable[Route]) -> tuple[int, ...]:
    """How many labels the wildcard hosts of these routes have, deepest first: the ends of a name worth a look-up."""
    depths = {len(route.host.split(".")) - 1 for route in routes if route.host and route.host.startswith("*.")}
    return tuple(sorted(depths, reverse=True))


def map_text(entries: Mapping[str, str]) -> str:
    """A map file: the stamp, then the entries sorted by key."""
    body = "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))
    return f"{STAMP_KEY} {sha256(body.encode()).hexdigest()}\n{body}"


def _domains(backends: Iterable[Backend], problems: list[Problem]) -> dict[str, str]:
    """Domain (``*.`` kept) -> backend, adding what is wrong to problems."""
    entries: dict[str, str] = {}
    for backend in backends:
        where = f"backend {backend.name}"
        for domain in backend.domains:
            _check_depth(domain, where, problems)
            other = entries.setdefault(domain, backend.name)
            if other != backend.name:
                what = f"the domain {domain} already leads to the backend {other}"
                problems.append(Problem(where, what, "give each domain to one backend of a mode"))
    return entries


def _routes(frontend: Frontend, modes: Mapping[str, Mode], problems: list[Problem]) -> dict[str, str]:
    """Host and path -> backend, adding what is wrong to problems."""
    entries: dict[str, str] = {}
    where = f"frontend {frontend.name}"
    for route in frontend.routes:
        key = f"{route.host or ''}{route.path}"
        _check_depth(route.host or "", where, problems)
        if modes.get(route.backend) != "http":
            what = f"the route {key} leads to {route.backend}, which is no backend of mode http"
            problems.append(Problem(where, what, "name a backend of mode http"))
        other = entries.setdefault(key, route.backend)
        if other != route.backend:
            what = f"the route {key} already leads to the backend {other}"
            problems.append(Problem(where, what, "remove one of them"))
    return entries


def _check_depth(domain: str, where: str, problems: list[Problem]) -> None:
    if domain.startswith("*.") and len(domain.split(".")) - 1 > DEEPEST:
        what = f"{domain} has more than {DEEPEST} labels after its star"
        problems.append(Problem(where, what, "write a wildcard nearer to the top, or the names themselves"))
