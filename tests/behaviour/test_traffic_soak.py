"""The soak itself, for some seconds; and that it does see a crash and a lost request."""

import csv
import io
import os
import signal

import pytest

from hafleet.lab import proxy as eye
from hafleet.lab.haproxies import Haproxy, find
from hafleet.lab.processes import wait_until
from tests.behaviour.stage import Node
from tests.soak import main, soak


@pytest.fixture
def oldest() -> Haproxy:
    """The version with the most to fear."""
    found = find("2.6")
    if not isinstance(found, Haproxy):
        pytest.skip(found.reason)
    return found


def segfault(node: Node) -> None:
    """The worker crashes."""
    os.kill(node.master().worker, signal.SIGSEGV)
    assert node.haproxy is not None
    node.haproxy.wait(10)


def cut(node: Node) -> None:
    """A request on its way to a server that serves is cut off."""

    def lost() -> bool:
        for name in node.in_rotation():
            eye.ask(node.runtime_socket, f"shutdown sessions server site/{name}")
        rows = csv.DictReader(io.StringIO(eye.ask(node.runtime_socket, "show stat -1 2 -1").removeprefix("# ")))
        return any(row["pxname"] == "site" and row["hrsp_5xx"] != "0" for row in rows)

    wait_until(lost, 60, "a request to be lost", every=0.01)


def test_some_seconds_of_it_are_good(oldest: Haproxy, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--minutes", "0.1", "--version", "2.6"]) == 0
    assert ": ok\nsoak: good: 1 versions" in capsys.readouterr().out


def test_control_a_crash_is_seen(oldest: Haproxy) -> None:
    faults = soak(oldest, 2, segfault).faults
    assert any("exited with code 139 (Segmentation fault)" in fault for fault in faults), faults


def test_control_a_lost_request_is_seen(oldest: Haproxy) -> None:
    result = soak(oldest, 2, cut)
    assert result.load.failed > 0
    assert any("failed requests" in fault for fault in result.faults)
