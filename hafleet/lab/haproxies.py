"""The HAProxy versions to test on: the system's own, and newer ones fetched beside it into a cache folder.

A fetched version is a whole folder of one suite's haproxy with the libraries it needs, libc included. Its binary names its
own loader and library folder, so that it is an ordinary executable: the master of a master-worker executes its own argv[0]
again at each reload, and would not find a loader that was called by hand. Those names are absolute paths, so a cache that
was moved does not start and is fetched again. Nothing of the system is changed.

Run as ``python -m hafleet.lab.haproxies fetch``: prints what is there and what is not, and why; the exit code is 0 either way.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from hafleet.core.model import Version
from hafleet.errors import HafleetError, SourceUnavailable
from hafleet.lab.debian import Archive, Suite, find_archive, open_suite

# Where a version is looked for, in this order; a suite that has moved on to a later HAProxy is passed over.
SUITES = {"2.6": ("bookworm",), "3.0": ("trixie",), "3.2": ("sid", "forky")}
LABELS = tuple(SUITES)
_VERSION = re.compile(r"version (\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Haproxy:
    """A HAProxy that can be started. ``label`` is the version asked for, ``version`` the one it says it is."""

    label: str
    binary: Path
    version: Version

    @property
    def stands_in(self) -> bool:
        """True when another version had to stand in for the one of the label."""
        return self.label != _series(self.version)


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A version that cannot be had here, and why."""

    label: str
    reason: str


def cache_dir() -> Path:
    """Where fetched versions live: ``HAFLEET_CACHE``, else ``.cache`` in the checkout."""
    configured = os.environ.get("HAFLEET_CACHE")
    return Path(configured).resolve() if configured else Path(__file__).resolve().parents[2] / ".cache"


def find(label: str) -> Haproxy | Unavailable:
    """The HAProxy of this label that is on this machine now. Touches no network.

    The oldest label is the system's own HAProxy: where that is another version and the right one was not fetched, it stands in.
    """
    system = _system()
    if system and _series(system[1]) == label:
        return Haproxy(label, *system)
    binary = _folder(label) / "haproxy"
    version = version_of(binary)
    if version and _series(version) == label:
        return Haproxy(label, binary, version)
    if system and label == LABELS[0]:
        return Haproxy(label, *system)
    reason = _reason_file(label)
    return Unavailable(
        label, reason.read_text().strip() if reason.exists() else "it was not fetched: run `make haproxies`"
    )


def fetch(labels: Sequence[str] = LABELS) -> tuple[Haproxy | Unavailable, ...]:
    """Fetch what is neither installed nor cached, then tell of each label what there is.

    One run at a time: a second one waits for the first and finds its result.
    """
    with _lock():
        archive: Archive | None = None
        for label in labels:
            found = find(label)
            if isinstance(found, Haproxy) and not found.stands_in:
                continue
            try:
                archive = archive or find_archive()
                _fetch_one(label, archive)
                _reason_file(label).unlink(missing_ok=True)
            except (HafleetError, OSError) as error:
                _reason_file(label).write_text(f"{error}\n")
    return tuple(find(label) for label in labels)


def version_of(binary: Path) -> Version | None:
    """What ``haproxy -v`` says, or None when it does not run."""
    try:
        done = subprocess.run((binary, "-v"), stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(done.stdout.decode(errors="replace")) if done.returncode == 0 else None
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _system() -> tuple[Path, Version] | None:
    """The system's HAProxy, looked for in sbin too: a plain user's PATH often lacks it."""
    path = shutil.which("haproxy", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin")))
    version = version_of(Path(path)) if path else None
    return (Path(path), version) if path and version else None


def _series(version: Version) -> str:
    """The part of a version that a label names: 3.0 of 3.0.11."""
    return f"{version[0]}.{version[1]}"


def _folder(label: str) -> Path:
    return cache_dir() / "haproxy" / label


def _reason_file(label: str) -> Path:
    """Why the last fetch of this label failed."""
    return cache_dir() / "haproxy" / f"{label}.unavailable"


@contextmanager
def _lock() -> Iterator[None]:
    home = cache_dir() / "haproxy"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch_one(label: str, archive: Archive) -> None:
    """Fetch one version from the first suite that has it. Raises SourceUnavailable with what each suite said."""
    failures: list[str] = []
    for name in SUITES[label]:
        try:
            with open_suite(archive, name) as suite:
                packages = suite.with_libraries("haproxy")
                version = packages.get("haproxy", "none")
                if version.startswith(f"{label}."):
                    _unpack(label, suite, dict(packages))
                    return
                failures.append(f"suite {name} has HAProxy {version}")
        except SourceUnavailable as error:
            failures.append(f"suite {name}: {error}")
    raise SourceUnavailable("; ".join(failures))


def _unpack(label: str, suite: Suite, packages: dict[str, str]) -> None:
    """Build the version's folder aside and rename it into place, so that it is there whole or not at all."""
    final = _folder(label)
    building = Path(mkdtemp(prefix=f"{label}.", dir=final.parent))
    try:
        building.chmod(0o755)
        suite.unpack(packages, building / "root")
        _make_executable(building, final)
        shutil.rmtree(final, ignore_errors=True)
        building.rename(final)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    if not version_of(final / "haproxy"):  # only now do the loader and libraries stand where the binary looks for them
        shutil.rmtree(final, ignore_errors=True)
        raise SourceUnavailable("the unpacked binary does not start", where=str(final / "haproxy"))


def _make_executable(building: Path, final: Path) -> None:
    """Copy the binary to ``haproxy`` with the loader and the libraries of its own suite, as they will be after the rename."""
    root = building / "root"
    binary = building / "haproxy"
    shutil.copy2(root / "usr/sbin/haproxy", binary)
    loader = next(iter(sorted(root.glob("usr/lib/*/ld-linux*.so.*")) + sorted(root.glob("lib/*/ld-linux*.so.*"))), None)
    if loader is None:
        raise SourceUnavailable("the packages hold no dynamic loader", where=str(root))
    libraries = [found for pattern in ("usr/lib/*/lib*.so.*", "lib/*/lib*.so.*") for found in root.glob(pattern)]
    folders = sorted({str(final / found.parent.relative_to(building)) for found in libraries})
    command = (
        _patchelf(),
        *("--set-interpreter", str(final / loader.relative_to(building))),
        *("--force-rpath", "--set-rpath", ":".join(folders)),
        str(binary),
    )
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    if done.returncode != 0:
        raise SourceUnavailable(done.stderr.decode(errors="replace").strip() or "patchelf failed", where=str(binary))


def _patchelf() -> str:
    """patchelf of this Python environment (it is a development dependency), else of the system."""
    found = shutil.which("patchelf", path=os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", ""))))
    if not found:
        raise SourceUnavailable("patchelf is missing", fix="run `make setup`")
    return found


def main(arguments: Sequence[str]) -> int:
    """``fetch``: fetch and tell. Anything else: tell only."""
    found = fetch() if arguments[:1] == ["fetch"] else tuple(find(label) for label in LABELS)
    for one in found:
        if isinstance(one, Unavailable):
            print(f"HAProxy {one.label}: could not be had: {one.reason}")
        else:
            note = " (stands in: the right version could not be had)" if one.stands_in else ""
            print(f"HAProxy {one.label}: {'.'.join(map(str, one.version))} at {one.binary}{note}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
