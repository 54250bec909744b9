"""The five set-ups of docs/examples, each driven on the lab's Route 53 and asked by DNS."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hafleet import config
from hafleet.adapters.aws import Account
from hafleet.core.settings import Aws
from hafleet.lab import proxy as eye
from hafleet.lab.cloud import REGION
from hafleet.lab.node import Node
from hafleet.lab.processes import wait_until
from tests.behaviour.dns_driver import Agents, Member, Members, Town, get, read_texts, town

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
HTTP, TLS = 8080, 8443  # for the ports below 1024, which need root
DRAWS = 900
NOISE = 4.9  # standard deviations that chance exceeds once in a million


@pytest.fixture(scope="module")
def lab() -> Iterator[Town]:
    """The zones are made under the names that the examples have."""
    with town() as made:
        made.cloud.create_zone("example.com")
        made.cloud.create_zone("internal.example.com")  # of two zones of this name, the public one
        made.cloud.create_zone("internal.example.com", private=True)
        yield made


@pytest.fixture
def members(lab: Town, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Members]:
    """Registrars for the example that the test names, just as it is written."""
    for key, value in lab.cloud.environment.items():
        monkeypatch.setenv(key, value)
    name = request.node.name.removeprefix("test_").partition("__")[0].replace("_", "-")
    made = Members(lab, config.load(EXAMPLES / f"{name}.yaml").settings, Account(Aws(region=REGION)))
    yield made
    made.close()


@pytest.fixture
def agents(lab: Town) -> Iterator[Agents]:
    made = Agents(lab, shutil.which("haproxy") or "haproxy")
    yield made
    made.close()


def half(hits: int) -> bool:
    """True for so many of the draws as a fair coin gives."""
    return bool(abs(hits - DRAWS / 2) < NOISE * (DRAWS / 4) ** 0.5)


def addresses(members: list[Member]) -> list[str]:
    return [member.address for member in members]


def ids(members: list[Member]) -> list[str]:
    return sorted(member.node.id for member in members)


# --- round robin over shards ----------------------------------------------------------------------------------------


def test_round_robin_shards__every_node_is_answered_with_a_check_of_its_own(lab: Town, members: Members) -> None:
    name = "lb.example.com"
    nodes = members.launch(12)
    members.settle()
    records = lab.records(name)
    shards = [[set_id for at, set_id in records if at == f"shard-{number:02}.{name}"] for number in range(5)]
    assert [len(shard) for shard in shards] == [3, 3, 2, 2, 2]
    assert sorted(set_id for shard in shards for set_id in shard) == ids(nodes)
    assert len({record.get("HealthCheckId") for (at, _), record in records.items() if at != name}) == len(nodes)
    lab.until_answers(name, addresses(nodes))
    nodes[0].die()
    lab.until_answers(name, addresses(nodes[1:]))
    nodes[0].revive()
    lab.until_answers(name, addresses(nodes))


# --- three regions --------------------------------------------------------------------------------------------------


def test_three_regions__each_client_gets_the_nearest_that_lives(lab: Town, members: Members) -> None:
    name = "app.example.com"
    regions = {region: members.launch(2, f"{region}a") for region in ("eu-west-1", "us-east-1", "ap-southeast-1")}
    members.settle()
    assert sorted(set_id for at, set_id in lab.records(name) if at == name) == sorted(regions)
    europe, america, asia = (addresses(nodes) for nodes in regions.values())
    where = lab.clients(
        london={"region": "eu-west-2"}, ohio={"region": "us-east-2"}, sydney={"region": "ap-southeast-2"}
    )

    def asked(london: list[str], ohio: list[str], sydney: list[str]) -> None:
        lab.until_answers(name, london, where["london"])
        lab.until_answers(name, ohio, where["ohio"])
        lab.until_answers(name, sydney, where["sydney"])

    asked(europe, america, asia)
    regions["eu-west-1"][0].die()  # the other one of the region is enough
    asked(europe[1:], america, asia)
    regions["eu-west-1"][1].die()
    asked(america, america, asia)
    for node in regions["us-east-1"]:
        node.die()
    asked(asia, asia, asia)
    for node in regions["eu-west-1"]:
        node.revive()
    asked(europe, europe, asia)


# --- a chain of three in a private zone -----------------------------------------------------------------------------


def test_failover_chain__first_second_third_and_back(lab: Town, members: Members) -> None:
    name = "web.internal.example.com"
    zones = {letter: members.launch(1, f"{REGION}{letter}", probed=False) for letter in "abc"}
    first, second, third = (addresses(nodes) for nodes in zones.values())
    alarms = {letter: f"{REGION}/hafleet web {nodes[0].node.id}" for letter, nodes in zones.items()}

    def tell(**states: str) -> None:
        lab.cloud.control("POST", "checkers", {"alarms": {alarms[letter]: state for letter, state in states.items()}})

    members.settle()
    where = lab.clients(inside={"private": True}, outside={})
    lab.until_answers(name, first, where["inside"])  # no alarm has data yet: all unhealthy, so the first is answered
    tell(a="ok", b="ok", c="ok")
    lab.until_answers(name, first, where["inside"])
    tell(a="insufficient")  # a dead node publishes nothing
    lab.until_answers(name, second, where["inside"])
    tell(b="alarm")
    lab.until_answers(name, third, where["inside"])
    tell(b="ok")
    lab.until_answers(name, second, where["inside"])
    tell(a="ok")
    lab.until_answers(name, first, where["inside"])
    assert lab.ask(name, where["outside"]) == ()


# --- with agents and HAProxy ----------------------------------------------------------------------------------------


def here(example: str, node: Node) -> dict[str, Any]:
    """An example on a node of the lab: its files and addresses, ports that need no root, as many connections as it may have.

    All else is as written.
    """
    document = read_texts(EXAMPLES / f"{example}.yaml")
    ports = {"80": HTTP, "443": TLS, "8080": HTTP}
    network = ".".join(node.address.split(".")[:2])
    for frontend in document["frontends"]:
        frontend["bind"] = f"{node.address}:{ports[frontend['bind'].removeprefix(':')]}"
    for backend in document["backends"]:
        backend["port"] = ports[backend.get("port", "80")]
        for source in backend["sources"]:
            source.update({"static": [f"{network}.201.{end}" for end in (1, 2)]} if "static" in source else {})
    own = node.own_settings()
    files = {key: value for key, value in own["haproxy"].items() if key != "hard_stop_after"}
    own["haproxy"] = {**document.get("haproxy", {}), **files}
    return {**document, **own}


def connected(node: Node) -> bool:
    """True when its peers session is up."""
    with suppress(OSError):
        return "last_status=ESTA" in eye.ask(node.runtime_socket, "show peers")
    return False


def check_of(lab: Town, node: Node, name: str) -> str:
    check: str = lab.records(name)[name, node.id]["HealthCheckId"]
    return check


def test_two_gateways__half_and_half_and_a_dead_one_leaves(lab: Town, agents: Agents) -> None:
    name = "gw.example.com"
    for machine in agents.group("api", 2):
        agents.serve(machine, HTTP)
    machines = agents.group("gateways", 2)
    agents.start(machines, lambda node: here("two-gateways", node))
    one, two = agents.nodes
    both = [one.address, two.address]
    agents.until(lambda: len(lab.records(name)) == 2, 120, "both records")
    lab.until_answers(name, both)
    assert any(half(lab.answers(name, DRAWS)[one.address]) for _ in range(3))  # on a busy machine a probe may fail once
    assert get(one.address, HTTP, "gw.example.com").startswith("200")
    before, changes = lab.records(name), lab.calls("ChangeResourceRecordSets")

    two.haproxy.stop()  # SIGKILL, and it does not come back
    lab.until_answers(name, [one.address])
    agents.nudge()
    assert lab.records(name) == before  # a dead node is what the health check is for: nobody deregisters
    two.haproxy.start()
    lab.until_answers(name, both)
    assert lab.calls("ChangeResourceRecordSets") == changes


def test_ancestor__sites_by_host_sticky_clients_and_a_record_per_node(lab: Town, agents: Agents) -> None:
    name = "loadbalancer.example.com"
    shop = agents.group("shop", 3)
    for machine in shop:
        agents.serve(machine, HTTP)
    network = f"127.{lab.network.number}"
    for end in (1, 2):
        agents.serve_at(f"{network}.201.{end}", HTTP, f"blog-{end}", "blog")
    machines = agents.group("loadbalancers", 2)
    agents.start(machines, lambda node: here("ancestor", node))
    one, two = agents.nodes
    agents.until(lambda: len(lab.records(name)) == 2, 120, "both records")
    agents.until(lambda: all(connected(node) for node in agents.nodes), 120, "the peers to know each other")
    lab.until_answers(name, [one.address, two.address])
    records = lab.records(name)
    assert {(record["Weight"], record["TTL"]) for record in records.values()} == {(1, 60)}

    def site(host: str) -> str:
        (address,) = lab.ask(name)
        return get(address, HTTP, host)

    first = site("www.shop.example.com").split()[1]
    wait_until(lambda: all(node.stuck("shop_http") for node in agents.nodes), 60, "both nodes to know the client")
    served = {first} | {site("www.shop.example.com").split()[1] for _ in range(10)}
    assert served <= {machine.id for machine in shop}
    assert len(served) == 1  # the client sticks to a server, on whichever node it comes in
    assert "blog" in site("hers.blog.example.com")
    assert site("other.example.com").startswith("503")

    config_of_one = records[name, one.id]
    one.haproxy.stop()
    lab.until_answers(name, [two.address])
    wait_until(lambda: site("shop.example.com").split()[1] in served, 60, "the same server by the other node")
    assert lab.records(name)[name, one.id] == config_of_one
