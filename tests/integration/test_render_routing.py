import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from hafleet.core.mapplan import STAMP_KEY, stamp
from hafleet.lab.haproxies import Haproxy
from tests.integration.render_stage import (
    SERVER_PORT,
    Server,
    check,
    command,
    get,
    receive,
    render,
    running,
    serving,
    wait_for,
    write,
)
from tests.pki import Authority
from tests.renderings import make_desired, make_settings, member, node_at
from tests.resources import LoopbackPool

HTTP = ("site", "api", "new", "other")
TCP = ("shop", "wild", "rest")
CROWD = 10_000  # domains that lead nowhere in particular, and cost no ACL


@dataclass(frozen=True)
class Stage:
    address: str
    socket_path: str
    maps: dict[str, str]
    maps_dir: Path


def frontends(address: str, folder: Path) -> list[dict[str, object]]:
    routes = [
        {"path": "/api", "backend": "api"},
        {"path": "/api/v2", "backend": "new"},
        {"host": "shop.example.com", "path": "/cart", "backend": "new"},
        {"host": "*.tenants.example.com", "path": "/t", "backend": "api"},
        {"host": "*.deep.tenants.example.com", "path": "/t", "backend": "new"},
    ]
    return [
        {"name": "web", "bind": f"{address}:8000", "default_backend": "other"},
        {"name": "strict", "bind": f"{address}:8001"},
        {"name": "routed", "bind": f"{address}:8002", "routes": routes},
        {"name": "paths", "bind": f"{address}:8003", "routes": routes, "route_by": "none"},
        {"name": "secure", "bind": f"{address}:8004", "tls": {"cert": str(folder / "node.pem")}},
        {"name": "sni", "bind": f"{address}:8005", "mode": "tcp", "route_by": "sni"},
        {"name": "fallback", "bind": f"{address}:8006", "mode": "tcp", "route_by": "sni", "default_backend": "rest"},
    ]


def backends() -> list[dict[str, object]]:
    domains = {
        "site": ["example.com", "*.example.org", "xn--mnchen-3ya.example"],
        "api": ["*.deep.example.org", "*.b.c.d.e.f.g.example"],
        "new": ["exact.example.org"],
        "other": [f"crowd-{number}.example" for number in range(CROWD)],
        "shop": ["shop.example.com", "example.com"],
        "wild": ["*.example.com"],
        "rest": [],
    }
    return [
        {
            "name": name,
            "mode": mode,
            "domains": domains[name],
            "port": SERVER_PORT,
            "sources": [{"asg": name}],
            "check": {"interval": "10s"},
        }
        for mode, names in (("http", HTTP), ("tcp", TCP))
        for name in names
    ]


