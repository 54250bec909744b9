"""The drop guard: what a membership read may change (DESIGN section 7). Rules filter a proposal; what they keep back is data.

A removal comes here only when nothing proves that the server must go: the read is complete and merely does not list it.
Each rule is a function of ``RULES``, in this order; a test leaves one out to see that the others do not cover for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import floor

from hafleet.core.model import Group, Held
from hafleet.core.settings import Safety
from hafleet.core.sources import INSTANCE_ID

_NAMED = 5  # names that a reason spells out


@dataclass(frozen=True, slots=True)
class Absence:
    """A server that the last ``reads`` complete reads did not list, first at wall clock ``since``. Nothing proves why."""

    name: str
    group: str  # the group it came from; "" when not known
    reads: int
    since: float


@dataclass(frozen=True, slots=True)
class Case:
    """What the rules look at: one backend (or the peers) in one pass."""

    subject: str  # backend name, or "peers"
    at: float  # wall clock
    safety: Safety
    groups: tuple[Group, ...]  # the groups it is fed from, as read
    absent: tuple[str, ...]  # sources that found no group
    last: int | None = None  # servers after the last pass; None when it was never read before
    rotation: int = 0  # of those, the ones that did not drain
    missing: int = 0  # of those in rotation, the absent ones, confirmed or not
    serving: int = 1  # servers in service that take traffic now
    zero: bool = False  # every source group wants no instance at all


@dataclass(frozen=True, slots=True)
class Proposal:
    """Servers to add, by name, and absent servers to drain, the longest missing first."""

    adds: tuple[str, ...] = ()
    removals: tuple[Absence, ...] = ()


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is left of a proposal, what is held, and by server name which of it."""

    proposal: Proposal
    held: tuple[Held, ...] = ()
    reasons: Mapping[str, Held] = field(default_factory=dict)


Rule = Callable[[Case, Proposal], Ruling]


def judge(case: Case, proposal: Proposal, rules: Sequence[Rule]) -> Ruling:
    """Let every rule filter what the ones before it left."""
    held: tuple[Held, ...] = ()
    reasons: dict[str, Held] = {}
    for rule in rules:
        ruling = rule(case, proposal)
        proposal = ruling.proposal
        held += ruling.held
        reasons |= ruling.reasons
    return Ruling(proposal, held, reasons)


def ceiling(case: Case, proposal: Proposal) -> Ruling:
    """A membership many times the last one, or many times what its groups want, is not believed: no server is added.

    Ten servers may always become nearly a hundred, so that a small backend can grow, and an empty backend, which answers 503
    anyway, may become whatever its groups want; a group that lists many times what it
    wants contradicts itself, however small it is.
    """
    if case.last is None or not proposal.adds:
        return Ruling(proposal)
    times = case.safety.ceiling
    wanted = case.last + len(proposal.adds)
    beyond = [group for group in case.groups if listed(group) >= times * max(group.desired, 1)]
    if case.last and wanted >= times * max(case.last, 10):
        why = f"{wanted} servers where {case.last} were: {times:g} times or more"
    elif beyond:
        why = ", ".join(f"group {group.name} lists {listed(group)} where it wants {group.desired}" for group in beyond)
    else:
        return Ruling(proposal)
    held = Held("ceiling", case.subject, f"{why}; {len(proposal.adds)} not added")
    return Ruling(replace(proposal, adds=()), (held,), dict.fromkeys(proposal.adds, held))


def confirm_reads(case: Case, proposal: Proposal) -> Ruling:
    """One read proves nothing: a server must be missing from several in a row, and not all of them within a moment.

    Wake-ups can put two passes 0.1 s apart, and both can meet the same lagging copy behind the API.
    """
    need, span = case.safety.confirm_reads, case.safety.confirm_time
    early = tuple(a for a in proposal.removals if a.reads < need or (need > 1 and case.at - a.since < span))
    what = f"missing without evidence, in fewer than {need} reads or for less than {span:g} s"
    return _hold(case, proposal, early, "confirm_reads", what)


def group_missing(case: Case, proposal: Proposal) -> Ruling:
    """A group that AWS no longer knows takes nobody with it: renamed, deleted by mistake, or the wrong account."""
    found = {group.name for group in case.groups}
    kept = tuple(a for a in proposal.removals if case.absent and a.group not in found)
    what = (
        f"AWS knows no group {', '.join(case.absent)}; correct the settings, or let them go with `hafleet once --force`"
    )
    return _hold(case, proposal, kept, "group_missing", what)


def empty(case: Case, proposal: Proposal) -> Ruling:
    """A group that wants instances and lists none is a bad answer, not an empty group."""
    bad = {group.name: group for group in case.groups if group.desired > 0 and not group.instances}
    kept = tuple(a for a in proposal.removals if a.group in bad or (not a.group and bad))
    what = f"group {', '.join(bad)} lists no instance but wants {sum(g.desired for g in bad.values())}"
    return _hold(case, proposal, kept, "empty", what)


def half_answer(case: Case, proposal: Proposal) -> Ruling:
    """A group that lists less than it wants may be half an answer: wait, though not for ever.

    An item without a readable id counts as not listed, for it may be any of the missing ones.
    """
    if not proposal.removals:
        return Ruling(proposal)
    short = {group.name: group for group in case.groups if group.instances and listed(group) < group.desired}
    kept = tuple(
        a
        for a in proposal.removals
        if (a.group in short or (not a.group and short)) and case.at - a.since < case.safety.hold_max
    )
    counts = ", ".join(f"group {g.name} lists {listed(g)} of {g.desired} it wants" for g in short.values())
    return _hold(case, proposal, kept, "half_answer", f"{counts}; held for {case.safety.hold_max:g} s at most")


def max_removal(case: Case, proposal: Proposal) -> Ruling:
    """Only a small part of a backend goes per pass, so that a wrong answer is seen before it is obeyed."""
    most = max(1, floor(case.safety.max_removal * case.rotation))
    what = f"at most {most} of {case.rotation} servers leave per pass without evidence"
    return _hold(case, proposal, proposal.removals[most:], "max_removal", what)


def last_server(case: Case, proposal: Proposal) -> Ruling:
    """The last server that may take traffic stays, unless every group wants zero."""
    if case.zero or case.serving > 0 or len(proposal.removals) < case.missing:
        return Ruling(proposal)
    what = "the last server in rotation stays until another takes traffic"
    return _hold(case, proposal, proposal.removals[-1:], "last_server", what)


RULES: tuple[Rule, ...] = (ceiling, confirm_reads, group_missing, empty, half_answer, max_removal, last_server)
FORCED: tuple[Rule, ...] = (last_server,)  # what even an operator's --force does not release
PEER_RULES: tuple[Rule, ...] = (confirm_reads, empty, half_answer)


def listed(group: Group) -> int:
    """Capacity that a group lists under readable ids, in the units of its DesiredCapacity, less what terminates."""
    return sum(
        max(1, instance.capacity)
        for instance in group.instances
        if not instance.terminates and INSTANCE_ID.fullmatch(instance.id)
    )


def _hold(case: Case, proposal: Proposal, kept: Sequence[Absence], rule: str, what: str) -> Ruling:
    """Take ``kept`` out of the removals and say so once."""
    if not kept:
        return Ruling(proposal)
    names = [absence.name for absence in kept]
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    held = Held(rule, case.subject, f"{what}: {shown}")
    taken = frozenset(names)
    left = tuple(a for a in proposal.removals if a.name not in taken)
    return Ruling(replace(proposal, removals=left), (held,), dict.fromkeys(names, held))
