from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafleet.core.build_context import make_context
from hafleet.core.context import BackendContext, Context
from hafleet.core.model import Desired, Member, Node, Peer
from hafleet.core.serverlines import timer
from hafleet.core.settings import Settings
from hafleet.errors import TemplateError
from tests.renderings import ASG, NODE, make_backend, make_desired, make_settings, member, peer

OLD, MIDDLE, NEW = (2, 6, 12), (3, 0, 11), (3, 2, 26)


def context(settings: Settings, desired: Desired | None = None, version: tuple[int, int, int] = NEW) -> Context:
    return make_context(settings, desired or make_desired(), version)


def backend(settings: Settings, *members: Member, node: Node = NODE) -> BackendContext:
    return context(settings, make_desired({"site": members}, node=node)).backends[0]


# --- servers ---------------------------------------------------------------------------------------------------------


def test_a_server_line_carries_everything_in_the_fixed_order() -> None:
    (server,) = backend(make_backend(), member("i-0abc", "10.0.1.7", weight=90)).servers
    assert server.line == (
        f"server i-0abc 10.0.1.7:8080 id {server.id} weight 90 "
        "check inter 2s fastinter 200ms downinter 200ms rise 2 fall 3"
    )
    assert (server.name, server.address, server.weight) == ("i-0abc", "10.0.1.7:8080", 90)


def test_servers_are_sorted_and_an_ipv6_address_stands_in_brackets() -> None:
    static = member("static-fd00--2", "fd00::2"), member("static-10.0.9.10", "10.0.9.10")
    found = backend(make_backend(), *static, member("i-0b"), member("i-0a-8081"))
    assert [server.name for server in found.servers] == ["i-0a-8081", "i-0b", "static-10.0.9.10", "static-fd00--2"]
    assert [server.address for server in found.servers[2:]] == ["10.0.9.10:8080", "[fd00::2]:8080"]
    assert found.lines == tuple(server.line for server in found.servers)


def test_a_draining_member_weighs_nothing() -> None:
    (server,) = backend(make_backend(), member("i-0abc", weight=90, draining=True)).servers
    assert server.weight == 0
    assert " weight 0 " in server.line


def test_members_of_a_backend_that_is_not_configured_are_left_out() -> None:
    found = context(make_backend(), make_desired({"gone": [member("i-0abc")]}))
    assert [each.name for each in found.backends] == ["site"]
    assert found.backends[0].servers == ()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("i-0abc\nglobal", {}),
        ("i-0abc\n", {}),
        ("i-0abc #", {}),
        ("web server", {}),
        ("", {}),
        ("i-" + "a" * 300, {}),
        ("i-0abc", {"weight": 257}),
        ("i-0abc", {"weight": -1}),
        ("i-0abc", {"port": 0}),
        ("i-0abc", {"port": 65536}),
    ],
)
def test_what_hafleet_would_not_make_is_refused(name: str, fields: dict[str, Any]) -> None:
    with pytest.raises(TemplateError, match=r"backend site: .* is not a server hafleet makes") as caught:
        backend(make_backend(), member(name, **fields))
    assert "\n" not in str(caught.value)


