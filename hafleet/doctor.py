"""``hafleet doctor``: what is missing on this node. Each check tries the real thing and says what to do."""

import os
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hafleet import checking, compose
from hafleet.core import membership, proxyplan
from hafleet.core.features import features
from hafleet.core.model import Node
from hafleet.errors import HafleetError
from hafleet.show import short

State = Literal["ok", "warn", "fail", "hint"]  # hint: something that cannot be tried from here
_OPEN_FILES = 4096  # below this HAProxy's default maxconn is small


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    state: State
    about: str
    what: str
    fix: str = ""


def examine(path: Path) -> tuple[Finding, ...]:
    """All findings, in the order in which a new node is set up."""
    problems = checking.check(path)
    found = [Finding("fail" if p.fatal else "warn", "settings", f"{p.where}: {p.what}", p.fix) for p in problems]
    if any(problem.fatal for problem in problems):
        return tuple(found)
    parts = compose.build(path)
    found.append(Finding("ok", "settings", str(path)))
    for look in (_binary, _folders, _sockets, _aws, _limits):
        found += look(parts)
    return tuple(found)


def _tried(about: str, act: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", about, act())
    except HafleetError as error:
        return Finding("fail", about, f"{error.where}: {error.what}" if error.where else error.what, error.fix)


def _binary(parts: compose.Parts) -> Iterator[Finding]:
    haproxy = parts.settings.haproxy
    if shutil.which(haproxy.binary) is None:
        yield Finding("fail", "haproxy", f"{haproxy.binary} is not on this host", "apt-get install haproxy")
        return

    def version() -> str:
        found = parts.proxy.version()
        safe = (
            "removes servers at runtime" if features(found).safe_del else "parks removed servers until the next reload"
        )
        return f"{haproxy.binary} {'.'.join(map(str, found))}: {safe}"

    yield _tried("haproxy", version)


def _folders(parts: compose.Parts) -> Iterator[Finding]:
    haproxy = parts.settings.haproxy
    wanted = {
        "config folder": Path(haproxy.config).parent,
        "maps folder": Path(haproxy.maps_dir),
        "server-state folder": Path(haproxy.server_state).parent,
        "state folder": Path(parts.settings.state_dir),
    }
    for about, folder in wanted.items():
        if not folder.is_dir():
            yield Finding("fail", about, f"{folder} does not exist", f"install -d -o hafleet -g haproxy {folder}")
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield Finding(
                "fail", about, f"{folder} cannot be written by uid {os.getuid()}", "give it to the agent's user"
            )
        else:
            free = shutil.disk_usage(folder).free // 2**20
            yield Finding(
                "ok" if free > 50 else "warn", about, f"{folder}, {free} MiB free", "" if free > 50 else "make room"
            )


def _sockets(parts: compose.Parts) -> Iterator[Finding]:
    haproxy = parts.settings.haproxy
    for about, name, how in (
        ("master socket", haproxy.master_socket, f"start HAProxy with -W -S {haproxy.master_socket},mode,660"),
        ("runtime socket", haproxy.runtime_socket, "run one pass so that haproxy.cfg names it, then start HAProxy"),
    ):
        if not Path(name).is_socket():
            yield Finding("fail", about, f"{name} does not exist", how)
        elif not os.access(name, os.W_OK):
            yield Finding(
                "fail", about, f"{name} is closed to uid {os.getuid()}", "add the agent's user to the socket's group"
            )

    def worker() -> str:
        seen = parts.proxy.observe(proxyplan.MAP_NAMES)
        ours = f"structure {short(seen.stamp)}" if seen.stamp else "not loaded from hafleet's file yet"
        return f"pid {seen.pid}, {len(seen.servers)} servers, {ours}"

    yield _tried("haproxy answers", worker)


def _aws(parts: compose.Parts) -> Iterator[Finding]:
    node: list[Node] = []

    def identity() -> str:
        node.append(parts.ports.metadata.identity())
        return f"{node[0].id} {node[0].address} {node[0].zone}, group {node[0].group or 'none'}"

    yield _tried("node identity", identity)

    def groups() -> str:
        ask = membership.question(parts.settings, node[0] if node else None)
        seen = parts.ports.membership.read(ask.names, ask.tags, ask.ipv6)
        unknown = sorted(ask.names - set(seen.by_name))
        if unknown:
            raise HafleetError(f"AWS knows no group {', '.join(unknown)}", fix="correct the name in the settings")
        return f"{len(seen.by_name)} groups, {sum(len(g.instances) for g in seen.by_name.values())} instances"

    yield _tried("aws autoscaling and ec2", groups)
    skew = parts.membership.clock_skew()
    if skew is not None:
        late = abs(skew) > 60
        yield Finding(
            "fail" if abs(skew) > 240 else "warn" if late else "ok",
            "clock",
            f"{skew:+.0f} s from AWS",
            "start chrony: AWS refuses signatures five minutes off" if late else "",
        )


def _limits(parts: compose.Parts) -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fine = soft >= _OPEN_FILES
    yield Finding(
        "ok" if fine else "warn", "open files", str(soft), "" if fine else "raise LimitNOFILE of haproxy.service"
    )
    peers = parts.settings.peers
    if os.geteuid() == 0:
        yield Finding("hint", "rights", "root may do everything", "ask as the agent: sudo -u hafleet hafleet doctor")
    yield Finding(
        "hint",
        "security group",
        f"let the fleet's own group reach port {peers.port} (peers)",
        "and nobody else: peers carry client keys",
    )
