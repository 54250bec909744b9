"""The words of a DNS plan: what is wanted, what was seen, and the steps. ``steps`` decides; ``hafleet.registration`` carries out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from hafleet.core.dns.checks import Author, WantedCheck
from hafleet.core.dns.layout import Blocked, Layout
from hafleet.core.dns.model import Batch, Change, Check, CheckMemo, DnsMemory, Record, RecordType
from hafleet.core.model import Held

UNKNOWN_CHANGE = "?"  # as the id of a change: it was sent, and its answer never came
ASSUMED = "assumed"  # ``stored`` of a record that a dry plan takes for written


# --- wanted and seen ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Want:
    """What this node's registration should be now. Made anew for every decision; nothing in it was read from Route 53."""

    author: Author
    layout: Layout
    addresses: Mapping[
        RecordType, str
    ]  # what each type's record should hold; a type whose address is not known is absent
    checks: Mapping[RecordType, tuple[WantedCheck, ...]]
    ttl: int
    weight: int
    multivalue: bool
    leaving: bool
    serves: bool
    leave_at: float  # wall clock from which a leaving node's record may go
    join_at: float  # wall clock from which a joining node may begin
    settle: float  # seconds after which a change of unknown outcome counts as in force
    live: frozenset[str] = frozenset()  # instances in service in the own group
    members: frozenset[str] = frozenset()  # of the own group: those, and the ones on their way into service
    leads: bool = False  # this node writes what is shared
    nonce: str = ""

    @property
    def node(self) -> str:
        """This node's id, the SetIdentifier of its records."""
        return self.author.node


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in Route 53, with the effects of the steps since."""

    records: tuple[Record, ...] = ()
    fresh: bool = False  # the whole tree was read, lately
    repair: bool = False  # it was read while nothing of this node's was under way: what it lacks is missing
    checks: Mapping[str, Check | None] = field(default_factory=dict)  # by id, as far as they were looked at

    @property
    def lost(self) -> frozenset[str]:
        """Ids of checks that were looked for and are no more."""
        return frozenset(id_ for id_, check in self.checks.items() if check is None)

    def own(self, node: str) -> tuple[Record, ...]:
        """The leaves that this node wrote. Others may use its id for record sets of other types and policies."""
        mine = (r for r in self.records if r.set_id == node and r.alias is None and r.type in {"A", "AAAA"})
        return tuple(record for record in mine if record.weight is not None or record.multivalue)

    def leaf(self, want: Want, type_: str) -> Record | None:
        """This node's leaf of a type, if it stands where the settings want it."""
        names = want.layout.leaves
        return next((r for r in self.own(want.node) if r.type == type_ and r.name in names), None)

    def at(self, name: str, type_: str) -> tuple[Record, ...]:
        """The record sets of this name and type."""
        return tuple(record for record in self.records if record.name == name and record.type == type_)


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a decision looks at."""

    want: Want
    seen: Seen
    memory: DnsMemory
    at: float  # wall clock


# --- steps ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """Read the whole tree."""


@dataclass(frozen=True, slots=True)
class LookCheck:
    """Read one health check."""

    id: str


@dataclass(frozen=True, slots=True)
class Remember:
    """Write the memory, before what it tells of is done."""

    memory: DnsMemory


@dataclass(frozen=True, slots=True)
class CreateCheck:
    """Make the check that the memory tells of."""

    slot: str
    memo: CheckMemo


@dataclass(frozen=True, slots=True)
class Apply:
    """Send a batch."""

    batch: Batch
    why: str


@dataclass(frozen=True, slots=True)
class AwaitInsync:
    """Ask whether a change is in force everywhere."""

    change: str


@dataclass(frozen=True, slots=True)
class DeleteCheck:
    """Delete a check that no record uses any more."""

    id: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before this wall clock."""

    until: float
    reason: str


Step = Look | LookCheck | Remember | CreateCheck | Apply | AwaitInsync | DeleteCheck | Wait


@dataclass(frozen=True, slots=True)
class Move:
    """A decision: the next step, or None when there is nothing to do; what is held, and what cannot be done."""

    step: Step | None = None
    held: tuple[Held, ...] = ()
    blocked: tuple[Blocked, ...] = ()

    def after(self, earlier: "Move") -> "Move":
        """This decision with the notes of one that found no step."""
        return Move(self.step, (*earlier.held, *self.held), (*earlier.blocked, *self.blocked))


NOTHING = Move()


def first(moves: Iterable[Move]) -> Move:
    """The first step of several decisions in order of rank, with all notes up to it."""
    found = NOTHING
    for move in moves:
        found = move.after(found)
        if found.step is not None:
            break
    return found


# --- changes --------------------------------------------------------------------------------------------------------


def create(record: Record) -> Change:
    """Write a record set that is not there."""
    return Change("CREATE", replace(record, stored=""))


def delete(record: Record) -> Change:
    """Take away a record set as it was read."""
    return Change("DELETE", record)


def swap(old: Record, new: Record) -> Batch:
    """Replace a record set, if it still is what was read: Route 53 refuses the batch otherwise."""
    return (delete(old), create(new))


def after(records: tuple[Record, ...], batch: Batch, stored: str = "") -> tuple[Record, ...]:
    """The record sets after a batch. Those that it made carry ``stored``: Route 53 was not asked how it keeps them."""
    found = {record.key: record for record in records}
    for change in batch:
        if change.action == "DELETE":
            found.pop(change.record.key, None)
        else:
            found[change.record.key] = replace(change.record, stored=stored)
    return tuple(found.values())


def unread(batch: Batch) -> bool:
    """True when a DELETE of the batch is not backed by a read."""
    return any(change.action == "DELETE" and not change.record.stored for change in batch)


def batch_digest(batch: Batch) -> str:
    """Sixteen characters that differ where what a batch would do differs."""
    return sha256(repr(batch).encode()).hexdigest()[:16]


def describe(batch: Batch) -> tuple[str, ...]:
    """A batch in words, one line for each change. A record that is put back as it was, to prove that it is there, is one line."""
    lines = []
    deleted = {change.record.key: change.record for change in batch if change.action == "DELETE"}
    created = {change.record.key: change.record for change in batch if change.action == "CREATE"}
    for change in batch:
        record, key = change.record, change.record.key
        if key in deleted and key in created:
            if change.action == "CREATE":
                same = deleted[key] == created[key]
                lines.append(f"{'witness' if same else 'change'} {sentence(record)}")
        else:
            lines.append(f"{change.action.lower()} {sentence(record)}")
    return tuple(lines)


def sentence(record: Record) -> str:
    """One record set in a line."""
    parts = [record.name, record.type]
    if record.set_id:
        parts.append(f"[{record.set_id}]")
    parts.append(f"-> {record.alias.target}" if record.alias else " ".join(record.values))
    for word, value in (("weight", record.weight), ("ttl", record.ttl)):
        if value is not None:
            parts.append(f"{word} {value}")
    if record.check:
        parts.append(f"check {record.check}")
    return " ".join(parts)
