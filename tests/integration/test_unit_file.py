"""The shipped systemd unit: hardened, and still letting the agent and `haproxy -c` do their work."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hafleet.lab.haproxies import Haproxy

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging" / "systemd" / "hafleet.service"
SANDBOX = Path(__file__).with_name("sandbox.py")
EXPOSURE = 1.5  # the most that systemd-analyze may say
SIGSYS = 31

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")


def sandboxed(unit: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("no libseccomp on this machine")
    argv = [sys.executable, str(SANDBOX), str(unit), *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = UNIT.read_text()
    assert old in text
    unit = tmp_path / "hafleet.service"
    unit.write_text(text.replace(old, new))
    return unit


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "hafleet.yaml"
    path.write_text(
        "fleet: edge\n"
        "node: {source: static, static: {id: i-1, private_ip: 127.0.0.1, zone: a, region: r}}\n"
        "frontends: [{name: web, bind: '127.0.0.1:8080', default_backend: site}]\n"
        "backends: [{name: site, port: 80, sources: [{static: [127.0.0.9]}]}]\n"
        f"haproxy: {{config: {tmp_path}/haproxy.cfg, maps_dir: {tmp_path}/maps, server_state: {tmp_path}/servers,\n"
        f"  runtime_socket: {tmp_path}/admin.sock, master_socket: {tmp_path}/master.sock}}\n"
        f"state_dir: {tmp_path}/state\n"
    )
    return path


@needs_systemd
def test_the_unit_is_hardened(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    shutil.copy(UNIT, unit)
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(unit)], capture_output=True, text=True, check=False
    )
    found = re.search(r"Overall exposure level for hafleet.service: ([0-9.]+)", said.stdout)
    assert found, said.stdout + said.stderr
    assert float(found[1]) <= EXPOSURE


@needs_systemd
def test_a_pass_under_the_unit_s_system_call_rules(tmp_path: Path, settings: Path) -> None:
    once = (sys.executable, "-m", "hafleet.cli", "once", "-c", str(settings))
    config = tmp_path / "haproxy.cfg"
    for _ in range(2):  # the second pass replaces files, and tries to keep their owner
        done = sandboxed(UNIT, *once)
        assert "wrote haproxy.cfg" in done.stdout, (done.returncode, done.stdout, done.stderr)
        config.write_text(config.read_text() + "# edited\n")
    deadly = changed(tmp_path, "SystemCallErrorNumber=EPERM\n", "")
    assert sandboxed(deadly, *once).returncode in {-SIGSYS, 128 + SIGSYS}  # the rules bite: a forbidden call kills


@needs_systemd
def test_regular_expressions_pass_the_check_under_the_unit(tmp_path: Path, haproxy: Haproxy) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        "defaults\n mode http\n timeout client 1s\n timeout server 1s\n timeout connect 1s\n"
        "frontend web\n bind 127.0.0.1:8080\n http-request deny if { path_reg ^/a.*b$ }\n"
    )
    done = sandboxed(UNIT, str(haproxy.binary), "-c", "-f", str(config))
    assert done.returncode == 0, done.stdout + done.stderr
    strict = changed(tmp_path, "LockPersonality=yes\n", "LockPersonality=yes\nMemoryDenyWriteExecute=yes\n")
    refused = sandboxed(strict, str(haproxy.binary), "-c", "-f", str(config))
    assert refused.returncode == 1 and "jit compilation failed" in refused.stderr  # why the unit goes without it
