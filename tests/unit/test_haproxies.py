"""Fetching HAProxy versions: what is found, what is fetched, and what is said when one cannot be had.

apt-get is a script on PATH here; the package it hands out is a real one, built of the system's own HAProxy.
"""

import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from hafleet.errors import SourceUnavailable
from hafleet.lab import haproxies
from hafleet.lab.debian import find_archive
from hafleet.lab.haproxies import Haproxy, Unavailable, fetch, find, version_of

FAKE_APT = """#!/bin/bash
echo "$*" >>"{log}"
case "$*" in
*indextargets*) printf '%s\\n' "{uri} {release} main" ;;
*update*) {update} ;;
*simulate*) printf 'Inst libc6 (9.9-1 X:y [amd64])\\nInst haproxy ({version}-1 X:y [amd64])\\nInst adduser (3 X:y)\\n' ;;
*download*) cp "{deb}" . ;;
esac
"""


class Stage:
    """A cache, and a PATH on which haproxy and apt-get are what the test wants."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.cache = folder / "cache"
        self.log = folder / "apt.log"
        self.deb = folder / "haproxy.deb"
        self.bin.mkdir()
        self.cache.mkdir()
        self.log.touch()

    def script(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def haproxy(self, version: str, path: Path | None = None) -> Path:
        target = path or self.bin / "haproxy"
        self.script(target, f"#!/bin/sh\necho 'HAProxy version {version}-1 2026/01/01'\n")
        return target

    def apt(self, *, release: str = "bookworm", version: str = "3.0.7", update: str = "true") -> None:
        values = {"log": self.log, "uri": "http://mirror.invalid/debian/", "release": release, "deb": self.deb}
        self.script(self.bin / "apt-get", FAKE_APT.format(version=version, update=update, **values))

    def calls(self, word: str) -> int:
        return sum(word in line for line in self.log.read_text().splitlines())


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(tmp_path)
    monkeypatch.setenv("HAFLEET_CACHE", str(stage.cache))
    monkeypatch.setenv("PATH", str(stage.bin), prepend=os.pathsep)
    stage.haproxy("2.8.5")
    return stage


@pytest.fixture
def system_haproxy() -> tuple[Path, str]:
    """The machine's real HAProxy and its series."""
    path = Path(shutil.which("haproxy", path=f"/usr/sbin:/usr/local/sbin:{os.environ['PATH']}") or "haproxy")
    version = version_of(path)
    assert version, "make setup installs it"
    return path, f"{version[0]}.{version[1]}"


def build_package(deb: Path, binary: Path, folder: Path) -> None:
    """A .deb of the binary with the loader and libraries it runs with, laid out as Debian does."""
    root = folder / "package"
    libraries = root / "usr/lib/here"
    for made in (root / "DEBIAN", root / "usr/sbin", libraries):
        made.mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: haproxy\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"
    )
    shutil.copy(binary, root / "usr/sbin/haproxy")
    needed = subprocess.run(("ldd", binary), capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"(/\S+\.so\S*)", needed):
        shutil.copy(path, libraries)
    subprocess.run(("dpkg-deb", "-Znone", "--build", root, deb), capture_output=True, check=True)


def test_a_version_is_read_from_the_binary_itself(stage: Stage) -> None:
    assert version_of(stage.bin / "haproxy") == (2, 8, 5)


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho nonsense\n", "#!/no/such/loader\n"])
def test_a_binary_that_does_not_run_or_talks_nonsense_has_no_version(stage: Stage, text: str) -> None:
    stage.script(stage.bin / "other", text)
    assert version_of(stage.bin / "other") is None


