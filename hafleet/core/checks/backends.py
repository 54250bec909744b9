"""Rules about one backend: its sources, its balancing, its stickiness and its checks."""

from collections.abc import Iterator

from hafleet.core.backend_settings import Source
from hafleet.core.checks.finding import ROUTING, Finding, Path
from hafleet.core.settings import Settings


def kinds(settings: Settings) -> Iterator[Finding]:
    """Each source is of exactly one kind, brings servers that no other source brings, and some source gets traffic."""
    for index, backend in enumerate(settings.backends):
        here: Path = ("backends", index, "sources")
        seen: dict[tuple[str, tuple[int, ...]], Path] = {}
        for number, source in enumerate(backend.sources):
            chosen = [kind for kind in ("asg", "asg_tag", "static") if getattr(source, kind) is not None]
            if len(chosen) != 1:
                told = f"has {' and '.join(chosen)}" if chosen else "has none of asg, asg_tag and static"
                yield Finding((*here, number), f"this source {told}", "write exactly one of asg, asg_tag and static")
            if source.static is not None and source.terminate_hook is not None:
                what = "servers outside Auto Scaling have no lifecycle hooks"
                yield Finding((*here, number, "terminate_hook"), what, "write it beside asg or asg_tag")
            for place, subject in _subjects(source):
                path: Path = (*here, number, *place)
                key = (subject, (source.port,) if source.port is not None else backend.ports)
                first = seen.setdefault(key, path)
                if first != path:
                    what = f"{subject} feeds backend {backend.name!r} twice on the same port"
                    yield Finding(path, what, "keep one of them", also=(first, (*here, number, "port")))
        if all(source.weight == 0 for source in backend.sources):
            what = f"every source of backend {backend.name!r} has weight 0, so it takes no traffic"
            yield Finding(here, what, "give one of them a weight above 0")


def families(settings: Settings) -> Iterator[Finding]:
    """A group is read with one kind of address: an instance has one address in the membership, not one per backend."""
    first: dict[str, tuple[str, str, Path]] = {}
    for index, backend in enumerate(settings.backends):
        here: Path = ("backends", index, "family")
        for source in backend.sources:
            for _, subject in _subjects(source) if source.static is None else ():
                family, name, path = first.setdefault(subject, (backend.family, backend.name, here))
                if family != backend.family:
                    what = f"{subject} feeds backend {name!r} with {family} and backend {backend.name!r} with {backend.family}"
                    also: tuple[Path, ...] = (path, ("backends", "*", "sources"))
                    yield Finding(here, what, "give both one family", also=also)


def _subjects(source: Source) -> Iterator[tuple[Path, str]]:
    """What a source brings, in words, with the place below the source that says so."""
    if source.asg is not None:
        yield ("asg",), f"group {source.asg!r}"
    if source.asg_tag is not None:
        yield ("asg_tag",), "tag " + ", ".join(f"{key}={value}" for key, value in sorted(source.asg_tag.items()))
    for number, address in enumerate(source.static or ()):
        yield ("static", number), str(address)


def capacity(settings: Settings) -> Iterator[Finding]:
    """Only Auto Scaling groups know a capacity."""
    for index, backend in enumerate(settings.backends):
        if backend.capacity_weights and not any(source.asg or source.asg_tag for source in backend.sources):
            what = "capacity_weights needs an Auto Scaling group: static servers have no capacity"
            yield Finding(
                ("backends", index, "capacity_weights"), what, "remove it", also=(("backends", index, "sources"),)
            )


def modes(settings: Settings) -> Iterator[Finding]:
    """What reads HTTP needs an http backend."""
    for index, backend in enumerate(settings.backends):
        if settings.modes[backend.name] == "http":
            continue
        if backend.cookie is not None:
            what = f"a cookie needs http, but backend {backend.name!r} is tcp"
            yield Finding(("backends", index, "cookie"), what, "use stick, or set mode: http", also=ROUTING)
        if backend.balance.startswith(("uri", "hdr", "url_param")):
            what = f"balance {backend.balance} needs http, but backend {backend.name!r} is tcp"
            yield Finding(
                ("backends", index, "balance"), what, "use leastconn or source, or set mode: http", also=ROUTING
            )


def checks(settings: Settings) -> Iterator[Finding]:
    """The parts of a health check fit together."""
    for index, backend in enumerate(settings.backends):
        check, here = backend.check, ("backends", index, "check")
        needs: Path = (*here, "path")
        for field in ("host", "expect", "body"):
            if getattr(check, field) is not None and check.path is None:
                yield Finding((*here, field), f"check.{field} needs an HTTP check", "add check.path", also=(needs,))
        if check.fast is not None and check.fast > check.interval:
            what = "check.fast is longer than check.interval"
            yield Finding((*here, "fast"), what, "make it shorter, or remove it", also=((*here, "interval"),))
        for number, part in enumerate((check.expect or "").split(",")):
            low, _, high = part.partition("-")
            if high and low > high:  # three digits each, so the order of the texts is the order of the numbers
                yield Finding(
                    (*here, "expect"), f"part {number + 1} of check.expect ends before it begins", f"write {high}-{low}"
                )


def cookies(settings: Settings) -> Iterator[Finding]:
    """Cookies cost a reload per added server before HAProxy 3.0: `add server` refuses the option there."""
    for index, backend in enumerate(settings.backends):
        if backend.cookie is not None:
            what = f"the cookie of backend {backend.name!r} makes each added server a reload on HAProxy below 3.0"
            yield Finding(("backends", index, "cookie"), what, "use stick instead, or HAProxy 3.0", fatal=False)


def drains(settings: Settings) -> Iterator[Finding]:
    """An old worker outlives every drain; otherwise a reload cuts the connections that drain."""
    limit = settings.haproxy.hard_stop_after
    here: Path = ("haproxy", "hard_stop_after")
    for index, backend in enumerate(settings.backends):
        if limit < backend.drain:
            what = f"the drain of backend {backend.name!r} ({backend.drain:g}s) is longer than hard_stop_after ({limit:g}s)"
            fix = "a reload may cut its last connections; make haproxy.hard_stop_after at least as long"
            yield Finding(("backends", index, "drain"), what, fix, fatal=False, also=(here,))


def static_only(settings: Settings) -> Iterator[Finding]:
    """A fleet without any Auto Scaling group works, but is rarely meant."""
    sources = [source for backend in settings.backends for source in backend.sources]
    if sources and all(source.static and not source.asg and not source.asg_tag for source in sources):
        what = "every source is static, so no backend follows an Auto Scaling group"
        also: Path = ("backends", "*", "sources")
        yield Finding(("backends",), what, "add asg or asg_tag where servers come and go", fatal=False, also=(also,))


RULES = (kinds, families, capacity, modes, checks, cookies, drains, static_only)
