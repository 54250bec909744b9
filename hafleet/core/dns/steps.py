"""The step machine of one node's registration: from what is wanted, seen and remembered to ONE next step.

Nothing is carried from one decision to the next but what the memory file and Route 53 hold, so that a crash after any single call
is just another start. The rules stand in order of rank; each finds a step, or leaves it to the next.

    join    check remembered -> made -> record (with the aliases it needs) -> in force
    change  new check -> one batch [DELETE as read, CREATE] -> in force -> old check deleted
    leave   health red long enough -> record gone -> in force -> checks deleted
"""

from collections.abc import Callable
from dataclasses import replace

from hafleet.core.dns.checksteps import adopt, check_of, clean, forget, resolve
from hafleet.core.dns.layout import Blocked
from hafleet.core.dns.model import Batch, DnsMemory, Record, RecordType
from hafleet.core.dns.plan import (
    NOTHING,
    UNKNOWN_CHANGE,
    Apply,
    AwaitInsync,
    Look,
    Move,
    Remember,
    Scene,
    Seen,
    Wait,
    Want,
    batch_digest,
    create,
    first,
    swap,
    unread,
)
from hafleet.core.dns.removal import remove
from hafleet.core.dns.shared import aliases_with, conflict, own_shard, policy, repairs

Rule = Callable[[Scene], Move]


def next_step(scene: Scene) -> Move:
    """The next step of this node's registration; no step when all is as wanted, or when nothing can be done now."""
    return first(rule(scene) for rule in RULES)


# --- names ----------------------------------------------------------------------------------------------------------


def move_in(scene: Scene) -> Move:
    """The memory tells below which names own records may stand: what earlier settings named is looked at, too."""
    names, root = scene.memory.names, scene.want.layout.root
    if names[:1] == (root,):
        return NOTHING
    return Move(Remember(replace(scene.memory, names=(root, *(name for name in names if name != root)))))


def move_out(scene: Scene) -> Move:
    """An earlier name is forgotten when nothing of this node's stands below it any more."""
    want, seen, memory, root = scene.want, scene.seen, scene.memory, scene.want.layout.root
    if len(memory.names) == 1 or memory.change:
        return NOTHING
    if not seen.fresh:
        return Move(Look())
    if any(not f".{record.name}".endswith(f".{root}") for record in seen.own(want.node)):
        return NOTHING
    return Move(Remember(replace(memory, names=(root,))))


# --- records --------------------------------------------------------------------------------------------------------


def join(scene: Scene) -> Move:
    """The own records stand as wanted, unless this node leaves. One that does not serve keeps its record, but makes none."""
    if scene.want.leaving:
        return NOTHING
    return first(_join(scene, type_) for type_ in scene.want.layout.types)


def _join(scene: Scene, type_: RecordType) -> Move:
    want, seen, memory = scene.want, scene.seen, scene.memory
    own = seen.leaf(want, type_)
    if type_ not in want.addresses:
        kind = "IPv6" if type_ == "AAAA" else "public IPv4"
        fix = f"give the instance one, or publish another: the {type_} record is left as it is"
        return Move(blocked=(Blocked(f"this node has no {kind} address", "dns.address", fix),))
    if own is None:
        return _announce(scene, type_)
    check = check_of(want, memory, type_)
    if not isinstance(check, str):
        return Move(blocked=(check,)) if isinstance(check, Blocked) else Move(check)
    leaf, troubles = _beside_others(seen, own, _leaf(want, own.name, type_, check))
    notes = Move(blocked=troubles)
    return (NOTHING if leaf == own else send(memory, swap(own, leaf), "change of the own record")).after(notes)


def _beside_others(seen: Seen, own: Record, leaf: Record) -> tuple[Record, tuple[Blocked, ...]]:
    """The wanted leaf with the TTL and the policy that it must share with those beside it, and what is not as wanted."""
    others = [other for other in seen.at(own.name, own.type) if other.set_id != own.set_id and other.alias is None]
    troubles: tuple[Blocked, ...] = ()
    ttls = [other for other in others if other.ttl != leaf.ttl]
    if ttls:
        troubles += (_ttl(leaf, ttls[0]),)
    policies = [other for other in others if policy(other) != policy(leaf)]
    if policies:
        troubles += (_policy(leaf, policies[0]),)
    if ttls or not seen.fresh:
        leaf = replace(leaf, ttl=own.ttl)
    if policy(leaf) != policy(own) and (policies or not seen.fresh):
        leaf = replace(leaf, weight=own.weight, multivalue=own.multivalue)
    return leaf, troubles


