"""The two sockets when they do not behave: fakes that hang, babble or never end, and the traps of the real ones."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hafleet.adapters.clock import SystemClock
from hafleet.adapters.haproxy import HaproxyProxy, MasterCli, RuntimeApi
from hafleet.core.command import Command
from hafleet.core.settings import Haproxy as Settings
from hafleet.errors import ProxyUnavailable, UnexpectedReply
from hafleet.lab.haproxies import Haproxy
from tests.integration.rig import Config, Srv, rigged, servers, wait
from tests.resources import Loopback, allow, beside

INFO = b"Version: 2.6.12\nPid: 7\nUptime_sec: 1\n"


@contextmanager
def fake(path: Path, talk: Callable[[socket.socket], None]) -> Iterator[None]:
    """A unix socket; every connection is handed to ``talk`` and then closed."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        stop = threading.Event()

        def end() -> None:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        talk(connection)
                    except OSError:
                        pass  # the client went away

        with beside(serve, end):
            yield


def hang(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def babble(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"\xff\xfe\x00 not HAProxy\n> \n> \n> \n> \n> ")
    hang(connection)


def endless(connection: socket.socket) -> None:
    connection.recv(4096)
    while True:
        connection.sendall(b"x" * 1_000_000)


def scripted(*replies: bytes) -> Callable[[socket.socket], None]:
    """A worker that answers `prompt`, then each line in turn with one of these."""

    def talk(connection: socket.socket) -> None:
        file = connection.makefile("rb")
        file.readline()
        connection.sendall(b"\n> ")
        for reply in replies:
            file.readline()
            connection.sendall(reply + b"\n> ")
        file.read()

    return talk


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        (hang, "does not answer in time"),
        (babble, "usable"),
        (endless, "does not end"),
        (lambda c: None, "closed|breaks off"),
    ],
    ids=["hang", "garbage", "huge", "close"],
)
def test_a_runtime_socket_that_misbehaves_is_unavailable(
    tmp_path: Path, talk: Callable[[socket.socket], None], message: str
) -> None:
    with fake(tmp_path / "s", talk), pytest.raises(ProxyUnavailable, match=message):
        RuntimeApi(tmp_path / "s", timeout=0.3 if talk is hang else 20.0).pid()


@pytest.mark.parametrize(
    ("talk", "message"),
    [(hang, "not answered in time"), (babble, "did not list"), (endless, "does not end|fails")],
    ids=["hang", "garbage", "huge"],
)
def test_a_master_socket_that_misbehaves_is_unavailable(
    tmp_path: Path, talk: Callable[[socket.socket], None], message: str
) -> None:
    def keep_open(connection: socket.socket) -> None:
        talk(connection)
        if talk is hang:
            threading.Event().wait(1)  # the real master keeps its side open as well

    with fake(tmp_path / "s", keep_open), pytest.raises(ProxyUnavailable, match=message):
        MasterCli(tmp_path / "s", SystemClock(), timeout=0.3 if talk is hang else 20.0).processes()


@pytest.mark.parametrize(
    "ask",
    [lambda path: RuntimeApi(path).pid(), lambda path: MasterCli(path, SystemClock()).processes()],
    ids=["runtime", "master"],
)
def test_a_socket_that_is_not_there_is_unavailable_at_once(tmp_path: Path, ask: Callable[[Path], object]) -> None:
    with pytest.raises(ProxyUnavailable, match="No such file") as error:
        ask(tmp_path / "s")
    assert error.value.where == str(tmp_path / "s")


class Still(SystemClock):
    """Waits, and its time stands still: no wait is ever too long."""

    def monotonic(self) -> float:
        return 0.0


def test_a_master_that_refuses_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    path, aside = tmp_path / "s", tmp_path / "next"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # bound, not listening: refuses

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"9  master  0 [failed: 0]  0d00h00m01s  2.6.12\n")

    with fake(aside, answer):
        swap = threading.Timer(0.3, aside.replace, (path,))
        swap.start()
        assert MasterCli(path, Still(), timeout=20.0).processes().master.pid == 9
        swap.join()


