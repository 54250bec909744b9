"""The story of the demo: each chapter changes the world and waits until the fleet has followed.

A chapter returns a sentence about what it saw. It raises ``StoryError`` when the fleet did not do what it should; lost requests
are not its business, the demo counts them.
"""

import time

from hafleet.lab import story_dns, story_faults, story_life
from hafleet.lab.stage import SETTLE, Chapter, Stage, StoryError


def scale_out(stage: Stage) -> str:
    """Twice as many servers."""
    stage.lab.scale("shop-blue", 6)
    stage.in_service("shop-blue", 6)
    stage.follow()
    return "6 servers take traffic on every node"


def scale_in(stage: Stage) -> str:
    """Half of them leave: drained before their machines end."""
    stage.lab.scale("shop-blue", 3)
    stage.follow()
    stage.gone("shop-blue", 3)
    return "3 servers left rotation, then their machines ended"


def blue_green(stage: Stage) -> str:
    """Traffic moves from blue to green by weight, in three settings edits."""
    stage.lab.scale("shop-green", 3)
    stage.in_service("shop-green", 3)
    seen = []
    for green in (10, 50, 100):
        stage.restart_clock()
        stage.lab.plan.set_weight("shop", "shop-blue", 100 - green)
        stage.lab.set_weight("shop", "shop-green", green)
        stage.lab.wait_until(lambda green=green: _has_share(stage, green / 100), SETTLE, f"{green} % for green")  # type: ignore[misc]
        stage.follow()
        before = stage.traffic.count()
        time.sleep(0.6)
        groups = stage.traffic.count().since(before).groups
        share = groups.get("shop-green", 0) / max(1, sum(groups.values()))
        if abs(share - green / 100) > 0.1:
            raise StoryError(f"green should get {green} % of the traffic and gets {share:.0%}")
        seen.append(f"{green} % wanted, {share:.0%} seen")
    return "; ".join(seen)


def _has_share(stage: Stage, wanted: float) -> bool:
    """True when the weights in the worker of every node in service give green this share."""
    machines = stage.lab.cloud.machines()
    green = {machine.id for machine in machines if machine.group == "shop-green"}
    coming = {machine.id for machine in machines if machine.lifecycle.startswith("Pending")}
    for node in [node for node in stage.lab.nodes if node.id not in coming]:
        rows = [row for row in node.servers() if row.backend == "shop" and row.in_rotation]
        total = sum(row.weight for row in rows)
        part = sum(row.weight for row in rows if row.name in green)
        if not total or abs(part / total - wanted) > 0.03:
            return False
    return True


def rolling_replace(stage: Stage) -> str:
    """Every green instance is retired and replaced, one after the other; each waits in its hook until the whole fleet has drained it."""
    old = {machine.id for machine in stage.lab.members("shop-green")}
    for number, name in enumerate(sorted(old), start=1):
        stage.say(f"replacing {name} ({number} of {len(old)})")
        stage.restart_clock()
        stage.lab.terminate(name)
        stage.in_service("shop-green", len(old))
        stage.follow()
    stage.gone("shop-green", len(old))
    left = old & {machine.id for machine in stage.lab.members("shop-green", in_service=False)}
    if left:
        raise StoryError(f"still there: {', '.join(sorted(left))}")
    return f"{len(old)} instances replaced"


STORY = (
    Chapter("scale out", scale_out),
    Chapter(
        "node joins",
        story_dns.node_joins,
        meanwhile=(Chapter("scale in", scale_in), Chapter("blue/green weights", blue_green)),
    ),
    Chapter(
        "node replaced through hooks",
        story_life.node_replaced,
        meanwhile=(Chapter("rolling replace", rolling_replace),),
    ),
    Chapter(
        "node drained",
        story_dns.node_drained,
        meanwhile=(
            Chapter("AWS unreachable", story_faults.aws_unreachable),
            Chapter("agent killed", story_faults.agent_killed),
        ),
    ),
    Chapter("node restart", story_dns.node_restart),
    Chapter(
        "zone drained",
        story_life.zone_drained,
        meanwhile=(
            Chapter("template edit", story_faults.template_edit),
            Chapter("broken template", story_faults.broken_template),
            Chapter("partial answer", story_faults.partial_answer),
        ),
    ),
    Chapter("node killed", story_dns.node_killed, may_lose="until its health check notices, clients are sent to it"),
    Chapter("dead node reaped", story_dns.dead_reaped),
    Chapter("spot notice", story_life.spot_notice),
)
