"""Agents to be killed, each a forked process: ``python -m tests.behaviour.crash_driver FOLDER``.

Everything is imported once; a fork then is an agent's fresh start in some milliseconds. What the world wants (hafleet.yaml as
plain data, and the membership) is ``scene.json`` in the folder, replaced in one step, beside the user's template.
Commands come as JSON lines and are answered by one line each:

``{"do": "churn", "seed": N, "after": S}``  an agent changes the world and makes a pass, over and over, until it is killed
``{"do": "aimed", "seed": N, "kind": K, "point": P, "when": "before"|"after"}``  the same, killed at this point of its first pass
``{"do": "converge"}``  a fresh agent makes a pass and another one, and tells what it saw and did;
    with ``"trusting": true`` one that takes the structure of the file for the one that is loaded, for a control
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from hafleet.adapters.lock import NodeLocks
from hafleet.core.cfgtext import parse
from hafleet.core.model import Instance, Worker
from tests.behaviour.stage import ZONE, Account, Parts, assemble, edit_template

GROUPS = ("blue", "green")
# Where an aimed kill strikes: a path of attributes from the parts of a pass to a method.
POINTS = (
    "store.save",
    "proxy.run",
    "proxy.check",
    "proxy._disk.install",
    "proxy._disk.mark_loading",
    "proxy._master.ask",  # of these only ``reload``
    "proxy._disk.unmark_loading",
)


@dataclass
class Scene:
    """What the world wants."""

    folder: Path
    document: dict[str, Any]
    account: Account
    addresses: list[str]  # where an instance may live

    @classmethod
    def load(cls, folder: Path) -> "Scene":
        """As it is on disk."""
        data = json.loads((folder / "scene.json").read_text())
        account = Account()
        account.groups |= {group: {} for group in GROUPS}  # they exist, even while they are empty
        account._launched = data["launched"]
        for group, name, state, address in data["instances"]:
            account.put(group, Instance(name, state, ZONE, ip_address(address)))
        return cls(folder, data["document"], account, data["addresses"])

    @property
    def edits(self) -> int:
        """The number of the last template edit."""
        return int((self.folder / "templates" / "haproxy.cfg.j2").read_text().partition("note_")[2].split()[0])

    def save(self) -> None:
        """Replace it on disk."""
        groups = self.account.groups
        listed = [(g, i.id, i.state, str(i.address)) for g, members in groups.items() for i in members.values()]
        data = {
            "document": self.document,
            "launched": self.account._launched,
            "instances": listed,
            "addresses": self.addresses,
        }
        beside = self.folder / "scene.new"
        beside.write_text(json.dumps(data))
        beside.rename(self.folder / "scene.json")

    def change(self, chance: random.Random, kind: str = "") -> None:
        """One change of this kind, or of any."""
        self.bury()
        ready = self.account.in_service(*GROUPS)
        taken = {str(i.address) for group in GROUPS for i in self.account.groups[group].values()}
        free = [address for address in self.addresses if address not in taken]
        kind = kind or chance.choice(("membership", "membership", "structure"))
        if kind == "structure":
            edit_template(self.folder / "templates", self.edits + 1)
        elif len(ready) > 3 and chance.random() < 0.4:
            self.account.state(chance.choice(ready), "Terminating:Wait")
        elif free and chance.random() < 0.7:
            self.account.launch(chance.choice(GROUPS), chance.choice(free))
        else:
            for source in self.document["backends"][0]["sources"]:
                source["weight"] = chance.randrange(10, 100)

    def bury(self) -> None:
        """Forget instances that were terminating and that no installed file lists any more."""
        listed = {name for _, name in parse((self.folder / "haproxy.cfg").read_text()).servers}
        ending = [i.id for g in GROUPS for i in self.account.groups[g].values() if i.leaves and i.id not in listed]
        for name in ending:
            self.account.forget(name)


def leave_alone(parts: Parts) -> None:
    """An agent as it is."""


def one_pass(scene: Scene, aim: Callable[[Parts], None] = leave_alone) -> dict[str, Any]:
    """One pass of an agent that has just started; what it saw, wanted and did."""
    parts = assemble(scene.document, scene.account)
    aim(parts)
    with NodeLocks(Path(parts.settings.state_dir)).one_pass():
        world = parts.reconciler.observe()
        plan = parts.reconciler.plan(world)
        outcome = parts.reconciler.apply(plan)
    assert isinstance(world.worker, Worker), world.worker
    return {
        "stamp": world.worker.stamp,
        "wanted": parse(plan.wanted.text).structure if plan.wanted else "",
        "reloaded": list(outcome.reloaded),
        "idle": not plan.pending,
        "held": [held.reason for held in plan.held],
        "errors": [str(error) for error in (*plan.errors, *outcome.errors)],
    }


def churn(folder: Path, seed: int, tell: Callable[[bytes], object]) -> None:
    """Change the world and follow it, until the end; tells a dot per pass."""
    chance = random.Random(seed)
    while True:
        scene = Scene.load(folder)
        scene.change(chance)
        scene.save()
        one_pass(scene)
        tell(b".")


def aimed(folder: Path, order: dict[str, Any]) -> None:
    """One change and one pass, killed at a point of it; returns if the pass did not come by there."""
    scene = Scene.load(folder)
    scene.change(random.Random(order["seed"]), order["kind"])
    scene.save()
    one_pass(scene, lambda parts: mine(parts, order["point"], order["when"]))


def mine(parts: Parts, point: str, when: str) -> None:
    """Make the method at this point end the process, before or after it has done its work."""
    *path, method = point.split(".")
    owner: Any = parts
    for name in path:
        owner = getattr(owner, name)
    work = getattr(owner, method)

    def deadly(*args: Any, **more: Any) -> Any:
        struck = point != "proxy._master.ask" or args[0] == "reload"
        if struck and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = work(*args, **more)
        if struck:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    owner.__dict__[method] = deadly


def trust(parts: Parts) -> None:
    """Spoil the agent: it takes the structure of the file for the one that the worker has loaded."""
    look = parts.proxy.observe

    def observe(names: Sequence[str]) -> Worker:
        return replace(look(names), stamp=parse(Path(parts.settings.haproxy.config).read_text()).structure)

    parts.proxy.__dict__["observe"] = observe


def converge(folder: Path, tell: Callable[[bytes], object], aim: Callable[[Parts], None]) -> None:
    """A fresh agent: one pass, and one more."""
    first = one_pass(Scene.load(folder), aim)
    first["again"] = one_pass(Scene.load(folder), aim)
    tell(json.dumps(first).encode())


def forked(work: Callable[[Callable[[bytes], object]], None]) -> tuple[int, int]:
    """Run ``work`` in a child; returns its pid and the pipe on which it tells."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    os.close(read)
    try:
        work(lambda data: os.write(write, data))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def obey(folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    """One command."""
    if order["do"] == "churn":
        pid, pipe = forked(lambda tell: churn(folder, order["seed"], tell))
        time.sleep(order["after"])
        os.kill(pid, signal.SIGKILL)
    elif order["do"] == "aimed":
        pid, pipe = forked(lambda _: aimed(folder, order))
    else:
        pid, pipe = forked(lambda tell: converge(folder, tell, trust if order.get("trusting") else leave_alone))
    with os.fdopen(pipe, "rb") as reader:
        told = reader.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if order["do"] == "converge" and told:
        return {"status": status, **json.loads(told)}
    return {"status": status, "passes": len(told)}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(obey(Path(sys.argv[1]), json.loads(line))), flush=True)
