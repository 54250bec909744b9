"""New settings while a node joins: the parts built from the old ones leave the peers address to the new ones."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hafleet.adapters.clock import SystemClock
from hafleet.adapters.wakeup import Wakeups
from hafleet.announcer import Sides
from hafleet.compose import AgentWorkshop

ADDRESS = "127.0.83.7"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[tuple[AgentWorkshop, int]]:
    port = free_port()
    path = tmp_path / "hafleet.yaml"
    path.write_text(
        "fleet: edge\n"
        f"state_dir: {tmp_path}/state\n"
        f"node: {{source: static, static: {{id: i-00000000000000aaa, private_ip: {ADDRESS}}}}}\n"
        f"peers: {{port: {port}}}\n"
        f"haproxy: {{config: {tmp_path}/haproxy.cfg, master_socket: {tmp_path}/m.sock, runtime_socket: {tmp_path}/r.sock}}\n"
        "frontends: [{name: web, bind: ':80', default_backend: site}]\n"
        "backends: [{name: site, sources: [{static: [127.0.0.1]}]}]\n"
        "lifecycle: {}\n"
    )
    clock = SystemClock()
    made = AgentWorkshop(path, Wakeups(clock), Sides.of(clock), lambda *_: None)
    yield made, port
    made.stop()


def test_the_listener_of_the_old_settings_is_closed_before_the_new_ones_listen(
    workshop: tuple[AgentWorkshop, int],
) -> None:
    """Left open, it would keep the port from the new one, and from HAProxy's first start for ever."""
    made, port = workshop
    before = made.assemble().reconciler.observe()
    assert before.door and not before.door.problem
    with pytest.raises(OSError, match="in use"), socket.socket() as haproxy:  # control: it does listen
        haproxy.bind((ADDRESS, port))
    after = made.assemble().reconciler.observe()
    assert after.door and not after.door.problem


def test_the_end_of_the_agent_closes_it(workshop: tuple[AgentWorkshop, int]) -> None:
    made, port = workshop
    assert made.assemble().reconciler.observe().door
    made.stop()
    with socket.socket() as haproxy:
        haproxy.bind((ADDRESS, port))
        assert haproxy.getsockname()[1] == port