def test_a_worker_that_changed_during_the_batch_is_told(tmp_path: Path) -> None:
    pids = iter((b"7", b"8"))

    def talk(connection: socket.socket) -> None:
        scripted(INFO.replace(b"7", next(pids)), b"")(connection)

    with fake(tmp_path / "s", talk), pytest.raises(ProxyUnavailable, match="8 answers instead of 7"):
        RuntimeApi(tmp_path / "s", timeout=20).run(7, [Command("set server a/b weight 1", "set")])


def test_bytes_that_are_no_text_are_quoted_in_the_message(tmp_path: Path) -> None:
    api = RuntimeApi(tmp_path / "s", timeout=20)
    with fake(tmp_path / "s", scripted(INFO, b"\xff\xfe said\r\nno")), pytest.raises(UnexpectedReply, match="said no"):
        api.run(7, [Command("set server a/b weight 1", "set")])


def test_no_command_is_no_connection(tmp_path: Path) -> None:
    RuntimeApi(tmp_path / "nothing").run(7, [])


# --- the real ones --------------------------------------------------------------------------------------------------


def test_trap_a_connection_that_outlives_a_reload_stays_on_the_old_worker(
    haproxy: Haproxy, tmp_path: Path, loopback: Loopback
) -> None:
    a = Srv("i-0000000a", loopback.address())
    add = "add server site/lost 10.0.0.1:80 id 9"
    with rigged(haproxy, tmp_path, loopback.address()) as rig:
        former = rig.start(Config({"site": (a,)}))
        with rig.proxy._runtime.open() as held:
            rig.apply(rig.render(Config({"site": (a,)}, frontend=("maxconn 150",))))
            assert held.ask(add)[0].strip() == "New server registered."  # and yet ...
        assert rig.observe().pid != former.pid
        assert ("site", "lost") not in rig.observe().servers
        with pytest.raises(ProxyUnavailable, match="worker changed"):
            rig.proxy.run(former.pid, [Command(add, "add")])


def test_ten_thousand_lines_go_through_one_connection(haproxy: Haproxy, tmp_path: Path, loopback: Loopback) -> None:
    a = Srv("i-0000000a", loopback.address())
    with rigged(haproxy, tmp_path, loopback.address()) as rig:
        worker = rig.start(Config({"site": (a,)}))
        rig.proxy.run(worker.pid, [Command(f"set server site/{a.name} weight {n % 256}", "set") for n in range(10_000)])
        assert rig.observe().servers["site", a.name].weight == 9999 % 256


def test_a_stopped_worker_is_unavailable_and_a_reload_replaces_it(
    haproxy: Haproxy, tmp_path: Path, loopback: Loopback
) -> None:
    a = Srv("i-0000000a", loopback.address())
    with servers([a.address]), rigged(haproxy, tmp_path, loopback.address()) as rig:
        worker = rig.start(Config({"site": (a,)}))
        allow(rig.proxy, runtime=2.0, master=4.0)
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            with pytest.raises(ProxyUnavailable, match="does not answer in time"):
                rig.observe()
            rig.proxy.reload(rig.render(Config({"site": (a,)}, frontend=("maxconn 150",))), worker)
            assert rig.observe().pid != worker.pid
        finally:
            # It could not hand over its listeners, so until it ends the kernel still deals it connections.
            os.kill(worker.pid, signal.SIGKILL)
        wait(lambda: rig.observe().old_workers == 0)
        assert rig.seen(20) == {a.address}


def test_a_binary_that_is_not_there_or_is_no_haproxy_is_named(tmp_path: Path) -> None:
    for binary, message in (("/nowhere/haproxy", "cannot be run"), ("/bin/true", "does not name a version")):
        settings = Settings(binary=binary, config=str(tmp_path / "c"))
        with pytest.raises(ProxyUnavailable, match=message) as error:
            HaproxyProxy(settings, SystemClock()).version()
        assert error.value.where == binary
