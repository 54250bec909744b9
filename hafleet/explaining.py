"""``hafleet explain``: why an instance is or is not in rotation, and who of the fleet has drained one that ends."""

from collections.abc import Iterator

from hafleet.adapters.node_tags import Ec2NodeTags
from hafleet.compose import Parts
from hafleet.core import endings
from hafleet.core import explain as explaining
from hafleet.core.endings import DRAINED, Ending, EndingSituation
from hafleet.errors import HafleetError


def explain(parts: Parts, instance: str) -> tuple[str, ...]:
    """Everything that is known of one instance (id, server name, or address of a static server); empty when nothing is.

    Raises:
        LockHeld: a pass has been running for too long.
    """
    made = parts.plan()
    lines = explaining.explain(made.decision, made.world, instance)
    told = endings.situation(parts.settings, made.world, made.decision)
    ending = next((e for e in told.endings if e.instance == instance), None) if told else None
    return (*lines, *_of_the_fleet(parts, told, ending)) if told and ending else lines


def _of_the_fleet(parts: Parts, told: EndingSituation, ending: Ending) -> Iterator[str]:
    """Who has drained it, who has not, and who completes its hook then. The others' tags are read now."""
    what = f"hook {', '.join(ending.hooks)} of {ending.group}"
    if not told.nodes:
        yield f"{what}: this node's own group is not known, so nobody speaks"
        return
    try:
        tags = Ec2NodeTags(parts.account).tags(frozenset(told.others), DRAINED) if told.others else {}
    except HafleetError as error:
        yield f"{what}: which nodes have drained it is not known: {error}"
        return
    lacking = set(endings.missing(ending.instance, told.others, tags))
    if told.node.id in told.nodes and not ending.drained:
        lacking.add(told.node.id)
    have = [node for node in told.nodes if node not in lacking]
    yield f"{what}: drained by {', '.join(have) or 'nobody yet'}"
    yield f"{what}: waits for {', '.join(sorted(lacking)) or told.nodes[0]}; {told.nodes[0]} completes it"
