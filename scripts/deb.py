"""Builds the Debian package: dist/hafleet_VERSION_ARCH.deb, and the same files as a tarball for systems without dpkg.

The agent lies in /opt/hafleet, which is a virtualenv made by hand: ``pyvenv.cfg``, ``bin/python`` (a link that the package's postinst
makes) and one ``lib/python3.X/site-packages`` for each Python that a supported system may have. What is the same for all of them lies
once in ``lib/common``, which a ``.pth`` file in each names. So one package serves every release, and a system that moves to a later
Python moves the agent along. The packages are those of uv.lock, proved by their hashes, and only wheels: nothing is compiled, and
another architecture is built on this one.

The same checkout gives the same bytes: times are those of the last commit.

Usage: ``scripts/deb.py [--version 0.1.0-1] [--arch amd64|arm64] [--into dist]``; `make deb` sets the virtualenv up first.
"""

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "packaging"
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC = ("2_28", "2_17")  # the oldest of these systems, Amazon Linux 2023, has 2.34
HOME = "opt/hafleet"
LAUNCHER = """#!/opt/hafleet/bin/python -IB
import sys

from hafleet.cli import main

sys.exit(main())
"""
SHELLS = {
    "bash": "usr/share/bash-completion/completions/hafleet",
    "zsh": "usr/share/zsh/vendor-completions/_hafleet",
    "fish": "usr/share/fish/vendor_completions.d/hafleet.fish",
}
EXECUTABLE = {f"{HOME}/bin/hafleet"}


def run(*command: str | Path, **environment: str) -> str:
    """What a command prints on stdout; its failure ends the build."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"deb: {Path(command[0]).name} {command[1]} ended with {done.returncode}")
    return done.stdout


def script(name: str) -> Path:
    """A program of this virtualenv."""
    return Path(sysconfig.get_path("scripts")) / name


def commit_time() -> int:
    """Seconds since the epoch that every file gets: SOURCE_DATE_EPOCH, else the last commit's, else now."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    if shutil.which("git") and (ROOT / ".git").exists():
        return int(run("git", "log", "-1", "--format=%ct"))
    return int(time.time())


def put(path: Path, content: str | bytes) -> None:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


# --- /opt/hafleet ---------------------------------------------------------------------------------------------------


def install_python(python: str, machine: str, into: Path, work: Path) -> None:
    """The locked packages and hafleet, as that Python on that machine needs them."""
    requirements = work / "requirements.txt"
    if not requirements.exists():
        export = ("export", "--quiet", "--frozen", "--no-emit-project", "--no-default-groups", "--no-header")
        requirements.write_text(run(script("uv"), *export, "--no-annotate"))
    run(
        *(sys.executable, "-m", "pip", "--quiet", "--no-input", "install", "--no-deps", "--require-hashes"),
        *("--only-binary=:all:", "--no-compile", "--target", into, "-r", requirements),
        *("--implementation=cp", f"--python-version={python}"),
        *(argument for libc in GLIBC for argument in ("--platform", f"manylinux_{libc}_{machine}")),
        *("--platform", f"manylinux2014_{machine}"),
    )
    shutil.rmtree(into / "bin", ignore_errors=True)  # other packages' commands
    with zipfile.ZipFile(next(work.glob("hafleet-*.whl"))) as wheel:
        wheel.extractall(into)  # noqa: S202 - made a moment ago, by us


def digest(path: Path) -> str:
    """Of a file, or of a folder with all that is in it."""
    found = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file()):
        found.update(f"{file.relative_to(path.parent)}\0{file.stat().st_size}\0".encode())
        found.update(file.read_bytes())
    return found.hexdigest()


def share(trees: dict[str, Path], home: Path) -> None:
    """What is the same for all Pythons once in ``lib/common``; the rest apart, with a ``.pth`` file that names the common part."""
    names = sorted({item.name for tree in trees.values() for item in tree.iterdir()})
    for name in names:
        found = [tree / name for tree in trees.values() if (tree / name).exists()]
        if len(found) == len(trees) and len({digest(path) for path in found}) == 1:
            (home / "lib/common").mkdir(parents=True, exist_ok=True)
            shutil.move(found[0], home / "lib/common" / name)
    for python, tree in trees.items():
        packages = home / f"lib/python{python}/site-packages"
        packages.mkdir(parents=True)
        put(packages / "hafleet.pth", "../../common\n")
        for item in sorted(tree.iterdir()):
            if not (home / "lib/common" / item.name).exists():
                shutil.move(item, packages / item.name)


def stage_home(root: Path, machine: str, work: Path) -> None:
    """/opt/hafleet, but for the link ``bin/python``."""
    wheel = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", work)
    run(sys.executable, "-m", "pip", *wheel, ROOT)
    trees = {python: work / python for python in PYTHONS}
    for python, tree in trees.items():
        install_python(python, machine, tree, work)
    home = root / HOME
    share(trees, home)
    put(home / "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    put(home / "bin/hafleet", LAUNCHER)


# --- the rest of the system -----------------------------------------------------------------------------------------


def stage_system(root: Path, version: str, when: int) -> None:
    """Units, man page, completion, documentation."""
    shutil.copytree(DATA / "systemd", root / "usr/lib/systemd/system")
    put(root / "etc/default/hafleet", (DATA / "etc/hafleet.default").read_text())
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/hafleet").symlink_to(f"/{HOME}/bin/hafleet")
    date = time.strftime("%Y-%m-%d", time.gmtime(when))
    man = (DATA / "man/hafleet.8").read_text().replace("@DATE@", date).replace("@VERSION@", version)
    put(root / "usr/share/man/man8/hafleet.8.gz", gzip.compress(man.encode(), mtime=0))
    for shell, path in SHELLS.items():
        put(root / path, run(script("hafleet"), _HAFLEET_COMPLETE=f"{shell}_source"))
    docs = root / "usr/share/doc/hafleet"
    shutil.copytree(ROOT / "docs/examples", docs / "examples")
    for page in (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"):
        put(docs / page.name, page.read_text())
    put(docs / "changelog.gz", gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), mtime=0))
    day = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(when))
    entry = f"hafleet ({version}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {maintainer()}  {day}\n"
    put(docs / "changelog.Debian.gz", gzip.compress(entry.encode(), mtime=0))
    put(docs / "copyright", copyright_file(root / HOME / "lib"))
    put(root / "usr/share/lintian/overrides/hafleet", (DATA / "debian/lintian-overrides").read_text())


