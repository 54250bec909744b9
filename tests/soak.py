"""Churn under load, for long, on each HAProxy: ``python -m tests.soak --minutes M [--each] [--together] [--version 2.6]``.

M minutes in all, shared by the versions; with ``--each`` on every one of them, with ``--together`` at the same time. Servers are added, removed, weighed and put into
standby without a pause; a third of the new ones never answer, and others die while they are in rotation, so that requests really
meet refused connections (what made `del server` crash HAProxy 2.6). From time to time a reload. Nothing may crash, and no
request may fail.

Prints one line of figures per version and a summary; the exit code is 1 when anything went wrong.
"""

import argparse
import csv
import io
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import psutil

from hafleet.core.cfgtext import parse
from hafleet.lab import proxy as eye
from hafleet.lab.haproxies import LABELS, Haproxy, find
from hafleet.lab.processes import wait_until
from hafleet.lab.traffic import Count, Traffic
from tests.behaviour.stage import Node, Stage, plan_of, staged
from tests.resources import LoopbackPool

STEADY, MORTAL = "steady", "mortal"  # groups: the second one is a single server, which dies in rotation
RELOAD_EVERY = 5.0  # seconds
PAUSE = 0.05  # seconds between two changes
_EXITS = re.compile(r"exited with code (\d+)")


@dataclass
class Result:
    """The figures of one version."""

    version: str
    seconds: float = 0.0
    changes: Counter[str] = field(default_factory=Counter)  # by kind
    load: Count = field(default_factory=Count)
    reloads: int = 0
    refused: int = 0  # connections that a server refused, and that HAProxy tried elsewhere
    rss: tuple[int, int] = (0, 0)  # MB of the worker, at the start and at the end
    faults: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line of figures."""
        kinds = " ".join(f"{kind}={count}" for kind, count in sorted(self.changes.items()))
        return (
            f"HAProxy {self.version}: {self.seconds:.0f} s, {sum(self.changes.values())} changes ({kinds}), "
            f"{self.reloads} reloads, {self.load.sent} requests, {self.load.failed} failed, "
            f"{self.refused} refused connections, "
            f"worker {self.rss[0]} -> {self.rss[1]} MB: {'; '.join(self.faults) or 'ok'}"
        )


class Soak:
    """The churn on one node."""

    def __init__(self, stage: Stage, haproxy: Haproxy) -> None:
        self.stage = stage
        self.chance = random.Random(0)
        self.result = Result(".".join(map(str, haproxy.version)))
        self.homes = [stage.loopback.address() for _ in range(60)]  # an address is used again, as AWS does
        plan = plan_of({STEADY: 80, MORTAL: 20})
        plan["safety"]["reload_min_interval"] = 1.0
        self.node: Node = stage.node(haproxy.binary, plan)
        self.ending: list[str] = []
        self.standby: list[str] = []
        self.dead: set[str] = set()  # instances without a process
        self.edits = 0
        self.tried: dict[int, int] = {}  # worker -> its retries and redispatches

    # --- changes ----------------------------------------------------------------------------------------------------

    def launch(self, group: str, *, dead: bool = False) -> str:
        """A new instance on an address that is free; a dead one refuses every connection."""
        used = {str(i.address) for listed in self.stage.account.groups.values() for i in listed.values()}
        address = self.chance.choice([home for home in self.homes if home not in used])
        name = self.stage.account.launch(group, address)
        if dead:
            self.dead.add(name)
        else:
            self.stage.apps.start(name, group, address, slow=10)
        return name

    def end(self, name: str) -> None:
        """Auto Scaling terminates this instance."""
        self.stage.account.state(name, "Terminating:Wait")
        self.ending.append(name)

    def change(self) -> None:
        """One change, by chance. At least three servers that answer stay in service."""
        account = self.stage.account
        ready = [name for name in account.in_service(STEADY) if name not in self.dead]
        ill = [name for name in account.in_service(STEADY) if name in self.dead]
        kinds: dict[str, bool] = {
            "add": len(ready) < 8,
            "add dead": len(ill) < 4,
            "remove": len(ready) > 3,
            "remove dead": bool(ill),
            "standby": len(ready) > 3 and len(self.standby) < 2,
            "return": bool(self.standby),
            "weight": True,
            "die": self.node.master().old_workers == 0 and self.chance.random() < 0.3,
        }
        kind = self.chance.choice([name for name, possible in kinds.items() if possible])
        self.result.changes[kind] += 1
        if kind == "add":
            self.launch(STEADY)
        elif kind == "add dead":
            self.launch(STEADY, dead=True)
        elif kind == "remove":
            self.end(self.chance.choice(ready))
        elif kind == "remove dead":
            self.end(self.chance.choice(ill))
        elif kind == "standby":
            self.standby.append(self.chance.choice(ready))
            account.state(self.standby[-1], "Standby")
        elif kind == "return":
            account.state(self.standby.pop(0), "InService")
        elif kind == "weight":
            self.weigh(self.chance.randrange(10, 40))
        else:
            self.die()

    def weigh(self, mortal: int) -> None:
        """Give the mortal group this share."""
        self.node.plan["backends"][0]["sources"][1]["weight"] = mortal
        self.node.configure()

    def die(self) -> None:
        """A server dies while nobody uses it, gets traffic before any check can tell, and is terminated then.

        Share 0 first, so that no request is cut. One at a time: a request that is refused goes to another server, and is lost
        only if it meets four in a row that are dead and not yet known to be.
        """
        victim = self.stage.account.in_service(MORTAL)[0]
        self.weigh(0)
        self.turn()
        wait_until(lambda: self.sessions(victim) == 0, 10, "the server that is to die to be idle", every=0.02)
        self.stage.apps.kill(victim)
        self.dead.add(victim)
        self.weigh(20)
        self.turn()  # from here on it has its share of the traffic, and refuses it
        time.sleep(self.chance.uniform(0, 0.3))
        self.end(victim)
        self.launch(MORTAL)

    def sessions(self, name: str) -> int:
        """Sessions on this server now."""
        return sum(row.sessions for row in eye.servers(self.node.runtime_socket) if row.name == name)

    # --- the loop ---------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """One pass, and what AWS does after it."""
        turn = self.node.turn()
        self.result.faults += [str(error) for error in (*turn.plan.errors, *turn.outcome.errors)]
        listed = {name for _, name in parse(self.node.config.read_text()).servers}
        for name in [name for name in self.ending if name not in listed]:
            self.ending.remove(name)
            self.stage.account.forget(name)
            if name not in self.dead:
                self.stage.apps.kill(name)
            self.dead.discard(name)
        self.count_retries()

    def count_retries(self) -> None:
        """Keep each worker's counters: they end with it."""
        pid = self.node.proxy.observe(()).pid
        rows = csv.DictReader(io.StringIO(eye.ask(self.node.runtime_socket, "show stat -1 2 -1").removeprefix("# ")))
        for row in rows:
            if row["pxname"] == "site":
                self.tried[pid] = int(row["wretr"]) + int(row["wredis"])

    def run(self, seconds: float, disturb: Callable[[Node], None]) -> Result:
        """Churn for so long. ``disturb`` is called once, halfway."""
        for group, count in ((STEADY, 5), (MORTAL, 1)):
            for _ in range(count):
                self.launch(group)
        self.node.start()
        master = self.node.master()
        self.result.rss = (_megabytes(master.worker), 0)
        began = time.monotonic()
        with Traffic(self.stage.processes, [self.node.http], rate=500, clients=16) as traffic:
            self.churn(began + seconds / 2)
            disturb(self.node)
            self.churn(began + seconds)
            for name in self.dead & set(self.stage.account.in_service(STEADY)):
                self.end(name)
            self.node.settle()
            self.result.load = traffic.stop()
        self.result.seconds = time.monotonic() - began
        last = self.node.master()
        self.result.reloads = last.reloads
        self.result.rss = (self.result.rss[0], _megabytes(last.worker))
        self.result.refused = sum(self.tried.values())
        self.judge(master.pid, last.pid)
        return self.result

    def churn(self, until: float) -> None:
        """Change and follow, until this moment (monotonic); a template edit now and then."""
        edit = time.monotonic() + RELOAD_EVERY / 2
        while time.monotonic() < until:
            if time.monotonic() > edit:
                edit += RELOAD_EVERY
                self.edits += 1
                self.result.changes["template"] += 1
                self.node.edit_template(self.edits)
            self.change()
            self.turn()
            time.sleep(PAUSE)

    def judge(self, first: int, last: int) -> None:
        """What must hold at the end."""
        faults, result = self.result.faults, self.result
        if first != last:
            faults.append(f"the master {first} was replaced by {last}")
        faults += crashes(self.node.folder / "haproxy.log")
        if result.load.failed:
            faults.append(f"failed requests: {dict(result.load.errors)}")
        if not result.load.sent:
            faults.append("no request was sent")
        if result.changes["die"] and not result.refused:
            faults.append("servers died, and no connection was refused: the soak does not do its work")


