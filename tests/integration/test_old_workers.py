"""What the master tells of old workers, on a real HAProxy of each version: how old they are, and which connections they hold."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hafleet.core.cuts import old_sessions
from hafleet.lab.haproxies import Haproxy
from tests.behaviour.long_talks import LongServer, Order, Talk
from tests.integration.rig import Config, Rig, Srv, rigged, wait
from tests.resources import Loopback

LONG = 600.0  # seconds; nobody waits for its end


@pytest.fixture
def rig(haproxy: Haproxy, tmp_path: Path, loopback: Loopback) -> Iterator[Rig]:
    with rigged(haproxy, tmp_path, loopback.address()) as made:
        yield made


def websocket(rig: Rig) -> Talk:
    return Talk(Order("websocket", f"{rig.address}:8000", LONG)).begun()


def reload(rig: Rig, config: Config) -> None:
    assert rig.apply(rig.render(config)).reload


def test_each_old_worker_tells_its_connections_and_one_that_hangs_tells_none(rig: Rig, loopback: Loopback) -> None:
    with LongServer() as server:
        a = Srv("i-0000000a", loopback.address(), port=server.port, options="")
        site = ("site", a.name)
        configs = [
            Config({"site": (a,)}, frontend=(f"maxconn {100 + n}",), directives={"site": ("",)}) for n in range(3)
        ]
        rig.start(configs[0])
        first = websocket(rig)
        reload(rig, configs[1])
        second = [websocket(rig) for _ in range(2)]
        reload(rig, configs[2])
        wanted = [(1, {site: 2}), (2, {site: 1})]  # a busy one may tell nothing at first
        wait(lambda: [(found.loads, found.sessions) for found in rig.observe().old] == wanted)
        seen = rig.observe()
        assert seen.old_workers == 2
        assert (old_sessions(seen.old), old_sessions(seen.old, site), seen.servers[site].sessions) == (3, 3, 0)
        assert seen.old[0].age <= seen.old[1].age <= seen.master_uptime

        youngest = seen.old[0].pid
        os.kill(youngest, signal.SIGSTOP)
        try:
            mute = rig.observe()
        finally:
            os.kill(youngest, signal.SIGCONT)
        assert [found.sessions for found in mute.old] == [None, None]  # and nobody waits for the other too
        assert (mute.old_workers, mute.pid) == (2, seen.pid)

        first.end()
        wait(lambda: [found.sessions for found in rig.observe().old] == [{site: 2}])
        for talk in second:
            talk.end()
        wait(lambda: rig.observe().old == ())
