"""Runtime changes on a real HAProxy of each version."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hafleet.core.command import Command
from hafleet.errors import ProxyUnavailable, UnexpectedReply
from hafleet.lab.haproxies import Haproxy
from tests.integration.rig import CHECK, Config, Rig, Srv, rigged, servers, wait
from tests.resources import Loopback


@pytest.fixture
def rig(haproxy: Haproxy, tmp_path: Path, loopback: Loopback) -> Iterator[Rig]:
    with rigged(haproxy, tmp_path, loopback.address()) as made:
        yield made


def up(rig: Rig, *names: str) -> bool:
    found = rig.observe().servers
    return all(found["site", name].up and not found["site", name].maint for name in names)


def test_a_server_is_added_weighed_drained_and_removed_without_a_reload(rig: Rig, loopback: Loopback) -> None:
    a, b, c = (Srv(f"i-0000000{n}", loopback.address()) for n in "abc")
    with servers([a.address, b.address, c.address]):
        first = rig.start(Config({"site": (a, b)}))
        wait(lambda: up(rig, a.name, b.name))
        grown = rig.render(Config({"site": (a, b, c)}))
        plan = rig.apply(grown)
        assert plan.reload == ()
        wait(lambda: up(rig, c.name))
        assert rig.seen() == {a.address, b.address, c.address}
        assert rig.plan(grown).empty

        light = Srv(c.name, c.address, weight=1)
        rig.apply(rig.render(Config({"site": (a, b, light)})))
        assert rig.observe().servers["site", c.name].weight == 1

        drained = rig.render(Config({"site": (Srv(a.name, a.address, weight=0), b, light)}))
        rig.apply(drained)
        assert a.address not in rig.seen()

        gone = rig.render(Config({"site": (b, light)}))
        plan = rig.apply(gone)
        assert plan.reload == ()
        assert plan.removed == (("site", a.name),)
        left = rig.observe().servers
        if rig.features.safe_del:
            assert ("site", a.name) not in left
        else:
            assert left["site", a.name].maint
            assert rig.plan(gone).parked == (("site", a.name),)
        assert rig.plan(gone).empty
        assert rig.observe().pid == first.pid


def test_a_new_server_gets_no_request_before_its_first_good_check(rig: Rig, loopback: Loopback) -> None:
    a, late = Srv("i-0000000a", loopback.address()), Srv("i-0000000b", loopback.address())
    with servers([a.address]):
        rig.start(Config({"site": (a,)}))
        wait(lambda: up(rig, a.name))
        rig.apply(rig.render(Config({"site": (a, late)})))
        assert rig.seen(60) == {a.address}
        assert not rig.observe().servers["site", late.name].up
        with servers([late.address]):
            wait(lambda: up(rig, late.name))
            assert rig.seen() == {a.address, late.address}


def test_control_a_server_made_ready_before_its_checks_is_hit_blind(rig: Rig, loopback: Loopback) -> None:
    a, late = Srv("i-0000000a", loopback.address()), Srv("i-0000000b", loopback.address())
    with servers([a.address]):
        worker = rig.start(Config({"site": (a,)}))
        add = f"add server site/{late.name} {late.address}:8080 id {late.id} {CHECK}"
        rig.proxy.run(worker.pid, [Command(add, "add"), Command(f"set server site/{late.name} state ready", "set")])
        assert rig.observe().servers["site", late.name].up


def test_a_removed_name_that_comes_back_serves_again(rig: Rig, loopback: Loopback) -> None:
    a, b = (Srv(f"i-0000000{n}", loopback.address()) for n in "ab")
    with servers([a.address, b.address]):
        rig.start(Config({"site": (a, b)}))
        rig.apply(rig.render(Config({"site": (a,)})))
        assert rig.seen() == {a.address}
        back = rig.render(Config({"site": (a, b)}))
        plan = rig.apply(back)
        assert plan.reload == ()
        wait(lambda: up(rig, b.name))
        assert rig.seen() == {a.address, b.address}
        assert rig.plan(back).empty


def test_a_lost_runtime_change_is_mended_by_the_next_pass(rig: Rig, loopback: Loopback) -> None:
    a, b = (Srv(f"i-0000000{n}", loopback.address()) for n in "ab")
    with servers([a.address, b.address]):
        worker = rig.start(Config({"site": (a, b)}))
        wanted = rig.render(Config({"site": (a, b)}))
        rig.proxy.run(
            worker.pid,
            [
                Command(f"set server site/{a.name} state maint", "remove"),
                Command(f"set server site/{b.name} weight 7", "set"),
            ],
        )
        rig.apply(wanted)
        found = rig.observe().servers
        assert not found["site", a.name].maint
        assert found["site", b.name].weight == 100
        wait(lambda: up(rig, a.name))


def test_maps_follow_by_single_entries_and_by_transactions(rig: Rig, loopback: Loopback) -> None:
    a, b = (Srv(f"i-0000000{n}", loopback.address()) for n in "ab")
    with servers([a.address, b.address]):
        backends = {"site": (a,), "other": (b,)}
        worker = rig.start(Config(backends, {"/x": "other"}))
        assert rig.get("/x")[1] == b.address
        some = Config(backends, {"/y": "other", "/z": "site"})
        assert rig.apply(rig.render(some)).reload == ()
        assert (rig.get("/x")[1], rig.get("/y")[1]) == (a.address, b.address)
        many = Config(backends, {f"/{n}": "other" for n in range(3000)})
        assert rig.apply(rig.render(many)).reload == ()
        assert {rig.get("/0")[1], rig.get("/2999")[1]} == {b.address}
        assert rig.get("/y")[1] == a.address
        assert rig.plan(rig.render(many)).empty
        assert rig.observe().pid == worker.pid


def test_a_map_that_was_left_half_changed_is_replaced_whole(rig: Rig, loopback: Loopback) -> None:
    a, b = (Srv(f"i-0000000{n}", loopback.address()) for n in "ab")
    backends = {"site": (a,), "other": (b,)}
    with servers([a.address, b.address]):
        rig.start(Config(backends, {"/x": "other"}))
        wanted = rig.render(Config(backends, {"/y": "other"}))
        half = rig.plan(wanted).commands[:2]
        rig.proxy.run(rig.observe().pid, half)
        assert rig.get("/y")[1] == b.address
        other = rig.render(Config(backends, {"/z": "other"}))
        rig.apply(other)
        assert rig.get("/y")[1] == a.address
        assert rig.get("/z")[1] == b.address
        assert rig.plan(other).empty


def test_a_command_for_another_worker_is_not_sent(rig: Rig, loopback: Loopback) -> None:
    a = Srv("i-0000000a", loopback.address())
    worker = rig.start(Config({"site": (a,)}))
    with pytest.raises(ProxyUnavailable, match="worker changed"):
        rig.proxy.run(worker.pid + 1, [Command(f"set server site/{a.name} weight 3", "set")])
    assert rig.observe().servers["site", a.name].weight == 100


def test_an_unexpected_reply_stops_before_removals(rig: Rig, loopback: Loopback) -> None:
    a = Srv("i-0000000a", loopback.address())
    worker = rig.start(Config({"site": (a,)}))
    commands = [
        Command(f"add server site/{a.name} {a.address}:1 id 9", "add"),
        Command(f"set server site/{a.name} state maint", "remove"),
    ]
    with pytest.raises(UnexpectedReply, match="Already exists a server"):
        rig.proxy.run(worker.pid, commands)
    assert not rig.observe().servers["site", a.name].maint


def test_a_name_for_an_address_is_never_sent_for_haproxy_would_take_it(rig: Rig, loopback: Loopback) -> None:
    a = Srv("i-0000000a", loopback.address())
    worker = rig.start(Config({"site": (a,)}))
    rig.proxy.run(worker.pid, [Command("add server site/x nowhere:80 id 9", "add")])  # the trap itself
    assert rig.observe().servers["site", "x"].address != "nowhere"
    named = rig.render(Config({"site": (a, Srv("i-0000000b", "localhost"))}))
    plan = rig.plan(named)
    assert not any("localhost" in command.text for command in plan.commands)
    assert plan.reload


def test_a_crash_between_the_commands_and_the_file_costs_nothing(rig: Rig, loopback: Loopback) -> None:
    a, b, c = (Srv(f"i-0000000{n}", loopback.address()) for n in "abc")
    with servers([a.address, b.address, c.address]):
        worker = rig.start(Config({"site": (a, b)}, {"/x": "site"}))
        wanted = rig.render(Config({"site": (b, c)}, {"/y": "site"}))
        rig.proxy.run(worker.pid, rig.plan(wanted).commands)  # and here the agent was killed
        left = rig.plan(wanted)
        assert (left.commands, left.reload, left.write) == ((), (), True)
        back = rig.render(Config({"site": (a, b)}, {"/x": "site"}))
        assert rig.apply(back).reload == ()  # or it wakes up to another wish
        wait(lambda: up(rig, a.name, b.name))
        assert rig.seen() == {a.address, b.address}
        assert rig.plan(back).empty
        assert rig.observe().pid == worker.pid


def test_a_server_with_connections_is_cut_and_leaves(rig: Rig, loopback: Loopback) -> None:
    a, slow = Srv("i-0000000a", loopback.address()), Srv("i-0000000b", loopback.address(), options="maxconn 9")
    with servers([a.address]), socket.socket() as silent:
        silent.bind((slow.address, 8080))
        silent.listen()
        may = {"site": (CHECK, "maxconn 9")}
        rig.start(Config({"site": (slow,)}, directives=may))
        with socket.create_connection((rig.address, 8000), 5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            wait(lambda: rig.observe().servers["site", slow.name].sessions == 1)
            wanted = rig.render(Config({"site": (a,)}, directives=may))
            assert rig.apply(wanted).reload == ()
            wait(lambda: rig.plan(wanted).empty)
            found = rig.observe().servers.get(("site", slow.name))
            assert found is None if rig.features.safe_del else found is not None and found.maint