def crashes(log: Path) -> list[str]:
    """What the master says of workers that did not end by themselves."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [line.strip() for line in lines if (found := _EXITS.search(line)) and found[1] != "0"]


def _megabytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss) >> 20


def leave_alone(_node: Node) -> None:
    """No disturbance."""


def soak(haproxy: Haproxy, seconds: float, disturb: Callable[[Node], None] = leave_alone) -> Result:
    """The soak of one version. A fault that ends it early is in the result."""
    pool = LoopbackPool()
    try:
        with pool.lease() as loopback, staged(loopback) as stage:
            run = Soak(stage, haproxy)
            try:
                return run.run(seconds, disturb)
            except Exception as error:
                run.result.faults += [f"ended early: {type(error).__name__}: {error}"]
                run.result.faults += crashes(run.node.folder / "haproxy.log")
                return run.result
    finally:
        pool.close()


def main(argv: list[str] | None = None) -> int:
    """Exit code 1 when anything went wrong, or no version could be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="in all, shared by the versions")
    parser.add_argument("--each", action="store_true", help="so many minutes for each version")
    parser.add_argument("--together", action="store_true", help="all versions at the same time")
    parser.add_argument("--version", choices=LABELS, action="append", help="only this one; may be repeated")
    given = parser.parse_args(argv)
    labels = given.version or LABELS
    haproxies = []
    for label in labels:
        haproxy = find(label)
        if isinstance(haproxy, Haproxy):
            haproxies.append(haproxy)
        else:
            print(f"HAProxy {label} could not be had: {haproxy.reason}", flush=True)
    results = []
    seconds = given.minutes * 60 / (1 if given.each else len(labels))
    with ProcessPoolExecutor(max(1, len(haproxies)) if given.together else 1) as pool:
        for result in pool.map(soak, haproxies, repeat(seconds)):
            results.append(result)
            print(result.line(), flush=True)
    bad = [result.version for result in results if result.faults]
    sent, failed = sum(result.load.sent for result in results), sum(result.load.failed for result in results)
    outcome = f"not good on {', '.join(bad)}" if bad else "good" if results else "no HAProxy"
    print(f"soak: {outcome}: {len(results)} versions, {sent} requests, {failed} failed", flush=True)
    return 1 if bad or not results else 0


if __name__ == "__main__":
    sys.exit(main())
