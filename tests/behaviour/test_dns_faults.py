"""Route 53 in trouble, and settings that do not fit it: agents with real HAProxy go on serving, and nothing wrong is written.

Rows 1 to 4 and 17 of the fault list, for DNS: see tests/faults/README.md.
"""

import copy
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from hafleet import compose
from hafleet.core.dns.model import Situation
from hafleet.lab.cloud import NODES
from hafleet.lab.node import Node
from hafleet.lab.processes import wait_until
from tests.behaviour.dns_driver import Agents, Town, town

ZONE, NAME = "example.test", "lb.example.test"
HTTP = 8080
HANG = 500  # seconds that a call which gets no answer takes: longer than a test waits for the nodes to follow
FOLLOW = 60  # seconds: a pass each half second, and the first check of a new server
QUIET = 2.0  # seconds: longer than a drain and two passes
KINDS = ["throttle", "denied", "unreachable", "hang"]
WRITES = ("ChangeResourceRecordSets", "CreateHealthCheck", "DeleteHealthCheck")


@pytest.fixture(scope="module")
def lab() -> Iterator[Town]:
    with town() as made:
        made.cloud.create_zone(ZONE)
        yield made


@pytest.fixture(scope="module")
def agents(lab: Town) -> Iterator[Agents]:
    """Two nodes that are registered, over one application server."""
    made = Agents(lab, shutil.which("haproxy") or "haproxy")
    for machine in made.group("app", 1):
        made.serve(machine, HTTP)
    made.start(made.group("edge", 2), settings)
    wait_until(lambda: len(lab.records(NAME)) == 2, 60, "both records")
    wait_until(lambda: all(len(node.in_rotation("site")) == 1 for node in made.nodes), 60, "the server in rotation")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def healed(lab: Town) -> Iterator[None]:
    yield
    lab.cloud.heal()


def settings(node: Node) -> dict[str, Any]:
    """hafleet.yaml of a node that looks often, at its groups and at its record."""
    check = {"path": "/healthz", "interval": "200ms", "timeout": "3s", "fast": "100ms", "rise": 1, "fall": 3}
    return {
        "fleet": "faulty",
        "aws": {"connect_timeout": "1s", "read_timeout": f"{HANG}s", "max_attempts": 1},
        "frontends": [{"name": "web", "bind": f"{node.address}:{HTTP}", "default_backend": "site"}],
        "backends": [{"name": "site", "port": HTTP, "sources": [{"asg": "app"}], "check": check, "drain": "1s"}],
        "passes": {"interval": "500ms"},
        "dns": {"name": NAME, "zone": ZONE, "ttl": 2, "interval": "1s"},
        **node.own_settings(),
    }


def rest(lab: Town, agents: Agents) -> None:
    """Nothing of an earlier test is under way: both nodes are registered, and their files are right and rest."""
    wait_until(lambda: len(lab.records(NAME)) == 2, 60, "both records")
    wanted = {machine.id for machine in lab.cloud.machines() if machine.group == "app" and machine.in_service}
    wait_until(lambda: all(listed(node) == wanted for node in agents.nodes), 60, "drained servers to leave the files")
    seen = files(agents), time.monotonic()

    def quiet() -> bool:
        nonlocal seen
        now = files(agents)
        if now != seen[0]:
            seen = now, time.monotonic()
        return time.monotonic() - seen[1] > QUIET

    wait_until(quiet, 60, "an end of all changes")


def listed(node: Node) -> set[str]:
    """The servers in its file."""
    return set(re.findall(r"^\s+server (i-\w+)", node.config.read_text(), re.MULTILINE))


def files(agents: Agents) -> dict[str, bytes]:
    """What HAProxy serves, on each node."""
    return {node.id: node.config.read_bytes() for node in agents.nodes}


def scaled(lab: Town, agents: Agents, wanted: int) -> None:
    """The application group has so many servers, and every node follows."""
    known = {machine.id for machine in lab.cloud.machines() if machine.group == "app"}
    lab.cloud.scale("app", wanted)
    current: set[str] = set()

    def there() -> bool:
        current.clear()
        for machine in lab.cloud.machines():
            if machine.group == "app" and machine.in_service:
                current.add(machine.id)
                if machine.id not in known:
                    known.add(machine.id)
                    agents.serve(machine, HTTP)
        return len(current) == wanted

    wait_until(there, 60, f"{wanted} servers in service")
    followed = lambda: all(node.in_rotation("site") == current for node in agents.nodes)  # noqa: E731
    wait_until(followed, FOLLOW, "every node to follow")


