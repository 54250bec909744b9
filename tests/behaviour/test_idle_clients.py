"""A thousand idle keep-alive clients over twenty reloads: none loses a request."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from hafleet.adapters.templates import shipped_templates
from hafleet.lab.haproxies import Haproxy
from tests.behaviour.stage import HTTP, Node, Stage, plan_of

pytestmark = pytest.mark.deep(besides=("3.2",))

CLIENTS = 1000
RELOADS = 20
OLD_WORKERS = 6  # an old worker lives until the last of its clients has sent something


@dataclass
class Crowd:
    """The clients' process and, once it has ended, their totals."""

    process: subprocess.Popen[str]
    totals: dict[str, Any] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


@contextmanager
def idle_clients(node: Node) -> Iterator[Crowd]:
    argv = [sys.executable, "-m", "tests.behaviour.idle_clients", node.address, str(HTTP), str(CLIENTS)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            crowd = Crowd(process)
            assert crowd.line() == {"ready": True}
            yield crowd
            assert process.stdin is not None
            process.stdin.close()
            crowd.totals = crowd.line()
        finally:
            process.kill()


def begin(stage: Stage, haproxy: Haproxy) -> Node:
    for _ in range(3):
        stage.launch("blue", slow=0)
    plan = plan_of({"blue": None})
    plan["safety"]["max_old_workers"] = OLD_WORKERS
    plan["haproxy"] = {"max_reloads": OLD_WORKERS, "maxconn": 2 * CLIENTS, "timeout_http_keep_alive": "60s"}
    return stage.node(haproxy.binary, plan)


def reload_often(node: Node, times: int) -> None:
    """So many reloads, each as soon as the gate lets it."""
    for number in range(times):
        node.edit_template(number)
        turn = node.good_turn()
        while turn.plan.held:
            time.sleep(0.05)
            turn = node.good_turn()
        assert turn.outcome.reloaded
        time.sleep(0.1)


def test_a_thousand_idle_clients_lose_no_request_over_twenty_reloads(haproxy: Haproxy, stage: Stage) -> None:
    node = begin(stage, haproxy)
    node.start()
    with idle_clients(node) as crowd:
        reload_often(node, RELOADS)
    assert (crowd.totals["lost"], crowd.totals["bad"]) == (0, 0)
    assert crowd.totals["sent"] > 2 * CLIENTS
    assert crowd.totals["closed_politely"] > CLIENTS
    assert node.master().reloads == RELOADS


def test_control_without_idle_close_on_response_a_reload_loses_requests(haproxy: Haproxy, stage: Stage) -> None:
    node = begin(stage, haproxy)
    partial = "partials/frontends.cfg.j2"
    own = node.folder / "templates" / partial
    own.parent.mkdir()
    own.write_text((shipped_templates() / partial).read_text().replace("option idle-close-on-response", ""))
    node.start()
    with idle_clients(node) as crowd:
        reload_often(node, 1)
    assert crowd.totals["lost"] > CLIENTS / 2
