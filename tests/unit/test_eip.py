"""A node's Elastic IP: taken before it registers, kept, given back after its record, over every failure."""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hafleet import config
from hafleet.core.dns.model import Record, Situation
from hafleet.core.dns.report import DnsPlan, DnsReport
from hafleet.core.eip import Address, free, mine
from hafleet.errors import AddressTaken, SettingsError, SourceUnavailable
from hafleet.registration.addressed import Addressed, PoolPorts
from tests.fakes.worlds import NODE, iid

TAGS = {"hafleet:pool": "edge"}


def address(number: int, instance: str = "") -> Address:
    association = f"eipassoc-{number}" if instance else ""
    return Address(f"eipalloc-{number}", IPv4Address(f"198.51.100.{number}"), association, instance)


class Cut(BaseException):
    """The agent dies here."""


@dataclass
class Pool:
    """EC2's addresses; implements ``ports.Addresses``. ``cut``: the call of this number is the agent's last, done or not."""

    addresses: dict[str, Address]
    calls: list[str] = field(default_factory=list)
    away: bool = False
    lost: bool = False  # the next association is made, and its answer is lost
    cut: int = 0
    before: bool = False  # it dies before the call is done
    log: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, *addresses: Address) -> "Pool":
        return cls({a.allocation: a for a in addresses})

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        if self.away:
            raise SourceUnavailable("EC2 is away")
        if self.before and len(self.calls) == self.cut:
            raise Cut

    def _exit(self) -> None:
        if not self.before and len(self.calls) == self.cut:
            raise Cut

    def pool(self, tags: Mapping[str, str]) -> tuple[Address, ...]:
        assert tags == TAGS
        self._enter("pool")
        self._exit()
        return tuple(self.addresses.values())

    def associate(self, address: Address, instance: str) -> str:
        self._enter("associate")
        now = self.addresses[address.allocation]
        if now.instance not in {"", instance}:
            raise AddressTaken("too late")
        self.addresses[address.allocation] = replace(now, association=f"a-{len(self.calls)}", instance=instance)
        self._exit()
        if self.lost:
            self.lost = False
            raise SourceUnavailable("no answer")
        return f"a-{len(self.calls)}"

    def release(self, address: Address) -> None:
        self._enter("release")
        self.log.append("released")
        now = self.addresses[address.allocation]
        if now.association == address.association:
            self.addresses[address.allocation] = replace(now, association="", instance="")
        self._exit()

    @property
    def holders(self) -> list[str]:
        return sorted(a.instance for a in self.addresses.values() if a.instance)


@dataclass
class Dns:
    """A registrar that needs one pass to register and two to deregister. ``log`` is shared with the pool."""

    log: list[str]
    record: Record | None = None
    passes: int = 0

    def run(self, situation: Situation) -> DnsReport:
        if not situation.leaving:
            self.record = Record("lb.example.com", "A", situation.node.id, 30, (str(situation.node.public),))
            self.log.append(f"registered {situation.node.public}")
        elif self.record is not None:
            self.passes += 1
            if self.passes == 2:
                self.record = None
                self.log.append("deregistered")
        records = (self.record,) if self.record else ()
        return DnsReport(situation.at, registered=bool(records) and not situation.leaving, records=records, next_at=5.0)

    def plan(self, situation: Situation) -> DnsPlan:
        return DnsPlan((), (), problems=(str(situation.node.public),))


class Hand:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.now += seconds
        return event.is_set()


def situation(*, serves: bool = True, leaving: bool = False, node: str = NODE.id) -> Situation:
    return Situation(1.0, replace(NODE, id=node), serves, leaving, 0.0, None)


JOIN, LEAVE, WAIT = situation(), situation(serves=False, leaving=True), situation(serves=False)