def test_two_servers_of_one_name_are_refused() -> None:
    with pytest.raises(TemplateError, match="two servers have one name"):
        backend(make_backend(), member("i-0abc"), member("i-0abc", "10.0.1.2"))


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"check": {"interval": "500ms"}}, "check inter 500ms fastinter 100ms downinter 100ms rise 2 fall 3"),
        ({"check": {"interval": "50ms"}}, "check inter 50ms fastinter 50ms downinter 50ms rise 2 fall 3"),
        ({"check": {"down": "5s"}}, "check inter 2s fastinter 200ms downinter 5s rise 2 fall 3"),
        ({"check": {"interval": "10s", "fast": "2s"}}, "check inter 10s fastinter 2s downinter 2s rise 2 fall 3"),
        ({"check": {"port": 9, "rise": 1, "fall": 5}}, "rise 1 fall 5 port 9"),
        ({"check": {"tls": True}}, "fall 3 check-ssl verify none"),
        ({"slow_start": "30s"}, "fall 3 slowstart 30s"),
        ({"slow_start": "0s"}, "fall 3"),
        ({"maxconn": 200}, "fall 3 maxconn 200"),
        ({"send_proxy": True}, "fall 3 send-proxy"),
        ({"cookie": {"name": "SRV"}}, "fall 3 cookie %N"),
        ({"tls": {"verify": False}}, "ssl verify none check inter"),
        ({"tls": {"verify": False}}, "fall 3 check-ssl"),
        ({"tls": {"ca": "/etc/ca.pem"}}, "ssl verify required ca-file /etc/ca.pem check inter"),
        ({"tls": {"sni": "a.example"}}, "ssl verify required ca-file @system-ca sni str(a.example) check"),
        ({"tls": {"sni": "a.example"}}, "fall 3 check-ssl check-sni a.example"),
        ({"tls": {}, "check": {"port": 9}}, "fall 3 port 9"),
        ({"tls": {}, "check": {"port": 9, "tls": True}}, "port 9 check-ssl"),
    ],
)
def test_options(fields: dict[str, object], words: str) -> None:
    (options,) = backend(make_backend(**fields)).options
    assert f" {words} " in f" {options} "
    assert options.count("check-ssl") <= 1
    if words.endswith("port 9"):
        assert "check-ssl" not in options
    if words == "fall 3":
        assert "slowstart" not in options


def test_old_haproxy_needs_its_pool_options_spelled_out() -> None:
    for version in (OLD, MIDDLE, NEW):
        (options,) = context(make_backend(), version=version).backends[0].options
        assert ("pool-purge-delay 5s pool-max-conn -1" in options) is (version == OLD)


def test_the_cookie_of_a_server_is_its_name() -> None:
    found = backend(make_backend(cookie={"name": "SRV"}), member("i-0abc"))
    assert found.lines[0].endswith(" cookie i-0abc")
    assert found.options[0].endswith(" cookie %N")
    assert found.cookie is not None
    assert (found.cookie.name, found.cookie.options) == ("SRV", "insert indirect nocache httponly")


def test_the_cookie_with_all_its_options() -> None:
    fields = {"name": "SRV", "secure": True, "httponly": False, "max_idle": "30m", "max_life": "8h"}
    found = backend(make_backend(cookie=fields)).cookie
    assert found is not None
    assert found.options == "insert indirect nocache secure maxidle 1800s maxlife 28800s"


@pytest.mark.parametrize(
    ("node_zone", "zone", "backup"),
    [("a", "a", False), ("a", "b", True), ("a", "", False), ("", "a", False)],
)
def test_servers_of_other_zones_are_backups_under_zone_affinity(node_zone: str, zone: str, backup: bool) -> None:
    node = Node(id=NODE.id, address=NODE.address, zone=node_zone, region="")
    found = backend(make_backend(zone_affinity="prefer"), member("i-0abc", zone=zone), node=node)
    assert found.lines[0].endswith(" backup") is backup
    assert found.all_backups


def test_the_option_texts_of_a_backend_do_not_depend_on_who_is_in_it() -> None:
    settings = make_backend(zone_affinity="prefer")
    unknown = Node(id=NODE.id, address=NODE.address, zone="", region="")
    empty = backend(settings).options
    assert len(empty) == 2
    assert empty[1] == f"{empty[0]} backup"
    assert backend(settings, member("i-0abc")).options == empty
    assert backend(settings, member("i-0abc", zone="other")).options == empty
    assert backend(settings, node=unknown).options == empty
    assert {server.options for server in backend(settings, member("i-0a"), member("i-0b", zone="b")).servers} == set(
        empty
    )


def test_without_zone_affinity_there_are_no_backups() -> None:
    found = backend(make_backend(), member("i-0abc", zone="other"))
    assert len(found.options) == 1
    assert not found.all_backups
    assert found.servers[0].options == found.options[0]


