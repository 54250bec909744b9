"""The steps that health checks need: asked for, found again, replaced, forgotten, deleted. Part of ``steps``."""

from dataclasses import replace

from hafleet.core.dns.checks import fleet_prefix, make_reference, node_label, normal, read_reference, with_children
from hafleet.core.dns.layout import Blocked
from hafleet.core.dns.model import CheckConfig, CheckMemo, DnsMemory, RecordType
from hafleet.core.dns.plan import NOTHING, CreateCheck, DeleteCheck, Look, LookCheck, Move, Remember, Scene, Want


def resolve(scene: Scene) -> Move:
    """A check that was asked for without a word of its id is asked for again: the same reference gives the same check."""
    seen, memory = scene.seen, scene.memory
    for slot, memo in memory.checks.items():
        if not memo.id:
            if refusal_of(memory, memo.config):
                return Move(Remember(without(memory, slot)))
            return Move(CreateCheck(slot, memo))
        if memo.id not in seen.checks:
            continue
        found = seen.checks[memo.id]
        if found is None:  # somebody deleted it
            return Move(Remember(without(memory, slot)))
        if not _same(found.config, memo.config):  # somebody changed it: what it is now, is what will be replaced
            changed = replace(memo, config=found.config)
            return Move(Remember(replace(memory, checks={**memory.checks, slot: changed})))
    return NOTHING


def adopt(scene: Scene) -> Move:
    """A lost memory: the own records tell of their checks, and a calculated check of its children."""
    want, seen, memory = scene.want, scene.seen, scene.memory
    known = {memo.id for memo in memory.checks.values()} | set(memory.old_checks)
    uses = [record.check for record in seen.own(want.node) if record.check]
    uses += [child for memo in memory.checks.values() for child in memo.config.children]
    for id_ in dict.fromkeys(uses):
        if id_ in known:
            continue
        if id_ not in seen.checks:
            return Move(LookCheck(id_))
        found = seen.checks[id_]
        told = read_reference(found.reference, want.author.fleet) if found else None
        if found is None or told is None or told.node != node_label(want.node):
            continue
        if told.slot in memory.checks:
            return Move(Remember(replace(memory, old_checks=(id_, *memory.old_checks))))
        memo = CheckMemo(found.reference, found.config, id_)
        return Move(Remember(replace(memory, checks={**memory.checks, told.slot: memo})))
    return NOTHING


def check_of(want: Want, memory: DnsMemory, type_: RecordType) -> Remember | Blocked | str:
    """What brings the check of this record about; its id once it is there."""
    ids: dict[str, str] = {}
    last = ""
    for wanted in want.checks[type_]:
        config = with_children(wanted, ids)
        memo = memory.checks.get(wanted.slot)
        if refusal := refusal_of(memory, config):
            return Blocked(refusal, "dns.health", "correct dns.health, or look at the account's quota of health checks")
        renamed = memo is not None and not memo.reference.startswith(fleet_prefix(want.author.fleet))
        if memo is None or renamed or not _same(memo.config, config):
            reference = make_reference(want.author, wanted.slot, config, want.nonce)
            old = (memo.id, *memory.old_checks) if memo else memory.old_checks
            checks = {**memory.checks, wanted.slot: CheckMemo(reference, config)}
            return Remember(replace(memory, checks=checks, old_checks=old))
        last = ids[wanted.slot] = memo.id
    return last


def _same(have: CheckConfig, wanted: CheckConfig) -> bool:
    """Settings that name no regions take whatever regions Route 53 chose."""
    if not wanted.regions:
        have = replace(have, regions=())
    return normal(have) == normal(wanted)


def forget(scene: Scene) -> Move:
    """Checks that no wanted record needs are to be deleted."""
    want, seen, memory = scene.want, scene.seen, scene.memory
    if want.leaving:
        unwanted = [] if seen.own(want.node) else list(memory.checks)
    else:
        slots = {check.slot for checks in want.checks.values() for check in checks}
        unaddressed = {type_ for type_ in want.layout.types if type_ not in want.addresses}
        unwanted = [s for s in memory.checks if s not in slots and s.partition("/")[0] not in unaddressed]
    if not unwanted:
        return NOTHING
    old = tuple(memory.checks[slot].id for slot in sorted(unwanted, key=lambda s: (not s.endswith("calculated"), s)))
    kept = {slot: memo for slot, memo in memory.checks.items() if slot not in unwanted}
    return Move(Remember(replace(memory, checks=kept, old_checks=(*old, *memory.old_checks))))


def clean(scene: Scene) -> Move:
    """Delete checks that no record uses, once that is in force: a deleted check's records answer by chance."""
    seen, memory = scene.seen, scene.memory
    if not memory.old_checks or memory.change:
        return NOTHING
    if not seen.fresh:
        return Move(Look())
    used = {record.check for record in seen.records}
    free = [id_ for id_ in memory.old_checks if id_ not in used]
    return Move(DeleteCheck(free[0])) if free else NOTHING


def refusal_of(memory: DnsMemory, config: CheckConfig) -> str:
    """Why Route 53 will never take a check of these settings; "" when it has not said so."""
    return memory.refused.get(config_key(config), "")


def config_key(config: CheckConfig) -> str:
    """The key of a check's settings among what was refused."""
    return f"check {normal(config)!r}"


def without(memory: DnsMemory, slot: str) -> DnsMemory:
    """The memory without one check."""
    return replace(memory, checks={key: memo for key, memo in memory.checks.items() if key != slot})