def _announce(scene: Scene, type_: RecordType) -> Move:
    """A record where there is none: in its turn, beside others of its kind, and with a check."""
    want, seen, memory = scene.want, scene.seen, scene.memory
    if not want.serves:
        return NOTHING
    if not seen.fresh:
        return Move(Look())
    trouble = conflict(want, seen, type_)
    shard = own_shard(want, seen)
    if trouble is None and shard is None:
        what = f"all {want.layout.shards} shards of {want.layout.top} are full"
        trouble = Blocked(what, "dns.tree.shards", "raise it on every node: a shard takes 100 nodes")
    if trouble is not None or shard is None:
        return Move(blocked=(trouble,) if trouble else ())
    name = want.layout.leaves[shard]
    leaf = _leaf(want, name, type_, "")
    strange = [other for other in seen.at(name, type_) if other.alias is None and other.ttl != leaf.ttl]
    if strange:
        return Move(blocked=(_ttl(leaf, strange[0]),))
    if scene.at < want.join_at:
        return Move(Wait(want.join_at, "other nodes register first"))
    check = check_of(want, memory, type_)
    if not isinstance(check, str):
        return Move(blocked=(check,)) if isinstance(check, Blocked) else Move(check)
    leaf = replace(leaf, check=check)
    return send(memory, (create(leaf), *aliases_with(want, seen, leaf, shard)), "join")


def _leaf(want: Want, name: str, type_: RecordType, check: str) -> Record:
    return Record(
        name,
        type_,
        want.node,
        ttl=want.ttl,
        values=(want.addresses[type_],),
        weight=None if want.multivalue else want.weight,
        multivalue=want.multivalue,
        check=check,
    )


def _ttl(leaf: Record, other: Record) -> Blocked:
    what = f"the records of {other.name} {other.type} have ttl {other.ttl}, the settings say {leaf.ttl}"
    return Blocked(what, "dns.ttl", "all records of a name share one ttl: give every node the same settings")


def _policy(leaf: Record, other: Record) -> Blocked:
    what = f"the records of {other.name} {other.type} are {policy(other)}, the settings say {policy(leaf)}"
    fix = "all records of a name share one policy: give every node the same settings, then turn all over at once (docs/dns.md)"
    return Blocked(what, "dns.policy", fix)


def leave(scene: Scene) -> Move:
    """The own records go, when Route 53 has had the time to see that this node is red."""
    want, seen, memory, at = scene.want, scene.seen, scene.memory, scene.at
    own = seen.own(want.node)
    if not want.leaving or not own:
        return NOTHING
    if at < want.leave_at:
        return Move(Wait(want.leave_at, "clients move away while the health check turns red"))
    return _take_away(want, seen, memory, own, "leave")


def strays(scene: Scene) -> Move:
    """Own records that earlier settings put elsewhere go once the new ones are in force."""
    want, seen, memory = scene.want, scene.seen, scene.memory
    right = {leaf.key for type_ in want.layout.types if (leaf := seen.leaf(want, type_))}
    types = {key[1] for key in right}
    whole = types == set(want.layout.types)  # another family's record goes when all of the wanted ones stand
    own = tuple(r for r in seen.own(want.node) if r.key not in right and (r.type in types or whole))
    if want.leaving or not own or memory.change:
        return NOTHING
    return _take_away(want, seen, memory, own, "records of earlier settings")


def _take_away(want: Want, seen: Seen, memory: DnsMemory, own: tuple[Record, ...], why: str) -> Move:
    if not seen.fresh:
        return Move(Look())
    removal = remove(seen.records, own, want.live, seen.lost)
    notes = Move(held=removal.held)
    return (send(memory, removal.batch, why) if removal.batch else NOTHING).after(notes)


def share(scene: Scene) -> Move:
    """The aliases above the own group stand as they should."""
    want, seen, memory = scene.want, scene.seen, scene.memory
    if not seen.fresh or not seen.repair:
        return NOTHING
    return first(_share(want, seen, memory, type_) for type_ in want.layout.types)


def _share(want: Want, seen: Seen, memory: DnsMemory, type_: RecordType) -> Move:
    batch = repairs(want, seen, type_)
    if not batch:
        return NOTHING
    trouble = conflict(want, seen, type_)
    return Move(blocked=(trouble,)) if trouble else send(memory, batch, "aliases")


# --- the end of every change ----------------------------------------------------------------------------------------


def insync(scene: Scene) -> Move:
    """A change is over when it is in force everywhere; one of unknown outcome, when it would be by now."""
    want, memory, at = scene.want, scene.memory, scene.at
    if not memory.change:
        return NOTHING
    if memory.change != UNKNOWN_CHANGE:
        return Move(AwaitInsync(memory.change))
    if memory.changed_at > at:  # the clock went back: what is to come has not happened
        return Move(Remember(replace(memory, changed_at=at)))
    until = memory.changed_at + want.settle
    return Move(Wait(until, "a change of unknown outcome") if at < until else Remember(replace(memory, change="")))


def send(memory: DnsMemory, batch: Batch, why: str) -> Move:
    """Send a batch, unless Route 53 has said that it will never take it. What it deletes must have been read."""
    refused = memory.refused.get(batch_digest(batch))
    if refused is not None:
        return Move(
            blocked=(Blocked(refused, why, "put right what Route 53 names; the same is tried again in an hour"),)
        )
    return Move(Look() if unread(batch) else Apply(batch, why))


RULES: tuple[Rule, ...] = (move_in, adopt, leave, resolve, join, strays, move_out, share, insync, forget, clean)
