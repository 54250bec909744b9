"""The shared fixtures: what they hand out is the test's alone, and a missing HAProxy is never silent."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tests.resources import COUNT, Loopback, LoopbackPool

ROOT = Path(__file__).parents[2]

HOLDER = """
import sys
from pathlib import Path
from tests.resources import LoopbackPool
pool = LoopbackPool(Path(sys.argv[1]))
pool._next = int(sys.argv[2])
with pool.lease() as network:
    print(network.prefix, flush=True)
    sys.stdin.read()
"""


def test_every_address_of_a_network_binds_without_root(loopback: Loopback) -> None:
    address = loopback.address()
    assert ip_address(address) in ip_network(loopback.network)
    with socket.create_server((address, 80 if os.geteuid() == 0 else 8080)) as server:
        assert server.getsockname()[0] == address


def test_addresses_are_given_once_and_end(loopback: Loopback) -> None:
    given = [loopback.address() for _ in range(254)]
    assert len(set(given)) == 254
    with pytest.raises(RuntimeError, match="all addresses"):
        loopback.address()


def test_two_leases_of_one_process_differ_and_come_back(tmp_path: Path) -> None:
    pool = LoopbackPool(tmp_path)
    pool._next = COUNT - 1  # the end of the range, so that it wraps
    with pool.lease() as first, pool.lease() as second:
        assert (first.prefix, second.prefix) == ("127.111.255", "127.64.0")
        pool._next = COUNT - 1
        with pool.lease() as third:
            assert third.prefix == "127.64.1"
    pool._next = COUNT - 1
    with pool.lease() as again:
        assert again.prefix == first.prefix
    pool.close()


def test_a_network_that_another_process_holds_is_passed_over(tmp_path: Path) -> None:
    command = (sys.executable, "-c", HOLDER, str(tmp_path), "0")
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline().strip() == "127.64.0"
        pool = LoopbackPool(tmp_path)
        pool._next = 0
        with pool.lease() as network:
            assert network.prefix == "127.64.1"
        holder.communicate()
    pool._next = 0
    with pool.lease() as network:
        assert network.prefix == "127.64.0", "the lock ends with its process"
    pool.close()


def test_a_free_port_can_be_bound(free_port: Callable[..., int], loopback: Loopback) -> None:
    address = loopback.address()
    with socket.create_server((address, free_port(address))) as server:
        assert server.getsockname()[0] == address


@pytest.fixture
def nested(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs our conftest on one test that wants a HAProxy, on a machine that has but one of a strange version."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("conftest.py", "resources.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    (tmp_path / "tests/test_it.py").write_text("def test_it(haproxy):\n    assert haproxy.version == (9, 8, 7)\n")
    binary = tmp_path / "bin/haproxy"
    binary.write_text("#!/bin/sh\necho 'HAProxy version 9.8.7'\n")
    binary.chmod(0o755)

    def run(*arguments: str, require: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "HAFLEET_CACHE": str(tmp_path / "cache"),
            "HAFLEET_REQUIRE_VERSIONS": require,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(tmp_path),
        }
        command = (
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--import-mode=importlib",
            *arguments,
            "tests",
        )
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
        )

    return run


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_missing_version_is_told_loudly(
    nested: Callable[..., subprocess.CompletedProcess[str]], workers: str
) -> None:
    done = nested("-n", workers, require="")
    assert done.returncode == 0, done.stdout + done.stderr
    for label in ("3.0", "3.2"):
        line = f"HAProxy {label} could not be had: it was not fetched: run `make haproxies`: 1 tests did not run on it"
        assert line in done.stdout
    assert "HAProxy 9.8.7 stood in for 2.6" in done.stdout


def test_a_missing_version_fails_where_every_version_is_required(
    nested: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = nested("-n", "0", require="1")
    assert done.returncode == 1
    assert "1 passed, 2 errors" in done.stdout
