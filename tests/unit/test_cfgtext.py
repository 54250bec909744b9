"""Taking a configuration text apart: what is structure, what is a runtime server, and how a text is closed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafleet.core.cfgtext import END_MARK, ServerLine, complete, digest, finish, parse
from hafleet.errors import ConfigRejected

BODY = """
global
    localpeer i-1
frontend web
    bind :80
    default_backend site
backend site
    balance roundrobin
    # hafleet:options check inter 2s
    # hafleet:options check inter 2s backup
    server i-a 10.0.0.1:8080 id 11 weight 100 check inter 2s
    server i-b 10.0.0.2:8080 id 12 weight 0 check inter 2s
"""


def structure(text: str) -> str:
    return parse(text).structure


def site(*lines: str) -> str:
    return "\n".join(("backend site", *lines))


def test_runtime_servers_are_read_with_every_part() -> None:
    text = parse(BODY)
    assert dict(text.servers) == {
        ("site", "i-a"): ServerLine("site", "i-a", "10.0.0.1", 8080, 11, 100, "check inter 2s"),
        ("site", "i-b"): ServerLine("site", "i-b", "10.0.0.2", 8080, 12, 0, "check inter 2s"),
    }
    assert text.options == {"site": {"check inter 2s", "check inter 2s backup"}}
    assert (text.backends, text.fixed) == (frozenset({"site"}), frozenset())
    assert (text.server_lines, text.bind_lines) == (2, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("id 11 weight 100", "id 11 weight 7"),
        ("10.0.0.1:8080", "10.0.0.9:9090"),
        ("id 12", "id 99"),
        ("    server i-b 10.0.0.2:8080 id 12 weight 0 check inter 2s\n", ""),
        ("i-a 10.0.0.1:8080 id 11 weight 100 check inter 2s", "i-a 10.0.0.1:8080 weight 100 check inter 2s id 11"),
        ("    balance roundrobin", "\tbalance   roundrobin  # the default"),
        ("global\n", "# a word on it\n\nglobal\n"),
        ("global\n", "# don't\nglobal\n"),
        ("weight 0 check inter 2s", "weight 0 check inter 2s backup"),
    ],
)
def test_what_the_runtime_can_change_is_no_structure(old: str, new: str) -> None:
    assert old in BODY
    assert structure(BODY.replace(old, new)) == structure(BODY)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bind :80", "bind :81"),
        ("balance roundrobin", "balance leastconn"),
        ("weight 0 check inter 2s", "weight 0 check inter 3s"),
        ("10.0.0.2:8080", "host.example:8080"),
        ("10.0.0.2:8080", "unix@/run/x"),
        ("10.0.0.2:8080", "0.0.0.0:8080"),
        ("10.0.0.2:8080 id 12", "10.0.0.2:8080"),
        ("id 12", "id 0"),
        ("id 12", "id x"),
        ("id 12 weight 0 check", "id 12 check weight x"),
        ("weight 0 check inter 2s", "weight 0 check inter 2s disabled"),
        ("weight 0 check inter 2s", "weight 0 check inter 2s track site/i-a"),
        ("weight 0 check inter 2s", 'weight 0 check inter 2s sni "str(x)"'),
        ("i-b 10.0.0.2:8080 id 12", "i-a 10.0.0.2:8080 id 12"),
        ("    server i-b", "    default-server inter 5s\n    server i-b"),
        ("    server i-b", "    server-template w 1-3 10.0.0.9:80\n    server i-b"),
        ("    # hafleet:options check inter 2s backup\n", ""),
    ],
)
def test_everything_else_is_structure(old: str, new: str) -> None:
    assert old in BODY
    assert structure(BODY.replace(old, new)) != structure(BODY)


def test_the_own_name_among_the_options_does_not_make_servers_differ() -> None:
    one = site(
        "server i-a 10.0.0.1:80 id 1 weight 1 check cookie i-a", "server i-b 10.0.0.2:80 id 2 weight 1 check cookie i-b"
    )
    text = parse(one)
    assert text.options["site"] == {"check cookie %N"}
    assert text.servers["site", "i-b"].command_options == "check cookie i-b"
    assert structure(one) == structure(site("server i-a 10.0.0.1:80 id 1 weight 1 check cookie i-a"))


def test_a_name_within_another_word_is_left_as_it_is() -> None:
    text = parse(site("server a 10.0.0.1:80 id 1 weight 1 cookie abba"))
    assert text.servers["site", "a"].options == "cookie abba"


@pytest.mark.parametrize(
    ("target", "address", "port"),
    [("[fd00::1]:80", "fd00::1", 80), ("fd00::1:80", "fd00::1", 80), ("127.0.0.1:65535", "127.0.0.1", 65535)],
)
def test_addresses_of_both_families(target: str, address: str, port: int) -> None:
    server = parse(site(f"server a {target} id 1 weight 1")).servers["site", "a"]
    assert (server.address, server.port, server.checked) == (address, port, False)


@pytest.mark.parametrize(
    "lines",
    [
        ("server",),
        ("server a",),
        ("server a 10.0.0.1",),
        ("server a 10.0.0.1:+1 id 1 weight 1",),
        ("server a 10.0.0.1:80 id 1 weight 1 id 2",),
        (".if defined(X)", "server a 10.0.0.1:80 id 1 weight 1", ".endif"),
    ],
)
def test_odd_server_lines_are_fixed(lines: tuple[str, ...]) -> None:
    text = parse(site(*lines))
    assert (len(text.servers), text.server_lines, len(text.fixed)) == (0, 1, 1)


def test_servers_of_frontends_peers_and_of_hafleet_itself_are_structure() -> None:
    line = "server a 10.0.0.1:80 id 1 weight 1"
    assert not parse(f"frontend f\n{line}").servers
    assert not parse(f"backend hafleet_ready\n{line}").servers
    peers = parse(f"peers p\n{line}")
    assert (len(peers.servers), peers.server_lines) == (0, 0)
    assert parse(f"listen l\n{line}").servers.keys() == {("l", "a")}


def test_default_server_of_a_defaults_section_counts_for_all_after_it() -> None:
    line = "server a 10.0.0.1:80 id 1 weight 1"
    assert not parse(f"defaults\ndefault-server check\nbackend b\n{line}").servers
    assert parse(f"peers p\ndefault-server ssl\nbackend b\n{line}").servers
    assert parse(f"backend x\ndefault-server check\nbackend b\n{line}").servers


def test_blanks_and_hashes_inside_quotes_are_kept() -> None:
    assert structure(site('http-request set-header X "a  b"')) != structure(site('http-request set-header X "a b"'))
    assert structure(site('http-request set-header X "a # b"')) != structure(site('http-request set-header X "a # c"'))


def test_a_section_without_a_name_and_a_directive_outside_of_one_are_structure() -> None:
    assert parse("backend\nserver a 10.0.0.1:80 id 1 weight 1").backends == frozenset()
    assert structure("# hafleet:options check\nfoo") == structure("foo")


def test_maps_are_found_by_file_name() -> None:
    text = parse(
        "frontend f\nuse_backend %[req.hdr(host),map(/m/hosts.map,x)] if { path,map_beg(/m/paths.map) -m found }"
    )
    assert text.maps == {"hosts.map": "/m/hosts.map", "paths.map": "/m/paths.map"}


# --- finish and complete --------------------------------------------------------------------------------------------


def test_a_finished_text_tells_its_author_its_source_and_its_structure() -> None:
    text = finish(BODY, source="/etc/hafleet.yaml sha256 0\n12", author="hafleet 1\r\nlisten evil")
    found = parse(text)
    assert found.structure == structure(BODY) == found.stamp
    assert text.startswith("# Written by hafleet 1 listen evil; edits are lost")
    assert "# Settings: /etc/hafleet.yaml sha256 0 12\n" in text
    complete(text)


def test_an_empty_global_section_at_the_end_is_no_structure_but_one_with_content_is() -> None:
    assert structure(BODY + "global\n") == structure(BODY)
    assert structure(BODY + "global\nmaxconn 9\n") != structure(BODY)


@pytest.mark.parametrize("cut", [1, 2, 80, 200])
def test_a_cut_text_is_not_complete(cut: int) -> None:
    text = finish(BODY, source="s", author="a")
    with pytest.raises(ConfigRejected, match=r"cut off|not the text"):
        complete(text[:-cut], "there")


def test_a_text_with_something_behind_its_end_mark_is_not_complete() -> None:
    text = finish(BODY, source="s", author="a")
    with pytest.raises(ConfigRejected, match="cut off"):
        complete(f"{text}listen x\n")


def test_an_altered_text_is_not_complete() -> None:
    text = finish(BODY, source="s", author="a")
    with pytest.raises(ConfigRejected, match="not the text"):
        complete(text.replace(":80\n", ":81\n"))
    assert END_MARK in text


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    assert len(parse(text).structure) == 64


@given(
    st.lists(
        st.sampled_from(
            [*BODY.splitlines(), "peer i-1 [::1]:99", "bind", "localpeer", "peer", ".endif", "id", "global"]
        )
    )
)
def test_no_order_of_lines_breaks_the_parser_and_finishing_keeps_the_structure(lines: list[str]) -> None:
    body = "\n".join(lines)
    text = finish(body, source="s", author="a")
    complete(text)
    assert parse(text).stamp == parse(text).structure == structure(body)


def test_a_lone_surrogate_has_a_digest() -> None:
    assert digest("\ud800") == digest("?")
