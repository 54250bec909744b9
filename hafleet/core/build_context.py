"""Settings, what is desired, and the HAProxy version -> the value that the templates see."""

from collections.abc import Mapping, Sequence

from hafleet.core import maps
from hafleet.core.context import (
    BackendContext,
    CheckContext,
    Context,
    CookieContext,
    FrontendContext,
    GlobalContext,
    MapsContext,
    PeerContext,
    PeersContext,
    StickContext,
    TimeoutsContext,
)
from hafleet.core.features import Features, features
from hafleet.core.model import Desired, Member, Node, Peer, Version
from hafleet.core.serverlines import endpoint, node_name, option_texts, server_lines, timer
from hafleet.core.settings import Backend, Cookie, Frontend, Haproxy, PeersTls, Settings
from hafleet.core.values import parse_endpoint
from hafleet.errors import TemplateError

# Balance algorithms that hash; servers join them at run time only when the hash is consistent.
_HASHED = ("source", "uri", "hdr(", "url_param ")


def make_context(settings: Settings, desired: Desired, version: Version) -> Context:
    """The templates' value for this node.

    Raises:
        TemplateError: a name that reaches the file is not one that hafleet generates, or is there twice.
    """
    found = features(version)
    proxy = settings.haproxy
    return Context(
        fleet=settings.fleet,
        node=desired.node,
        version=version,
        features=found,
        process=_process(proxy),
        timeouts=_timeouts(proxy),
        frontends=tuple(_frontend(each, settings) for each in settings.frontends),
        backends=_backends(settings, desired.node, desired.members, found),
        peers=_peers(desired.node, desired.peers, settings.peers.port, settings.peers.tls),
        maps=_maps(proxy.maps_dir),
        stats=parse_endpoint(proxy.stats).render(),
        health=parse_endpoint(proxy.health).render(),
        health_uri=proxy.health_uri,
    )


def _process(proxy: Haproxy) -> GlobalContext:
    return GlobalContext(
        runtime_socket=proxy.runtime_socket,
        server_state=proxy.server_state,
        maxconn=proxy.maxconn,
        threads=proxy.threads,
        hard_stop_after=timer(proxy.hard_stop_after),
        close_spread_time=timer(proxy.close_spread_time) if proxy.close_spread_time else None,
        max_reloads=proxy.max_reloads,
    )


def _timeouts(proxy: Haproxy) -> TimeoutsContext:
    return TimeoutsContext(
        connect=timer(proxy.timeout_connect),
        client=timer(proxy.timeout_client),
        server=timer(proxy.timeout_server),
        queue=timer(proxy.timeout_queue),
        http_request=timer(proxy.timeout_http_request),
        http_keep_alive=timer(proxy.timeout_http_keep_alive),
        tunnel=timer(proxy.timeout_tunnel),
    )


def _maps(folder: str) -> MapsContext:
    return MapsContext(
        hosts=_inside(folder, maps.HOSTS),
        hosts_wild=_inside(folder, maps.HOSTS_WILD),
        sni=_inside(folder, maps.SNI),
        sni_wild=_inside(folder, maps.SNI_WILD),
        depths=tuple(range(maps.DEEPEST, 0, -1)),
    )


def _inside(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _frontend(frontend: Frontend, settings: Settings) -> FrontendContext:
    words = [parse_endpoint(frontend.bind).render()]
    if frontend.accept_proxy:
        words.append("accept-proxy")
    if frontend.tls is not None:
        words += ["ssl", "crt", frontend.tls.cert]
        if frontend.mode == "http" or "alpn" in frontend.tls.model_fields_set:  # bytes that pass by may be anything
            words += ["alpn", frontend.tls.alpn]
    return FrontendContext(
        name=frontend.name,
        mode=frontend.mode,
        bind=" ".join(words),
        route_by=settings.frontend_route(frontend),
        forwarded_for=frontend.forwarded_for and frontend.mode == "http",
        default_backend=frontend.default_backend,
        paths=_inside(settings.haproxy.maps_dir, maps.paths_file(frontend)) if frontend.routes else None,
        path_depths=maps.route_depths(frontend.routes),
    )


def _backends(
    settings: Settings, node: Node, members: Mapping[str, Sequence[Member]], found: Features
) -> tuple[BackendContext, ...]:
    """All backends in the order of the settings."""
    v6 = any(parse_endpoint(each.bind).render().startswith("[") for each in settings.frontends)
    backends: list[BackendContext] = []
    for backend in settings.backends:
        servers = server_lines(backend, members.get(backend.name, ()), node.zone, found)
        backends.append(
            BackendContext(
                name=backend.name,
                mode=settings.modes[backend.name],
                balance=backend.balance,
                hashed=backend.balance.startswith(_HASHED),
                stick=_stick(backend, v6),
                cookie=_cookie(backend.cookie),
                check=_check(backend),
                all_backups=backend.zone_affinity == "prefer",
                options=tuple(dict.fromkeys(option_texts(backend, found))),
                servers=servers,
                lines=tuple(server.line for server in servers),
            )
        )
    return tuple(backends)


def _stick(backend: Backend, v6: bool) -> StickContext | None:
    """The table's type fits the key: a client's address is IPv6 where any frontend takes IPv6 (it holds IPv4 too)."""
    stick = backend.stick
    if stick is None:
        return None
    kind = stick.type or (("ipv6" if v6 else "ip") if stick.on == "src" else "string")
    length = " len 128" if kind in {"string", "binary"} else ""
    return StickContext(on=stick.on, type=f"{kind}{length}", size=stick.size, expire=timer(stick.expire))


def _cookie(cookie: Cookie | None) -> CookieContext | None:
    """Insert, hide from the servers, and keep shared caches from storing it."""
    if cookie is None:
        return None
    words = ["insert", "indirect", "nocache"]
    words += ["secure"] if cookie.secure else []
    words += ["httponly"] if cookie.httponly else []
    words += ["maxidle", timer(cookie.max_idle)] if cookie.max_idle is not None else []
    words += ["maxlife", timer(cookie.max_life)] if cookie.max_life is not None else []
    return CookieContext(name=cookie.name, options=" ".join(words))


def _check(backend: Backend) -> CheckContext:
    """HTTP/1.1 demands a Host: the one of the settings, else the backend's first plain domain, else localhost."""
    check = backend.check
    domains = (domain for domain in backend.domains if not domain.startswith("*"))
    return CheckContext(
        path=check.path,
        host=check.host or next(domains, "localhost"),
        expect=check.expect or "200-399",
        body=check.body,
        timeout=timer(check.timeout) if check.timeout is not None else None,
    )


def _peers(node: Node, others: Sequence[Peer], port: int, tls: PeersTls | None) -> PeersContext:
    """The peers with this node among them: a list without it would switch replication off without a word."""
    local = PeerContext(name=node_name(node.id), address=endpoint(node.address, port), local=True)
    found = {local.name: local}
    for peer in others:
        if peer.name in found and peer.name != node.id:
            raise TemplateError(f"two peers have the name {peer.name}", where="peers", fix="report this as a bug")
        if peer.name != node.id:
            found[peer.name] = PeerContext(node_name(peer.name), endpoint(peer.address, peer.port), local=False)
    options = f"ssl crt {tls.cert} ca-file {tls.ca} verify required" if tls is not None else None
    return PeersContext(local=local, all=tuple(found[name] for name in sorted(found)), tls=options)
