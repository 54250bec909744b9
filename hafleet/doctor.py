"""``hafleet doctor``: what is missing on this node. Each check tries the real thing and says what to do."""

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from hafleet import checking, compose, doctor_life, permits
from hafleet.adapters.eip import Ec2Addresses
from hafleet.adapters.hooks import AsgHooks
from hafleet.core import endings, membership, proxyplan
from hafleet.core.dns.checks import fleet_prefix, wanted_checks
from hafleet.core.dns.layout import record_types
from hafleet.core.dns.model import CheckConfig, RecordType
from hafleet.core.dns.removal import is_leaf
from hafleet.core.dns.want import addresses
from hafleet.core.dns_settings import Dns
from hafleet.core.endings import WantedHook
from hafleet.core.features import features
from hafleet.core.model import IPAddress, Node
from hafleet.core.settings import Settings
from hafleet.core.values import parse_endpoint
from hafleet.errors import HafleetError
from hafleet.findings import Finding, closed, shut, tried
from hafleet.show import short

_NO_CHECK, _NO_CHANGE = "00000000-0000-0000-0000-000000000000", "C00000000000000000000"  # nobody has these ids
_PATIENCE = 4.0  # seconds that Route 53 waits for a connection
_OPEN_FILES = 4096  # below this HAProxy's default maxconn is small


def examine(path: Path) -> tuple[Finding, ...]:
    """All findings, in the order in which a new node is set up."""
    if (door := shut(path)) is not None:
        return (closed("settings", door),)
    problems = checking.check(path)
    found = [Finding("fail" if p.fatal else "warn", "settings", f"{p.where}: {p.what}", p.fix) for p in problems]
    if any(problem.fatal for problem in problems):
        return tuple(found)
    parts = compose.build(path)
    found.append(Finding("ok", "settings", str(path)))
    for look in (
        _binary,
        _folders,
        _sockets,
        _aws,
        _hooks,
        _dns,
        _eip,
        doctor_life.hooks,
        doctor_life.events,
        permits.rights,
        _limits,
    ):
        found += look(parts)
    return tuple(found)


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

    yield tried("haproxy", version)


def _folders(parts: compose.Parts) -> Iterator[Finding]:
    haproxy = parts.settings.haproxy
    wanted = {
        "config folder": Path(haproxy.config).parent,
        "maps folder": Path(haproxy.maps_dir),
        "server-state folder": Path(haproxy.server_state).parent,
        "state folder": Path(parts.settings.state_dir),
    }
    for about, folder in wanted.items():
        if (door := shut(folder)) is not None:
            yield closed(about, door)
        elif not folder.is_dir():
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
        path = Path(name)
        if (door := shut(path)) is not None:
            yield closed(about, door)
        elif not path.is_socket():
            yield Finding("fail", about, f"{name} does not exist", how)
        elif not os.access(name, os.W_OK):
            yield closed(about, path)

    def worker() -> str:
        seen = parts.proxy.observe(proxyplan.MAP_NAMES)
        ours = f"structure {short(seen.stamp)}" if seen.stamp else "not loaded from hafleet's file yet"
        return f"pid {seen.pid}, {len(seen.servers)} servers, {ours}"

    yield tried("haproxy answers", worker)


def _aws(parts: compose.Parts) -> Iterator[Finding]:
    node: list[Node] = []

    def identity() -> str:
        node.append(parts.ports.metadata.identity())
        return f"{node[0].id} {node[0].address} {node[0].zone}, group {node[0].group or 'none'}"

    yield tried("node identity", identity)

    def groups() -> str:
        ask = membership.question(parts.settings, node[0] if node else None)
        seen = parts.ports.membership.read(ask.names, ask.tags, ask.ipv6)
        unknown = sorted(ask.names - set(seen.by_name))
        if unknown:
            raise HafleetError(f"AWS knows no group {', '.join(unknown)}", fix="correct the name in the settings")
        return f"{len(seen.by_name)} groups, {sum(len(g.instances) for g in seen.by_name.values())} instances"

    yield tried("aws autoscaling and ec2", groups)
    skew = parts.membership.clock_skew()
    if skew is not None:
        late = abs(skew) > 60
        yield Finding(
            "fail" if abs(skew) > 240 else "warn" if late else "ok",
            "clock",
            f"{skew:+.0f} s from AWS",
            "start chrony: AWS refuses signatures five minutes off" if late else "",
        )


def _hooks(parts: compose.Parts) -> Iterator[Finding]:
    """The hooks that the settings name, as the groups have them."""
    try:
        node = parts.ports.metadata.identity()
        ask = membership.question(parts.settings, node)
        groups = parts.ports.membership.read(ask.names, ask.tags, ask.ipv6)
    except HafleetError:  # said above
        return
    for wanted in endings.wanted_hooks(parts.settings, groups, node.group):
        yield tried(f"hook {wanted.hook}", partial(_as_wanted, parts, wanted))