@dataclass
class Stage:
    """One node's side over a pool; ``start`` is the agent's start, with nothing remembered."""

    pool: Pool
    clock: Hand = field(default_factory=Hand)
    with_dns: bool = True
    ttl: float = 0.0

    def __post_init__(self) -> None:
        self.dns = Dns(self.pool.log)
        self.start()

    def start(self) -> None:
        ports = PoolPorts(self.pool, self.clock, random.Random(7))
        self.side = Addressed(TAGS, ports, self.dns if self.with_dns else None, self.ttl)

    def run(self, told: Situation, step: float = 5.0) -> DnsReport:
        self.clock.now += step
        return self.side.run(told)

    def until(self, told: Situation) -> DnsReport:
        """Runs until nothing is pending."""
        report = self.run(told, 30.0)
        for _ in range(20):
            report = self.run(told, 30.0)
            if not report.waiting and not report.problems and (report.registered or not report.records):
                break
        return report


# --- pure -------------------------------------------------------------------------------------------------------------


def test_mine_is_the_first_that_this_node_has() -> None:
    pool = (address(3, iid(1)), address(2, iid(1)), address(1, iid(2)), replace(address(4), association="to a NAT"))
    assert mine(pool, iid(1)) == address(2, iid(1))
    assert mine(pool, iid(9)) is None


def test_free_ones_come_in_an_order_of_the_node_s_own() -> None:
    pool = tuple(address(n) for n in range(1, 30))
    taken = (address(40, iid(5)), replace(address(41), association="a NAT's"))
    orders = {free((*pool, *taken), iid(n)) for n in range(8)}
    assert len(orders) == 8 and all(set(found) == set(pool) for found in orders)
    assert free(pool, iid(1)) == free(tuple(reversed(pool)), iid(1))


# --- joining ----------------------------------------------------------------------------------------------------------


def test_an_address_is_taken_before_the_record_which_carries_it() -> None:
    stage = Stage(Pool.of(address(1)))
    report = stage.run(JOIN)
    assert report.registered and report.done == ("took the Elastic IP 198.51.100.1",)
    assert stage.pool.calls == ["pool", "associate"] and stage.pool.log == ["registered 198.51.100.1"]
    assert stage.run(JOIN).done == () and stage.pool.calls == ["pool", "associate"]  # it is not asked for at each pass
    stage.run(JOIN, 61.0)
    assert stage.pool.calls == ["pool", "associate", "pool"]


def test_one_that_does_not_serve_takes_none_but_keeps_its_own() -> None:
    stage = Stage(Pool.of(address(1)))
    report = stage.run(WAIT)
    assert not report.registered and not report.waiting and stage.pool.holders == []
    kept = Stage(Pool.of(address(1), address(2, NODE.id)))
    assert kept.run(WAIT).records[0].values == ("198.51.100.2",)


def test_what_another_took_first_is_left_to_it_and_the_next_is_tried() -> None:
    pool = Pool.of(address(1), address(2))
    first = free(tuple(pool.addresses.values()), NODE.id)[0]

    class Rival(Pool):
        def pool(self, tags: Mapping[str, str]) -> tuple[Address, ...]:
            seen = super().pool(tags)
            self.addresses[first.allocation] = replace(first, association="x", instance=iid(2))
            return seen

    stage = Stage(Rival(pool.addresses))
    assert stage.run(JOIN).registered
    assert stage.pool.holders == sorted([iid(2), NODE.id])


def test_without_a_free_address_it_waits_says_so_and_is_not_registered() -> None:
    stage = Stage(Pool.of(address(1, iid(2))))
    report = stage.run(JOIN)
    assert (report.registered, report.waiting) == (False, "an Elastic IP of the pool")
    assert report.problems == ("none of the pool's 1 Elastic IPs is free",) and 0 < report.next_at <= 15
    assert stage.pool.log == []
    stage.run(JOIN, 0.1)
    assert stage.pool.calls == ["pool"]
    stage.pool.addresses["eipalloc-1"] = address(1)
    assert stage.until(JOIN).registered


def test_ec2_away_costs_no_registration_that_stands() -> None:
    stage = Stage(Pool.of(address(1)))
    stage.run(JOIN)
    stage.pool.away = True
    for _ in range(3):
        report = stage.run(JOIN, 61.0)
        assert report.registered and "EC2 is away" in report.problems[0]
    stage.pool.away = False
    assert stage.run(JOIN, 61.0).problems == ()


