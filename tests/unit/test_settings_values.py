"""The scalar types: what they take, what they refuse, and that nothing dangerous gets through any of them."""

import re
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from hafleet.core import texts, values
from hafleet.core.backend_settings import Backend
from hafleet.core.texts import Shape, parse_domain, parse_host
from hafleet.core.values import Endpoint, Refusal, parse_endpoint

SECONDS = {
    "us": Decimal("0.000001"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
NOT_SCALARS: list[object] = [
    True,
    False,
    None,
    [],
    {},
    "",
    " 1",
    "1 ",
    "1_0",
    "+1",
    "-1",
    "1e3",
    "\u0661",
    "nan",
    "inf",
    float("nan"),
    "9" * 99,
]
SHAPES = {
    name: adapter for name, adapter in vars(texts).items() if any(isinstance(each, Shape) for each in get_args(adapter))
}

NEVER_IN_HAPROXY_CFG = {"GroupName", "TagText", "AlarmName", "SearchText"}  # they go to AWS as they are

PATIENT = settings(deadline=None)  # a busy machine is no failure


@PATIENT
@given(st.decimals(0, 20000, places=3), st.sampled_from(sorted(SECONDS)))
def test_a_duration_is_its_number_times_its_unit(number: Decimal, unit: str) -> None:
    seconds = number * SECONDS[unit]
    if seconds <= Decimal(values.LONGEST):
        assert values.parse_duration(f"{number}{unit}") == float(seconds)
    else:
        with pytest.raises(Refusal, match="too long"):
            values.parse_duration(f"{number}{unit}")


@PATIENT
@given(st.decimals(0, values.LONGEST, places=3))
def test_a_bare_number_is_seconds_as_a_number_and_as_text(number: Decimal) -> None:
    assert values.parse_duration(float(number)) == values.parse_duration(str(number)) == float(number)


@PATIENT
@given(st.decimals(0, 100, places=4))
def test_a_percentage_is_a_fraction(number: Decimal) -> None:
    assert values.parse_percent(f"{number}%") == float(number / 100)
    assert values.parse_percent(f"{number / 100:.6f}") == float(number / 100)


@PATIENT
@given(st.integers(1, 2047), st.sampled_from([("", 1), ("k", 1024), ("m", 1024**2), ("g", 1024**3)]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: tuple[str, int]) -> None:
    size = number * unit[1]
    if size < 2**31:
        assert values.parse_size(f"{number}{unit[0]}") == size == values.parse_size(size)
    else:
        with pytest.raises(Refusal, match="out of range"):
            values.parse_size(f"{number}{unit[0]}")


@pytest.mark.parametrize("value", NOT_SCALARS)
@pytest.mark.parametrize(
    "parse",
    [
        getattr(values, f"parse_{kind}")
        for kind in ("duration", "span", "drain", "percent", "size", "whole", "number", "address")
    ],
)
def test_what_is_no_number_is_refused(parse: Any, value: object) -> None:
    if value == "-1" and parse in (values.parse_whole, values.parse_number):
        assert parse(value) == -1  # the field's own limits decide
        return
    with pytest.raises(Refusal):
        parse(value)


@pytest.mark.parametrize(
    ("text", "flag"), [("true", True), ("True", True), ("FALSE", False), (True, True), (False, False)]
)
def test_flags(text: object, flag: bool) -> None:
    assert values.parse_flag(text) is flag


@pytest.mark.parametrize("text", ["yes", "on", "1", 1, 0, "", None, "tRUE"])
def test_flags_of_another_language(text: object) -> None:
    with pytest.raises(Refusal, match="neither true nor false"):
        values.parse_flag(text)


@PATIENT
@given(st.ip_addresses())
def test_addresses_stay_themselves(address: IPv4Address | IPv6Address) -> None:
    if address.is_multicast or address.is_unspecified:
        with pytest.raises(Refusal):
            values.parse_address(str(address))
    else:
        assert values.parse_address(str(address)) == values.parse_address(address) == address


@PATIENT
@given(st.one_of(st.none(), st.ip_addresses()), st.integers(1, 65535))
def test_endpoints_survive_being_written(address: IPv4Address | IPv6Address | None, port: int) -> None:
    endpoint = Endpoint(address, port)
    assert parse_endpoint(endpoint.render()) == endpoint


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (":80", ":80", True),
        (":80", ":81", False),
        (":80", "10.0.0.1:80", True),
        ("10.0.0.1:80", "0.0.0.0:80", True),
        ("10.0.0.1:80", "10.0.0.2:80", False),
        ("10.0.0.1:80", "10.0.0.1:80", True),
        ("[::]:80", "10.0.0.1:80", True),  # Linux lets [::] take IPv4 too
        ("[fd00::1]:80", "[fd00:0::1]:80", True),
        ("[fd00::1]:80", "10.0.0.1:80", False),
    ],
)
def test_overlaps(one: str, other: str, overlap: bool) -> None:
    first, second = parse_endpoint(one), parse_endpoint(other)
    assert first.overlaps(second) is second.overlaps(first) is overlap


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80",
        ":0",
        ":65536",
        "::1:80",
        "[::1]",
        "[::1]:",
        "10.0.0.1",
        "a:80",
        "[10.0.0.1]:80",
        "[fe80::1%e]:80",
        ":80\n",
        "1.2.3.4.5:80",
        "[:::]:80",
        ":8٠",
    ],
)
def test_what_nobody_can_listen_on(text: str) -> None:
    with pytest.raises(Refusal, match="not an address to listen on"):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("*.example.com", "*.example.com"),
        ("localhost", "localhost"),
        ("10.0.0.1", "10.0.0.1"),
        ("_dmarc.a-b.c", "_dmarc.a-b.c"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("*.例え.jp", "*.xn--r8jz45g.jp"),
        ("a" * 63 + ".com", "a" * 63 + ".com"),
        (".".join(["a" * 63] * 3 + ["b" * 61]), ".".join(["a" * 63] * 3 + ["b" * 61])),
    ],
)
def test_domains(text: str, name: str) -> None:
    assert parse_domain(text) == name
    assert parse_domain(name) == name


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "*",
            "*.",
            "a..b",
            ".a",
            "-a",
            "a-",
            "a b",
            "a\n",
            "a:80",
            "a/b",
            "http://a",
            "a.*",
            "*a.b",
            "a" * 64,
        ),
        *(".".join(["a" * 63] * 4), "ü" * 64, "straße.de", "a\u200db", "a#", 'a"', "a%"),
    ],
)
def test_what_is_no_domain(text: str) -> None:
    with pytest.raises(Refusal):
        parse_domain(text)


