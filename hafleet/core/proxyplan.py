"""From the text that is installed, the stamp that is loaded and the servers that run, to what is wanted: the plan for HAProxy.

Two kinds of difference. What runtime commands can change is read off the *running* servers and maps, so a crash, a lost command
or a hand on the socket is mended by the next pass. What they cannot change is read off the structure, and costs a reload.

Order within the commands is make before break: servers are added before weights move, and weights move before any leave.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address

from hafleet.core import mapplan
from hafleet.core.cfgtext import ConfigText, ServerLine, parse
from hafleet.core.command import Command
from hafleet.core.features import Features
from hafleet.core.model import Installed, Rendered, RunningServer, Silent, Unknown, Worker
from hafleet.core.serverstate import UNFINISHED

__all__ = ["MAP_NAMES", "NOTHING", "Command", "ProxyPlan", "parse", "plan"]

MAP_NAMES: tuple[str, ...] = ()  # observe with these: every map that the worker has loaded

Key = tuple[str, str]  # (backend, server name)

_MANY_ADDS = 2000  # `add server` costs time in proportion to the backend's size; past this a reload is the cheaper way
_SILENT_PASSES = 3  # passes in a row without an answer before a reload is tried: a busy host is no fault
_REMOVAL_WAIT = "1s"  # how long one pass waits for a server without connections; one that keeps some stays parked


@dataclass(frozen=True, slots=True)
class ProxyPlan:
    """What is to be done to HAProxy. Empty when nothing is."""

    commands: tuple[Command, ...] = ()  # for the running worker, in order
    write: bool = False  # the files on disk differ from the wanted ones
    reload: tuple[str, ...] = ()  # why a reload is due; empty when none is
    parked: tuple[Key, ...] = ()  # removed servers that stay in maint until they can be deleted
    removed: tuple[Key, ...] = ()  # servers that leave rotation by this plan
    held_write: bool = False  # the reload is held: the files must wait with it

    @property
    def empty(self) -> bool:
        """True when there is nothing to do."""
        return not (self.commands or self.reload or (self.write and not self.held_write))

    @property
    def removes(self) -> bool:
        """True when servers leave rotation by this plan."""
        return bool(self.removed)

    def without_reload(self) -> "ProxyPlan":
        """The part that may go on while the reload is held: the runtime commands. The files wait, for they did not load."""
        return replace(self, reload=(), held_write=self.write)

    def lines(self) -> tuple[str, ...]:
        """The plan for a reader, one step per line."""
        files = (
            () if not self.write else ("files: held back with the reload",) if self.held_write else ("files: write",)
        )
        return (
            *(f"runtime: {command.text}" for command in self.commands),
            *files,
            *(f"reload: {reason}" for reason in self.reload),
            *(f"parked: {backend}/{name}" for backend, name in self.parked),
        )


NOTHING = ProxyPlan()


def plan(installed: Installed, wanted: Rendered, worker: Worker | Unknown, features: Features) -> ProxyPlan:
    """The steps from what is to what is wanted.

    Args:
        installed: the files on disk.
        wanted: the files as they should be.
        worker: the running worker; while it is unknown only the files can be brought forward.
        features: what its version can do.
    """
    write = installed.text != wanted.text or any(installed.maps.get(n) != c for n, c in wanted.maps.items())
    if isinstance(worker, Silent):
        return _past_silence(worker, write=write)
    if isinstance(worker, Unknown):
        return ProxyPlan(write=write)
    new = parse(wanted.text)
    found = parse(installed.text) if installed.text is not None else None
    # The disk says what runs only where it is of the structure that the worker shows.
    old = found if found is not None and found.structure == worker.stamp else None
    servers = _Servers(old, new, worker, features)
    maps = _map_commands(installed, wanted, worker, servers)
    commands = tuple(command for group in (servers.commands(), *maps.values()) for command in group or ())
    reasons = (*_structure_reasons(found, new, worker), *servers.reasons)
    reasons += tuple(f"an entry of {name} cannot go on a command line" for name, group in maps.items() if group is None)
    if any(len(command.text) > features.line_bytes for command in commands):
        commands = ()
        reasons += ("a runtime command would be longer than HAProxy takes",)
    return ProxyPlan(
        commands=commands,
        write=write,
        reload=reasons,
        parked=() if reasons or servers.delete else (*servers.parked, *servers.remove),
        removed=tuple(servers.remove),
    )


def _past_silence(silent: Silent, *, write: bool) -> ProxyPlan:
    """A worker that hangs is replaced; one whose socket alone is broken gets its changes by reload. Until then files wait."""
    if silent.passes < _SILENT_PASSES or not (silent.hangs or write):
        return ProxyPlan(write=write, held_write=write)
    what = "the worker hangs" if silent.hangs else "the runtime socket does not answer, so changes go by reload"
    return ProxyPlan(write=write, reload=(f"{what} ({silent.passes} passes)",))


def _structure_reasons(found: ConfigText | None, new: ConfigText, worker: Worker) -> tuple[str, ...]:
    if found is not None and found.stamp != found.structure:
        # Somebody may have loaded it: then the worker shows a stamp that is not its own. It stands in an edited file, and
        # before 3.2 the master hands its environment, with the last good stamp, to whatever it loads.
        return ("the installed file is not as hafleet wrote it",)
    if new.structure == worker.stamp:
        return ()
    if not worker.stamp:
        return ("the running configuration is not known to be hafleet's",)
    if worker.stamp == UNFINISHED:
        return ("an earlier reload was broken off",)
    if found is None or found.structure != worker.stamp:
        return ("the running structure is neither the installed nor the wanted one",)
    return ("the structure changed",)


class _Servers:
    """The differences between running and wanted servers, sorted into what to do about them."""

    def __init__(self, old: ConfigText | None, new: ConfigText, worker: Worker, features: Features) -> None:
        self.new = new
        self.features = features
        self.lines: Mapping[Key, ServerLine] = old.servers if old else {}
        self.same = new.structure == worker.stamp
        self.running = worker.servers
        loaded = {backend for backend, _ in worker.servers} | (old.backends if old else frozenset())
        self.loaded = new.backends if self.same else loaded
        self.reasons: list[str] = []
        self.add: list[ServerLine] = []
        self.enable: list[ServerLine] = []
        self.ready: list[ServerLine] = []
        self.checks: list[ServerLine] = []
        self.weight: list[ServerLine] = []
        self.remove: list[Key] = []
        self.parked: list[Key] = []
        self.compare()

    def compare(self) -> None:
        """Look at every wanted and every running server once."""
        running = self.running
        for key, line in self.new.servers.items():
            server = running.get(key)
            if server is None:
                if line.backend in self.loaded:
                    self.add.append(line)
            elif self.fits(line, server):
                self.alter(line, server)
        if len(running) > len(self.new.servers) or running.keys() - self.new.servers.keys():
            for key, server in running.items():
                if key not in self.new.servers and self.is_ours(key):
                    (self.parked if server.maint else self.remove).append(key)
        self.count_adds()
        self.delete = (*self.remove, *self.parked) if self.features.safe_del else ()

    def is_ours(self, key: Key) -> bool:
        """A server that a text of ours had as a runtime server, or that somebody added at run time to a backend of such."""
        backend = key[0]
        return key in self.lines or (
            self.same
            and backend in self.new.options
            and key not in self.new.fixed
            and (backend, "") not in self.new.fixed
        )

    def fits(self, line: ServerLine, server: RunningServer) -> bool:
        """True when the running server is the wanted one, weight and state aside; else the reason for a reload is noted."""
        name = f"{line.backend}/{line.name}"
        if (server.address != line.address or server.port != line.port) and not _same_address(server, line):
            self.reasons.append(f"{name} moved from {server.address}:{server.port} to {line.address}:{line.port}")
            return False
        if server.id != line.id:
            self.reasons.append(f"the id of {name} changed from {server.id} to {line.id}")
            return False
        return True

    def alter(self, line: ServerLine, server: RunningServer) -> None:
        """Weight and state of a running server that is wanted. What depends on its options is left alone if they differ."""
        if server.weight != line.weight:
            self.weight.append(line)
        if self.has_other_options(line):
            return
        if server.maint:
            self.enable.append(line)
        elif server.drain:
            self.ready.append(line)
        elif not server.checked and line.checked:
            self.checks.append(line)

    def has_other_options(self, line: ServerLine) -> bool:
        """True when the running server may have other options than the wanted one. No runtime command tells or alters them."""
        name = f"{line.backend}/{line.name}"
        before = self.lines.get((line.backend, line.name))
        if before is None:  # it was added at run time, and the file that says so was never put in place
            unknown = not self.same or len(self.new.options[line.backend]) > 1
            if unknown and self.same:
                self.reasons.append(f"{name} runs with options that no installed file tells")
            return unknown
        if before.options != line.options and self.same:
            self.reasons.append(f"the options of {name} changed")
        return before.options != line.options

    def count_adds(self) -> None:
        """Leave to a reload what `add server` cannot do, or not in good time."""
        counts: dict[str, int] = {}
        for line in self.add:
            counts[line.backend] = counts.get(line.backend, 0) + 1
        slow = {backend for backend, count in counts.items() if count > _MANY_ADDS}
        cookies = set()
        if not self.features.add_cookie:
            cookies = {line.backend for line in self.add if "cookie" in line.options.split(" ")} - slow
        self.reasons += [f"{counts[b]} servers to add to {b}: a reload is quicker" for b in sorted(slow)]
        version = ".".join(map(str, self.features.version[:2]))
        self.reasons += [f"HAProxy {version} cannot add a server with a cookie to {b}" for b in sorted(cookies)]
        self.add = [line for line in self.add if line.backend not in slow | cookies]

    def commands(self) -> tuple[Command, ...]:
        """The runtime commands, in order: add, put back, check, weigh, remove, delete."""
        found: list[Command] = []
        for line in self.add:
            found.append(Command(_add(line), "add"))
            found.append(_enable(line))
        found += [_enable(line) for line in self.enable]
        found += [Command(f"set server {line.backend}/{line.name} state ready", "set") for line in self.ready]
        found += [Command(f"enable health {line.backend}/{line.name}", "set") for line in self.checks]
        # Weights go up before any goes down: a backend whose weights are all 0, if only for a moment, answers 503.
        weights = sorted(self.weight, key=lambda line: line.weight <= self.running[line.backend, line.name].weight)
        found += [Command(f"set server {line.backend}/{line.name} weight {line.weight}", "set") for line in weights]
        for backend, name in self.remove:
            found.append(Command(f"set server {backend}/{name} state maint", "remove"))
            found.append(Command(f"shutdown sessions server {backend}/{name}", "remove"))
        for backend, name in self.delete:
            found.append(Command(f"wait {_REMOVAL_WAIT} srv-removable {backend}/{name}", "wait"))
            found.append(Command(f"del server {backend}/{name}", "del"))
        return tuple(found)


def _add(line: ServerLine) -> str:
    address = f"[{line.address}]" if ":" in line.address else line.address
    text = f"add server {line.backend}/{line.name} {address}:{line.port} id {line.id} weight {line.weight}"
    return f"{text} {line.command_options}".rstrip()


def _enable(line: ServerLine) -> Command:
    """Put a server into rotation. One that has a check starts as down, so that no request meets it before it answered."""
    server = f"{line.backend}/{line.name}"
    if not line.checked:
        return Command(f"set server {server} state ready", "set")
    # One line: between the second and the third command the server would count as up.
    return Command(f"enable health {server}; set server {server} state ready; set server {server} health down", "set")


def _same_address(server: RunningServer, line: ServerLine) -> bool:
    """Compare as addresses, for an IPv6 address has more than one spelling."""
    if server.port != line.port or ":" not in line.address or ":" not in server.address:
        return False
    try:
        return ip_address(server.address) == ip_address(line.address)
    except ValueError:
        return False


def _map_commands(
    installed: Installed, wanted: Rendered, worker: Worker, servers: _Servers
) -> dict[str, tuple[Command, ...] | None]:
    """Commands for every map that the worker has with other content, by name; None for one that takes a reload.

    A map that names backends which are not loaded yet is left to the reload that brings them.
    """
    found: dict[str, tuple[Command, ...] | None] = {}
    paths = servers.new.maps
    for name, content in sorted(wanted.maps.items()):
        stamp = mapplan.stamp(content)
        runs = worker.map_stamps.get(name)
        if runs is None or not stamp or runs == stamp or name not in paths:
            continue
        if not servers.same and not set(mapplan.entries(content).values()) <= servers.loaded | {stamp}:
            continue
        base = installed.maps.get(name)
        known = base if base is not None and mapplan.stamp(base) == runs else None
        found[name] = mapplan.commands(paths[name], known, content)
    return found