@pytest.mark.parametrize("kind", KINDS)
def test_trouble_with_route53_changes_nothing_that_is_served_and_deregisters_nobody(
    lab: Town, agents: Agents, kind: str
) -> None:
    rest(lab, agents)
    records, texts = lab.records(NAME), files(agents)
    reloads = [node.reloads() for node in agents.nodes]
    felt = lab.cloud.faulted()
    lab.cloud.fault(kind, service="route53", caller=NODES)
    erased, kept = agents.nodes
    lab.cloud.route53.change_resource_record_sets(
        HostedZoneId=lab.zone_id(ZONE),
        ChangeBatch={"Changes": [{"Action": "DELETE", "ResourceRecordSet": records[NAME, erased.id]}]},  # type: ignore[typeddict-item]
    )
    wait_until(lambda: lab.cloud.faulted() >= felt + 2, 60, "the nodes to feel it")
    assert files(agents) == texts
    scaled(lab, agents, 2)
    scaled(lab, agents, 1)
    assert [node.reloads() for node in agents.nodes] == reloads
    assert lab.records(NAME).keys() == {(NAME, kept.id)}  # nobody could write, and nobody has left
    assert lab.records(NAME)[NAME, kept.id] == records[NAME, kept.id]
    lab.cloud.heal()
    wait_until(lambda: lab.records(NAME) == records, 60, "the record that was erased to stand again")
    lab.until_answers(NAME, [node.address for node in agents.nodes])


def test_control_a_pass_that_waited_for_route53_would_hang_with_it(
    lab: Town, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = agents.nodes[0]
    for key, value in {**lab.cloud.environment, "AWS_ACCESS_KEY_ID": NODES}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", node.imds.url)
    parts = compose.build(node.settings)
    registrar = parts.registrar()
    assert registrar is not None
    told = Situation(parts.ports.clock.wall(), parts.ports.metadata.identity(), True, False, 0.0, None)
    lab.cloud.fault("hang", service="route53", caller=NODES)
    asking = threading.Thread(target=registrar.run, args=(told,), daemon=True)
    asking.start()
    scaled(lab, agents, 2)
    scaled(lab, agents, 1)
    assert asking.is_alive()  # the agents have followed twice in the time of this one call
    lab.cloud.heal()
    asking.join(60)
    assert not asking.is_alive()


# --- settings that do not fit ---------------------------------------------------------------------------------------


def run(agents: Agents, words: list[str], dns: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    """``hafleet WORDS`` as on the first node, with this dns section."""
    node = agents.nodes[0]
    document = copy.deepcopy(yaml.safe_load(node.settings.read_text()))
    document["dns"] = dns
    path = node.folder / "variant.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    argv = [sys.executable, "-m", "hafleet.cli", *words, "-c", str(path)]
    env = {**os.environ, **node._environment}
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=env)


@pytest.mark.parametrize(
    ("dns", "message"),
    [
        ({"name": "lb.example.org", "zone": ZONE}, "'lb.example.org' is not inside the zone 'example.test'"),
        ({"name": NAME, "zone": ZONE, "address": "private"}, "Route 53 cannot probe private addresses"),
    ],
)
def test_check_refuses_what_can_never_be(lab: Town, agents: Agents, dns: dict[str, Any], message: str) -> None:
    done = run(agents, ["check"], dns)
    assert done.returncode == 2
    assert message in done.stderr


SIMPLE = {"Type": "A", "TTL": 30, "ResourceRecords": [{"Value": "192.0.2.1"}]}
SLOW = {**SIMPLE, "TTL": 300, "SetIdentifier": "i-0123456789abcdef0", "Weight": 100}


@pytest.mark.parametrize(
    ("label", "there", "dns", "message"),
    [
        ("lb", None, {"zone": "nowhere.test"}, "there is no public zone nowhere.test in this account"),
        ("lb", None, {"zone": ZONE, "private": True}, "is public, and a private one is wanted"),
        ("simple", SIMPLE, {"zone": ZONE}, "policy"),
        ("slow", SLOW, {"zone": ZONE}, "have ttl 300, the settings say 30"),
    ],
    ids=["wrong zone", "not private", "mixed policies", "another ttl"],
)
def test_a_plan_says_what_does_not_fit_and_nothing_is_written(
    lab: Town, agents: Agents, label: str, there: dict[str, Any] | None, dns: dict[str, Any], message: str
) -> None:
    rest(lab, agents)
    name = f"{label}.{dns['zone']}"
    if there is not None:
        lab.cloud.route53.change_resource_record_sets(
            HostedZoneId=lab.zone_id(ZONE),
            ChangeBatch={"Changes": [{"Action": "CREATE", "ResourceRecordSet": {"Name": name, **there}}]},  # type: ignore[typeddict-item]
        )
    writes = {operation: lab.calls(operation) for operation in WRITES}
    done = run(agents, ["dns", "plan"], {"name": name, **dns})
    assert done.returncode == 1, done.stdout
    assert message in done.stdout + done.stderr
    assert {operation: lab.calls(operation) for operation in WRITES} == writes


def test_control_the_same_plan_where_all_fits_has_steps(lab: Town, agents: Agents) -> None:
    done = run(agents, ["dns", "plan"], {"name": f"fits.{ZONE}", "zone": ZONE})
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"create fits.{ZONE} A" in done.stdout
