"""What one node has learned about a client, its peer knows too, and no reload of either forgets it."""

import time
from collections.abc import Iterable

import pytest

from hafleet.adapters.templates import shipped_templates
from hafleet.lab import proxy as eye
from hafleet.lab.haproxies import Haproxy
from hafleet.lab.processes import wait_until
from tests.behaviour.stage import HTTP, Node, Stage, plan_of
from tests.resources import answers

pytestmark = pytest.mark.deep(besides=("3.2",))

USERS = 100
RELOADS = 20
QUIET = 10.0  # seconds after a cold start without a reload: the product's default, for a new worker learns only from a full one
STICK = {"on": "req.hdr(x-user)", "type": "string", "size": "10k", "expire": "10m"}


def begin(stage: Stage, haproxy: Haproxy, quiet: float) -> tuple[Node, Node]:
    """Two nodes that list each other from their start on."""
    for _ in range(5):
        stage.launch("carts", slow=0)
    plan = plan_of({"carts": None}, backend={"stick": STICK})
    plan["safety"]["cold_start_quiet"] = quiet
    first, second = stage.node(haproxy.binary, plan), stage.node(haproxy.binary, plan)
    first.start()
    second.start()
    return first, second


def served_by(node: Node, users: Iterable[str]) -> dict[str, str]:
    """User -> the instance that answers a request of theirs; each on a connection of its own."""
    return answers(node.address, HTTP, "x-user", users)


def table(node: Node) -> dict[str, str]:
    """User -> server, as the node's worker has it."""
    return eye.stick_entries(node.runtime_socket, "site")


def wait_for(node: Node, wanted: dict[str, str], what: str) -> None:
    """Wait until the table of the node is this one."""

    def knows() -> bool:
        try:
            return table(node) == wanted
        except OSError:  # between two workers
            return False

    wait_until(knows, 60, what)


def reload_once(node: Node, number: int) -> None:
    """A template edit of this number, and the reload for it."""
    node.edit_template(number)
    turn = node.good_turn()
    while turn.plan.held:
        time.sleep(0.1)
        turn = node.good_turn()
    assert turn.outcome.reloaded == ("the structure changed",)


def connected(node: Node) -> bool:
    """True when its peers session is up."""
    return "last_status=ESTA" in eye.ask(node.runtime_socket, "show peers")


def test_entries_are_replicated_and_survive_reloads_of_both_nodes(haproxy: Haproxy, stage: Stage) -> None:
    first, second = begin(stage, haproxy, QUIET)
    wait_until(lambda: connected(first) and connected(second), 60, "the peers to connect")
    homes = served_by(first, (f"user-{number}" for number in range(USERS)))
    assert len(set(homes.values())) == 5  # round robin: only the table can tell where a user belongs
    entries = table(first)
    assert entries.keys() == homes.keys()
    wait_for(second, entries, "the second node to know every user")
    assert served_by(second, homes) == homes

    for number in range(RELOADS):
        for node, other in ((first, second), (second, first)):
            reload_once(node, number)
            wait_for(node, entries, f"every entry in the new worker of reload {number}")
            assert table(other) == entries
        learns, hears = (first, second) if number % 2 else (second, first)
        homes |= served_by(learns, [f"late-{number}"])
        entries = table(learns)
        assert entries.keys() == homes.keys()
        wait_for(hears, entries, "a late user on both nodes")
    assert (first.master().reloads, second.master().reloads) == (RELOADS, RELOADS)
    assert served_by(first, homes) == homes
    assert served_by(second, homes) == homes


def test_control_a_table_without_peers_is_not_replicated_and_lost_by_a_reload(haproxy: Haproxy, stage: Stage) -> None:
    nodes = begin(stage, haproxy, 0)
    partial = "partials/backends.cfg.j2"
    alone = (shipped_templates() / partial).read_text().replace(" peers hafleet", "")
    for node in nodes:
        own = node.folder / "templates" / partial
        own.parent.mkdir()
        own.write_text(alone)
        assert node.good_turn().outcome.reloaded
    first, second = nodes
    wait_until(lambda: first.serves() and second.serves(), 60, "both nodes to serve")
    served_by(first, (f"user-{number}" for number in range(USERS)))
    assert (len(table(first)), len(table(second))) == (USERS, 0)
    first.edit_template(1)
    assert first.good_turn().outcome.reloaded
    assert table(first) == {}