def test_the_cache_is_in_the_checkout_unless_the_environment_says_otherwise(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert haproxies.cache_dir() == stage.cache
    monkeypatch.delenv("HAFLEET_CACHE")
    assert haproxies.cache_dir() == Path(__file__).parents[2] / ".cache"


def test_the_system_stands_in_for_the_oldest_label_only(stage: Stage) -> None:
    found = find("2.6")
    assert isinstance(found, Haproxy)
    assert (found.version, found.stands_in) == ((2, 8, 5), True)
    assert isinstance(find("3.0"), Unavailable)


def test_the_system_is_taken_where_it_is_the_version_asked_for(stage: Stage) -> None:
    stage.haproxy("3.2.30")
    found = find("3.2")
    assert isinstance(found, Haproxy)
    assert (found.version, found.binary, found.stands_in) == ((3, 2, 30), stage.bin / "haproxy", False)


def test_a_cached_version_is_found_and_not_fetched_again(stage: Stage) -> None:
    cached = stage.haproxy("3.0.9", stage.cache / "haproxy/3.0/haproxy")
    stage.apt()
    assert fetch(["3.0"]) == (Haproxy("3.0", cached, (3, 0, 9)),)
    assert stage.calls("") == 0


def test_a_cached_binary_of_another_version_is_not_taken_for_the_label(stage: Stage) -> None:
    stage.haproxy("3.1.2", stage.cache / "haproxy/3.0/haproxy")
    assert isinstance(find("3.0"), Unavailable)


def test_a_suite_that_cannot_be_fetched_is_told_with_the_words_of_apt_and_remembered(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.apt(update="echo 'E: the mirror is gone' >&2; exit 100")
    assert haproxies.main(["fetch"]) == 0
    assert "HAProxy 3.0: could not be had: suite trixie" in capsys.readouterr().out
    remembered = find("3.0")
    assert isinstance(remembered, Unavailable)
    assert "the mirror is gone" in remembered.reason


def test_a_suite_that_has_moved_on_is_passed_over(stage: Stage) -> None:
    stage.apt(version="3.4.1")
    (missing,) = fetch(["3.2"])
    assert isinstance(missing, Unavailable)
    assert missing.reason == "suite sid has HAProxy 3.4.1-1; suite forky has HAProxy 3.4.1-1"


def test_a_machine_without_a_debian_archive_says_so(stage: Stage) -> None:
    stage.apt(release="noble")
    (missing,) = fetch(["3.0"])
    assert isinstance(missing, Unavailable)
    assert "no Debian archive is among this machine's package sources" in missing.reason


def test_a_fetched_binary_runs_with_the_libraries_beside_it(
    stage: Stage, system_haproxy: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary, series = system_haproxy
    build_package(stage.deb, binary, tmp_path)
    stage.apt(version=f"{series}.1")
    monkeypatch.setitem(haproxies.SUITES, series, ("trixie",))
    (found,) = fetch([series])
    assert isinstance(found, Haproxy) and not found.stands_in
    assert found.binary == stage.cache / "haproxy" / series / "haproxy"
    needed = subprocess.run(("ldd", found.binary), capture_output=True, text=True, check=True).stdout
    assert f"{stage.cache}/haproxy/{series}/root/usr/lib/here/libc.so.6" in needed
    assert sorted(path.name for path in (stage.cache / "haproxy").iterdir()) == sorted((series, "lock"))


def test_two_runs_at_once_fetch_one_time(
    stage: Stage, system_haproxy: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary, series = system_haproxy
    build_package(stage.deb, binary, tmp_path)
    stage.apt(version=f"{series}.1", update="sleep 0.3")
    monkeypatch.setitem(haproxies.SUITES, series, ("trixie",))
    results: list[Haproxy | Unavailable] = []
    threads = [threading.Thread(target=lambda: results.extend(fetch([series]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results[0] == results[1] and isinstance(results[0], Haproxy)
    assert stage.calls("download") == 1


def test_a_download_that_is_no_haproxy_leaves_nothing_behind(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_package(stage.deb, Path("/bin/true").resolve(), tmp_path)
    stage.apt(version="3.0.1")
    (missing,) = fetch(["3.0"])
    assert isinstance(missing, Unavailable)
    assert "does not start" in missing.reason
    assert sorted(path.name for path in (stage.cache / "haproxy").iterdir()) == ["3.0.unavailable", "lock"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sources.list", "deb [arch=amd64 signed-by={key}] http://mirror.invalid/debian bookworm main\n"),
        ("sources.list.d/a.list", "deb [signed-by={key},/other] http://mirror.invalid/debian bookworm main\n"),
        (
            "sources.list.d/a.sources",
            """
Types: deb
URIs: http://else.invalid/x
Signed-By: /else

Types: deb
URIs: http://mirror.invalid/debian
Signed-By: {key}
""",
        ),
    ],
)
def test_the_keyring_is_the_one_that_the_source_names(stage: Stage, tmp_path: Path, name: str, text: str) -> None:
    key = tmp_path / "own.gpg"
    key.touch()
    path = tmp_path / "etc" / name
    path.parent.mkdir(parents=True)
    path.write_text(text.format(key=key))
    stage.apt()
    archive = find_archive(tmp_path / "etc")
    assert (archive.uri, archive.keyring) == ("http://mirror.invalid/debian/", key)


def test_no_apt_at_all_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceUnavailable, match="has no apt"):
        find_archive()