def maintainer() -> str:
    """Whom the package names: DEBFULLNAME and DEBEMAIL, as Debian's own tools read them."""
    name = os.environ.get("DEBFULLNAME", "hafleet maintainers")
    return f"{name} <{os.environ.get('DEBEMAIL', 'maintainers@hafleet.invalid')}>"


def copyright_file(lib: Path) -> str:
    """Whose work is in the package: hafleet's own, and each Python package with the licence it names."""
    lines = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
        "Upstream-Name: hafleet",
        "",
        "Files: *",
        "Copyright: 2026 the hafleet authors",
        "License: Apache-2.0",
    ]
    for metadata in sorted(lib.rglob("*.dist-info/METADATA"), key=lambda path: path.parent.name):
        about = HeaderParser().parsestr(metadata.read_text(encoding="utf-8"))
        name = about["Name"]
        if name == "hafleet" or f"Comment: {name} {about['Version']}" in lines:
            continue
        said = about["License-Expression"] or about["License"] or "see its folder"
        licence = "-".join(said.splitlines()[0].split())
        who = about["Author"] or about["Author-email"] or f"the authors of {name}"
        where = f"{HOME}/lib/*/{metadata.parent.name.split('-')[0]}*"
        lines += ["", f"Files: {where}", f"Copyright: {who}", f"License: {licence}"]
        lines += [f"Comment: {name} {about['Version']}"]
    lines += ["", "License: Apache-2.0", " On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.", ""]
    return "\n".join(lines)


# --- the package ----------------------------------------------------------------------------------------------------


def settle(root: Path, when: int) -> None:
    """The same modes and times, whoever builds."""
    for path in sorted(root.rglob("*"), reverse=True):
        if not path.is_symlink():
            name = str(path.relative_to(root))
            path.chmod(0o755 if path.is_dir() or name in EXECUTABLE else 0o644)
        os.utime(path, (when, when), follow_symlinks=False)


def stage_control(root: Path, version: str, arch: str) -> None:
    """DEBIAN/: control, maintainer scripts, sums."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    size = sum(-(-path.stat().st_size // 1024) for path in files)
    sums = "".join(f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in files)  # noqa: S324
    pythons = " | ".join([f"python3 (>= {PYTHONS[0]})", *(f"python{python}" for python in reversed(PYTHONS))])
    control = (DATA / "debian/control.in").read_text()
    said = {"VERSION": version, "ARCH": arch, "SIZE": str(size), "PYTHONS": pythons, "MAINTAINER": maintainer()}
    for key, value in said.items():
        control = control.replace(f"@{key}@", value)
    debian = root / "DEBIAN"
    put(debian / "control", control)
    put(debian / "md5sums", sums)
    put(debian / "conffiles", "/etc/default/hafleet\n")
    put(debian / "triggers", (DATA / "debian/triggers").read_text())
    for name in ("postinst", "prerm", "postrm"):
        put(debian / name, (DATA / "debian" / name).read_text())
        (debian / name).chmod(0o755)


def tarball(root: Path, path: Path, when: int) -> None:
    """The files without dpkg's part: for systems with another packager."""

    def plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
        item.uid = item.gid = 0
        item.uname = item.gname = "root"
        item.mtime = when
        return item

    with path.open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for name in ("etc", "opt", "usr"):
                archive.add(root / name, name, filter=plain)


def build(version: str, arch: str, into: Path) -> tuple[Path, Path]:
    """The deb and the tarball."""
    when = commit_time()
    os.environ["SOURCE_DATE_EPOCH"] = str(when)
    into.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="hafleet-deb-") as folder:
        work = Path(folder)
        root = work / "root"
        root.mkdir(mode=0o755)
        stage_home(root, MACHINES[arch], work)
        stage_system(root, version, when)
        settle(root, when)
        packed = into / f"hafleet-{version}-{arch}.tar.gz"
        tarball(root, packed, when)
        stage_control(root, version, arch)
        package = into / f"hafleet_{version}_{arch}.deb"
        run("dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", root, package)
    return package, packed


def main(arguments: list[str]) -> int:
    """Build, and say what was built."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        released = tomllib.load(file)["project"]["version"]
    parser = argparse.ArgumentParser(description="Builds the Debian package.")
    parser.add_argument("--version", default=f"{released}-1")
    parser.add_argument(
        "--arch", choices=sorted(MACHINES), default="amd64" if os.uname().machine == "x86_64" else "arm64"
    )
    parser.add_argument("--into", type=Path, default=ROOT / "dist")
    chosen = parser.parse_args(arguments)
    for path in build(chosen.version, chosen.arch, chosen.into):
        print(
            f"{path} ({path.stat().st_size / 2**20:.1f} MiB, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