def test_ec2_away_at_the_join_is_tried_again_ever_more_slowly() -> None:
    stage = Stage(Pool.of(address(1)))
    stage.pool.away = True
    for _ in range(300):
        assert not stage.run(JOIN, 1.0).registered
    assert 5 <= len(stage.pool.calls) <= 60
    stage.pool.away = False
    assert stage.until(JOIN).registered


def test_an_address_that_ec2_refuses_does_not_keep_the_others_from_being_tried() -> None:
    bad = free((address(1), address(2)), NODE.id)[0]

    class Odd(Pool):
        def associate(self, address: Address, instance: str) -> str:
            if address == bad:
                self.calls.append("refused")
                raise SourceUnavailable("of another network border group")
            return super().associate(address, instance)

    stage = Stage(Odd.of(address(1), address(2)))
    assert not stage.run(JOIN).registered and stage.pool.calls == ["pool", "refused"]
    assert stage.until(JOIN).registered and stage.pool.calls.count("refused") == 1


def test_an_address_that_somebody_took_away_is_replaced() -> None:
    stage = Stage(Pool.of(address(1), address(2)))
    stage.run(JOIN)
    had = mine(tuple(stage.pool.addresses.values()), NODE.id)
    assert had
    stage.pool.addresses[had.allocation] = replace(had, instance=iid(5))
    report = stage.run(JOIN, 61.0)
    assert report.registered and stage.pool.holders == sorted([iid(5), NODE.id])


# --- leaving ----------------------------------------------------------------------------------------------------------


def test_the_address_goes_after_the_record_and_only_once() -> None:
    stage = Stage(Pool.of(address(1)))
    stage.run(JOIN)
    assert stage.run(LEAVE).records and stage.pool.holders == [NODE.id]
    report = stage.run(LEAVE)
    assert report.done == ("gave the Elastic IP 198.51.100.1 back",) and not report.waiting
    assert stage.pool.log == ["registered 198.51.100.1", "deregistered", "released"]
    before = list(stage.pool.calls)
    for _ in range(5):
        assert not stage.run(LEAVE, 61.0).waiting
    assert stage.pool.calls == before
    assert stage.until(JOIN).registered and stage.pool.holders == [NODE.id]  # back: it takes one again


def test_no_connection_is_cut_by_giving_the_address_back() -> None:
    stage = Stage(Pool.of(address(1)))
    stage.run(JOIN)
    for _ in range(3):
        stage.run(replace(LEAVE, busy=True), 30.0)
    report = stage.run(replace(LEAVE, busy=True), 30.0)
    assert not report.records and report.waiting == "connections over the Elastic IP to end"
    assert stage.pool.holders == [NODE.id]
    assert stage.run(LEAVE).done == ("gave the Elastic IP 198.51.100.1 back",)


def test_the_address_stays_while_resolvers_may_know_it() -> None:
    stage = Stage(Pool.of(address(1)), ttl=60.0)
    stage.run(JOIN)
    stage.run(LEAVE)
    report = stage.run(LEAVE)
    assert (report.next_at, report.waiting) == (5.0, "resolvers to forget the Elastic IP")
    assert stage.pool.log[-1] == "deregistered"
    assert stage.run(LEAVE, 58.0).next_at == 2.0 and stage.pool.holders == [NODE.id]
    assert stage.run(LEAVE, 2.0).done == ("gave the Elastic IP 198.51.100.1 back",)
    assert stage.until(JOIN).registered
    stage.dns.passes = 0
    stage.run(LEAVE)
    stage.run(LEAVE)
    assert stage.pool.holders == [NODE.id]  # another leave, another wait


def test_a_release_that_fails_is_waited_for() -> None:
    stage = Stage(Pool.of(address(1)))
    stage.run(JOIN)
    stage.run(LEAVE)
    stage.pool.away = True
    assert stage.run(LEAVE).waiting == "the Elastic IP to go back to the pool"
    stage.pool.away = False
    assert not stage.until(LEAVE).waiting and stage.pool.holders == []


def test_an_address_whose_association_was_never_answered_is_given_back_too() -> None:
    stage = Stage(Pool.of(address(1)))
    stage.pool.lost = True
    assert not stage.run(JOIN).registered and stage.pool.holders == [NODE.id]
    stage.until(LEAVE)
    assert stage.pool.holders == []


