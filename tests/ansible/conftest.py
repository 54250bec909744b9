"""Images baked by the role, and machines booted from them: one of each per suite, for all tests of that suite."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from hafleet.lab.haproxies import cache_dir
from tests.ansible import cloud
from tests.ansible.machine import Machine, Network, bootstrap, copy_tree, hasten, mounted, network, remove_tree, run
from tests.ansible.tools import ROOT, Played, play

SUITES = tuple(os.environ.get("HAFLEET_SUITES", "bookworm").split())
NODE, SERVER, IMDS = "10.60.0.11", "10.60.0.21", "169.254.169.254"
NEEDED = ("debootstrap", "systemd-nspawn", "ip", "nsenter", "dpkg-deb")
LAID = ("opt/hafleet", "opt/ansible", "etc/hafleet", "usr/sbin/haproxy", "usr/bin/git")  # what an image has
SETTINGS = {
    "fleet": "edge",
    "node": {
        "source": "static",
        "static": {"id": "i-0a", "private_ip": NODE, "zone": "eu-west-1a", "region": "eu-west-1"},
    },
    "frontends": [{"name": "web", "bind": ":80", "default_backend": "site"}],
    "backends": [
        {"name": "site", "port": 8080, "sources": [{"static": [SERVER]}], "check": {"path": "/", "interval": "1s"}}
    ],
}


@pytest.hookimpl(trylast=True)  # after pytest's own order, by suite
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first: the other worker does all the rest meanwhile."""
    items.sort(key=lambda item: item.path.stem != "test_rolling")


def lacking() -> str:
    """Why images cannot be built here, or "" where they can."""
    if os.environ.get("HAFLEET_AMI") != "1":
        return "images: `make test-ami` and continuous integration build them"
    if os.geteuid() != 0:
        return "images: only root can build and boot them"
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        return f"images: not on this machine: {', '.join(missing)}"
    return cannot_boot(Path("/sys/fs/cgroup"))


def cannot_boot(groups: Path) -> str:
    """Why systemd-nspawn cannot boot a machine here, or "" where it can: in most containers root may not.

    Args:
        groups: where control groups are mounted.
    """
    if not any((groups / name).exists() for name in ("cgroup.controllers", "systemd")):
        return f"images: no control groups at {groups}: a container that may not boot another"
    tried = subprocess.run(
        ("unshare", "--mount", "--net", "--pid", "--fork", "true"), capture_output=True, text=True, check=False
    )
    return f"images: no namespaces of its own: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass
class Ansible:
    """Runs playbooks on one tree, or on the machine that runs from it."""

    folder: Path
    package: Path
    variables: dict[str, object] = field(default_factory=lambda: {"hafleet_settings": SETTINGS})

    def play(self, book: str, root: Path, *options: str, **over: object) -> str:
        """What a playbook of ours prints. ``over`` are variables of this run alone."""
        host: dict[str, object] = {
            "ansible_connection": "community.general.chroot",
            "ansible_host": str(root),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        values = {"hafleet_package": str(self.package), **self.variables, **over}
        inventory = self.folder / "inventory.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": {"node": {**host, **values}}}}))
        return play(book, self.folder, "-i", inventory, *options).said


def recap(said: str, host: str = "node") -> dict[str, int]:
    """The last line of a run: how many tasks were ok, changed, failed."""
    return Played(0, said).hosts[host]


@dataclass(frozen=True)
class Packages:
    """The same build under two versions."""

    old: Path
    new: Path


@dataclass(frozen=True)
class Baked:
    """An image, and what its runs printed."""

    root: Path
    ansible: Ansible
    fresh: str  # the check run on a tree without anything
    left: list[str]  # what that run left in the tree
    first: str
    second: str


def base(suite: str) -> Path:
    """Where the bare system of a suite is kept."""
    return cache_dir() / "ami" / suite


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what all workers of this run use."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One worker at a time: what it makes there is whole when the next one looks."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def packages(shared: Path) -> Packages:
    folder = shared / "packages"
    with alone(folder):
        found = sorted(folder.glob("*_0.1.0-?_*.deb"))
        return Packages(*found) if len(found) > 1 else build(folder)