# --- backends --------------------------------------------------------------------------------------------------------


def test_a_tcp_check_has_no_path() -> None:
    assert backend(make_backend()).check.path is None


def test_an_http_check_with_everything() -> None:
    check = {"path": "/healthz", "host": "a.example:8080", "expect": "200", "body": "all good", "timeout": "1500ms"}
    found = backend(make_backend(check=check)).check
    assert (found.path, found.host, found.expect) == ("/healthz", "a.example:8080", "200")
    assert (found.body, found.timeout) == ("all good", "1500ms")


@pytest.mark.parametrize(
    ("domains", "host"),
    [([], "localhost"), (["*.b.example"], "localhost"), (["*.b.example", "c.example"], "c.example")],
)
def test_the_host_of_a_check_is_the_first_plain_domain(domains: list[str], host: str) -> None:
    found = backend(make_backend(check={"path": "/"}, domains=domains)).check
    assert (found.host, found.expect, found.body, found.timeout) == (host, "200-399", None, None)


@pytest.mark.parametrize(
    ("balance", "hashed"),
    [
        ("roundrobin", False),
        ("random(3)", False),
        ("leastconn", False),
        ("source", True),
        ("uri", True),
        ("hdr(x-user)", True),
        ("url_param id", True),
    ],
)
def test_hash_algorithms_are_known_as_such(balance: str, hashed: bool) -> None:
    assert backend(make_backend(balance=balance)).hashed is hashed


@pytest.mark.parametrize(
    ("stick", "bind", "kind"),
    [
        ({}, ":80", "ip"),
        ({}, "[::]:80", "ipv6"),
        ({"type": "ip"}, "[::]:80", "ip"),
        ({"on": "req.cook(session)"}, ":80", "string len 128"),
        ({"on": "req.cook(session)"}, "[::]:80", "string len 128"),
        ({"on": "ssl_fc_session_id", "type": "binary"}, ":80", "binary len 128"),
        ({"on": "dst_port", "type": "integer"}, ":80", "integer"),
    ],
)
def test_the_type_of_a_stick_table(stick: dict[str, str], bind: str, kind: str) -> None:
    settings = make_settings(
        frontends=[{"name": "web", "bind": bind}],
        backends=[{"name": "site", "sources": ASG, "stick": {**stick, "size": "1k", "expire": "30m"}}],
    )
    found = backend(settings).stick
    assert found is not None
    assert (found.type, found.size, found.expire) == (kind, 1024, "1800s")
    assert backend(make_backend()).stick is None


# --- frontends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "bind"),
    [
        ({"bind": "*:80"}, ":80"),
        ({"bind": "[::]:80", "accept_proxy": True}, "[::]:80 accept-proxy"),
        ({"tls": {"cert": "/etc/a.pem"}}, ":80 ssl crt /etc/a.pem alpn h2,http/1.1"),
        ({"tls": {"cert": "/etc/a.pem", "alpn": "h2"}, "mode": "tcp"}, ":80 ssl crt /etc/a.pem alpn h2"),
        ({"tls": {"cert": "/etc/a.pem"}, "mode": "tcp"}, ":80 ssl crt /etc/a.pem"),
    ],
)
def test_binds(fields: dict[str, object], bind: str) -> None:
    settings = make_settings(frontends=[{"name": "web", "bind": ":80", **fields}])
    (found,) = context(settings).frontends
    assert found.bind == bind
    assert found.forwarded_for is (fields.get("mode") != "tcp")


def test_routes_give_a_frontend_its_map() -> None:
    routes = [{"host": "*.b.example", "path": "/", "backend": "site"}]
    frontends = [
        {"name": "web", "bind": ":80", "routes": routes, "forwarded_for": False, "default_backend": "site"},
        {"name": "plain", "bind": ":81"},
        {"name": "tls", "bind": ":82", "mode": "tcp", "route_by": "sni"},
    ]
    web, plain, tls = context(make_settings(frontends=frontends, haproxy={"maps_dir": "/var/maps/"})).frontends
    assert (web.paths, web.path_depths, web.route_by) == ("/var/maps/paths-web.map", (2,), "host")
    assert (web.default_backend, web.forwarded_for) == ("site", False)
    assert (plain.paths, plain.path_depths, plain.default_backend) == (None, (), None)
    assert (tls.route_by, tls.mode) == ("sni", "tcp")


