"""The listener on a joining node's peers address: what counts as a peer, and real HAProxies that list the node."""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from hafleet.adapters.clock import SystemClock
from hafleet.adapters.peerwatch import PeerListener
from hafleet.adapters.wakeup import Wakeups
from hafleet.core.model import Peer
from hafleet.lab.haproxies import Haproxy
from hafleet.ports import PeerWatch
from tests.pki import Authority

NAME = "i-00000000000000aaa"
LONG = 60.0  # seconds; a bound for waiting
HELLO = f"HAProxyS 2.1\n{NAME}\ni-00000000000000bbb 24387 1\n".encode()


@contextmanager
def listening(port: int, address: str = "127.0.0.1") -> Iterator[tuple[PeerWatch, Wakeups]]:
    wakeups = Wakeups(SystemClock())
    watch = PeerListener(Peer(NAME, ip_address(address), port), wakeups)
    try:
        yield watch, wakeups
    finally:
        watch.close()


def say(address: tuple[str, int], *parts: bytes, source: str = "127.0.0.9") -> bytes:
    """Say these parts on one connection, and hear what comes back."""
    with socket.create_connection(address, timeout=LONG, source_address=(source, 0)) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(100)
        except OSError:  # hung up on
            return b""


@pytest.mark.parametrize(
    "parts",
    [
        (HELLO,),
        (HELLO[:5], HELLO[5:20], HELLO[20:]),
        (HELLO.replace(b"2.1", b"3.0"),),
        (bytes.fromhex("160301020001"),),  # a TLS handshake
    ],
)
def test_a_peer_is_heard_and_wakes_the_pass_once(free_port: Callable[..., int], parts: tuple[bytes, ...]) -> None:
    port = free_port()
    with listening(port) as (watch, wakeups):
        assert (watch.problem, watch.contacted()) == ("", False)
        assert say(("127.0.0.1", port), *parts) == b""
        assert wakeups.wait(LONG)
        assert watch.contacted()
        assert wakeups.take() == ("peers: one has connected",)
        watch.close()
        with pytest.raises(ConnectionRefusedError):  # it waits for one contact only
            say(("127.0.0.1", port), HELLO)


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (b"",),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",),
        (b"HAProxyS 2.1\ni-00000000000000ccc\ni-00000000000000bbb 1 1\n",),  # means another node
        (HELLO.split(b"\n", maxsplit=1)[0],),
        (b"HAProxyS 2.1\n" + NAME.encode(),),  # cut short
        (b"\x16",),
        (b"x" * 5000,),
    ],
)
def test_what_is_no_peer_proves_nothing(free_port: Callable[..., int], parts: tuple[bytes, ...]) -> None:
    port = free_port()
    with listening(port) as (watch, wakeups):
        say(("127.0.0.1", port), *parts)
        say(("127.0.0.1", port), *parts)  # the second is accepted after the first was judged
        assert not watch.contacted()
        assert wakeups.take() == ()
        say(("127.0.0.1", port), HELLO)  # and it still listens
        assert wakeups.wait(LONG)


def test_this_host_is_no_peer_of_itself(free_port: Callable[..., int]) -> None:
    port = free_port("127.0.0.8")
    with listening(port, "127.0.0.8") as (watch, wakeups):
        for _ in range(2):
            say(("127.0.0.8", port), HELLO, source="127.0.0.8")
        assert not watch.contacted()
        say(("127.0.0.8", port), HELLO, source="127.0.0.9")
        assert wakeups.wait(LONG)


def test_a_client_that_says_nothing_keeps_no_peer_away(free_port: Callable[..., int]) -> None:
    port = free_port()
    with listening(port) as (_, wakeups), socket.create_connection(("127.0.0.1", port)):
        say(("127.0.0.1", port), HELLO)
        assert wakeups.wait(LONG)