def test_one_that_leaves_while_the_pool_is_empty_waits_for_nothing() -> None:
    stage = Stage(Pool.of())
    assert stage.run(JOIN).problems
    assert (stage.run(LEAVE).waiting, stage.run(LEAVE).problems) == ("", ())


def test_without_dns_the_address_is_the_registration() -> None:
    stage = Stage(Pool.of(address(1)), with_dns=False)
    assert stage.run(JOIN).registered
    report = stage.run(LEAVE)
    assert not report.registered and not report.waiting and stage.pool.holders == []


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("cut", range(1, 6))
def test_killed_at_any_call_the_next_start_finishes_and_nothing_leaks(cut: int, before: bool) -> None:
    """Join, then leave; the agent dies at the call of this number, and starts again in the phase it was in."""
    stage = Stage(Pool.of(address(1), address(2)))
    stage.pool.cut, stage.pool.before = cut, before
    for told, holders in ((JOIN, [NODE.id]), (LEAVE, [])):
        for _ in range(3):
            try:
                stage.until(told)
                break
            except Cut:
                stage.start()
        assert stage.pool.holders == holders


def test_ten_nodes_and_six_addresses() -> None:
    pool = Pool.of(*(address(n) for n in range(1, 7)))
    stages = {iid(n): Stage(pool) for n in range(1, 11)}
    for _ in range(4):
        for node, stage in stages.items():
            stage.run(situation(node=node), 20.0)
    held = pool.holders
    assert len(held) == len(set(held)) == 6
    for node in held[:4]:
        for _ in range(3):
            stages[node].run(situation(serves=False, leaving=True, node=node), 20.0)
    for node in stages.keys() - set(held):
        stages[node].run(situation(node=node), 60.0)
    assert pool.holders == sorted([*held[4:], *(stages.keys() - set(held))])


def faults(tmp_path: Path, rest: str) -> tuple[str, ...]:
    """What `hafleet check` says of settings with this end."""
    path = tmp_path / "hafleet.yaml"
    path.write_text(
        "fleet: edge\nfrontends: [{name: web, bind: ':80', default_backend: site}]\n"
        f"backends: [{{name: site, sources: [{{asg: a}}]}}]\n{rest}"
    )
    try:
        return tuple(problem.what for problem in config.load(path).problems)
    except SettingsError as error:
        return tuple(problem.what for problem in error.problems)


# --- plan and settings ------------------------------------------------------------------------------------------------


def test_the_plan_is_of_the_address_that_the_node_has() -> None:
    assert Stage(Pool.of(address(1, NODE.id))).side.plan(JOIN).problems == ("198.51.100.1",)
    assert "no Elastic IP" in Stage(Pool.of(address(1))).side.plan(JOIN).problems[0]
    assert Stage(Pool.of(address(1))).side.plan(LEAVE).problems == ("None",)
    assert Stage(Pool.of(address(1, NODE.id)), with_dns=False).side.plan(JOIN).problems == ()


def test_the_settings_say_what_cannot_work(tmp_path: Path) -> None:
    eip = "eip: {pool_tag: {hafleet:pool: edge}}\n"
    zone = "dns: {name: lb.example.com, zone: example.com"
    assert faults(tmp_path, eip) == ()
    assert faults(tmp_path, f"{eip}{zone}}}\n") == ()
    assert faults(tmp_path, "eip: {pool_tag: {}}\n") != ()
    named = "node: {static: {id: NAME, private_ip: 10.0.0.1, public_ip: 192.0.2.1, asg: edge}}\n"
    assert faults(tmp_path, eip + named.replace("NAME", NODE.id)) == ()
    assert faults(tmp_path, eip + named.replace("NAME", "lb-1")) == (
        "an Elastic IP needs an EC2 instance, and node.static.id is none",
    )
    private = faults(tmp_path, f"{eip}{zone}, address: private, health: {{alarm: {{name: x}}}}}}\n")
    assert "the Elastic IP is not what DNS answers: dns.address is private" in private
