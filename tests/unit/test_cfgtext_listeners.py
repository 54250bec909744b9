"""Where a text listens."""

import pytest

from hafleet.core.cfgtext import parse
from hafleet.core.listeners import Listener


def binds(target: str) -> list[tuple[str, int, bool, bool]]:
    found = parse(f"frontend f\n  bind {target}").listeners
    assert all(listener.line == 2 for listener in found)
    return [(x.address, x.port, x.udp, x.foreign) for x in found]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (":80", [("", 80, False, False)]),
        ("*:80", [("", 80, False, False)]),
        ("10.0.0.1:80,10.0.0.2:81", [("10.0.0.1", 80, False, False), ("10.0.0.2", 81, False, False)]),
        (":::80", [("::", 80, False, False)]),
        ("[::1]:80 v6only", [("::1", 80, False, False)]),
        ("ipv6@:80", [("::", 80, False, False)]),
        ("ipv4@:80", [("", 80, False, False)]),
        ("quic4@:443 ssl", [("", 443, True, False)]),
        (":80-82", [("", 80, False, False), ("", 81, False, False), ("", 82, False, False)]),
        (":1000-60000", [("", 1000, False, False), ("", 60000, False, False)]),
        ("192.0.2.1:80 transparent", [("192.0.2.1", 80, False, True)]),
        ("10.0.0.1:80 namespace blue", []),
        ("unix@/run/x.sock", []),
        ("/run/x.sock", []),
        ("fd@3", []),
        ('"$ADDR":80', []),
        ("10.0.0.1", []),
        (":99999", []),
        ("", []),
    ],
)
def test_bind_lines(target: str, found: list[tuple[str, int, bool, bool]]) -> None:
    assert binds(target) == found


def test_the_local_peer_is_a_listener_and_the_others_are_not() -> None:
    text = "global\nlocalpeer me\npeers p\npeer you 10.0.0.2:1\npeer me 10.0.0.1:1\n"
    assert parse(text).listeners == (Listener("10.0.0.1", 1, line=5),)
    assert parse(text.replace("localpeer me", "localpeer nobody")).listeners == ()
    assert parse(text.replace("peer me 10.0.0.1:1", "peer me")).listeners == ()


def test_a_bind_of_a_peers_section_is_tried_but_is_no_listener_of_traffic() -> None:
    text = parse("peers p\nbind 10.0.0.1:99\n")
    assert (len(text.listeners), text.bind_lines) == (1, 0)
