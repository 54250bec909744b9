"""Checks, reloads and their failures on a real HAProxy of each version."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hafleet.core import cfgtext
from hafleet.core.command import Command
from hafleet.core.model import Rendered
from hafleet.errors import ConfigRejected, ProxyUnavailable, ReloadFailed
from hafleet.lab.haproxies import Haproxy
from tests.integration.rig import Config, Rig, Srv, rigged, servers, wait
from tests.resources import Loopback, sessions


@pytest.fixture
def rig(haproxy: Haproxy, tmp_path: Path, loopback: Loopback) -> Iterator[Rig]:
    with rigged(haproxy, tmp_path, loopback.address()) as made:
        yield made


def recut(rig: Rig, config: Config, old: str, new: str) -> Rendered:
    """The configuration with one piece replaced, finished anew."""
    rendered = rig.render(config)
    body = rendered.text.partition("\n\n")[2].partition("\n\n# The agent")[0]
    assert old in body
    return Rendered(cfgtext.finish(body.replace(old, new), source="a test", author="a test"), rendered.maps)


def test_a_structural_change_is_loaded_and_proven(rig: Rig, loopback: Loopback) -> None:
    a, b = (Srv(f"i-0000000{n}", loopback.address()) for n in "ab")
    with servers([a.address, b.address]):
        before = rig.start(Config({"site": (a,)}))
        wanted = rig.render(Config({"site": (a,), "fresh": (b,)}, {"/f": "fresh"}))
        assert rig.apply(wanted).reload == ("the structure changed",)
        after = rig.observe()
        assert after.pid != before.pid
        assert after.master_pid == before.master_pid
        assert rig.get("/f")[1] == b.address
        assert rig.plan(wanted).empty
        wait(lambda: rig.observe().old_workers == 0)


def test_a_reload_keeps_health_and_weight_of_servers_that_stay(rig: Rig, loopback: Loopback) -> None:
    a, down, added = (Srv(f"i-0000000{n}", loopback.address()) for n in "abc")
    slow = "check inter 60s fastinter 60s fall 1 rise 1"  # after the reload no check comes in time to tell
    may = {"site": (slow,)}
    with servers([a.address]):
        two = tuple(Srv(s.name, s.address, options=slow) for s in (a, down))
        worker = rig.start(Config({"site": two}, directives=may))
        rig.proxy.run(worker.pid, [Command(f"set server site/{down.name} health down", "set")])
        three = tuple(Srv(s.name, s.address, weight=9, options=slow) for s in (a, down, added))
        assert rig.apply(rig.render(Config({"site": three}, directives=may))).reload == ()
        assert rig.apply(rig.render(Config({"site": three}, frontend=("maxconn 150",), directives=may))).reload
        found = rig.observe().servers
        assert [found["site", s.name].up for s in (a, down, added)] == [True, False, False]
        assert {found["site", s.name].weight for s in (a, down, added)} == {9}


def test_a_server_that_moved_starts_at_its_new_port(rig: Rig, loopback: Loopback) -> None:
    a = Srv("i-0000000a", loopback.address(), port=8080)
    with servers([a.address]), servers([a.address], port=8081):
        rig.start(Config({"site": (a,)}))
        moved = rig.render(Config({"site": (Srv(a.name, a.address, port=8081),)}))
        plan = rig.apply(moved)
        assert "moved from" in plan.reload[0]
        assert rig.observe().servers["site", a.name].port == 8081
        assert rig.plan(moved).empty


def test_a_changed_option_of_one_server_is_a_reload(rig: Rig, loopback: Loopback) -> None:
    both = {"site": ("check", "check backup")}
    a, b = (
        Srv("i-0000000a", loopback.address(), options="check"),
        Srv("i-0000000b", loopback.address(), options="check"),
    )
    rig.start(Config({"site": (a, b)}, directives=both))
    backup = Srv(b.name, b.address, options="check backup")
    wanted = rig.render(Config({"site": (a, backup)}, directives=both))
    assert rig.plan(wanted).reload == (f"the options of site/{b.name} changed",)
    assert rig.apply(wanted).reload
    assert rig.plan(wanted).empty


def test_a_reload_that_was_broken_off_after_the_rename_is_done_by_the_next_pass(rig: Rig, loopback: Loopback) -> None:
    both = {"site": ("check", "check backup")}
    a, b = (
        Srv("i-0000000a", loopback.address(), options="check"),
        Srv("i-0000000b", loopback.address(), options="check"),
    )
    worker = rig.start(Config({"site": (a, b)}, directives=both))
    wanted = rig.render(Config({"site": (a, Srv(b.name, b.address, options="check backup"))}, directives=both))
    rig.proxy._disk.mark_loading(worker.pid)  # what the killed agent had done
    rig.proxy.install(wanted)
    assert rig.plan(wanted).reload == ("an earlier reload was broken off",)
    rig.apply(wanted)
    assert rig.observe().pid != worker.pid
    assert rig.plan(wanted).empty


def test_a_mark_of_a_reload_that_did_happen_is_no_reason(rig: Rig, loopback: Loopback) -> None:
    a = Srv("i-0000000a", loopback.address())
    first = rig.start(Config({"site": (a,)}))
    wanted = rig.render(Config({"site": (a,)}, frontend=("maxconn 150",)))
    rig.apply(wanted)
    rig.proxy._disk.mark_loading(first.pid)
    assert rig.plan(wanted).empty


def test_a_configuration_of_somebody_else_is_replaced_by_a_reload(rig: Rig, loopback: Loopback) -> None:
    a = Srv("i-0000000a", loopback.address())
    config = Config({"site": (a,)})
    text = rig.render(config).text
    rig.start(config)
    foreign = "".join(line + "\n" for line in text.split("\n") if "HAFLEET_STRUCTURE" not in line)
    Path(rig.settings.config).write_text(foreign)
    former = rig.observe().pid
    rig.proxy._master.ask("reload", timeout=60)
    wait(lambda: rig.answers() and rig.observe().pid != former)
    # Before 3.2 the master keeps the environment of the earlier load, so the worker still shows our stamp.
    assert rig.plan(rig.render(config)).reload == ("the installed file is not as hafleet wrote it",)
    rig.apply(rig.render(config))
    assert rig.plan(rig.render(config)).empty


# --- refused candidates ---------------------------------------------------------------------------------------------


def test_bad_syntax_is_refused_with_its_line_and_nothing_is_touched(rig: Rig, loopback: Loopback) -> None:
    config = Config({"site": (Srv("i-0000000a", loopback.address()),)})
    rig.start(config)
    before = rig.proxy.installed()
    bad = recut(rig, config, "    retries 3", "    retriez 3")
    line = bad.text.split("\n").index("    retriez 3") + 1
    with pytest.raises(ConfigRejected, match=r"retriez") as refused:
        rig.apply(bad)
    assert refused.value.where.endswith(f"haproxy.cfg.candidate:{line}")
    assert f"(line {line}: retriez 3)" in refused.value.what
    assert rig.proxy.installed() == before


def test_a_missing_certificate_is_refused_by_name(rig: Rig, loopback: Loopback) -> None:
    config = Config({"site": (Srv("i-0000000a", loopback.address()),)})
    rig.start(config)
    with pytest.raises(ConfigRejected, match=r"nowhere\.pem"):
        rig.apply(recut(rig, config, ":8000", ":8000 ssl crt /nowhere.pem"))


def test_a_warning_is_refused_too(rig: Rig, loopback: Loopback) -> None:
    config = Config({"site": (Srv("i-0000000a", loopback.address()),)})
    with pytest.raises(ConfigRejected, match="timeout"):
        rig.proxy.check(recut(rig, config, "    timeout client 60s\n", ""))


def test_a_text_cut_at_a_line_is_refused_though_haproxy_takes_it(rig: Rig, loopback: Loopback) -> None:
    whole = rig.render(Config({"site": (Srv("i-0000000a", loopback.address()),)}))
    cut = Rendered(whole.text[: whole.text.index("backend never")], whole.maps)
    assert haproxy_takes(rig, cut.text)
    with pytest.raises(ConfigRejected, match="cut off"):
        rig.proxy.check(cut)


def test_a_text_without_listeners_is_refused_though_haproxy_may_take_it(rig: Rig, loopback: Loopback) -> None:
    config = Config({"site": (Srv("i-0000000a", loopback.address()),)})
    bare = recut(rig, config, f"frontend web\n    bind {rig.address}:8000\n", "backend web\n")
    with pytest.raises(ConfigRejected, match="no listener"):
        rig.proxy.check(bare)


def test_a_text_without_servers_is_refused_though_haproxy_takes_it(rig: Rig) -> None:
    bare = recut(rig, Config({"site": ()}), "    server never 127.0.0.1:9", "")
    assert haproxy_takes(rig, bare.text)
    with pytest.raises(ConfigRejected, match="no server"):
        rig.proxy.check(bare)


def haproxy_takes(rig: Rig, text: str) -> bool:
    """HAProxy's own check, without ours."""
    rig.proxy.install(rig.render(Config({"site": ()})))
    alone = rig.folder / "alone.cfg"
    alone.write_text(text)
    command = (rig.settings.binary, "-c", "-dW", "-f", str(alone))
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_map_that_is_not_there_is_refused(rig: Rig, loopback: Loopback) -> None:
    rendered = rig.render(Config({"site": (Srv("i-0000000a", loopback.address()),)}))
    with pytest.raises(ConfigRejected, match=r"maps/paths\.map"):
        rig.proxy.check(Rendered(rendered.text, {}))


