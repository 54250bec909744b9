"""Guards taken away, one at a time: what the negative controls run instead of the product's own part."""

import re
import socketserver
import threading
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from typing import Any

from hafleet.adapters.asg import AsgMembership
from hafleet.core.model import Group, Groups
from hafleet.errors import SourceUnavailable
from hafleet.ports import Membership
from hafleet.reconcile import ALL_RULES, Ports, Reconciler, Rules

Make = Callable[[Any, Ports], Reconciler]


def without(*names: str) -> Make:
    """A reconciler whose guard lacks the rules of these names."""
    known = {rule.__name__ for rule in (*ALL_RULES.members, *ALL_RULES.reloads)}
    assert known >= set(names), f"no such rule: {set(names) - known}"
    rules = Rules(
        tuple(rule for rule in ALL_RULES.members if rule.__name__ not in names),
        tuple(rule for rule in ALL_RULES.reloads if rule.__name__ not in names),
    )
    return lambda settings, ports: Reconciler(settings, ports, rules)


def unguarded(settings: Any, ports: Ports) -> Reconciler:
    """A reconciler that holds nothing."""
    return Reconciler(settings, ports, Rules((), ()))


@dataclass
class FailsOpen:
    """A membership port without the first rule of all: a failed read becomes an empty answer."""

    real: Membership

    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        try:
            return self.real.read(names, tags, ipv6)
        except SourceUnavailable:
            return Groups({}, _tick())


@dataclass
class PageByPage:
    """A membership port that keeps the groups it could read, and forgets that it could not read the others."""

    real: Membership

    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        found: dict[str, Group] = {}
        for name in sorted(names):
            try:
                found |= self.real.read(frozenset({name}), tags, ipv6).by_name
            except SourceUnavailable:
                break
        return Groups(found, _tick())


class TrustsListings(AsgMembership):
    """The real port, without its look for groups that a listing by tag has lost."""

    def _nothing_lost_by_tag(self, *_: Any) -> None:
        return


@dataclass
class Recorded:
    """A membership port that answers what it is told to."""

    answer: Groups

    def read(self, names: frozenset[str], tags: frozenset[tuple[str, str]], ipv6: frozenset[str]) -> Groups:
        return self.answer


def instead(make: Callable[[Membership], Membership]) -> Callable[[Ports], Ports]:
    """For ``Stage.ports``: another membership port in place of the real one."""
    return lambda ports: replace(ports, membership=make(ports.membership))


_ticks = iter(range(10**9, 2 * 10**9))


def _tick() -> float:
    """Later than every read of this machine."""
    return float(next(_ticks))


# --- answers of AWS that no fault of the lab makes --------------------------------------------------------------------

Edit = Callable[[str, str], str]  # operation, body -> body


@dataclass
class Tampered:
    """An endpoint before the local AWS that changes its answers with ``edit``."""

    url: str
    edit: Edit = field(default=lambda _operation, body: body)
    edited: int = 0  # answers that came out changed


@contextmanager
def tampering(address: str, target: str) -> Iterator[Tampered]:
    """A server on ``address``, port 5601, until the end of the block."""
    state = Tampered(f"http://{address}:5601")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {
                k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection", "accept-encoding"}
            }
            asked = urllib.request.Request(target + self.path, body, headers)
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=60) as answer:
                text = answer.read().decode()
            operation = (re.search(r"Action=(\w+)", body.decode()) or ["", ""])[1]
            changed = state.edit(operation, text)
            state.edited += changed != text
            data = changed.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_args: object) -> None:
            """Silence."""

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

    server = Server((address, 5601), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


Change = Callable[[ET.Element], None]  # of the item of one instance


def of_instance(instance: str, change: Change) -> Edit:
    """An edit of one instance's items in the answers of Auto Scaling and EC2."""
    return of_instances(lambda found, item: change(item) if found == instance else None)


def of_instances(change: Callable[[str, ET.Element], None]) -> Edit:
    """An edit of every instance's items: ``change`` gets the id and the item."""

    def edit(_operation: str, body: str) -> str:
        root = ET.fromstring(body)
        for item in list(root.iter()):
            ids = [child.text or "" for child in item if local(child) in {"InstanceId", "instanceId"}]
            if ids:
                change(ids[0], item)
        return ET.tostring(root, encoding="unicode").replace("\r", "&#13;")

    return edit


def local(element: ET.Element) -> str:
    """The tag without its namespace."""
    return element.tag.rpartition("}")[2]


def field_to(name: str, value: str) -> Change:
    """A change of one field: every element of this name gets this text."""

    def change(item: ET.Element) -> None:
        for element in item.iter():
            if local(element) == name:
                element.text = value

    return change


def field_gone(*names: str) -> Change:
    """A change that takes elements away."""

    def change(item: ET.Element) -> None:
        for parent in list(item.iter()):
            parent[:] = [child for child in parent if local(child) not in names]

    return change


def field_new(name: str, value: str) -> Change:
    """A change that adds a field."""

    def change(item: ET.Element) -> None:
        ET.SubElement(item, item.tag.rpartition("}")[0] + "}" * ("}" in item.tag) + name).text = value

    return change
