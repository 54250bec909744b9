"""Resident memory of a real agent process that follows 1,000 instances of the local AWS."""

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from hafleet.lab.cloud import Cloud
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.network import claim
from hafleet.lab.processes import Processes, wait_until
from hafleet.publish import read_status

INSTANCES = 1000
PASSES = 10


def measure(haproxy: Haproxy) -> dict[str, Any]:
    """Memory and idle CPU after the agent has settled."""
    folder = Path(tempfile.mkdtemp(prefix="hfb-", dir="/tmp"))
    processes = Processes(folder)
    try:
        with claim() as network:
            cloud = Cloud(network, processes, folder / "aws.log")
            cloud.create_group("blue", INSTANCES, {}, most=INSTANCES)
            wait_until(
                lambda: sum(m.in_service for m in cloud.machines()) == INSTANCES, 120, "the instances", every=1.0
            )
            return _follow(folder, processes, cloud, _settings(folder, haproxy, network.client(1)))
    finally:
        processes.close()
        shutil.rmtree(folder, ignore_errors=True)


def _settings(folder: Path, haproxy: Haproxy, address: str) -> dict[str, Any]:
    (folder / "maps").mkdir()
    return {
        "fleet": "bench",
        "node": {"static": {"id": "i-0000000000000000e", "private_ip": address, "region": "eu-west-1"}},
        "frontends": [{"name": "web", "bind": f"{address}:8080", "default_backend": "site"}],
        "backends": [
            {"name": "site", "sources": [{"asg": "blue"}], "check": {"path": "/", "interval": "1h", "fast": "1h"}}
        ],
        "haproxy": {
            "binary": str(haproxy.binary),
            "config": str(folder / "haproxy.cfg"),
            "maps_dir": str(folder / "maps"),
            "runtime_socket": str(folder / "admin.sock"),
            "master_socket": str(folder / "master.sock"),
            "server_state": str(folder / "server-state"),
            "stats": f"{address}:8404",
            "health": f"{address}:8403",
        },
        "passes": {"interval": "1s"},
        "status": {"listen": f"{address}:8405"},
        "state_dir": str(folder / "state"),
    }


def _follow(folder: Path, processes: Processes, cloud: Cloud, settings: dict[str, Any]) -> dict[str, Any]:
    path = folder / "hafleet.yaml"
    path.write_text(yaml.safe_dump(settings))
    argv = [sys.executable, "-m", "hafleet.cli", "agent", "-c", str(path)]
    agent = processes.start(argv, log=folder / "agent.log", environment=cloud.environment)
    config = Path(settings["haproxy"]["config"])
    wait_until(config.exists, 60, "the first configuration")
    master = [
        settings["haproxy"]["binary"],
        "-W",
        "-S",
        f"{settings['haproxy']['master_socket']},mode,600",
        "-f",
        str(config),
    ]
    processes.start(master, log=folder / "haproxy.log")
    status = folder / "state" / "status.json"
    wait_until(lambda: read_status(status).proxy is not None, 60, "the agent to see HAProxy")
    time.sleep(PASSES)
    report = read_status(status)
    assert not report.errors and report.backends[0].members == INSTANCES, report
    process = psutil.Process(agent.pid)
    before = process.cpu_times()
    began = time.monotonic()
    time.sleep(PASSES)
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return {
        "servers": INSTANCES,
        "agent_rss_mib": round(process.memory_info().rss / 2**20, 1),
        "target_rss_mib": 100,
        "cpu_percent_at_one_pass_per_second": round(100 * used / (time.monotonic() - began), 1),
        "fds": process.num_fds(),
        "threads": process.num_threads(),
    }
