"""Debian trees and the machines that boot from them: debootstrap, chroot and systemd-nspawn, each in a network namespace of its own."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hafleet.lab.debian import find_archive

PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-apt,ca-certificates"
PATIENCE = 120.0  # seconds that a slow and busy machine may take for what takes one or two
WAY = tuple(map(Path, ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")))
POWEROFF = "SIGRTMIN+4"  # what systemd as the first process takes for it


def said(*command: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A command's run, both channels in one."""
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
        check=False,
    )


def run(*command: str | Path, check: bool = True, **environment: str) -> str:
    """What a command says on both channels. Fails with all of it."""
    done = said(*command, **environment)
    assert not check or done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def until(holds: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait for it, so many seconds at most."""
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end, f"not within {patience:g} s: {what}"
        time.sleep(0.3)


def bootstrap(suite: str, root: Path) -> None:
    """A minimal system of a suite, from the archive that this machine itself is of. Kept for the next run."""
    if root.is_dir():
        return
    building = root.with_name(f"{root.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    hasten(building)
    archive = find_archive()
    keyring = f"--keyring={archive.keyring}"
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", keyring, suite, building, archive.uri)
    building.rename(root)


def hasten(root: Path) -> None:
    """Let packages be installed in a tree without a wait for the disk after each file, and lists be fetched without translations."""
    told = {"dpkg/dpkg.cfg.d/haste": "force-unsafe-io\n", "apt/apt.conf.d/99haste": 'Acquire::Languages "none";\n'}
    for name, text in told.items():
        path = root / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def copy_tree(source: Path, root: Path) -> Path:
    """The same system once more: a layer over it where the kernel can, else every file. What is below must not change any more."""
    layer = root.with_name(f"{root.name}.layer")
    for path in (root, layer / "upper", layer / "work"):
        path.mkdir(parents=True)
    told = f"lowerdir={_layers(source)},upperdir={layer}/upper,workdir={layer}/work,index=off,volatile"  # waits for no disk
    words = ("mount", "-t", "overlay", "-o", told, "overlay", str(root))
    if subprocess.run(words, capture_output=True, check=False).returncode:
        shutil.rmtree(layer)
        run("cp", "-a", "--reflink=auto", f"{source}/.", root)
    return root


def _layers(root: Path) -> str:
    """The folders that a tree lies in, the uppermost first, as a mount's lowerdir. The kernel stacks mounts of layers only twice."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if f" {root} " in line:
            found = dict(word.partition("=")[::2] for word in line.split()[-1].split(","))
            return f"{found['upperdir']}:{found['lowerdir']}"
    return str(root)


def remove_tree(root: Path) -> None:
    """Away with it, but with nothing that is mounted there: the real /dev may be."""
    assert f" {root}/" not in Path("/proc/self/mountinfo").read_text(), f"something is still mounted below {root}"
    run("umount", "--quiet", "--lazy", root, check=False)  # not every tree is a layer
    run("rm", "-rf", "--one-file-system", root, root.with_name(f"{root.name}.layer"))


@contextmanager
def mounted(root: Path) -> Iterator[None]:
    """A tree in which programs run: with the kernel's file systems, and this machine's way to the archives of Debian and of pip."""
    names = [path for path in WAY if path.exists()]
    run("cp", "--dereference", "--parents", *names, root)
    places = {"proc": ("-t", "proc", "proc"), "sys": ("-t", "sysfs", "sys"), "dev": ("--bind", "-o", "ro", "/dev")}
    up: list[Path] = []
    try:
        for name, how in places.items():
            run("mount", *how, root / name)
            up.append(root / name)
        yield
    finally:
        for place in reversed(up):
            run("umount", place)


@dataclass(frozen=True)
class Network:
    """Two network namespaces with a wire between them: the node's, and that of what AWS has outside of it."""

    name: str

    @property
    def outside(self) -> str:
        """The other one."""
        return f"{self.name}-aws"

    @contextmanager
    def running(self, space: str, *command: str | Path) -> Iterator["subprocess.Popen[str]"]:
        """A program in one of the two, after its first line; its stdin and stdout are pipes. It ends with the block."""
        argv = ("ip", "netns", "exec", space, *command)
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None and process.stdout.readline(), f"{command} ended at once"
                yield process
            finally:
                process.kill()


@contextmanager
def network(addresses: Sequence[str], outside: str) -> Iterator[Network]:
    """New ones: these addresses on the node, and one on the other side. HAProxy may bind every address of the node."""
    net = Network(f"hafleet-{os.getpid()}")
    run("ip", "netns", "add", net.name)
    run("ip", "netns", "add", net.outside)
    try:
        run("ip", "-n", net.name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", net.outside)
        for space in (net.name, net.outside):
            for device in ("lo", "eth0"):
                run("ip", "-n", space, "link", "set", device, "up")
        for address in addresses:
            run("ip", "-n", net.name, "addr", "add", f"{address}/32", "dev", "eth0")
            run("ip", "-n", net.outside, "route", "add", f"{address}/32", "dev", "eth0")
        run("ip", "-n", net.outside, "addr", "add", f"{outside}/32", "dev", "eth0")
        run("ip", "-n", net.name, "route", "add", f"{outside}/32", "dev", "eth0", "src", addresses[0])
        run("ip", "-n", net.outside, "route", "replace", f"{addresses[0]}/32", "dev", "eth0", "src", outside)
        yield net
    finally:
        for space in (net.name, net.outside):
            run("ip", "netns", "delete", space)


class Machine:
    """A booted tree. What it writes stays in the tree."""

    def __init__(self, root: Path, space: str) -> None:
        self.root = root
        self._space = space  # network namespace; a name for the machine, too
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0  # the machine's first process, as this one sees it

    def on(self) -> None:
        """Boot, and wait until systemd has done what it was to do."""
        argv = (
            *("systemd-nspawn", "--quiet", "--directory", str(self.root), "--boot", "--machine", self._space),
            *("--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off"),
            *("--capability=CAP_NET_ADMIN", f"--network-namespace-path=/run/netns/{self._space}"),
        )
        log = self.root.with_name(f"{self.root.name}.console.log").open("ab")
        with log:
            self._nspawn = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self._booted, "the machine boots; see its console.log beside its tree")

    def _booted(self) -> bool:
        assert self._nspawn is not None and self._nspawn.poll() is None, "systemd-nspawn ended"
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        if not children:
            return False
        self._leader = int(children[0])
        return self.run("systemctl", "is-system-running", check=False).strip() in {"running", "degraded"}

    def off(self) -> None:
        """Power off, as AWS would."""
        if self._nspawn is None:
            return
        if self._leader:
            run("kill", "-s", POWEROFF, str(self._leader), check=False)
        try:
            self._nspawn.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._nspawn, self._leader = None, 0

    @property
    def running(self) -> bool:
        """True from ``on`` to ``off``, unless it has powered itself off."""
        return self._nspawn is not None and self._nspawn.poll() is None

    def path(self, name: str) -> Path:
        """A path of the running machine, as this one sees it: of its sockets, too."""
        return Path(f"/proc/{self._leader}/root") / name.lstrip("/")

    def run(self, *command: str, check: bool = True) -> str:
        """What a command says in it, as root."""
        return run("nsenter", "--target", str(self._leader), "--all", *command, check=check)

    def run_as(self, user: str, *command: str, check: bool = True) -> str:
        """The same as another user."""
        return self.run(
            "setpriv", "--reuid", user, "--init-groups", "--regid", self._group(user), *command, check=check
        )

    def _group(self, user: str) -> str:
        return self.run("id", "-g", user).strip()

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def workers(self) -> list[str]:
        """HAProxy's processes: pid and user of each."""
        return sorted(
            " ".join(line.split()) for line in self.run("ps", "-C", "haproxy", "-o", "pid=,user=").splitlines()
        )

    def entry(self, folder: Path) -> Path:
        """A program that does what chroot does, but in the running machine: for Ansible's chroot connection."""
        path = folder / "enter"
        path.write_text(f'#!/bin/sh\nshift\nexec nsenter --target {self._leader} --all "$@"\n')
        path.chmod(0o755)
        return path
