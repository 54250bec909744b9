"""The ``server`` lines of a backend, ready to print: names and addresses from typed values, all options on the line.

``add server`` inherits nothing from ``default-server``, so each line carries every option, and a runtime command takes the
same text. The order ``server NAME ADDRESS:PORT id N weight W OPTIONS`` is the one that core.cfgtext reads fastest.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

from hafleet.core.cfgtext import OWN_NAME
from hafleet.core.features import Features
from hafleet.core.ids import server_ids
from hafleet.core.model import IPAddress, Member
from hafleet.core.settings import Backend, Check, ServerTls
from hafleet.errors import TemplateError

# The names that hafleet generates: an instance id or static-ADDRESS, and -PORT where a backend has several ports. Nothing
# that AWS or a tag says may look like anything else in haproxy.cfg.
_MEMBER_NAME = re.compile(r"(?:i-[0-9a-z]{1,32}|static-[0-9a-f.-]{1,45})(?:-[0-9]{1,5})?")
_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_HEAVIEST = 256  # HAProxy's largest weight
_FASTEST = 0.1  # seconds; the shortest interval that is chosen without being asked for


@dataclass(frozen=True, slots=True)
class ServerContext:
    """One server of a backend, as the templates see it."""

    name: str
    address: str  # ADDRESS:PORT, an IPv6 address in brackets
    id: int  # stable, unique in its backend
    weight: int  # 0 to 256; 0 while it drains
    options: str  # everything after the weight
    line: str  # the whole line: server NAME ADDRESS:PORT id N weight W OPTIONS


def server_lines(
    backend: Backend, members: Sequence[Member], zone: str, features: Features
) -> tuple[ServerContext, ...]:
    """The servers of a backend, sorted by name.

    Args:
        backend: whose servers they are.
        members: what the backend should have, in any order.
        zone: availability zone of this node, "" when not known.
        features: of the HAProxy that will read the lines.

    Raises:
        TemplateError: a name is not one that hafleet generates, or appears twice; a weight or port is out of range.
    """
    for member in members:
        if not _made_here(member):
            raise _refused(backend, member)
    ids = server_ids(member.name for member in members)
    own, other = option_texts(backend, features)
    if len(ids) != len(members):
        raise TemplateError("two servers have one name", where=f"backend {backend.name}", fix="report this as a bug")
    servers: list[ServerContext] = []
    for member in sorted(members, key=lambda each: each.name):
        name, weight, number = member.name, member.rendered_weight, ids[member.name]
        target = endpoint(member.address, member.port)
        options = own if not zone or member.zone in ("", zone) else other
        if OWN_NAME in options:
            options = options.replace(OWN_NAME, name)
        line = f"server {name} {target} id {number} weight {weight} {options}"
        servers.append(ServerContext(name, target, number, weight, options, line))
    return tuple(servers)


def option_texts(backend: Backend, features: Features) -> tuple[str, str]:
    """The options of a server in this node's zone, and of one in another; they differ under zone affinity only.

    ``%N`` stands for the server's own name. A server or node whose zone is not known counts as in the same zone.
    """
    words = [*_tls_options(backend.tls), *_check_options(backend.check, backend.tls)]
    if backend.slow_start:
        words += ["slowstart", timer(backend.slow_start)]
    if backend.maxconn is not None:
        words += ["maxconn", str(backend.maxconn)]
    if backend.send_proxy:
        words.append("send-proxy")
    if features.pool_options:
        words += ["pool-purge-delay", "5s", "pool-max-conn", "-1"]
    if backend.cookie is not None:
        words += ["cookie", OWN_NAME]
    own = " ".join(words)
    return own, f"{own} backup" if backend.zone_affinity == "prefer" else own


def endpoint(address: IPAddress, port: int) -> str:
    """``10.0.0.1:80`` or ``[fd00::1]:80``."""
    return f"[{address}]:{port}" if isinstance(address, IPv6Address) else f"{address}:{port}"


def node_name(name: str) -> str:
    """The id of a node, once it is proven to be one word that needs no quoting. Raises TemplateError."""
    if not _NODE_ID.fullmatch(name):
        what = f"{name[:80]!r} is not a node's id"
        raise TemplateError(what, where="peers", fix="ids hold letters, digits and - only")
    return name


def timer(seconds: float) -> str:
    """A duration as HAProxy writes it: ``5s``, ``200ms``; rounded to milliseconds, but never to zero unless it is zero."""
    milliseconds = max(round(seconds * 1000), 1 if seconds > 0 else 0)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"


def _made_here(member: Member) -> bool:
    """True when every text and number of the member is one that may reach the configuration."""
    named = _MEMBER_NAME.fullmatch(member.name) is not None
    return named and 0 <= member.rendered_weight <= _HEAVIEST and 0 < member.port < 65536


def _tls_options(tls: ServerTls | None) -> list[str]:
    if tls is None:
        return []
    trust = ["verify", "required", "ca-file", tls.ca] if tls.verify else ["verify", "none"]
    return ["ssl", *trust, *(["sni", f"str({tls.sni})"] if tls.sni else [])]


def _check_options(check: Check, tls: ServerTls | None) -> list[str]:
    """The check's timing, port and TLS.

    A check over TLS of a server that serves without is not verified, as ELB's are not: its certificate has nothing to do
    with the traffic.
    """
    fast = min(check.fast if check.fast is not None else max(check.interval / 10, _FASTEST), check.interval)
    down = check.down if check.down is not None else fast
    words = ["check", "inter", timer(check.interval), "fastinter", timer(fast)]
    words += ["downinter", timer(down), "rise", str(check.rise), "fall", str(check.fall)]
    if check.port is not None:
        words += ["port", str(check.port)]
    if check.tls or (tls is not None and check.port is None):
        words.append("check-ssl")
        if tls is None:
            words += ["verify", "none"]
        elif tls.sni:
            words += ["check-sni", tls.sni]
    return words


def _refused(backend: Backend, member: Member) -> TemplateError:
    what = f"{member.name[:80]!r} port {member.port} weight {member.rendered_weight} is not a server hafleet makes"
    return TemplateError(what, where=f"backend {backend.name}", fix="report this as a bug")
