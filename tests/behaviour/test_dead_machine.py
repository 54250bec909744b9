"""A machine dies with everything on it: what it had in AWS is taken away by those that live, and nothing of theirs is."""

from collections.abc import Iterator

import pytest

from hafleet.adapters.asg import AsgMembership
from hafleet.adapters.aws import Account
from hafleet.adapters.clock import SystemClock
from hafleet.adapters.imds import StaticMetadata
from hafleet.adapters.queue import OwnQueue
from hafleet.adapters.wakeup import Wakeups
from hafleet.core.events import Heard
from hafleet.core.queues import PROOFS_APART
from hafleet.core.settings import Aws, Static
from hafleet.eventing import REAP_EVERY, Around, ReapedQueue
from hafleet.lab.cloud import REGION
from hafleet.lab.node import Node
from hafleet.lab.plan import EDGE, FLEET, shop_dns
from hafleet.lab.processes import wait_until
from tests.behaviour.kill_stage import PATIENCE, Fate, KillStage, kill_stage, plan

pytestmark = [
    pytest.mark.deep,
    pytest.mark.xdist_group("dead"),
]  # one lab for all of them, and the last one ends a node

NOTHING, WHOLE = (0, 0, 0, 0, 0), (1, 1, 1, 1, 1)


class Ahead(SystemClock):
    """A clock that a test puts forward."""

    by = 0.0

    def wall(self) -> float:
        return super().wall() + self.by

    def monotonic(self) -> float:
        return super().monotonic() + self.by


class Looker:
    """The eye of a node that lives on the queues of its fleet: the product's own parts, and a clock that skips quarters of an hour."""

    def __init__(self, node: Node) -> None:
        account = Account(Aws(region=REGION))
        self._clock, self._told = Ahead(), list[Heard]()
        self._membership = AsgMembership(account)
        place = {"private_ip": node.address, "zone": node.zone, "region": REGION, "asg": EDGE}
        metadata = StaticMetadata(Static.model_validate({"id": node.id, **place}))
        around = Around(account, self._membership, metadata, Wakeups(self._clock), self._clock)
        own = OwnQueue(account, FLEET, lambda: node.id, lambda _: None)
        self._queue = ReapedQueue(own, around, self._told.append)

    def look(self) -> list[str]:
        """A quarter of an hour later: what it tells."""
        self._clock.by += max(REAP_EVERY, PROOFS_APART) + 1
        self._membership.read(frozenset({EDGE}), frozenset(), frozenset())
        self._told.clear()
        self._queue.url()
        return [found.text for found in self._told]


@pytest.fixture(scope="module")
def stage() -> Iterator[KillStage]:
    """Two nodes in service whose agents look for the dead every two seconds."""
    wanted = plan()
    assert wanted.dns is not None
    wanted.dns["reap"] = shop_dns()["reap"]
    with kill_stage(wanted=wanted) as (made, _), pytest.MonkeyPatch.context() as environ:
        for name, value in made.lab.cloud.environment.items():
            environ.setenv(name, value)
        made.begin([Fate(), Fate()])
        wait_until(lambda: len(made.serving()) == 2, PATIENCE, "two nodes in service", every=0.5)
        yield made


def counts(stage: KillStage, node: Node) -> tuple[int, int, int, int, int]:
    return stage.estates(node.id)[node.id].counts


def test_the_queue_of_an_instance_that_ec2_does_not_know_goes_at_the_second_look(stage: KillStage) -> None:
    lives, other = sorted(stage.lab.nodes, key=lambda node: node.id)
    unknown = f"i-{0xDEAD:017x}"
    account = Account(Aws(region=REGION))
    OwnQueue(account, FLEET, lambda: unknown, lambda _: None).url()
    looker = Looker(lives)
    assert looker.look() == []
    assert stage.estates(unknown)[unknown].counts == (0, 0, 1, 1, 0)
    assert looker.look() == [f"removed the queue of {unknown}, which is dead"]
    assert stage.estates(unknown)[unknown].counts == NOTHING
    assert (counts(stage, lives), counts(stage, other)) == (WHOLE, WHOLE)


def test_an_agent_that_is_not_there_loses_nothing_while_its_machine_lives(stage: KillStage) -> None:
    """Control: silence is no proof."""
    lives, silent = sorted(stage.lab.nodes, key=lambda node: node.id)
    assert silent.agent is not None
    silent.agent.stop()
    looker = Looker(lives)
    for _ in range(3):
        assert looker.look() == []
    assert (counts(stage, lives), counts(stage, silent)) == (WHOLE, WHOLE)
    silent.agent.start()


def test_what_a_dead_machine_had_is_taken_away_and_what_the_living_have_is_not(stage: KillStage) -> None:
    lives, dies = sorted(stage.lab.nodes, key=lambda node: node.id)
    looker = Looker(lives)
    assert looker.look() == []  # control: both live, and both have a queue
    assert (counts(stage, lives), counts(stage, dies)) == (WHOLE, WHOLE)
    group = stage.lab.cloud.autoscaling
    group.suspend_processes(AutoScalingGroupName=EDGE, ScalingProcesses=["Launch"])  # nobody comes in its place
    stage.lab.kill(dies.id)
    # EC2 took its address back; the queue is for the next quarter of an hour
    wait_until(lambda: counts(stage, dies) == (0, 0, 1, 1, 0), PATIENCE, "its record and its check to go", every=0.5)
    assert looker.look() == [f"removed the queue of {dies.id}, which is dead"]
    assert counts(stage, dies) == NOTHING
    assert looker.look() == []
    assert counts(stage, lives) == WHOLE
