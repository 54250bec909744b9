"""Why an instance is, or is not, in rotation: the lines of ``hafleet explain``."""

from collections.abc import Iterator

from hafleet.core.membership import Decision
from hafleet.core.model import Desired, Member, Unknown, World


def explain(decision: Decision, world: World, instance: str) -> tuple[str, ...]:
    """Everything the last pass knows of one instance (id, server name, or address of a static server), most telling first.

    Empty when nothing is known of it.
    """
    lines = [
        *_in_backends(decision, world, instance),
        *_in_groups(world, instance),
        *_in_memory(decision, world, instance),
    ]
    if lines and isinstance(world.groups, Unknown):
        lines.append(f"AWS could not be read ({world.groups.reason}): members stay as they were")
    return tuple(lines)


def _in_backends(decision: Decision, world: World, instance: str) -> Iterator[str]:
    """One line for each server it has, and one for each verdict on it."""
    members = decision.desired.members if isinstance(decision.desired, Desired) else decision.memory.members
    for backend, found in sorted(members.items()):
        for member in found:
            if instance in {member.instance, member.name}:
                yield _as_server(backend, member)
                yield _as_running(world, backend, member)
    for verdict in decision.verdicts:
        if verdict.instance == instance:
            yield f"{verdict.backend}: {verdict.outcome}: {verdict.reason}"


def _as_server(backend: str, member: Member) -> str:
    state = (
        "draining, no new sessions" if member.draining or member.order else f"in rotation with weight {member.weight}"
    )
    origin = f"group {member.group}" if member.group else "the settings or the installed file"
    return f"{backend}/{member.name}: {state}, {member.address} port {member.port}, from {origin}"


def _as_running(world: World, backend: str, member: Member) -> str:
    where = f"{backend}/{member.name}"
    if isinstance(world.worker, Unknown):
        return f"{where}: HAProxy could not be asked: {world.worker.reason}"
    server = world.worker.servers.get((backend, member.name))
    if server is None:
        return f"{where}: HAProxy does not have it yet"
    state = (
        "in maintenance" if server.maint else "draining" if server.drain else "up" if server.up else "down by its check"
    )
    return f"{where}: HAProxy has it {state}, weight {server.weight}, {server.sessions} sessions"


def _in_groups(world: World, instance: str) -> Iterator[str]:
    groups = {} if isinstance(world.groups, Unknown) else world.groups.by_name
    for name, group in sorted(groups.items()):
        for item in (i for i in group.instances if i.id == instance):
            address = f"address {item.address}" if item.address else "no address"
            yield f"group {name} lists it as {item.state or 'nothing'}, {address}, zone {item.zone or 'not known'}"


def _in_memory(decision: Decision, world: World, instance: str) -> Iterator[str]:
    gone = decision.memory.gone.get(instance)
    if gone is not None:
        yield f"it was seen to terminate {world.at - gone:.0f} s ago, and does not come back"
    for key, missing in sorted(decision.memory.missing.items()):
        name = key.rpartition("/")[2]
        if name == instance or name.startswith(f"{instance}-"):
            yield f"{key}: missing from {missing.reads} reads in a row, for {world.at - missing.since:.0f} s"
