"""Whether this node comes, serves or leaves. Three tables, and what the operator's commands do to them.

Sources claim that the node leaves: its Auto Scaling group, IMDS, EC2's spot notices, its operator, an order for its zone. It leaves while one claim
stands. A source that tells nothing (a failed read, a group that does not list the node) leaves its claim as it was: unknown is
not empty, and absence is no evidence. A new source needs a name, a rule for its own claim, and nothing else.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from hafleet.core.model import Claim, Group, Groups, Held, Memory, Notices, Phase, Unknown

AWS, IMDS, SPOT, REBALANCE, OPERATOR, ZONE = "aws", "imds", "spot", "rebalance", "operator", "zone"  # the sources

Evidence = Literal["ends", "aside", "warm", "comes", "serves", "none"]
Standing = Literal["in", "aside", "out"]  # no claim; a claim that may end; one that does not end by being in service
Signal = Literal["leave", "serve", "wait"]

_TELLERS = {AWS: "Auto Scaling", IMDS: "IMDS"}  # in a claim's reason

# How a lifecycle state begins (LifecycleState of the Auto Scaling API, and autoscaling/target-lifecycle-state of IMDS) -> what it
# says of the node. The first row that fits counts; a state that is in no row says nothing.
LIFECYCLE: tuple[tuple[str, Evidence], ...] = (
    ("Terminat", "ends"),
    ("Warmed:Terminat", "ends"),
    ("EnteringStandby", "aside"),
    ("Standby", "aside"),
    ("Detach", "aside"),
    ("Warmed", "warm"),  # in a warm pool, running or not: out of service, and it may come back
    ("Pending", "comes"),
    ("InService", "serves"),
)

# The claim of the group, or of IMDS: as it stands, and what the state says -> as it stands then. Where there is no row it stays.
CLAIMS: Mapping[tuple[Standing, Evidence], Standing] = {
    ("in", "ends"): "out",
    ("in", "aside"): "aside",
    ("in", "warm"): "aside",
    ("aside", "ends"): "out",
    ("aside", "comes"): "in",
    ("aside", "serves"): "in",
    # A terminating instance that is listed as in service is a late answer; one that a warm pool took back starts anew.
    ("out", "warm"): "aside",
    ("out", "comes"): "in",
}

# A node that came back from leaving is announced like one that joins.
PHASES: Mapping[tuple[Phase, Signal], Phase] = {
    ("joining", "wait"): "joining",
    ("joining", "serve"): "serving",
    ("joining", "leave"): "leaving",
    ("serving", "wait"): "serving",
    ("serving", "serve"): "serving",
    ("serving", "leave"): "leaving",
    ("leaving", "wait"): "joining",
    ("leaving", "serve"): "joining",
    ("leaving", "leave"): "leaving",
}


def evidence(state: str) -> Evidence:
    """What a lifecycle state says of the node."""
    return next((said for start, said in LIFECYCLE if state.startswith(start)), "none")


def standing(claim: Claim | None) -> Standing:
    """How a claim stands."""
    return "in" if claim is None else "out" if claim.final else "aside"


def heard(leaving: Mapping[str, Claim], state: str, at: float, source: str = AWS) -> Mapping[str, Claim]:
    """The claims after a source told this state of the node. ``at`` is wall clock seconds."""
    before = leaving.get(source)
    now = standing(before)
    after = CLAIMS.get((now, evidence(state)), now)
    if after == now:
        return leaving
    if after == "in":
        return _without(leaving, source)
    since = before.since if before else at
    return {**leaving, source: Claim(f"{_TELLERS[source]} says {state}", since, final=after == "out")}


def noticed(
    leaving: Mapping[str, Claim], notices: Notices | Unknown, at: float, *, rebalance: bool
) -> Mapping[str, Claim]:
    """The claims after what IMDS announces. Silence changes nothing.

    A spot instance that is stopped or hibernated may come back under its id, and then its notice is gone: only ``terminate`` is
    for good.

    Args:
        leaving: the claims so far.
        notices: what IMDS tells.
        at: wall clock seconds.
        rebalance: a recommendation to move is followed.
    """
    if isinstance(notices, Unknown):
        return leaving
    leaving = heard(leaving, notices.target, at, IMDS)
    spot = notices.spot
    reason = f"EC2 takes this spot instance back: {spot.action}" if spot else ""
    leaving = _claimed(leaving, SPOT, Claim(reason, at, final=spot.action == "terminate") if spot else None)
    told = Claim("EC2 recommends to move this spot instance", at) if rebalance and notices.rebalance else None
    return _claimed(leaving, REBALANCE, told)


def vouched(before: Mapping[str, Claim], now: Mapping[str, Claim]) -> Mapping[str, Claim]:
    """The claims in a pass in which IMDS is silent: when the group takes its claim back, the same one of IMDS is over, too.

    Args:
        before: the claims of the last pass.
        now: those after what the group tells.
    """
    imds = now.get(IMDS)
    if AWS not in before or AWS in now or imds is None or imds.final:
        return now
    return _without(now, IMDS)


def timed(leaving: Mapping[str, Claim], at: float) -> Mapping[str, Claim]:
    """The claims, none of them made in the future: a clock that went back would else put off what comes after them."""
    if all(claim.since <= at for claim in leaving.values()):
        return leaving
    return {source: replace(claim, since=min(claim.since, at)) for source, claim in leaving.items()}


def kept_out(leaving: Mapping[str, Claim]) -> str:
    """Why people alone keep this node out of service; "" when they do not, or others claim it too."""
    if not leaving or leaving.keys() - {OPERATOR, ZONE}:
        return ""
    return "; ".join(claim.reason for _, claim in sorted(leaving.items()))


def zoned(leaving: Mapping[str, Claim], reason: str, at: float) -> Mapping[str, Claim]:
    """The claims after what the fleet's orders say of this node's zone; no reason: nothing."""
    return _claimed(leaving, ZONE, Claim(reason, at) if reason else None)


def _claimed(leaving: Mapping[str, Claim], source: str, claim: Claim | None) -> Mapping[str, Claim]:
    """The claims with this source's word; one that stands keeps its time, and a final one stays."""
    before = leaving.get(source)
    if claim is None:
        return leaving if before is None or before.final else _without(leaving, source)
    return {**leaving, source: replace(claim, since=before.since) if before else claim}