def test_an_unchanged_candidate_is_checked_once(rig: Rig, loopback: Loopback) -> None:
    rendered = rig.render(Config({"site": (Srv("i-0000000a", loopback.address()),)}))
    rig.proxy.check(rendered)
    copy = Path(f"{rig.settings.config}.candidate")
    copy.unlink()
    rig.proxy.check(rendered)
    assert not copy.exists()
    rig.proxy.check(rig.render(Config({"site": ()})))
    assert copy.exists()


# --- addresses ------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_refused_before_the_old_listeners_feel_it(rig: Rig, loopback: Loopback) -> None:
    a = Srv("i-0000000a", loopback.address())
    config = Config({"site": (a,)})
    worker = rig.start(config)
    before = rig.proxy.installed()
    with socket.socket() as other:
        other.bind((rig.address, 8001))
        other.listen()
        wanted = rig.render(Config({"site": (a,)}, frontend=(f"bind {rig.address}:8001",)))
        rig.proxy.check(wanted)  # HAProxy itself has nothing against it
        with pytest.raises(ConfigRejected, match="taken by another program"):
            rig.apply(wanted)
    assert rig.proxy.installed() == before
    assert rig.observe().pid == worker.pid
    rig.apply(wanted)
    assert rig.observe().pid != worker.pid


