"""The golden configurations: tests/golden/NAME.yaml holds settings, NAME.cfg what they render to on HAProxy 3.2.

Paths in the settings begin with /golden; a test that shows them to HAProxy puts a folder of its own there. After a wanted
change of the templates, ``HAFLEET_GOLDEN=write pytest tests/unit/test_templates_golden.py`` writes the .cfg files anew:
read their diff before you commit it.
"""

from ipaddress import ip_address
from pathlib import Path

from hafleet.config import load
from hafleet.core.model import Desired, Member, Node
from hafleet.core.settings import Settings
from tests.renderings import make_desired, member, peer

FOLDER = Path(__file__).parent / "golden"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def settings_of(name: str, root: Path | None = None) -> Settings:
    """The settings of a golden configuration; with root, their files under that folder."""
    path = FOLDER / f"{name}.yaml"
    if root is not None:
        text = path.read_text().replace("/golden/", f"{root}/")
        path = root / path.name
        path.write_text(text)
    return load(path).settings


def desired_of(name: str, settings: Settings) -> Desired:
    """A made-up fleet: three servers per backend and port, of two zones, one of them draining; three peers."""
    v6 = name == "ipv6"
    node = Node(
        id="i-0aaa", address=ip_address("fd00::1" if v6 else "127.0.0.1"), zone="eu-west-1a", region="eu-west-1"
    )
    members: dict[str, list[Member]] = {}
    for backend in settings.backends:
        found = members.setdefault(backend.name, [])
        for port in backend.ports:
            suffix = f"-{port}" if len(backend.ports) > 1 else ""
            prefix = "fd00:1::" if v6 else "10.0.1."
            found += [
                member(f"i-0111{suffix}", f"{prefix}1", zone="eu-west-1a", port=port, weight=90),
                member(f"i-0222{suffix}", f"{prefix}2", zone="eu-west-1b", port=port),
                member(f"i-0333{suffix}", f"{prefix}3", zone="eu-west-1a", port=port, draining=True),
            ]
    others = [peer("i-0ccc", "fd00::3" if v6 else "127.0.0.3"), peer("i-0bbb", "fd00::2" if v6 else "127.0.0.2")]
    port = settings.peers.port
    return make_desired(members, [peer(each.name, str(each.address), port) for each in others], node)
