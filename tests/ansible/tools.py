"""Ansible's programs as the tests call them, and what they print."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from hafleet.lab.haproxies import cache_dir
from tests.ansible.machine import said

ROOT = Path(__file__).parents[2]
TOOLS = cache_dir() / "ansible" / "bin"


@dataclass(frozen=True)
class Played:
    """A run of one of them."""

    code: int
    said: str

    @property
    def hosts(self) -> dict[str, dict[str, int]]:
        """Host -> how many tasks were ok, changed, failed; the hosts that a playbook came to."""
        found = re.findall(r"^(\S+)\s+: (ok=.*)$", self.said, re.MULTILINE)
        assert found, self.said
        return {host: {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line)} for host, line in found}

    @property
    def flat(self) -> str:
        """All of it on one line: Ansible folds and escapes messages."""
        return " ".join(self.said.replace('\\"', '"').split())


def play(book: str, folder: Path, *words: str | Path, **environment: str) -> Played:
    """Run a playbook of ours. ``folder`` is where Ansible's own files may lie."""
    return call("ansible-playbook", folder, ROOT / "ansible/playbooks" / book, *words, **environment)


def call(program: str, folder: Path, *words: str | Path, **environment: str) -> Played:
    """Run one of Ansible's programs from where the documents do, without a configuration of ours."""
    done = said(
        *("nice", TOOLS / program, *words),
        PATH=f"{TOOLS}:{os.environ['PATH']}",
        ANSIBLE_HOME=str(folder),
        ANSIBLE_PIPELINING="1",
        ANSIBLE_NOCOLOR="1",
        **environment,
    )
    return Played(done.returncode, done.stdout)
