"""The Debian package as Debian's own checker sees it. What it holds and does is shown on booted nodes: ``test_ami.py``."""

from pathlib import Path

import pytest

from tests.ansible.conftest import Packages, lacking
from tests.ansible.machine import run, said

pytestmark = [
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
    pytest.mark.timeout(1800),  # the package is built for the first test
]
LINTIAN = ("nice", "lintian", "--fail-on", "error,warning", "--allow-root", "--tag-display-limit", "0")


def test_lintian_has_nothing_to_say(packages: Packages) -> None:
    done = said(*LINTIAN, packages.old)
    assert (done.returncode, done.stdout.strip()) == (0, "")


def test_lintian_would_notice(packages: Packages, tmp_path: Path) -> None:
    tree, worse = tmp_path / "tree", tmp_path / packages.old.name
    run("dpkg-deb", "--raw-extract", packages.old, tree)
    (tree / "usr/share/lintian/overrides/hafleet").unlink()
    (tree / "usr/share/doc/hafleet/copyright").unlink()
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, worse)
    done = said(*LINTIAN, worse)
    assert done.returncode == 2 and "no-copyright-file" in done.stdout and "dir-or-file-in-opt" in done.stdout