def test_the_process_and_its_listeners() -> None:
    haproxy = {
        "maxconn": 5000,
        "threads": 2,
        "close_spread_time": "1s",
        "hard_stop_after": "90s",
        "health": "[::]:8403",
    }
    found = context(make_settings(haproxy=haproxy))
    assert (found.process.maxconn, found.process.threads, found.process.close_spread_time) == (5000, 2, "1s")
    assert (found.process.hard_stop_after, found.health, found.stats) == ("90s", "[::]:8403", "127.0.0.1:8404")
    assert found.maps.depths == (8, 7, 6, 5, 4, 3, 2, 1)
    assert found.maps.hosts == "/etc/haproxy/maps/hosts.map"


def test_idle_connections_are_not_closed_early_unless_told_so() -> None:
    assert context(make_settings()).process.close_spread_time is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.0004, "1ms"), (0.2, "200ms"), (1.5, "1500ms"), (2, "2s"), (3600, "3600s")]
)
def test_timers(seconds: float, text: str) -> None:
    assert timer(seconds) == text


# --- peers -----------------------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"i-[0-9a-f]{1,3}", fullmatch=True)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
PEERS = st.lists(st.builds(Peer, name=NAMES, address=ADDRESSES, port=st.integers(1, 65535)), unique_by=lambda p: p.name)


@given(name=NAMES, address=ADDRESSES, peers=PEERS)
def test_self_is_among_the_peers_exactly_once(name: str, address: object, peers: list[Peer]) -> None:
    node = Node(id=name, address=ip_address(str(address)), zone="", region="")
    found = context(make_settings(peers={"port": 7777}), make_desired(peers=peers, node=node)).peers
    assert [each for each in found.all if each.local] == [found.local]
    assert [each.name for each in found.all].count(name) == 1
    assert found.local.address.endswith(":7777")
    assert [each.name for each in found.all] == sorted({name, *(each.name for each in peers)})


def test_a_peer_has_its_address_and_ipv6_stands_in_brackets() -> None:
    found = context(make_settings(), make_desired(peers=[peer("i-0bbb", "fd00::1", 7777)])).peers
    assert [(each.name, each.address) for each in found.all] == [
        ("i-0aaa", "10.0.0.1:10000"),
        ("i-0bbb", "[fd00::1]:7777"),
    ]
    assert found.tls is None


def test_peers_over_tls_check_each_other() -> None:
    settings = make_settings(peers={"tls": {"cert": "/etc/n.pem", "ca": "/etc/ca.pem"}})
    assert context(settings).peers.tls == "ssl crt /etc/n.pem ca-file /etc/ca.pem verify required"


def test_two_peers_of_one_name_are_refused() -> None:
    peers = [peer("i-0bbb", "10.0.0.2"), peer("i-0bbb", "10.0.0.3")]
    with pytest.raises(TemplateError, match="two peers have the name i-0bbb"):
        context(make_settings(), make_desired(peers=peers))


@pytest.mark.parametrize("name", ["i-0bbb\n", "a b", "", "i" * 64, "i-\x00"])
def test_a_peer_name_that_is_no_node_id_is_refused(name: str) -> None:
    with pytest.raises(TemplateError, match="is not a node's id"):
        context(make_settings(), make_desired(peers=[peer(name, "10.0.0.2")]))


def test_a_node_id_that_is_none_is_refused() -> None:
    node = Node(id="a\nglobal", address=NODE.address, zone="", region="")
    with pytest.raises(TemplateError, match="is not a node's id"):
        context(make_settings(), make_desired(node=node))