def test_a_port_taken_on_another_address_than_our_own_is_refused(rig: Rig, loopback: Loopback) -> None:
    a, elsewhere = Srv("i-0000000a", loopback.address()), loopback.address()
    rig.start(Config({"site": (a,)}))
    with socket.socket() as other:
        other.bind((elsewhere, 8000))  # the port that we listen on at our own address
        other.listen()
        with pytest.raises(ConfigRejected, match="taken by another program"):
            rig.apply(rig.render(Config({"site": (a,)}, frontend=(f"bind {elsewhere}:8000",))))


def test_an_address_of_another_host_is_refused(rig: Rig, loopback: Loopback) -> None:
    a = Srv("i-0000000a", loopback.address())
    rig.start(Config({"site": (a,)}))
    with pytest.raises(ConfigRejected, match="not an address of this host"):
        rig.apply(rig.render(Config({"site": (a,)}, frontend=("bind 192.0.2.1:8001",))))
    peers = ("peers mesh", "    peer here 192.0.2.1:10000")
    with pytest.raises(ConfigRejected, match="not an address of this host"):
        rig.apply(rig.render(Config({"site": (a,)}, globals=("localpeer here",), extra=peers)))


def test_a_wider_bind_over_our_own_listener_is_let_through(rig: Rig, loopback: Loopback) -> None:
    a = Srv("i-0000000a", loopback.address())
    _, second, third = map(int, loopback.prefix.split("."))
    port = 12_000 + (second - 64) * 256 + third  # this test's alone, and below the ports of clients
    rig.start(Config({"site": (a,)}, frontend=(f"bind {rig.address}:{port}",)))
    rig.apply(rig.render(Config({"site": (a,)}, frontend=(f"bind :{port}",))))
    with socket.create_connection((loopback.address(), port), 5):
        pass


