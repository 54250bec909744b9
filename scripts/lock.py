"""Locks the dependencies and takes every host out of uv.lock.

Names, versions and hashes are what a lock is for. Where the files come from is the business of each machine (its mirror,
its proxy), so the committed file names no host: every registry is ``https://registry.invalid/simple``. ``make setup``
exports names, versions and hashes from it and lets pip fetch them as this machine is configured to.

Usage: ``scripts/lock.py [UV ARGUMENTS]`` (for example ``--upgrade``), or ``scripts/lock.py --check`` which only looks.
"""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "uv.lock"
HOST = "https://registry.invalid"
_REGISTRY = re.compile(r'registry = "[^"]+"')
_FILE = re.compile(r'url = "https?://[^"]*/([^"/]+)"')


def without_hosts(text: str) -> str:
    """The lock with registries and file addresses replaced; a fixed point of itself."""
    return _FILE.sub(rf'url = "{HOST}/\1"', _REGISTRY.sub(f'registry = "{HOST}/simple"', text))


def main(arguments: list[str]) -> int:
    """Lock and clean, or with ``--check`` tell whether the lock is clean; 0 when all is well."""
    if arguments == ["--check"]:
        clean = without_hosts(LOCK.read_text()) == LOCK.read_text()
        print("uv.lock names no host" if clean else "uv.lock names a host; run `make lock`")
        return 0 if clean else 1
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    done = subprocess.run((uv, "lock", *arguments), cwd=LOCK.parent, check=False)
    LOCK.write_text(without_hosts(LOCK.read_text()))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