def _without(leaving: Mapping[str, Claim], source: str) -> Mapping[str, Claim]:
    return {other: claim for other, claim in leaving.items() if other != source}


def step(memory: Memory, *, serves: bool) -> Phase:
    """The phase after this one. ``serves``: HAProxy may be announced."""
    signal: Signal = "leave" if memory.leaving else "serve" if serves else "wait"
    return PHASES[memory.phase, signal]


def drained(memory: Memory, reason: str, at: float) -> Memory:
    """The memory after the operator's ``drain``; a drain that stands keeps its time."""
    before = memory.leaving.get(OPERATOR)
    claim = Claim(reason, before.since if before else at)
    return replace(memory, phase="leaving", leaving={**memory.leaving, OPERATOR: claim})


def readied(memory: Memory) -> Memory:
    """The memory after the operator's ``ready``. The claims of others stand."""
    left = _without(memory.leaving, OPERATOR)
    return replace(memory, leaving=left, phase=PHASES[memory.phase, "leave" if left else "wait"])


def obeyed(memory: Memory, kept: Memory) -> Memory:
    """A memory that the disk refused, with what the operator's commands have written to the disk since."""
    claim = kept.leaving.get(OPERATOR)
    others = _without(memory.leaving, OPERATOR)
    return replace(memory, frozen=kept.frozen, leaving={**others, OPERATOR: claim} if claim else others)


def last_node(node_id: str, group: Group | Unknown | None) -> Held | None:
    """Holds the drain of a node while no other node of its group is in service. What is not known holds nothing.

    Args:
        node_id: this node.
        group: its own group; None when it is in none.
    """
    if group is None or isinstance(group, Unknown):
        return None
    if any(instance.serves for instance in group.instances if instance.id != node_id):
        return None
    return Held("last_node", node_id, f"no other instance of {group.name} is in service: nobody would be left in DNS")


def own_group(name: str, groups: Groups | Unknown) -> Group | Unknown | None:
    """The node's own group in a read; None when it is in none ("")."""
    if not name:
        return None
    if isinstance(groups, Unknown):
        return groups
    return groups.by_name.get(name) or Unknown(f"AWS knows no group {name}")