def test_control_without_the_trial_a_taken_port_fails_the_reload_and_all_is_put_back(
    rig: Rig, loopback: Loopback
) -> None:
    a = Srv("i-0000000a", loopback.address())
    with servers([a.address]), socket.socket() as other:
        config = Config({"site": (a,)}, {"/x": "site"})
        worker = rig.start(config)
        before = rig.proxy.installed()
        wanted = rig.render(Config({"site": (a,)}, {"/y": "site"}, frontend=(f"bind {rig.address}:8001 transparent",)))
        other.bind((rig.address, 8001))
        other.listen()
        with pytest.raises(ReloadFailed) as failed:  # transparent binds are not tried
            rig.proxy.reload(wanted, rig.observe())
        if rig.features.reload_answers:
            assert "8001" in failed.value.what
        assert rig.proxy.installed() == before
        assert not rig.proxy._disk.loading.exists()
        found = rig.observe()
        assert (found.pid, found.stamp) == (worker.pid, worker.stamp)
        wait(lambda: rig.get()[0] == 200)
    rig.apply(rig.render(Config({"site": (a,)}, {"/y": "site"}, frontend=("maxconn 150",))))
    assert rig.observe().pid != worker.pid


# --- workers --------------------------------------------------------------------------------------------------------


def test_ten_quick_reloads_under_connections_lose_no_request(rig: Rig, loopback: Loopback) -> None:
    a = Srv("i-0000000a", loopback.address())
    stop = threading.Event()
    answers: list[int] = []
    faults: list[Exception] = []

    def load() -> None:
        while not stop.is_set():
            try:
                answers.append(rig.get()[0])
            except OSError as error:
                faults.append(error)

    with servers([a.address]):
        rig.start(Config({"site": (a,)}))
        wait(lambda: rig.observe().servers["site", a.name].up)
        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(10):
                assert rig.apply(rig.render(Config({"site": (a,)}, frontend=(f"maxconn {100 + number}",)))).reload
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
    assert faults == []
    assert set(answers) == {200}
    assert len(answers) > 10


def test_old_workers_are_counted_while_they_hold_connections(rig: Rig, loopback: Loopback) -> None:
    a = Srv("i-0000000a", loopback.address())
    with servers([a.address]):
        rig.start(Config({"site": (a,)}))
        with socket.create_connection((rig.address, 8000), 60) as held:
            held.sendall(b"GET / HTTP/1.1\r\n")  # a request that never ends
            wait(lambda: sessions(Path(rig.settings.runtime_socket), "web") > 0)  # the worker has accepted it
            rig.apply(rig.render(Config({"site": (a,)}, frontend=("maxconn 150",))))
            assert rig.observe().old_workers == 1
        wait(lambda: rig.observe().old_workers == 0)


def _is_over(pid: int) -> bool:
    """True for a process that has ended; it may go away for good between two looks."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_killed_worker_is_unavailable_not_empty(rig: Rig, loopback: Loopback) -> None:
    worker = rig.start(Config({"site": (Srv("i-0000000a", loopback.address()),)}))
    os.kill(worker.pid, signal.SIGKILL)
    wait(lambda: _is_over(worker.pid))
    with pytest.raises(ProxyUnavailable):
        rig.observe()


def test_without_a_master_nothing_is_observed_but_files_can_be_put_in_place(rig: Rig, loopback: Loopback) -> None:
    with pytest.raises(ProxyUnavailable, match="No such file"):
        rig.observe()
    rendered = rig.render(Config({"site": (Srv("i-0000000a", loopback.address()),)}))
    assert rig.proxy.installed().text is None
    rig.proxy.check(rendered)
    rig.proxy.install(rendered)
    assert rig.proxy.installed().text == rendered.text
    assert rig.proxy.version() == rig.haproxy.version
