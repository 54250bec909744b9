"""A stage for DNS: registrars of several nodes over the strict Route 53 in process, with a clock that is set by hand."""

import ast
import itertools
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from hafleet.adapters.route53 import Route53Dns
from hafleet.adapters.route53.records import parse_record
from hafleet.core.dns.checks import Author, make_reference, wanted_checks
from hafleet.core.dns.layout import shard_id
from hafleet.core.dns.model import Alias, CheckMemo, DnsMemory, Record, Situation
from hafleet.core.dns.plan import create
from hafleet.core.dns.report import DnsReport
from hafleet.core.model import Group, Instance, Node, Unknown
from hafleet.core.settings import Settings
from hafleet.errors import SourceUnavailable
from hafleet.lab.route53_client import EngineClient
from hafleet.lab.route53_engine import Engine, Limits
from hafleet.ports import Dns
from hafleet.registration import DnsPorts, Registrar

ZONE = "example.test"
NAME = "lb.example.test"


class HandClock:
    """Implements ``ports.Clock``: time passes when told, or when somebody waits."""

    def __init__(self, at: float = 1_000_000.0) -> None:
        self.at = at

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self.at

    def monotonic(self) -> float:
        """The same, for a clock that is never set."""
        return self.at

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Let the time pass."""
        self.at += seconds
        return event.is_set()


class MemoryStore:
    """Implements ``ports.DnsStore`` in memory: what is saved survives the process that saved it."""

    def __init__(self, kept: DnsMemory | None = None) -> None:
        self.kept = kept or DnsMemory()
        self.writes = 0

    def load(self, node_id: str) -> DnsMemory:
        """What was saved last."""
        return self.kept

    def save(self, memory: DnsMemory) -> None:
        """Keep it."""
        self.kept = memory
        self.writes += 1


@dataclass
class FakeEc2:
    """Implements ``ports.Instances``."""

    known: dict[str, str] = field(default_factory=dict)
    asked: list[frozenset[str]] = field(default_factory=list)
    broken: bool = False

    def states(self, ids: frozenset[str]) -> dict[str, str]:
        """See ``ports.Instances.states``."""
        self.asked.append(ids)
        if self.broken:
            raise SourceUnavailable("503: no message", where="ec2:DescribeInstances")
        return {id_: state for id_, state in self.known.items() if id_ in ids}


def iid(number: int) -> str:
    """The id of instance ``number``."""
    return f"i-{number:017x}"


def node(number: int, region: str = "eu-west-1") -> Node:
    """Node ``number``, with its private, public and IPv6 address in the lab's internet."""
    high, low = divmod(number, 250)
    return Node(
        iid(number),
        IPv4Address(f"127.1.{high}.{low + 1}"),
        f"{region}a",
        region,
        "edge",
        public=IPv4Address(f"127.2.{high}.{low + 1}"),
        ipv6=IPv6Address(f"2600:1f18::{number + 1:x}"),
    )


def dns_settings(**dns: Any) -> Settings:
    """Settings with this ``dns`` section."""
    return _settings(repr(dns))


@cache
def _settings(section: str) -> Settings:
    dns = ast.literal_eval(section)
    return Settings.model_validate(
        {
            "fleet": "edge",
            "frontends": [{"name": "web", "bind": ":80", "default_backend": "site"}],
            "backends": [{"name": "site", "port": 8080, "sources": [{"asg": "blue"}]}],
            "dns": {"name": NAME, "zone": ZONE, **dns},
        }
    )


def edge(numbers: Mapping[int, str] | list[int]) -> Group:
    """The fleet's own group: numbers of instances in service, or number -> lifecycle state."""
    states = numbers if isinstance(numbers, Mapping) else dict.fromkeys(numbers, "InService")
    instances = tuple(Instance(iid(n), state, "eu-west-1a", node(n).address) for n, state in sorted(states.items()))
    return Group("edge", len(instances), instances)