def build(folder: Path) -> Packages:
    """Both packages, and beside that the bare systems: building computes, and bootstrapping waits for the network and the disk."""
    built = os.environ.get("HAFLEET_DEB")  # one that was built before saves a minute
    with ThreadPoolExecutor() as pool:
        trees = [pool.submit(bootstrap, suite, base(suite)) for suite in SUITES]
        if built:
            shutil.copy(built, folder)
        else:
            run("nice", sys.executable, ROOT / "scripts/deb.py", "--version", "0.1.0-1", "--into", folder)
        for tree in trees:
            tree.result()
    old = next(folder.glob("*_0.1.0-1_*.deb"))
    new = folder / old.name.replace("0.1.0-1", "0.1.0-2")
    run("dpkg-deb", "--raw-extract", old, folder / "raw")
    control = folder / "raw/DEBIAN/control"
    control.write_text(control.read_text().replace("Version: 0.1.0-1", "Version: 0.1.0-2"))
    run("nice", "dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", folder / "raw", new)
    return Packages(old, new)


@pytest.fixture(scope="session", params=SUITES)
def baked(
    request: pytest.FixtureRequest, packages: Packages, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Baked]:
    """An image of each suite, baked as build-ami.yml does it. It stays as it is: change a layer over it."""
    ansible = Ansible(tmp_path_factory.mktemp(request.param), packages.old)
    home = shared / str(request.param)
    said, user = home / "said.json", home / f"user-{os.getpid()}"
    with alone(home):
        if not said.exists():
            said.write_text(json.dumps(bake(home / "image", request.param, ansible)))
        user.touch()
    yield Baked(home / "image", ansible, **json.loads(said.read_text()))
    with alone(home):
        user.unlink()
        if not list(home.glob("user-*")):
            said.unlink()
            remove_tree(home / "image")


def bake(root: Path, suite: str, ansible: Ansible) -> dict[str, object]:
    """Look at it, make and verify it, make and verify it again; what the runs printed."""
    copy_tree(base(suite), root)
    hasten(root)
    with mounted(root):
        fresh = ansible.play("build-ami.yml", root, "--check", "--diff", hafleet_pull=True)
        left = [name for name in LAID if (root / name).exists()]
        first, second = (ansible.play("build-ami.yml", root, hafleet_pull=True) for _ in range(2))
    assert not recap(first)["failed"], first
    return {"fresh": fresh, "left": left, "first": first, "second": second}


@pytest.fixture(scope="session")
def net() -> Iterator[Network]:
    """The node's network: its own address, a server that answers, and somebody who stands for IMDS."""
    answers = Path(__file__).with_name("answers.py")
    with (
        network((NODE, SERVER), IMDS) as made,
        made.running(made.name, sys.executable, answers, SERVER, "8080"),
        made.running(made.outside, sys.executable, answers, IMDS, "80"),
    ):
        yield made


@pytest.fixture(scope="session")
def node(baked: Baked, net: Network) -> Iterator[Machine]:
    """A machine booted from a copy of the image."""
    machine = Machine(copy_tree(baked.root, baked.ansible.folder / "node"), net.name)
    try:
        machine.on()
        yield machine
    finally:
        machine.off()
    remove_tree(machine.root)


@pytest.fixture(scope="session")
def fleet_tree(baked: Baked) -> Iterator[Path]:
    """The image with the settings of a fleet in the local AWS, put there by the role."""
    root = copy_tree(baked.root, baked.ansible.folder / "fleet")
    over: dict[str, object] = {"hafleet_settings": cloud.SETTINGS, "hafleet_environment": cloud.ENVIRONMENT}
    with mounted(root):
        said = baked.ansible.play("node.yml", root, **over)
        assert not recap(said)["failed"], said
    yield root
    remove_tree(root)


@pytest.fixture(scope="module")
def region(fleet_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[cloud.Region]:
    """The local AWS, whose instances boot from that image. The test runs in its network namespace."""
    with cloud.Region(fleet_tree, tmp_path_factory.mktemp("region")) as made:
        yield made


class Traffic:
    """Requests to the node while something happens to it."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self.sent = self.failed = 0
        self.kinds = ""

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """While the block runs. Afterwards the counts are there."""
        script = Path(__file__).with_name("traffic.py")
        with self._net.running(self._net.name, sys.executable, script, NODE, "80") as process:
            yield
            said, _rest = process.communicate("end\n", timeout=60)
        sent, failed, *kinds = said.split()
        self.sent, self.failed, self.kinds = int(sent), int(failed), " ".join(kinds)


@pytest.fixture
def traffic(net: Network) -> Traffic:
    return Traffic(net)
