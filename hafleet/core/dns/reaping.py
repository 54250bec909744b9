"""What dead nodes left behind: whom to suspect, what proves a death, and what may go then.

A leaf is suspect when the own Auto Scaling group, read completely, does not list its node, or lists it as terminating: the hook of
one that died on its way waits for nobody, for an hour by default. Dead is a node of which EC2 says ``terminated``, or, if it is not
listed, which EC2 does not know, twice, some time apart. Not to be known counts only for a node of this region, as the reference of its
check tells: another region's instances are unknown here and well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hafleet.core.dns.checks import Author, Reference, read_reference, region_hash
from hafleet.core.dns.layout import Layout
from hafleet.core.dns.model import Batch, Check, DnsMemory, Record
from hafleet.core.dns.removal import is_leaf, remove
from hafleet.core.model import Group, Held
from hafleet.core.sources import INSTANCE_ID

AT_ONCE = 20  # nodes whose records go in one batch
ORPHAN_AGE = 3600.0  # seconds for which a living node's check must have been seen without a record


@dataclass(frozen=True, slots=True)
class Estate:
    """What a reaper has before it: everything read, and read completely."""

    author: Author  # whose fleet and region
    layout: Layout
    records: tuple[Record, ...]  # the whole tree
    checks: tuple[Check, ...]  # of the fleet
    group: Group | None  # the own group; None when there is none
    lost: frozenset[str] = frozenset()  # ids of checks that were looked for and are no more

    def told(self, check: Check) -> Reference | None:
        """What a check's reference tells."""
        return read_reference(check.reference, self.author.fleet)


@dataclass(frozen=True, slots=True)
class Reaping:
    """The outcome: a batch that takes dead leaves away, and the memory, which knows the checks to delete afterwards."""

    memory: DnsMemory
    batch: Batch = ()
    held: tuple[Held, ...] = ()
    dead: tuple[str, ...] = ()  # nodes that are proven dead
    more: bool = False  # there is more of it than fits into one batch


def questions(estate: Estate) -> frozenset[str]:
    """The instances that EC2 is to be asked about."""
    owners = frozenset(told.node for check in _unused(estate) if (told := estate.told(check)))
    alive = _members(estate) | {estate.author.node}
    return frozenset(leaf.set_id for leaf in suspects(estate)) | {
        node for node in owners - alive if INSTANCE_ID.fullmatch(node)
    }


def suspects(estate: Estate) -> tuple[Record, ...]:
    """Leaves whose nodes the own group does not list as there to stay, this node's never among them.

    An Auto Scaling group may span several leaf groups, one for each zone for example. So beside the own names those
    leaves count whose checks were made in this region, wherever they stand.
    """
    alive = _members(estate) | {estate.author.node}
    names = estate.layout.leaves
    here = {check.id for check in estate.checks if _of_region(estate, check)}
    leaves = (r for r in estate.records if is_leaf(r) and r.set_id not in alive)
    return tuple(r for r in leaves if r.name in names or r.check in here)


def reap(estate: Estate, states: Mapping[str, str], memory: DnsMemory, at: float, confirm: float) -> Reaping:
    """What may go now.

    Args:
        estate: what was read.
        states: EC2's word on the instances of ``questions``; those that it does not know are absent.
        memory: with the suspects of earlier looks.
        at: wall clock.
        confirm: seconds between the first and the second proof of a death.
    """
    asked = questions(estate)
    gone = {node for node in asked if _gone(estate, states, node)}
    since = {node: min(memory.suspects.get(node, at), at) for node in gone}
    dead = {node for node, first in since.items() if node in memory.suspects and at - first >= confirm}
    leaves = [leaf for leaf in suspects(estate) if leaf.set_id in dead]
    nodes = sorted({leaf.set_id for leaf in leaves})
    chosen = frozenset(nodes[:AT_ONCE])
    live = frozenset(i.id for i in estate.group.instances if i.serves) if estate.group else frozenset()
    removal = remove(estate.records, [leaf for leaf in leaves if leaf.set_id in chosen], live, estate.lost)
    orphans, lost = _orphans(estate, memory, dead, at)
    deleted = {c.record.key for c in removal.batch if c.action == "DELETE"}
    kept = {leaf.set_id for leaf in leaves if leaf.key not in deleted}
    kept |= {c.record.set_id for c in removal.batch if c.action == "CREATE"}  # the last of its name is its own witness
    buried = [check for check in estate.checks if (told := estate.told(check)) and told.node in chosen - kept]
    old = sorted({*buried, *lost}, key=lambda check: (check.config.type != "CALCULATED", check.id))
    memory = replace(
        memory,
        suspects=since,
        orphans=orphans,
        old_checks=tuple(dict.fromkeys((*memory.old_checks, *(check.id for check in old)))),
        reaped_at=at,
    )
    return Reaping(memory, removal.batch, removal.held, tuple(sorted(dead)), len(nodes) > AT_ONCE)


def _members(estate: Estate) -> frozenset[str]:
    """Instances that the group lists as anything but on their way out."""
    return frozenset(i.id for i in estate.group.instances if not i.terminates) if estate.group else frozenset()


def _leaving(estate: Estate) -> frozenset[str]:
    """Instances that the group lists on their way out. They may well be at work on it."""
    found = estate.group.instances if estate.group else ()
    return frozenset(i.id for i in found if i.terminates and i.state != "Terminated")


def _gone(estate: Estate, states: Mapping[str, str], node: str) -> bool:
    """EC2's word for a death: terminated; or unknown, of a node that was made in this region and that the group does not list."""
    if node in states or node in _leaving(estate):
        return states.get(node) == "terminated"
    return any(
        _of_region(estate, check) for check in estate.checks if (told := estate.told(check)) and told.node == node
    )


def _of_region(estate: Estate, check: Check) -> bool:
    """True for a check that a node of this region made."""
    told = estate.told(check)
    return told is not None and told.region == region_hash(estate.author.region)


def _unused(estate: Estate) -> tuple[Check, ...]:
    """Checks of the fleet that no record of the tree uses, directly or as the child of a calculated one."""
    used = {record.check for record in estate.records}
    used |= {child for check in estate.checks if check.id in used for child in check.config.children}
    return tuple(check for check in estate.checks if check.id not in used and estate.told(check))


def _orphans(
    estate: Estate, memory: DnsMemory, dead: set[str], at: float
) -> tuple[Mapping[str, float], Sequence[Check]]:
    """Checks without a record: when each was first seen so, and those that may go.

    A dead node's may. A living one's only after long, and if that node has a record with another check: else it may just be about
    to join. What this node remembers is in its own hands.
    """
    remembered = {memo.id for memo in memory.checks.values()} | set(memory.old_checks)
    registered = {record.set_id for record in estate.records if record.check}
    since: dict[str, float] = {}
    lost = []
    for check in _unused(estate):
        if check.id in remembered:
            continue
        told = estate.told(check)
        node = told.node if told else ""
        first = since[check.id] = min(memory.orphans.get(check.id, at), at)
        if node in dead or (node in registered and at - first >= ORPHAN_AGE):
            lost.append(check)
    return since, lost
