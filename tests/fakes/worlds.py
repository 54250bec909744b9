"""Worlds for tests of the core: short builders, and a story that plays passes one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import IPv4Address, ip_address
from typing import Any

from hafleet.core.guard import RULES, Rule
from hafleet.core.membership import Decision, decide
from hafleet.core.model import (
    Desired,
    Group,
    Groups,
    Instance,
    Member,
    Memory,
    Node,
    RunningServer,
    Unknown,
    Worker,
    World,
)
from hafleet.core.settings import Settings

NODE = Node("i-00000000000000aaa", IPv4Address("10.9.0.1"), "eu-west-1a", "eu-west-1", "edge")


@cache
def iid(number: int) -> str:
    """The id of instance ``number``."""
    return f"i-{number:017x}"


@cache
def _plain(number: int) -> Instance:
    return Instance(iid(number), "InService", "eu-west-1a", ip_address((10 << 24) + number))


def instance(number: int, state: str = "InService", **changes: Any) -> Instance:
    """Instance ``number`` at 10.0.x.y."""
    plain = _plain(number)
    return replace(plain, state=state, **changes) if changes or state != "InService" else plain


def group(name: str, *instances: Instance, desired: int | None = None, **tags: str) -> Group:
    """A group that wants what it lists, unless told otherwise."""
    wanted = sum(i.capacity for i in instances if not i.terminates) if desired is None else desired
    return Group(name, wanted, tuple(sorted(instances, key=lambda i: i.id)), tags)


def fleet(name: str, numbers: Sequence[int], desired: int | None = None) -> Group:
    """A group of in-service instances of these numbers."""
    return group(name, *(instance(n) for n in numbers), desired=desired)


def make_settings(*sources: Mapping[str, Any], **sections: Any) -> Settings:
    """Settings with one backend ``site``. ``backend``: its other fields; other sections by name."""
    backend = {"name": "site", "sources": sources or ({"asg": "blue"},), "drain": 30, **sections.pop("backend", {})}
    return Settings.model_validate(
        {
            "fleet": "edge",
            "frontends": [{"name": "web", "bind": ":80", "default_backend": "site"}],
            "backends": [backend, *sections.pop("more_backends", ())],
            **sections,
        }
    )


def running(decision: Decision, *, sessions: Mapping[str, int] | None = None, down: Sequence[str] = ()) -> Worker:
    """A worker that does what the decision wants: every member up but for those in ``down``."""
    servers: dict[tuple[str, str], RunningServer] = {}
    members = decision.desired.members if isinstance(decision.desired, Desired) else {}
    for backend, found in members.items():
        for m in found:
            load = (sessions or {}).get(m.name, 0)
            up = m.name not in down
            servers[backend, m.name] = RunningServer(
                backend, m.name, 1, str(m.address), m.port, False, False, m.rendered_weight, up, True, load
            )
    return Worker((3, 2, 26), 1, 2, 1000.0, 1000.0, "", servers, {}, 0)


@dataclass
class Story:
    """Passes ten seconds apart, each with the memory of the one before."""

    settings: Settings = field(default_factory=make_settings)
    rules: tuple[Rule, ...] = RULES
    memory: Memory = field(default_factory=Memory)
    node: Node | Unknown = NODE
    worker: Worker | Unknown = field(default_factory=lambda: Unknown("not looked at"))
    at: float = 1_000_000.0
    started: float = 100.0
    last: Decision = field(default_factory=lambda: Decision(Unknown("before"), Memory()))

    def see(self, *groups: Group, step: float = 10.0, started: float | None = None) -> Decision:
        """One pass over a complete read."""
        self.started = self.started + step if started is None else started
        return self._turn(Groups({g.name: g for g in groups}, self.started), step)

    def blind(self, reason: str = "AWS is away", step: float = 10.0) -> Decision:
        """One pass without a read."""
        return self._turn(Unknown(reason), step)

    def again(self, *groups: Group) -> Decision:
        """One pass over the same read as the last one."""
        return self._turn(Groups({g.name: g for g in groups}, self.started), 0.0)

    def obey(self, **how: Any) -> None:
        """From now on HAProxy runs what the last pass wanted."""
        self.worker = running(self.last, **how)

    def _turn(self, groups: Groups | Unknown, step: float) -> Decision:
        self.at += step
        world = World(self.at, self.node, groups, self.worker, Unknown("no files"))
        self.last = decide(self.settings, world, self.memory, rules=self.rules)
        self.memory = self.last.memory
        return self.last

    # --- views ------------------------------------------------------------------------------------------------------

    def members(self, backend: str = "site") -> tuple[Member, ...]:
        """Members after the last pass."""
        assert isinstance(self.last.desired, Desired), self.last.desired
        return self.last.desired.members[backend]

    def names(self, backend: str = "site") -> list[str]:
        """Names of members in rotation."""
        return [m.name for m in self.members(backend) if not m.draining]

    def drained(self, backend: str = "site") -> list[str]:
        """Names of draining members."""
        return [m.name for m in self.members(backend) if m.draining]

    def weights(self, backend: str = "site") -> dict[str, int]:
        """Weight by name, of members in rotation."""
        return {m.name: m.weight for m in self.members(backend) if not m.draining}

    def held(self) -> list[str]:
        """The rules that hold something."""
        return [held.rule for held in self.last.held]

    def peers(self) -> list[str]:
        """Names of peers."""
        assert isinstance(self.last.desired, Desired)
        return [peer.name for peer in self.last.desired.peers]


def ids(*numbers: int) -> list[str]:
    """The ids of these instances, as sorted member names."""
    return sorted(iid(n) for n in numbers)