def test_one_host_has_no_star() -> None:
    assert parse_host("A.b") == "a.b"
    with pytest.raises(Refusal, match="star"):
        parse_host("*.a.b")


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("Name", ["a", "site", "site-blue_1.v2:x", "_a", "9", "a" * 63]),
        ("CheckUri", ["/", "/healthz", "/a?b=c&d=%20", "/a/b.c~d", "/@:,;"[:4]]),
        ("Uri", ["/", "/api/v1", "/%C3%BC"]),
        ("HostHeader", ["example.com", "a_b:8080", "10.0.0.1", "[::1]:80"]),
        ("Statuses", ["200", "200-299", "200-299,304,404-410"]),
        ("BodyText", ["ok", "all is well", "{status: up}", "<b>1</b>", "50%"]),
        (
            "Sample",
            [
                "src",
                "ssl_fc_session_id",
                "req.cook(session)",
                "req.hdr(x-user),lower",
                "src,ipmask(24,64)",
                "path,word(1,/)",
            ],
        ),
        ("Balance", ["roundrobin", "random(2)", "hdr(X-User)", "url_param id", "uri", "source", "first", "leastconn"]),
        ("FilePath", ["/", "/etc/haproxy/haproxy.cfg", "/a/b@c:d=e+f"]),
        ("SocketPath", ["/run/haproxy.sock", "/" + "a" * 96]),
        ("CaFile", ["@system-ca", "/etc/ca.pem"]),
        ("Program", ["haproxy", "/usr/sbin/haproxy"]),
        ("GroupName", ["web", 'Web servers (blue) "1" #2', "ü"]),
        ("ZoneId", ["Z08ABC123", "ZONE"]),
        ("Region", ["eu-west-1", "us-gov-east-1"]),
        ("GroupLabel", ["a", "eu-west-1", "{region}", "edge-{zone}", "_x", "9"]),
        ("Location", ["*", "continent-EU", "DE", "US-CA", "UA-09", "FR-75C"]),
        ("AlarmName", ["hafleet {instance}", "a" * 255, 'ü "1" #2']),
        ("SearchText", ["ok", "<title>Shop & Söhne</title>", "a" * 255]),
        ("Queue", ["auto", "none", "https://sqs.eu-west-1.amazonaws.com/1/q"]),
    ],
)
def test_shapes_admit_what_is_usual(name: str, good: list[str]) -> None:
    adapter = TypeAdapter[str](SHAPES[name])
    pattern = adapter.json_schema()["pattern"]
    for text in good:
        assert adapter.validate_python(text) == text
        assert re.search(pattern, text)


@pytest.mark.parametrize("name", sorted(SHAPES))
@PATIENT
@given(
    before=st.text(max_size=3), after=st.text(max_size=3), evil=st.sampled_from(list("\n\r\0\t\x0b\x0c\x1b\x7f\x85"))
)
def test_no_text_holds_a_control_character(name: str, before: str, after: str, evil: str) -> None:
    for text in (before + evil + after, "/a" + evil, "a" + evil, evil + "a", "200" + evil, "src" + evil):
        with pytest.raises(ValidationError):
            TypeAdapter[str](SHAPES[name]).validate_python(text)


@pytest.mark.parametrize("name", sorted(set(SHAPES) - NEVER_IN_HAPROXY_CFG))
@PATIENT
@given(st.text(alphabet="/aA1.:-,@ \"'#$\\;`|{}ü\u2028\u00a0", max_size=12))
def test_no_text_needs_escaping_in_haproxy_cfg(name: str, text: str) -> None:
    adapter = TypeAdapter[str](SHAPES[name])
    for candidate in (text, "/" + text, "a" + text):
        try:
            accepted = adapter.validate_python(candidate)
        except ValidationError:
            continue
        assert accepted.isascii()
        assert not set(accepted) & set("\"'#$\\`")
        assert " " not in accepted or name in {"BodyText", "Balance"}


def test_the_control_an_unguarded_text_takes_everything() -> None:
    assert TypeAdapter(str).validate_python('a"\n#$') == 'a"\n#$'


@pytest.mark.parametrize(("port", "ports"), [(80, (80,)), ("80", (80,)), ([443, "80"], (80, 443)), ((8080,), (8080,))])
def test_ports(port: object, ports: tuple[int, ...]) -> None:
    backend = Backend.model_validate({"name": "a", "sources": [{"asg": "a"}], "port": port})
    assert backend.ports == ports


def test_an_address_keeps_its_type() -> None:
    source = Backend.model_validate({"name": "a", "sources": [{"static": ["10.0.0.1", "fd00::1"]}]}).sources[0]
    assert source.static == (ip_address("10.0.0.1"), ip_address("fd00::1"))
