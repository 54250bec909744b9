"""A hundred membership changes under load: no reload, no lost request."""

import random
import time
from dataclasses import dataclass, field

import pytest

from hafleet.core.cfgtext import parse
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.processes import wait_until
from hafleet.lab.traffic import Traffic
from tests.behaviour.stage import LONG, Node, Stage, Turn, plan_of

pytestmark = pytest.mark.deep(besides=("2.6", "3.2"))

CHANGES = 500 if LONG else 100
BLUE, GREEN = "blue", "green"


@dataclass
class Operator:
    """Changes the membership, one thing at a time, as Auto Scaling and people do. The order comes from a seed."""

    stage: Stage
    node: Node
    seed: int
    done: dict[str, int] = field(default_factory=dict)  # kind -> how often

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.standby: list[str] = []
        self.ending: list[str] = []

    def change(self) -> None:
        """One change. At least two instances of each group stay in service."""
        account = self.stage.account
        group = self.chance.choice((BLUE, GREEN))
        ready = account.in_service(group)
        kinds = ["weight", "add"]
        if len(ready) > 2:
            kinds += ["remove", "remove", "standby"]
        if self.standby:
            kinds.append("return")
        if len(ready) > 5:
            kinds.remove("add")
        kind = self.chance.choice(kinds)
        self.done[kind] = self.done.get(kind, 0) + 1
        if kind == "add":
            self.stage.launch(group)
        elif kind == "remove":
            name = self.chance.choice(ready)
            account.state(name, "Terminating:Wait")
            self.ending.append(name)
        elif kind == "standby":
            name = self.chance.choice(ready)
            account.state(name, "Standby")
            self.standby.append(name)
        elif kind == "return":
            account.state(self.standby.pop(), "InService")
        else:
            self.weigh()

    def weigh(self) -> None:
        """Move shares between the groups."""
        sources = self.node.plan["backends"][0]["sources"]
        before = [source["weight"] for source in sources]
        while [source["weight"] for source in sources] == before:
            for source in sources:
                source["weight"] = self.chance.randrange(10, 100)
        self.node.configure()

    def bury(self) -> None:
        """AWS ends what was terminating once the node has let it go."""
        listed = {name for _, name in parse(self.node.config.read_text()).servers}
        for name in [name for name in self.ending if name not in listed]:
            self.ending.remove(name)
            self.stage.bury(name)


def begin(stage: Stage, haproxy: Haproxy) -> Node:
    for group in (BLUE, GREEN):
        for _ in range(3):
            stage.launch(group)
    # A bound for the drain: it ends with a server's last session, however long a busy machine takes to answer.
    node = stage.node(haproxy.binary, plan_of({BLUE: 50, GREEN: 50}, backend={"drain": "30s"}))
    node.start()
    return node


def effective(turn: Turn) -> bool:
    return turn.outcome.commands > 0 and turn.outcome.wrote


@pytest.mark.timeout(900 if LONG else 600)
def test_a_hundred_membership_changes_cost_no_reload_and_no_request(haproxy: Haproxy, stage: Stage) -> None:
    node = begin(stage, haproxy)
    operator = Operator(stage, node, seed=haproxy.version[1])
    # No pause between requests: each of the clients, half with kept connections, always has one on its way.
    with Traffic(stage.processes, [node.http], rate=0, clients=20) as traffic:
        for _ in range(CHANGES):
            operator.change()
            assert effective(node.good_turn()), operator.done
            operator.bury()
            time.sleep(0.03)
        node.settle()
        operator.bury()
        before = traffic.count()
        wait_until(lambda: traffic.count().since(before).sent > 100, 60, "100 more requests")
        last = traffic.count().since(before)
        total = traffic.stop()
    assert min(operator.done[kind] for kind in ("add", "remove", "standby", "return", "weight")) > 0, operator.done
    assert (node.master().reloads, node.master().old_workers) == (0, 0)
    assert (total.failed, dict(total.errors)) == (0, {})
    assert total.sent > 5 * CHANGES
    assert frozenset(last.instances) == node.expected()


def test_control_a_server_that_ends_before_it_was_drained_loses_requests(haproxy: Haproxy, stage: Stage) -> None:
    node = begin(stage, haproxy)
    with Traffic(stage.processes, [node.http], rate=0, clients=20) as traffic:
        for name in stage.account.in_service(BLUE):
            stage.apps.kill(name)
            time.sleep(0.1)
        total = traffic.stop()
    assert total.failed > 0