def _as_wanted(parts: compose.Parts, wanted: WantedHook) -> str:
    """A hook that exists, for its transition, and waits long enough. Raises HafleetError."""
    hook = next((hook for hook in AsgHooks(parts.account).hooks(wanted.group) if hook.name == wanted.hook), None)
    if hook is None or (wanted.backend and hook.transition != "terminate"):
        what = f"group {wanted.group} has no such {'terminate ' if wanted.backend else ''}hook"
        raise HafleetError(what, fix="create it, or correct its name in the settings")
    if wanted.backend and wanted.drain >= hook.timeout:
        what = f"group {wanted.group} waits {hook.timeout:g} s, and the drain of {wanted.backend} may last {wanted.drain:g} s"
        raise HafleetError(what, fix="raise the hook's HeartbeatTimeout, or lower drain")
    return f"group {wanted.group} waits {hook.timeout:g} s"


def _dns(parts: compose.Parts) -> Iterator[Finding]:
    settings = parts.settings
    dns = settings.dns
    if dns is None:
        return
    ports = parts.dns_ports()
    zone = tried("dns zone", lambda: f"{dns.name} lies in {ports.dns.zone_id()}")
    yield zone
    if zone.state == "ok":  # else each would fail for the same reason

        def records() -> str:
            found = ports.dns.tree(dns.name)
            return f"{len(found)} at or below {dns.name}, {sum(map(is_leaf, found))} of nodes"

        yield tried("dns records", records)
    yield tried("dns health checks", lambda: f"{len(ports.dns.checks(fleet_prefix(settings.fleet)))} of this fleet")
    yield tried("dns one health check", lambda: _may_read(ports.dns.check(_NO_CHECK)))
    yield tried("dns one change", lambda: _may_read(ports.dns.insync(_NO_CHANGE)))
    try:
        node = parts.ports.metadata.identity()
    except HafleetError:  # said above
        return
    yield tried("dns reaping", lambda: f"EC2 says {', '.join(ports.instances.states(frozenset({node.id})).values())}")
    for type_ in record_types(dns):
        yield from _published(settings, dns, node, type_)


def _eip(parts: compose.Parts) -> Iterator[Finding]:
    eip = parts.settings.eip
    if eip is None:
        return

    def pool() -> str:
        found = Ec2Addresses(parts.account).pool(eip.pool_tag)
        if not found:
            raise HafleetError("no Elastic IP carries the tag of eip.pool_tag", fix="allocate some, and tag them")
        return f"{len(found)} in the pool, {sum(not address.association for address in found)} free"

    yield tried("elastic ips", pool)


def _may_read(_answer: object) -> str:
    """What there is of something that cannot exist: the right to ask for it."""
    return "may be read"


def _published(settings: Settings, dns: Dns, node: Node, type_: RecordType) -> Iterator[Finding]:
    """The address of one record, and what Route 53 would be answered there."""
    about = f"dns {type_} record"
    address = addresses(dns, node).get(type_)
    if address is None:
        kind = "IPv6" if type_ == "AAAA" else f"{dns.address} IPv4"
        fix = "give the instance one, or publish another (dns.address, dns.families)"
        yield Finding("fail", about, f"this node has no {kind} address", fix)
        return
    yield Finding("ok", about, f"{dns.name} {address}")
    local = node.ipv6 if type_ == "AAAA" else node.address
    for config in (wanted.config for wanted in wanted_checks(settings, node, type_, address)):
        if config.alarm:
            what = f"alarm {config.alarm} in {config.alarm_region} is not looked at"
            yield Finding("hint", "dns health check", what, "create it, one for each node")
        elif config.port:
            yield tried("dns health endpoint", partial(_answers, _listener(settings, config.port, local), config))
            what = f"let Route 53's checkers reach port {config.port}"
            fix = f"from the prefix list com.amazonaws.{node.region or 'REGION'}.route53-healthchecks"
            yield Finding("hint", "security group", what, fix)


def _listener(settings: Settings, port: int, local: IPAddress | None) -> str:
    """The address of this host at which a port is asked. A published one often is not on the host itself."""
    bind = parse_endpoint(settings.haproxy.health)
    named = bind.address if bind.port == port and not bind.wildcard else None
    return str(named or local or "127.0.0.1")


def _answers(host: str, config: CheckConfig) -> str:
    """What a checker would be answered. Raises HafleetError."""
    place = f"[{host}]:{config.port}" if ":" in host else f"{host}:{config.port}"
    try:
        with closing(HTTPConnection(host, config.port, timeout=_PATIENCE)) as connection:
            connection.connect()
            if not config.type.startswith("HTTP") or config.type.startswith("HTTPS"):
                return f"{place} takes connections"
            connection.request("GET", config.path, headers={"Host": config.host} if config.host else {})
            status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        fix = "start HAProxy; dns.health.endpoint and haproxy.health name the port"
        what = f"nobody answers: {type(error).__name__} {error}".rstrip()
        raise HafleetError(what, where=place, fix=fix) from error
    if not 200 <= status < 400:
        what = f"GET {config.path} is answered {status}: Route 53 takes that for dead"
        raise HafleetError(what, where=place, fix="`hafleet status` says whether this node leaves")
    return f"GET http://{place}{config.path} is answered {status}"


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
