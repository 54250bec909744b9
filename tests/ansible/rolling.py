"""What tests of a running fleet need: playbooks on its nodes, packages that are newer or bad, and who is in DNS meanwhile."""

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from hafleet.lab.haproxies import cache_dir
from tests.ansible import cloud
from tests.ansible.cloud import Booted, Region
from tests.ansible.machine import run

ROOT = Path(__file__).parents[2]
TOOLS = cache_dir() / "ansible" / "bin"
OFTEN = 0.3  # seconds between two looks at the records


@dataclass(frozen=True)
class Played:
    """A playbook's run."""

    code: int
    said: str

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """Node -> how many tasks were ok, changed, failed; the nodes that it came to."""
        found = re.findall(r"^(i-\w+)\s+: (ok=.*)$", self.said, re.MULTILINE)
        assert found, self.said
        return {node: {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line)} for node, line in found}

    @property
    def changed(self) -> int:
        """Tasks that changed something, on all nodes."""
        return sum(counts["changed"] for counts in self.counts.values())

    @property
    def told(self) -> str:
        """What it printed, as one line: Ansible folds and escapes messages."""
        return " ".join(self.said.replace('\\"', '"').split())


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

    def play(self, book: str, *options: str, **over: object) -> Played:
        """Run one; ``over`` are variables of this run alone."""
        told = self._folder / "over.json"
        told.write_text(json.dumps(over))
        done = subprocess.run(
            (
                *("nice", TOOLS / "ansible-playbook", "-i", self._inventory, ROOT / "ansible/playbooks" / book),
                *("--extra-vars", f"@{told}", *options),
            ),
            env={
                **os.environ,
                "PATH": f"{TOOLS}:{os.environ['PATH']}",
                "ANSIBLE_HOME": str(self._folder),
                "ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PIPELINING": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            check=False,
        )
        return Played(done.returncode, done.stdout)


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