@dataclass
class Stage:
    """One zone, its engine, and the nodes' disks."""

    clock: HandClock = field(default_factory=HandClock)
    limits: Limits = field(default_factory=Limits)
    ec2: FakeEc2 = field(default_factory=FakeEc2)
    stores: dict[str, MemoryStore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine = Engine(self.clock.wall, self.limits)
        self.client = EngineClient(self.engine)
        made = self.client.create_hosted_zone(Name=ZONE, CallerReference="stage")
        self.zone_id = made["HostedZone"]["Id"].rpartition("/")[2]
        self._nonces = itertools.count()
        self.engine.calls.clear()

    def dns(self, settings: Settings) -> Route53Dns:
        """The real adapter over the engine."""
        assert settings.dns is not None
        return Route53Dns(settings.dns, lambda: self.client, HandClock())  # type: ignore[arg-type, return-value]

    def ports(self, settings: Settings, node_id: str, dns: Dns | None = None, seed: int = 0) -> DnsPorts:
        """The ports of one node's registrar."""
        store = self.stores.setdefault(node_id, MemoryStore())
        return DnsPorts(
            dns or self.dns(settings),
            self.ec2,
            store,
            self.clock,
            lambda: f"{next(self._nonces):08x}",
            random.Random(seed),
        )

    def registrar(self, number: int, settings: Settings | None = None, dns: Dns | None = None) -> "Actor":
        """A registrar of this node, as it is after a start of the agent."""
        settings = settings or dns_settings()
        return Actor(self, number, Registrar(settings, self.ports(settings, iid(number), dns, number)))

    def records(self) -> dict[tuple[str, str, str], Record]:
        """What stands at and below the name, pending changes included."""
        (zone,) = self.engine.dump()
        found = (parse_record(shape) for shape in zone["ResourceRecordSets"])
        return {record.key: record for record in found if f".{record.name}".endswith(f".{NAME}")}

    def aliases(self) -> dict[tuple[str, str], Record]:
        """The aliases of type A, by name and SetIdentifier."""
        return {(r.name, r.set_id): r for r in self.records().values() if r.alias is not None and r.type == "A"}

    def leaves(self) -> dict[str, Record]:
        """The leaves of type A, by SetIdentifier."""
        return {r.set_id: r for r in self.records().values() if r.alias is None and r.type == "A"}

    def checks(self) -> tuple[str, ...]:
        """Ids of all health checks."""
        return tuple(sorted(check["Id"] for check in self.engine.checks()))

    def register(self, number: int, settings: Settings, shard: int | None = None) -> None:
        """A node that registered long ago: its check, its record (in a shard, with its alias) and its memory."""
        who, dns = node(number), self.dns(settings)
        (wanted,) = wanted_checks(settings, who, "A", str(who.public))
        reference = make_reference(Author(settings.fleet, who.id, who.region), wanted.slot, wanted.config, "00000000")
        check = dns.create_check(reference, wanted.config)
        weight, ttl = (settings.dns.weight, settings.dns.ttl) if settings.dns else (0, 0)
        name = NAME if shard is None else f"{shard_id(shard)}.{NAME}"
        batch = [create(Record(name, "A", who.id, ttl, (str(who.public),), weight=weight, check=check.id))]
        if shard is not None and (NAME, shard_id(shard)) not in self.aliases():
            batch.append(create(Record(NAME, "A", shard_id(shard), alias=Alias(name, self.zone_id), weight=1)))
        dns.change(tuple(batch))
        memo = CheckMemo(reference, wanted.config, check.id)
        kept = DnsMemory(node=who.id, names=(NAME,), checks={wanted.slot: memo}, changed_at=self.clock.at)
        self.stores[who.id] = MemoryStore(kept)

    def write(self, **record: Any) -> None:
        """Somebody else writes a record set."""
        change = {"Action": "UPSERT", "ResourceRecordSet": record}
        self.client.change_resource_record_sets(HostedZoneId=self.zone_id, ChangeBatch={"Changes": [change]})
        self.clock.at += 1

    def erase(self, set_id: str, name: str = NAME) -> None:
        """Somebody else deletes a record set."""
        pages = self.client.list_resource_record_sets(HostedZoneId=self.zone_id)["ResourceRecordSets"]
        found = next(r for r in pages if r.get("SetIdentifier") == set_id and r["Name"] == f"{name}.")
        change = {"Action": "DELETE", "ResourceRecordSet": found}
        self.client.change_resource_record_sets(HostedZoneId=self.zone_id, ChangeBatch={"Changes": [change]})
        self.clock.at += 1


@dataclass
class Actor:
    """One node on the stage."""

    stage: Stage
    number: int
    registrar: Registrar
    group: Group | Unknown | None = None
    serves: bool = True
    leaving: bool = False
    red_since: float = 0.0

    def situation(self) -> Situation:
        """What its last pass told."""
        at = self.stage.clock.at
        return Situation(at, node(self.number), self.serves, self.leaving, self.red_since, self.group)

    def once(self) -> DnsReport:
        """One DNS pass."""
        return self.registrar.run(self.situation())

    def until(self, done: Callable[[DnsReport], bool], passes: int = 100) -> DnsReport:
        """Passes, each when the last one asked for it, until one is as wished."""
        report = self.once()
        for _ in range(passes):
            if done(report):
                return report
            self.stage.clock.at += max(report.next_at, 0.1)
            report = self.once()
        raise AssertionError(f"not in {passes} passes: {report}")

    def settled(self, passes: int = 100) -> DnsReport:
        """Passes until nothing is pending."""
        return self.until(lambda report: not report.waiting, passes)

    def leave(self) -> None:
        """Told to leave; the proxy answers red at once."""
        self.leaving, self.red_since = True, self.stage.clock.at


def lose(store: MemoryStore, **changes: Any) -> None:
    """Change what a node's disk holds."""
    store.kept = replace(store.kept, **changes)
