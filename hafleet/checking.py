"""``hafleet check``: the settings, then the templates rendered for a made-up fleet, then HAProxy's own opinion of the text."""

import shutil
import tempfile
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from hafleet import config
from hafleet.adapters.clock import SystemClock
from hafleet.adapters.haproxy import HaproxyProxy
from hafleet.adapters.templates import JinjaRenderer
from hafleet.core.model import Desired, Member, Node, Peer, Version
from hafleet.core.settings import Backend, Haproxy, Settings
from hafleet.errors import ConfigRejected, HafleetError, Problem, ProxyUnavailable, SettingsError
from hafleet.rendering import OFFLINE_VERSION


def check(path: Path) -> tuple[Problem, ...]:
    """Every problem of the settings file and its templates; warnings are not fatal. An empty answer: all is well."""
    try:
        loaded = config.load(path)
    except SettingsError as error:
        return error.problems
    with tempfile.TemporaryDirectory(prefix="hafleet-check-") as folder:
        return (*loaded.problems, *_try_out(path, loaded, Path(folder)))


def _try_out(path: Path, loaded: config.Loaded, folder: Path) -> tuple[Problem, ...]:
    """Render a made-up fleet into ``folder`` and let HAProxy check it there, far from the live files."""
    settings = _moved(loaded.settings, folder)
    proxy = HaproxyProxy(settings.haproxy, SystemClock())
    version, found = _version(proxy, settings.haproxy, path)
    try:
        rendered = JinjaRenderer(settings, source=str(path), digest=loaded.digest).render(sample(settings), version)
    except HafleetError as error:
        return (*found, Problem(error.where or str(path), error.what, error.fix))
    try:
        if not found:
            proxy.check(rendered)
    except ConfigRejected as error:
        return (_refusal(error, rendered.text, loaded.settings, path),)
    except HafleetError as error:
        return (Problem(error.where or str(path), error.what, error.fix),)
    return found


def _refusal(error: ConfigRejected, text: str, settings: Settings, path: Path) -> Problem:
    """HAProxy's complaint in terms of files that last: the candidate of a check is gone when it is read.

    The place is the line of a template of the user's own that holds the refused line as it is, else the templates' folder or the
    settings file.
    """
    candidate, _, number = error.where.rpartition(":")
    folder = settings.haproxy.templates_dir
    place = folder or str(path)
    lines = text.split("\n")
    if folder and number.isdigit() and 0 < int(number) <= len(lines):
        place = _source_line(Path(folder), lines[int(number) - 1].strip()) or place
    what = error.what.replace(f"{candidate if number.isdigit() else error.where}", "haproxy.cfg")
    return Problem(place, what, "mend the template or the settings; `hafleet render` prints haproxy.cfg")


def _source_line(folder: Path, line: str) -> str:
    """``file:line`` of the one line in the folder's templates that says just this; "" for none or several."""
    found = []
    for file in sorted(folder.rglob("*.j2")):
        try:
            texts = file.read_text().split("\n")
        except (OSError, ValueError):
            continue
        found += [f"{file}:{number}" for number, text in enumerate(texts, start=1) if text.strip() == line]
    return found[0] if len(found) == 1 else ""


def _version(proxy: HaproxyProxy, haproxy: Haproxy, path: Path) -> tuple[Version, tuple[Problem, ...]]:
    if shutil.which(haproxy.binary) is None:
        what = f"{haproxy.binary} is not installed here, so the configuration was not checked by HAProxy itself"
        return OFFLINE_VERSION, (Problem(str(path), what, "run check on a node too", fatal=False),)
    try:
        return proxy.version(), ()
    except ProxyUnavailable as error:
        return OFFLINE_VERSION, (Problem(error.where or str(path), error.what, error.fix, fatal=False),)


def _moved(settings: Settings, folder: Path) -> Settings:
    """The same settings with every file that HAProxy writes or maps moved into ``folder``."""
    moved = settings.haproxy.model_copy(
        update={
            "config": str(folder / "haproxy.cfg"),
            "maps_dir": str(folder / "maps"),
            "server_state": str(folder / "server-state"),
            "runtime_socket": str(folder / "admin.sock"),
            "master_socket": str(folder / "master.sock"),
        }
    )
    return settings.model_copy(update={"haproxy": moved})


def sample(settings: Settings) -> Desired:
    """A small fleet: two servers in each backend, in two zones, one of them draining, and one other node."""
    node = Node("i-00000000000000001", IPv4Address("127.0.0.1"), "zone-a", "region")
    other = Peer("i-00000000000000002", IPv4Address("127.0.0.2"), settings.peers.port)
    peers = (Peer(node.id, node.address, settings.peers.port), other)
    return Desired(node, {backend.name: _members(backend) for backend in settings.backends}, peers)


def _members(backend: Backend) -> tuple[Member, ...]:
    made = []
    for number, zone in ((1, "zone-a"), (2, "zone-b")):
        instance = f"i-0000000000000001{number}"
        last = f"10.0.0.{number}" if backend.family == "ipv4" else f"fd00::{number}"
        address = IPv4Address(last) if backend.family == "ipv4" else IPv6Address(last)
        for port in backend.ports:
            name = f"{instance}-{port}" if len(backend.ports) > 1 else instance
            made.append(Member(name, instance, address, port, zone, draining=number == 2))
    return tuple(made)
