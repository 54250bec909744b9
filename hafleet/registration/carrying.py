"""Carrying out one step: the memory is written ahead, the call is made, and its answer is folded into what was seen.

Every function that calls AWS is a generator that yields the name of the call just before it makes it. The pass runs through; a
test stops it there, lets others go first, or never goes on.
"""

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace

from hafleet.core.dns import pace
from hafleet.core.dns.checksteps import config_key, without
from hafleet.core.dns.model import CheckMemo, DnsMemory, Record
from hafleet.core.dns.plan import (
    UNKNOWN_CHANGE,
    Apply,
    AwaitInsync,
    CreateCheck,
    DeleteCheck,
    Look,
    LookCheck,
    Remember,
    Seen,
    Step,
    Wait,
    after,
    batch_digest,
    describe,
)
from hafleet.errors import (
    AwsDenied,
    AwsThrottled,
    ChangeRefused,
    CheckInUse,
    CheckTaken,
    SourceUnavailable,
    StateCorrupt,
    StoreError,
)
from hafleet.ports import Chance, Clock, Dns, DnsStore, Instances

Walk = Generator[str, None, float | None]  # the calls; then the seconds to wait before the next step, None: go on

_FORGIVE = 3600.0  # seconds after which what was refused for good is tried again
_AGAIN = 10.0  # seconds from a batch's second refusal to its last try: a check that was just made is not known everywhere yet
_TRIES = 3  # of the same batch, and of new references, until they count as refused for good
_IN_USE = 5  # refused deletions of a check, after which it is left to who needs it


@dataclass(frozen=True, slots=True)
class DnsPorts:
    """Everything a DNS pass talks to, and its sources of chance."""

    dns: Dns
    instances: Instances
    store: DnsStore
    clock: Clock
    nonce: Callable[[], str]
    chance: Chance


