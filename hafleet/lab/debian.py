"""Packages of another Debian suite, fetched through a private apt configuration and unpacked without installing anything.

The machine's own package sources say where the Debian archive (or the mirror that stands for it) is and which keyring
signs it; only the suite is replaced. Nothing of the system's apt is written: lists, cache, status and preferences are
private. Signatures are verified as ever. ``Check-Valid-Until`` is off in here alone, because a frozen or slow mirror may
carry an index that is past its date.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hafleet.errors import SourceUnavailable

SUITES = frozenset(
    {"oldstable", "stable", "testing", "unstable", "sid", "bullseye", "bookworm", "trixie", "forky", "duke"}
)
KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{ending}") for ending in ("gpg", "pgp"))
TIMEOUT = 300.0  # seconds for one apt command; a slow mirror may need most of a minute for its index
_SIGNED_BY = re.compile(r"signed-by\s*[:=]\s*(/[^\s,\]]+)", re.IGNORECASE)
_SIMULATED = re.compile(r"^Inst (\S+) \((\S+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Archive:
    """A Debian archive that this machine trusts: where it is, and the keyring that signs it."""

    uri: str
    keyring: Path


def find_archive(etc: Path = Path("/etc/apt")) -> Archive:
    """The Debian archive among this machine's package sources, one-line or deb822. ``etc`` is where apt's sources are.

    Raises:
        SourceUnavailable: no apt, no Debian archive among the sources (as on Ubuntu), or no keyring for it.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise SourceUnavailable("this system has no apt", fix="use Debian to test with newer HAProxy versions")
    targets = _run(
        ("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    )
    for line in targets.splitlines():
        uri, _, rest = line.partition(" ")
        suite, _, component = rest.partition(" ")
        if suite in SUITES and component == "main":
            return Archive(uri, _keyring(uri, etc))
    raise SourceUnavailable(
        "no Debian archive is among this machine's package sources",
        where=f"{etc}/sources.list*",
        fix="add one with its debian-archive-keyring to test with newer HAProxy versions",
    )


def _keyring(uri: str, etc: Path) -> Path:
    """The Signed-By file of the source that names the URI, else Debian's own keyring."""
    for stanza in _stanzas(etc):
        signed = _SIGNED_BY.search(stanza)
        if uri.rstrip("/") in stanza and signed and Path(signed[1]).exists():
            return Path(signed[1])
    for keyring in KEYRINGS:
        if keyring.exists():
            return keyring
    raise SourceUnavailable(
        "there is no keyring to verify the Debian archive with", fix="install debian-archive-keyring"
    )


def _stanzas(etc: Path) -> Iterator[str]:
    """Each source of the machine as text: a line of a ``.list``, a paragraph of a ``.sources``."""
    for path in sorted((etc / "sources.list.d").glob("*.sources")):
        yield from re.split(r"\n\s*\n", path.read_text(errors="replace"))
    for path in (etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))):
        if path.exists():
            yield from path.read_text(errors="replace").splitlines()


class Suite:
    """One suite of an archive, with its index fetched. Make it with ``open_suite``."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._folder = folder
        self._environment = environment

    def with_libraries(self, package: str) -> Mapping[str, str]:
        """The package and every library it stands on, libc included: name -> version.

        Raises:
            SourceUnavailable: the suite does not have the package.
        """
        text = self._apt("install", "--simulate", "--no-install-recommends", package)
        return {
            name: version
            for name, version in _SIMULATED.findall(text)
            if name == package or name.startswith(("lib", "zlib"))
        }

    def unpack(self, packages: Mapping[str, str], target: Path) -> None:
        """Download these versions and unpack them under ``target``. Raises SourceUnavailable."""
        self._apt("download", *(f"{name}={version}" for name, version in packages.items()))
        for deb in sorted(self._folder.glob("*.deb")):
            _run(("dpkg", "-x", str(deb), str(target)))
            deb.unlink()

    def _apt(self, *arguments: str) -> str:
        return _run(("apt-get", "-q", "-y", *arguments), cwd=self._folder, environment=self._environment)


@contextmanager
def open_suite(archive: Archive, name: str) -> Iterator[Suite]:
    """Fetch the index of a suite into a private place that is gone at the end.

    Raises:
        SourceUnavailable: the suite cannot be fetched or its signature does not verify.
    """
    with TemporaryDirectory(prefix="hafleet-apt-") as folder:
        root = Path(folder)
        root.chmod(0o755)  # apt drops to its own user to download, and must reach this place
        for part in (
            "state/lists/partial",
            "cache/archives/partial",
            "etc/parts",
            "etc/preferences.d",
            "etc/sources.d",
            "debs",
        ):
            (root / part).mkdir(parents=True)
        debs = root / "debs"
        _give_to_apt(debs)
        source = root / "etc/sources.list"
        source.write_text(f"deb [signed-by={archive.keyring}] {archive.uri} {name} main\n")
        configuration = root / "apt.conf"
        configuration.write_text(_configuration(root))
        suite = Suite(name, debs, {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C.UTF-8"})
        suite._apt("update", "--error-on=any")
        yield suite


def _give_to_apt(folder: Path) -> None:
    """Let apt's unprivileged download user write here, where we are root and it exists."""
    if os.geteuid() == 0:
        try:
            shutil.chown(folder, "_apt")
        except LookupError:
            return


def _configuration(root: Path) -> str:
    """apt.conf: the machine's own Acquire settings (proxies, retries), and every path that is written private."""
    acquire = [
        line
        for line in _run(("apt-config", "dump", "Acquire")).splitlines()
        if not line.startswith(("Acquire::IndexTargets", "Acquire::Check-Valid-Until"))
    ]
    private = {
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": root / "etc/parts",
        "Dir::Etc::sourcelist": root / "etc/sources.list",
        "Dir::Etc::sourceparts": root / "etc/sources.d",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": root / "etc/preferences.d",
        "Dir::State": root / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": root / "cache",
        "Acquire::Check-Valid-Until": "false",
        "Acquire::Languages": "none",
        "Acquire::AllowInsecureRepositories": "false",
        "APT::Get::AllowUnauthenticated": "false",
    }
    return "\n".join([*acquire, *(f'{key} "{value}";' for key, value in private.items())]) + "\n"


def _run(command: tuple[str, ...], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of a command that must succeed. Raises SourceUnavailable with its last words."""
    where = " ".join(command[:4])
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceUnavailable(f"no end within {TIMEOUT:.0f} s", where=where, fix="look at the network") from error
    if done.returncode != 0:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise SourceUnavailable("; ".join(words[-3:]) or f"exit code {done.returncode}", where=where)
    return done.stdout.decode(errors="replace")
