"""What tests of a running fleet need: playbooks on its nodes, packages that are newer or bad, and who is in DNS meanwhile."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.ansible import cloud
from tests.ansible.cloud import Booted, Region
from tests.ansible.machine import run
from tests.ansible.tools import Played, play

OFTEN = 0.3  # seconds between two looks at the records


class Rolled(Played):
    """A playbook's run on the nodes."""

    @property
    def changed(self) -> int:
        """Tasks that changed something, on all nodes."""
        return sum(counts["changed"] for counts in self.hosts.values())


class Playbooks:
    """Our playbooks on all nodes of a region: one inventory, with a host for each.

    Args:
        nodes: booted ones.
        folder: where the inventory and Ansible's own files may lie.
        package: what the inventory names; a run may name another.
    """

    def __init__(self, nodes: list[Booted], folder: Path, package: Path) -> None:
        self._folder = folder
        hosts: dict[str, dict[str, str]] = {}
        for node in nodes:
            own = folder / node.id
            own.mkdir()
            enter = str(node.machine.entry(own))
            hosts[node.id] = {"ansible_host": str(node.machine.root), "ansible_chroot_exe": enter}
        common: dict[str, object] = {
            "ansible_connection": "community.general.chroot",
            "ansible_python_interpreter": "/usr/bin/python3",
            "hafleet_image_build": False,
            "hafleet_package": str(package),
            "hafleet_settings": cloud.SETTINGS,
            "hafleet_environment": cloud.ENVIRONMENT,
        }
        self._inventory = folder / "fleet.yml"
        self._inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": common}}))

    def play(self, book: str, *options: str, **over: object) -> Rolled:
        """Run one; ``over`` are variables of this run alone."""
        told = self._folder / "over.json"
        told.write_text(json.dumps(over))
        done = play(book, self._folder, "-i", self._inventory, "--extra-vars", f"@{told}", *options)
        return Rolled(done.code, done.said)


def rebuilt(package: Path, version: str, folder: Path, change: Callable[[Path], None] = lambda tree: None) -> Path:
    """The package again under another version, after ``change`` of the files in it."""
    tree = folder / version
    run("dpkg-deb", "--raw-extract", package, tree)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.MULTILINE))
    change(tree)
    made = folder / re.sub("_.*_", f"_{version}_", package.name)
    run("nice", "dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, made)
    run("rm", "-rf", tree)
    return made


@contextmanager
def registered(region: Region) -> Iterator[list[frozenset[str]]]:
    """While the block runs: the nodes in DNS, once more at each change."""
    seen: list[frozenset[str]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(OFTEN):
            now = frozenset(record.node for record in region.records())
            if not seen or seen[-1] != now:
                seen.append(now)

    thread = threading.Thread(target=look, daemon=True, name="registered")
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join(60)