@dataclass(slots=True)
class Log:
    """What happened in one pass."""

    done: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Carrier:
    """One node's hand in Route 53: what it remembers, what it saw, and the calls."""

    def __init__(self, ports: DnsPorts) -> None:
        self.memory = DnsMemory()
        self.seen = Seen()
        self.blind = True  # what was seen is not to be relied on: the tree must be read
        self.log = Log()
        self._ports = ports
        self._loaded = False
        self._lost = ""  # the digest of the batch that was refused last
        self._losses = 0  # refusals of that batch
        self._taken = 0  # references in a row that were used before
        self._in_use: Counter[str] = Counter()  # refused deletions, by check
        self._forgive_at = 0.0  # monotonic
        self._polls = 0
        self._poll_at = 0.0  # monotonic

    def load(self, node: str) -> None:
        """Take up the memory, once. A lost one is made anew: records tell of their checks."""
        self.log = Log()
        now = self._ports.clock.monotonic()
        if self._loaded:
            if self.memory.refused and now >= self._forgive_at:
                self.memory = replace(self.memory, refused={})
            return
        try:
            self.memory = self._ports.store.load(node)
        except StoreError as error:
            self.memory = DnsMemory()
            self.log.problems.append(str(error))
            if not isinstance(error, StateCorrupt):  # not to be read now is not lost: try again
                raise
        self.memory = replace(self.memory, node=node)
        self._loaded = True
        self._forgive_at = now + _FORGIVE

    def remember(self, memory: DnsMemory) -> None:
        """Keep the memory. On a full or broken disk it is kept in this process, and the work goes on."""
        if self.memory.change == UNKNOWN_CHANGE and not memory.change:
            self.seen = replace(self.seen, fresh=False)  # it may have come into force after the last look
        self.memory = memory
        try:
            self._ports.store.save(memory)
        except StoreError as error:
            self.log.problems.append(str(error))

    def look(self, root: str) -> Walk:
        """Read the whole tree, and those of earlier settings in which own records may stand."""
        found: dict[tuple[str, str, str], Record] = {}
        for name in dict.fromkeys((root, *self.memory.names)):
            yield "ListResourceRecordSets"
            found |= {record.key: record for record in self._ports.dns.tree(name)}
        self.seen = Seen(tuple(found.values()), fresh=True, checks=self.seen.checks)
        self.blind = False
        return None

    def look_at_record(self, key: tuple[str, str, str]) -> Walk:
        """Read one record set. What the tree held besides is not fresh any more."""
        yield "ListResourceRecordSets"
        found = self._ports.dns.record(*key)
        rest = tuple(record for record in self.seen.records if record.key != key)
        self.seen = replace(self.seen, records=rest if found is None else (*rest, found), fresh=False, repair=False)
        return None

    def look_at_check(self, id_: str) -> Walk:
        """Read one health check."""
        yield "GetHealthCheck"
        self.seen = replace(self.seen, checks={**self.seen.checks, id_: self._ports.dns.check(id_)})
        return None

    def carry(self, step: Step, root: str) -> Walk:
        """Do one step.

        Raises:
            SourceUnavailable: Route 53 did not do it, or nobody knows.
        """
        match step:
            case Look():
                return (yield from self.look(root))
            case LookCheck(id_):
                return (yield from self.look_at_check(id_))
            case Remember(memory):
                self.remember(memory)
            case CreateCheck():
                yield from self._create_check(step)
            case Apply():
                return (yield from self._apply(step))
            case AwaitInsync(change):
                return (yield from self._await(change))
            case DeleteCheck(id_):
                return (yield from self._delete_check(id_))
            case Wait(until):
                return max(0.0, until - self._ports.clock.wall())
        return None

    def _create_check(self, step: CreateCheck) -> Walk:
        yield "CreateHealthCheck"
        memo = step.memo
        try:
            check = self._ports.dns.create_check(memo.reference, memo.config)
        except CheckTaken:  # of a check that is no more: a new reference will do
            self.remember(without(self.memory, step.slot))
            self._taken += 1
            if self._taken % _TRIES == 0:
                raise
            return None
        except ChangeRefused as error:
            refused = {**self.memory.refused, config_key(memo.config): str(error)}
            self.remember(replace(without(self.memory, step.slot), refused=refused))
            self._forgive_at = self._ports.clock.monotonic() + _FORGIVE
            return None
        self._taken = 0
        made = CheckMemo(memo.reference, memo.config, check.id)
        self.remember(replace(self.memory, checks={**self.memory.checks, step.slot: made}))
        self.log.done.append(f"health check {check.id} made: {step.slot}")
        return None

    def _apply(self, step: Apply) -> Walk:
        """Send a batch. Before, the memory says that a change is under way whose outcome is not known."""
        before = self.memory
        self.remember(replace(before, change=UNKNOWN_CHANGE, changed_at=self._ports.clock.wall()))
        yield "ChangeResourceRecordSets"
        try:
            change = self._ports.dns.change(step.batch)
        except ChangeRefused as error:
            self.memory = before
            return (yield from self._refused(step, error))
        except (AwsThrottled, AwsDenied):  # it was not done: what was seen is still so
            self.memory = before
            self.remember(before)
            raise
        except SourceUnavailable:
            self.blind = True
            raise
        self._lost = ""
        self._polls = 0
        self._poll_at = self._ports.clock.monotonic() + pace.FIRST_POLL * self._ports.chance.uniform(1.0, 1.2)
        self.seen = replace(self.seen, records=after(self.seen.records, step.batch))
        self.remember(replace(self.memory, change=change, changed_at=self._ports.clock.wall()))
        self.log.done += [f"{step.why}: {line}" for line in describe(step.batch)]
        return None

    def _refused(self, step: Apply, error: ChangeRefused) -> Walk:
        """What was seen is no longer so: look again. The same batch refused so often will never be taken."""
        digest = batch_digest(step.batch)
        again = digest == self._lost
        self._losses = self._losses + 1 if again else 1
        for_good = self._losses >= _TRIES
        memory = self.memory
        if for_good:
            memory = replace(memory, refused={**memory.refused, digest: str(error)})
            self._forgive_at = self._ports.clock.monotonic() + _FORGIVE
        self.remember(memory)
        self.blind = self.blind or not for_good
        if not again:
            for id_ in {c.record.check for c in step.batch if c.action == "CREATE"} - {""}:
                yield from self.look_at_check(id_)
            # Only now: a look that failed has told nothing, and the same batch may be sent to be told.
            self._lost = digest
        return _AGAIN if again and not for_good else None

    def _await(self, change: str) -> Walk:
        now = self._ports.clock.monotonic()
        if now < self._poll_at:
            return self._poll_at - now
        yield "GetChange"
        if self._ports.dns.insync(change):
            self.remember(replace(self.memory, change=""))
            return None
        self._polls += 1
        wait = self._ports.chance.uniform(1.0, pace.poll_most(self._polls))
        self._poll_at = self._ports.clock.monotonic() + wait
        return wait

    def _delete_check(self, id_: str) -> Walk:
        yield "DeleteHealthCheck"
        rest = tuple(old for old in self.memory.old_checks if old != id_)
        given_up = self._in_use[id_] >= _IN_USE - 1
        try:
            self._ports.dns.delete_check(id_)
        except CheckInUse as error:
            self._in_use[id_] += 1
            self.remember(replace(self.memory, old_checks=rest if given_up else (*rest, id_)))
            self.log.problems.append(str(error))
            return None if given_up else pace.LAST_POLL
        self._in_use.pop(id_, None)
        self.remember(replace(self.memory, old_checks=rest))
        self.log.done.append(f"health check {id_} deleted")
        return None
