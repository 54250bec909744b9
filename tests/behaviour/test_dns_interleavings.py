"""Any order of API calls of several writers, a stalled one and a reaper: nothing is overwritten, emptied or taken from others.

Each pass is a generator that stops before every call; a seeded scheduler decides who goes on. There are no threads.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hafleet.core.dns.model import Batch, Change, Record
from hafleet.core.dns.report import DnsReport
from hafleet.lab.route53_engine import Limits
from hafleet.ports import Dns
from tests.fakes.dns import NAME, Actor, MemoryStore, Stage, dns_settings, edge, iid

RUNS = 10_000 if os.environ.get("HAFLEET_DEEP") == "1" else 500  # `make deep` and continuous integration run all
PART = 250  # runs of one test
LEADER, WRITER, OTHER, DEAD, SPARE = 1, 2, 3, 8, 9
OLD, NEW = 10, 50  # weights of the writer's old and new settings
FOREIGN: tuple[dict[str, Any], ...] = (
    {
        "Name": NAME,
        "Type": "A",
        "SetIdentifier": "theirs",
        "Weight": 1,
        "TTL": 30,
        "ResourceRecords": [{"Value": "127.9.9.9"}],
    },
    {"Name": NAME, "Type": "TXT", "TTL": 60, "ResourceRecords": [{"Value": '"theirs"'}]},
    {"Name": f"other.{NAME}", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "127.9.9.8"}]},
)


class Violation(AssertionError):
    """An invariant that a run broke."""


# --- the guards taken away ------------------------------------------------------------------------------------------


class Careless:
    """A port that does not compare before it swaps: it deletes whatever is there, and writes over it."""

    def __init__(self, stage: Stage, inner: Dns) -> None:
        self._stage, self._inner = stage, inner

    def change(self, batch: Batch) -> str:
        """Each change as if nothing had happened since the read."""
        there = self._stage.records()
        deleted = {c.record.key for c in batch if c.action == "DELETE"}
        created = {c.record.key: c.record for c in batch if c.action == "CREATE"}
        gone = [there[key] for key in (deleted | created.keys()) & there.keys()]
        made = tuple(Change("CREATE", record) for record in created.values())
        return self._inner.change((*(Change("DELETE", record) for record in gone), *made))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Witnessless:
    """A port that leaves the witnesses out of a batch."""

    def __init__(self, stage: Stage, inner: Dns) -> None:
        self._inner = inner

    def change(self, batch: Batch) -> str:
        """The batch without what it deletes and puts back as it was."""
        deleted = {c.record.key: c.record for c in batch if c.action == "DELETE"}
        kept = {c.record.key for c in batch if c.action == "CREATE" and deleted.get(c.record.key) == c.record}
        return self._inner.change(tuple(c for c in batch if c.record.key not in kept))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def plain(stage: Stage, inner: Dns) -> Dns:
    """The port as it is."""
    return inner


Port = Callable[[Stage, Dns], Any]


# --- one run --------------------------------------------------------------------------------------------------------


@dataclass
class Runner:
    """A node whose pass stands before a call, or waits for its next pass."""

    actor: Actor
    walk: Generator[str, None, DnsReport] | None = None
    due: float = 0.0
    report: DnsReport | None = None

    def go(self) -> None:
        """One call further."""
        if self.walk is None:
            self.walk = self.actor.registrar.walk(self.actor.situation())
        try:
            next(self.walk)
        except StopIteration as end:
            self.walk, self.report = None, end.value
            self.due = self.actor.stage.clock.at + max(0.05, end.value.next_at)


class Run:
    """One seeded interleaving."""

    def __init__(self, seed: int, port: Port) -> None:
        self.chance = random.Random(seed)
        self.stage = Stage(limits=Limits(throttling=False, processing=0.0))
        self.stage.clock.at += 7.0
        self.port = port
        self.shards = 2 if seed % 3 == 0 else 1
        for record in FOREIGN:
            self.stage.write(**record)
        self.stage.ec2.known = {iid(n): "running" for n in (LEADER, WRITER, OTHER)} | {iid(DEAD): "terminated"}
        for number in [DEAD, *(n for n in (LEADER, WRITER, OTHER) if self.chance.random() < 0.7)]:
            shard = self.chance.randrange(2) if self.shards > 1 else None
            self.stage.register(number, dns_settings(weight=OLD if number == WRITER else 100), shard)
        self.foreign = self._foreign()
        self.group = edge([LEADER, WRITER, OTHER])
        self.runners = {n: Runner(self._actor(n, NEW if n == WRITER else 100)) for n in (LEADER, OTHER)}
        self.stalled: Runner | None = Runner(self._actor(WRITER, OLD))
        self.had = bool(self._leaves())
        self.changes = 0

    def _actor(self, number: int, weight: int) -> Actor:
        settings = dns_settings(weight=weight, reap={"interval": 20, "confirm": 10}, tree={"shards": self.shards})
        actor = self.stage.registrar(number, settings, self.port(self.stage, self.stage.dns(settings)))
        actor.group = self.group
        return actor

    # --- invariants ---------------------------------------------------------------------------------------------------

    def _foreign(self) -> dict[tuple[str, str, str], Record]:
        return {key: r for key, r in self.stage.records().items() if not key[2].startswith(("i-", "shard-"))}

    def _leaves(self) -> dict[str, Record]:
        return {set_id: r for set_id, r in self.stage.leaves().items() if set_id.startswith("i-")}

    def holds(self) -> None:
        """The invariants, after a call that may have changed something."""
        changes = self.stage.engine.calls["ChangeResourceRecordSets"]
        if changes == self.changes:
            return
        self.changes = changes
        leaves = self._leaves()
        if self.had and not leaves:
            raise Violation("the name is empty")
        targets = {record.name for record in leaves.values()}
        roads = [alias for alias in self.stage.aliases().values() if alias.alias]
        if self.had and self.shards > 1 and not roads:
            raise Violation("the name is empty: no alias leads to a shard")
        if any(alias.alias and alias.alias.target not in targets for alias in roads):
            raise Violation(f"an alias leads to an empty shard: {roads}")
        self.had = self.had or bool(leaves)
        if self._foreign() != self.foreign:
            raise Violation("a foreign record was touched")

    # --- the story ----------------------------------------------------------------------------------------------------

    def play(self) -> None:
        """The old writer goes some way and stalls; a new one, the others and the reaper go on; the old one makes its last call."""
        for _ in range(self.chance.randrange(8)):
            self._step(self._stalled())
        self._stand()
        store = self.stage.stores[iid(WRITER)]
        self.stage.stores[iid(WRITER)] = MemoryStore(store.kept)  # the new process has a disk of its own from here on
        self.runners[WRITER] = Runner(self._actor(WRITER, NEW))
        resume = self.chance.randrange(40)
        for turn in range(40):
            if turn == resume:
                self._resume()
            if self.chance.random() < 0.06:
                self._somebody_leaves()
            self._step(self.runners[self.chance.choice(sorted(self.runners))])
        self._converge()

    def _stalled(self) -> Runner:
        assert self.stalled is not None
        return self.stalled

    def _step(self, runner: Runner) -> None:
        clock = self.stage.clock
        if runner.walk is None and runner.due > clock.at:
            clock.at = runner.due if self.chance.random() < 0.5 else clock.at + self.chance.uniform(0, 5)
            if runner.due > clock.at:
                return
        runner.go()
        self.holds()

    def _stand(self) -> None:
        """Let the old process come to stand before a call, if it still makes one."""
        for _ in range(5):
            if self._stalled().walk is not None:
                return
            self.stage.clock.at = max(self.stage.clock.at, self._stalled().due)
            self._step(self._stalled())

    def _resume(self) -> None:
        """The call that the old process stood before is made now, and is its last."""
        before = self._leaves().get(iid(WRITER))
        if self._stalled().walk is not None:
            self._stalled().go()
        after = self._leaves().get(iid(WRITER))
        self.stalled = None
        if before is not None and before.weight == NEW and after != before:
            raise Violation(f"a stale writer overwrote {before} by {after}")
        self.holds()

    def _somebody_leaves(self) -> None:
        runner = self.runners[self.chance.choice([WRITER, OTHER, LEADER])]
        runner.actor.leave()
        runner.actor.red_since -= 60  # it has been red for long
        runner.due = 0.0

    def _converge(self) -> None:
        """Everybody goes on undisturbed: who stays is registered, who left and died is gone, and so are their checks."""
        for _ in range(2000):
            runner = min(self.runners.values(), key=lambda r: r.due if r.walk is None else 0.0)
            self.stage.clock.at = max(self.stage.clock.at, runner.due if runner.walk is None else 0.0)
            runner.go()
            self.holds()
            self._die()
            if self._settled():
                return
        raise Violation(f"no convergence: {sorted(self._leaves())} {[r.report for r in self.runners.values()]}")

    def _die(self) -> None:
        """Who has left is terminated and leaves the group, unless it is the last that keeps the name."""
        for number, runner in list(self.runners.items()):
            if runner.actor.leaving and runner.walk is None and runner.report and not runner.report.records:
                if runner.report.waiting or len(self.runners) == 1:
                    continue
                del self.runners[number]
                self.stage.ec2.known[iid(number)] = "terminated"
        self.group = edge(sorted(self.runners))
        for runner in self.runners.values():
            runner.actor.group = self.group

    def _settled(self) -> bool:
        staying = {iid(n) for n, r in self.runners.items() if not r.actor.leaving}
        leaves = self._leaves()
        used = tuple(sorted(record.check for record in leaves.values()))
        if staying:
            good = set(leaves) == staying
        else:  # all leave: exactly one record is kept, whosever it is
            good = len(leaves) == 1
        new = leaves.get(iid(WRITER))
        good = good and (
            WRITER not in self.runners or self.runners[WRITER].actor.leaving or (new is not None and new.weight == NEW)
        )
        if self.shards > 1 and len(leaves) > 1:
            reached = {alias.alias.target for alias in self.stage.aliases().values() if alias.alias}
            good = good and {record.name for record in leaves.values()} == reached
        return good and self.stage.checks() == used


def outcomes(seeds: Iterator[int], port: Port) -> Counter[str]:
    """How the runs ended: "" or the beginning of the violation."""
    found: Counter[str] = Counter()
    for seed in seeds:
        try:
            Run(seed, port).play()
            found[""] += 1
        except Violation as broken:
            found[str(broken)[:14]] += 1
    return found


@pytest.mark.parametrize("part", range(RUNS // PART))
def test_no_order_of_calls_breaks_a_rule(part: int) -> None:
    for seed in range(part * PART, (part + 1) * PART):
        try:
            Run(seed, plain).play()
        except Violation as broken:
            raise AssertionError(f"seed {seed}: {broken}") from broken


def test_without_compare_and_swap_rules_break() -> None:
    found = outcomes(iter(range(200)), Careless)
    assert found["a stale writer"], found


def test_without_witnesses_names_become_empty() -> None:
    assert outcomes(iter(range(300)), Witnessless)["the name is em"]
