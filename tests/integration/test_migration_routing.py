"""A converted vars file routes as the expressions did: asked of two real HAProxies, one with the ACLs of old."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from hafleet import config
from hafleet.core.hostregex import names_of
from hafleet.core.settings import Settings
from hafleet.core.values import Refusal
from hafleet.lab.haproxies import Haproxy
from hafleet.migrating import convert
from tests.integration.render_stage import SERVER_PORT, Server, check, get, receive, render, running, serving, write
from tests.renderings import make_desired, member, node_at
from tests.resources import LoopbackPool

HTTP, TLS = 8000, 8001  # for 80 and 443
MAPPINGS = {
    "admin": "admin.acme.example",
    "web": r"^(www\.)?acme\.example$",
    "shop": r"^shop[12]\.acme\.example$",
    "all": r"\.acme\.example$",
    "late": r"^(late\.acme\.example|late\.example)$",
}
OLD = """\
global
    stats socket {socket}
defaults
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend plain
    mode http
    bind {address}:{http}
{hosts}
frontend tls
    mode tcp
    bind {address}:{tls}
    tcp-request inspect-delay 5s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
{names}
{backends}
"""


@dataclass(frozen=True)
class Sides:
    """Addresses of the HAProxy with the ACLs of old, and of the one with the converted settings."""

    old: str
    new: str


def old_text(address: str, socket_path: str, servers: list[Server]) -> str:
    """A configuration that asks each expression in turn, as the templates of old wrote them."""
    hosts, names = (
        "\n".join(f"    use_backend {name}_{kind} if {{ {fetch} -m reg {text} }}" for name, text in MAPPINGS.items())
        for kind, fetch in (("http", "hdr(host)"), ("https", "req.ssl_sni"))
    )
    backends = "\n".join(
        f"backend {each.label}\n    mode {'http' if each.label.endswith('http') else 'tcp'}\n"
        f"    server one {each.address}:{SERVER_PORT}"
        for each in servers
    )
    return OLD.format(
        address=address, http=HTTP, tls=TLS, socket=socket_path, hosts=hosts, names=names, backends=backends
    )


def moved(settings: Settings, address: str, folder: Path) -> Settings:
    """The settings with listeners and files where a test may have them."""
    binds = {"http_frontend": f"{address}:{HTTP}", "https_frontend": f"{address}:{TLS}"}
    files = {
        "maps_dir": str(folder / "maps"),
        "server_state": str(folder / "state"),
        "runtime_socket": str(folder / "admin.sock"),
        "health": f"{address}:8403",
        "maxconn": 100,
    }
    frontends = tuple(each.model_copy(update={"bind": binds[each.name]}) for each in settings.frontends)
    return settings.model_copy(update={"frontends": frontends, "haproxy": settings.haproxy.model_copy(update=files)})


def converted(folder: Path) -> Settings:
    path = folder / "vars.yml"
    rows = [f"- name: {name}\n  domain: '{text}'\n  servers: [10.0.0.1]\n" for name, text in MAPPINGS.items()]
    path.write_text(f"lb_mappings:\n{''.join(rows)}")
    (folder / "hafleet.yaml").write_text(dict(convert(path).files)["hafleet.yaml"])
    return config.load(folder / "hafleet.yaml").settings


@pytest.fixture(scope="module")
def sides(haproxy: Haproxy, loopback_pool: LoopbackPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    folder = tmp_path_factory.mktemp("migration")
    with ExitStack() as stack:
        loopback = stack.enter_context(loopback_pool.lease())
        old, new = loopback.address(), loopback.address()
        labels = [f"{name}_{kind}" for name in MAPPINGS for kind in ("http", "https")]
        servers = [Server(loopback.address(), label) for label in labels]
        stack.enter_context(serving(*servers))
        settings = moved(converted(folder), new, folder)
        members = {each.label: [member("i-0abc", each.address, port=SERVER_PORT)] for each in servers}
        config_file = write(render(settings, make_desired(members, node=node_at(new)), haproxy), folder, settings)
        assert check(haproxy, config_file) == ""
        stack.enter_context(running(haproxy, config_file, settings.haproxy.runtime_socket))
        before = folder / "old"
        before.mkdir()
        (before / "haproxy.cfg").write_text(old_text(old, str(before / "admin.sock"), servers))
        stack.enter_context(running(haproxy, before / "haproxy.cfg", str(before / "admin.sock")))
        yield Sides(old, new)


def by_sni(address: str, name: str) -> str:
    """What answers to a TLS handshake for this name; "" when the connection is closed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with socket.create_connection((address, TLS), timeout=60) as connection:
        try:
            connection.sendall(outgoing.read())
            return receive(connection).decode()
        except (ConnectionResetError, BrokenPipeError):
            return ""


@pytest.mark.parametrize(
    ("name", "mapping"),
    [
        ("admin.acme.example", "admin"),
        ("a.admin.acme.example", "admin"),
        ("acme.example", "web"),
        ("www.acme.example", "web"),
        ("shop1.acme.example", "shop"),
        ("shop2.acme.example", "shop"),
        ("shop3.acme.example", "all"),
        ("a.b.acme.example", "all"),
        ("late.acme.example", "all"),
        ("late.example", "late"),
        ("acme.example.org", None),
        ("notacme.example", None),
        ("example", None),
    ],
)
def test_both_lead_to_the_same_backend(sides: Sides, name: str, mapping: str | None) -> None:
    for address in (sides.old, sides.new):
        status, body = get(address, HTTP, host=name)
        assert (status, body) == (200, f"{mapping}_http") if mapping else status == 503
        assert by_sni(address, name) == (f"{mapping}_https" if mapping else "")


def test_an_open_expression_took_more(sides: Sides) -> None:
    """The difference that `hafleet migrate` warns of."""
    for name in ("adminxacme.example", "admin.acme.example.org"):
        assert get(sides.old, HTTP, host=name) == (200, "admin_http")
        assert get(sides.new, HTTP, host=name)[0] == 503


@pytest.mark.parametrize("expression", ["(a", "a)", "*a", "a|+b", "[a", "[z-a]", "[a-", "a{3,1}", "a\\", ".**"])
def test_haproxy_refuses_the_same_expressions(haproxy: Haproxy, tmp_path: Path, expression: str) -> None:
    def accepted(text: str) -> bool:
        file = tmp_path / "haproxy.cfg"
        file.write_text(
            "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n"
            f"frontend web\n    bind 127.0.0.1:8000\n    http-request deny if {{ hdr(host) -m reg {text} }}\n"
        )
        command = (haproxy.binary, "-c", "-f", file)
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

    assert accepted(r"^a\.com$")
    assert not accepted(expression)
    with pytest.raises(Refusal, match="is no regular expression"):
        names_of(expression)