@pytest.fixture(scope="module")
def stage(haproxy: Haproxy, loopback_pool: LoopbackPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("routing")
    with ExitStack() as stack:
        loopback = stack.enter_context(loopback_pool.lease())
        address = loopback.address()
        Authority("tests").issue(folder / "node.pem", "example.com")
        files = {
            "maps_dir": str(folder / "maps"),
            "server_state": str(folder / "state"),
            "runtime_socket": str(folder / "admin.sock"),
            "stats": "127.0.0.1:8404",
            "health": f"{address}:8403",
        }
        settings = make_settings(frontends=frontends(address, folder), backends=backends(), haproxy=files)
        servers = [Server(loopback.address(), name) for name in (*HTTP, *TCP)]
        members = {each.label: [member("i-0abc", each.address)] for each in servers}
        rendered = render(settings, make_desired(members, node=node_at(address)), haproxy)
        config = write(rendered, folder, settings)
        assert check(haproxy, config) == ""
        stack.enter_context(serving(*servers))
        stack.enter_context(running(haproxy, config, files["runtime_socket"]))
        yield Stage(address, files["runtime_socket"], dict(rendered.maps), folder / "maps")


@pytest.mark.parametrize(
    ("host", "backend"),
    [
        ("example.com", "site"),
        ("EXAMPLE.Com", "site"),
        ("example.com:8000", "site"),
        ("example.com.", "site"),
        ("Example.COM.:8000", "site"),
        ("xn--mnchen-3ya.example", "site"),
        ("a.example.org", "site"),
        ("a.b.c.d.e.f.g.h.i.j.k.example.org", "site"),
        ("A.B.Example.ORG:80", "site"),
        ("exact.example.org", "new"),
        ("a.exact.example.org", "site"),
        ("deep.example.org", "site"),
        ("x.deep.example.org", "api"),
        ("x.y.deep.example.org", "api"),
        ("a.b.c.d.e.f.g.example", "api"),
        ("crowd-9999.example", "other"),
        ("example.org", None),
        ("notexample.org", None),
        ("b.c.d.e.f.g.example", None),
        ("sub.example.com", None),
        ("example.com.evil.example", None),
        ("org", None),
        ("localhost", None),
        ("10.0.0.1", None),
        ("[::1]:8000", None),
        (STAMP_KEY, None),
        (".", None),
        ("", None),
        (None, None),
    ],
)
def test_host_chooses_the_backend(stage: Stage, host: str | None, backend: str | None) -> None:
    with_default = get(stage.address, 8000, host=host)
    if with_default[0] == 400:
        assert host is None  # HTTP/1.1 demands a Host header, though it may be empty
        return
    assert with_default == (200, backend or "other")
    status, body = get(stage.address, 8001, host=host)
    assert (status, body) == (200, backend) if backend else status == 503


@pytest.mark.parametrize(
    ("host", "path", "by_host", "by_path"),
    [
        ("example.com", "/", "site", None),
        ("example.com", "/api", "api", "api"),
        ("example.com", "/api/v1?x=/api/v2", "api", "api"),
        ("example.com", "/api/v2/users", "new", "new"),
        ("example.com", "/API", "site", None),
        ("example.com", "/v1/api", "site", None),
        ("nobody.example", "/api", "api", "api"),
        ("nobody.example", "/", None, None),
        ("shop.example.com", "/cart/1", "new", "new"),
        ("SHOP.example.com:8002", "/cart/1", "new", "new"),
        ("a.shop.example.com", "/cart/1", None, None),
        ("shop.example.com.evil", "/cart/1", None, None),
        ("one.tenants.example.com", "/t", "api", "api"),
        ("a.one.tenants.example.com", "/t/x", "api", "api"),
        ("a.deep.tenants.example.com", "/t/x", "new", "new"),
        ("tenants.example.com", "/t", None, None),
        ("example.com", "/*.tenants.example.com/t", "site", None),
    ],
)
def test_routes_come_before_hosts_and_the_longest_prefix_wins(
    stage: Stage, host: str, path: str, by_host: str | None, by_path: str | None
) -> None:
    for port, backend in ((8002, by_host), (8003, by_path)):
        status, body = get(stage.address, port, path, host)
        assert (status, body) == (200, backend) if backend else status == 503


def handshake(server_name: str | None) -> bytes:
    """The first bytes of a TLS client."""
    context = ssl.create_default_context()
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def answer(address: str, port: int, *parts: bytes) -> str:
    """What a TCP frontend's server answers to these bytes; "" when the connection is refused or closed."""
    with socket.create_connection((address, port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in parts:
                connection.sendall(part)
            return receive(connection).decode()
        except (ConnectionResetError, BrokenPipeError):
            return ""


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("shop.example.com", "shop"),
        ("SHOP.Example.com", "shop"),
        ("example.com", "shop"),
        ("a.example.com", "wild"),
        ("a.b.example.com", "wild"),
        ("a.shop.example.com", "wild"),
        ("example.org", ""),  # an http backend has it
        ("com", ""),
        (STAMP_KEY, ""),
        (None, ""),
    ],
)
def test_the_name_in_the_handshake_chooses_the_backend(stage: Stage, name: str | None, backend: str) -> None:
    hello = handshake(name)
    assert answer(stage.address, 8005, hello) == backend
    assert answer(stage.address, 8006, hello) == (backend or "rest")


def test_a_handshake_in_pieces_is_waited_for(stage: Stage) -> None:
    hello = handshake("shop.example.com")
    assert answer(stage.address, 8005, hello[:1], hello[1:9], hello[9:]) == "shop"


def test_what_is_no_handshake_goes_to_the_default_or_is_refused(stage: Stage) -> None:
    assert answer(stage.address, 8005, b"SSH-2.0-client\r\n") == ""
    assert answer(stage.address, 8006, b"SSH-2.0-client\r\n") == "rest"


def test_tls_ends_here_and_the_host_still_chooses(stage: Stage) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection((stage.address, 8004), timeout=60) as plain:
        with context.wrap_socket(plain, server_hostname="example.com") as client:
            assert client.selected_alpn_protocol() == "h2"
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_connection((stage.address, 8004), timeout=60) as plain:
        with context.wrap_socket(plain, server_hostname="example.com") as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a.example.org\r\nConnection: close\r\n\r\n")
            assert receive(client).endswith(b"\r\n\r\nsite")


def test_the_worker_tells_the_stamp_of_every_map(stage: Stage) -> None:
    assert set(stage.maps) == {
        *("hosts.map", "hosts-wild.map", "sni.map", "sni-wild.map"),
        *("paths-routed.map", "paths-paths.map"),
    }
    for name, content in stage.maps.items():
        reply = command(stage.socket_path, f"get map {stage.maps_dir / name} {STAMP_KEY}")
        assert f'value="{stamp(content)}"' in reply


def test_a_domain_added_at_run_time_is_routed_at_once(stage: Stage) -> None:
    path = stage.maps_dir / "hosts.map"
    assert get(stage.address, 8001, host="late.example")[0] == 503
    assert command(stage.socket_path, f"add map {path} late.example new").strip() == ""
    assert get(stage.address, 8001, host="late.example") == (200, "new")
    assert command(stage.socket_path, f"del map {path} late.example").strip() == ""
    wait_for(lambda: get(stage.address, 8001, host="late.example")[0] == 503, "the domain to be gone")