def test_the_address_is_free_at_once_after_the_end(free_port: Callable[..., int]) -> None:
    port = free_port()
    with listening(port) as (watch, wakeups):
        say(("127.0.0.1", port), HELLO)
        assert wakeups.wait(LONG)
        watch.close()
        assert watch.contacted()  # what was heard stays heard
        with listening(port) as (again, _):
            assert (again.problem, again.contacted()) == ("", False)
            again.close()
            again.close()
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1", "198.51.100.7"])
def test_an_address_that_cannot_be_had_is_reported(free_port: Callable[..., int], address: str) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), listening(port, address) as (watch, wakeups):
        assert f"{address} port {port} cannot be listened on: " in watch.problem
        assert not watch.contacted()
        watch.close()
        assert wakeups.take() == ()


def test_an_ipv6_address(free_port: Callable[..., int]) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("this host has no IPv6 loopback")
    with listening(port, "::1") as (watch, _):
        for _ in range(2):
            say(("::1", port), HELLO, source="::1")
        assert (watch.problem, watch.contacted()) == ("", False)  # ::1 is this host


# --- real peers -------------------------------------------------------------------------------------------------------

OTHER = "i-00000000000000bbb"


@contextmanager
def running(haproxy: Haproxy, folder: Path, peers: str) -> Iterator[None]:
    config = folder / "haproxy.cfg"
    config.write_text(
        f"""global
    localpeer {OTHER}
defaults
    mode tcp
    timeout connect 1s
    timeout client 1s
    timeout server 1s
peers hafleet
{peers}
backend table
    stick-table type ip size 1k peers hafleet
    server none 127.0.0.1:9
"""
    )
    process = subprocess.Popen((haproxy.binary, "-db", "-f", config))
    try:
        yield
    finally:
        process.terminate()
        process.wait(LONG)


def lines(folder: Path, name: str, ports: tuple[int, int], *, tls: bool) -> str:
    """A peers section of two: the one that runs on 127.0.0.2, and this node on 127.0.0.3, which it leaves by 127.0.0.1."""
    if not tls:
        return f"    peer {OTHER} 127.0.0.2:{ports[0]}\n    peer {name} 127.0.0.3:{ports[1]}"
    authority = Authority("peers")
    options = f"ssl crt {authority.issue(folder / 'peer.pem', 'peer')} ca-file {authority.write(folder / 'ca.pem')}"
    return (
        f"    bind 127.0.0.2:{ports[0]} {options} verify required\n    default-server {options} verify required\n"
        f"    server {OTHER}\n    server {name} 127.0.0.3:{ports[1]}"
    )


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_haproxy_that_lists_this_node_is_heard(
    haproxy: Haproxy, tmp_path: Path, free_port: Callable[..., int], tls: bool
) -> None:
    ports = free_port("127.0.0.2"), free_port("127.0.0.3")
    with running(haproxy, tmp_path, lines(tmp_path, NAME, ports, tls=tls)):
        with listening(ports[1], "127.0.0.3") as (watch, wakeups):  # the peer was there first, and comes again
            assert wakeups.wait(LONG)
            assert watch.contacted()


def test_a_haproxy_that_means_another_node_is_not(
    haproxy: Haproxy, tmp_path: Path, free_port: Callable[..., int]
) -> None:
    ports = free_port("127.0.0.2"), free_port("127.0.0.3")
    greeted = threading.Event()

    class Witness(PeerListener):
        def _is_peer(self, greeting: bytes) -> bool:
            found = super()._is_peer(greeting)
            if greeting.startswith(b"HAProxyS"):
                greeted.set()
            return found

    wakeups = Wakeups(SystemClock())
    watch = Witness(Peer(NAME, ip_address("127.0.0.3"), ports[1]), wakeups)
    with running(haproxy, tmp_path, lines(tmp_path, "i-00000000000000ccc", ports, tls=False)):
        assert greeted.wait(LONG)
    watch.close()
    assert not watch.contacted()
    assert wakeups.take() == ()
