"""What the calls that AWS took say of one node's life, read in their order; every breach is a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.behaviour.kill_proxy import Written, queue_of, records_changed

_LEFT = "still {} when its terminate hook was completed"


@dataclass
class Life:
    """One node as AWS's answers show it, call by call."""

    id: str
    record: bool = False
    announced: int = 0  # times that its record came to be
    withdrawn: int = 0  # times that it went
    checks: set[str] = field(default_factory=set)
    addresses: dict[str, str] = field(default_factory=dict)  # allocation -> association
    queue: bool = False
    subscriptions: set[str] = field(default_factory=set)
    completed: list[str] = field(default_factory=list)  # hook and result
    breaches: list[str] = field(default_factory=list)

    def take(self, call: Written) -> None:
        """One call that AWS did, of any node."""
        if call.name == "ChangeResourceRecordSets":
            self._records(call)
        if call.caller != self.id:
            return
        if call.name == "CompleteLifecycleAction":
            self._completes(f"{call.field('LifecycleHookName')} {call.field('LifecycleActionResult')}")
            return
        self._own(call)
        for what, count in (("checks", len(self.checks)), ("addresses", len(self.addresses))):
            if count > 1:
                self.breaches.append(f"{count} {what} at a time")

    def _records(self, call: Written) -> None:
        """One batch: what it leaves of this node's record. A swap leaves it where it was."""
        actions = [action for action, owner in records_changed(call) if owner == self.id]
        stood = self.record
        for action in actions:
            self.record = action != "DELETE"
        if actions.count("CREATE") - actions.count("DELETE") + stood > 1:
            self.breaches.append("two records at a time")
        if self.record and not stood:
            self.announced += 1
            if self.withdrawn:
                self.breaches.append("announced again after its record had gone")
            if "gone CONTINUE" in self.completed:
                self.breaches.append("announced after its terminate hook was completed")
        self.withdrawn += stood and not self.record

    def _own(self, call: Written) -> None:
        """What this node made or took away."""
        match call.name:
            case "CreateHealthCheck":
                self.checks.add(call.told("Id"))
            case "DeleteHealthCheck":
                self.checks.discard(call.asked.partition("\n")[0].rpartition("/")[2])
            case "AssociateAddress":
                self.addresses[call.field("AllocationId")] = call.told("associationId")
            case "DisassociateAddress":
                ended = call.field("AssociationId")
                self.addresses = {a: association for a, association in self.addresses.items() if association != ended}
            case "CreateQueue":
                self.queue = True
            case "DeleteQueue":
                self.queue = False
            case "Subscribe":
                self.subscriptions.add(queue_of(call))
            case "Unsubscribe":
                self.subscriptions.clear()
            case _:
                pass

    def _completes(self, what: str) -> None:
        self.completed.append(what)
        if what.startswith("born") and not (self.record and len(self.checks) == 1 and len(self.addresses) == 1):
            self.breaches.append("in service before it was whole")
        if what.startswith("gone"):
            left = {
                "in DNS": self.record,
                "with a health check": self.checks,
                "with an address": self.addresses,
                "with a queue": self.queue,
                "subscribed": self.subscriptions,
            }
            self.breaches += [_LEFT.format(word) for word, there in left.items() if there]


def life_of(instance: str, journal: Sequence[Written]) -> Life:
    """A node's life so far."""
    life = Life(instance)
    for call in journal:
        if call.done:
            life.take(call)
    return life


def breaches(instance: str, journal: Sequence[Written], *, ended: bool) -> list[str]:
    """What was wrong in the life of a node that joined and, with ``ended``, left."""
    life = life_of(instance, journal)
    found = list(dict.fromkeys(life.breaches))
    wanted = ["born CONTINUE", "gone CONTINUE"] if ended else ["born CONTINUE"]
    if life.completed != wanted:
        found.append(f"completed {life.completed}")
    if life.announced != 1:
        found.append(f"announced {life.announced} times")
    if life.withdrawn != ended:
        found.append(f"withdrawn {life.withdrawn} times")
    return found


def leaks(counts: tuple[int, int, int, int, int]) -> list[str]:
    """What a node that is gone has left in AWS: see ``Estate.counts``."""
    words = ("records", "health checks", "queues", "subscriptions", "addresses")
    return [f"{count} {word} left" for count, word in zip(counts, words, strict=True) if count]
