"""Is a rendered configuration fit to be loaded? Our own counts first, then HAProxy's check on a copy beside the live files."""

import re
import shutil
import subprocess
from hashlib import sha256

from hafleet.adapters.files import write_atomic
from hafleet.adapters.haproxy.disk import Disk
from hafleet.core import cfgtext
from hafleet.core.model import Rendered
from hafleet.core.serverstate import STATE_HEADER
from hafleet.core.settings import Haproxy
from hafleet.errors import ConfigRejected, StoreError

_TIMEOUT = 120.0  # seconds; 2.6 checks 10,000 servers of one backend in 2
_PLACE = re.compile(r"\[([^\[\]]*):(\d+)\]")
_NOISE = re.compile(r"^\[(?:ALERT|WARNING)\]\s+\(\d+\) : ", re.MULTILINE)
_SUMMARIES = ("Error(s) found", "Fatal errors", "Some warnings were found")
_WORDS = 600  # characters of HAProxy's words that go into a message


class Checker:
    """Checks candidates with ``haproxy -c``. Remembers the last good one."""

    def __init__(self, settings: Haproxy, disk: Disk) -> None:
        self._binary = settings.binary
        self._disk = disk
        self._good = ""
        self._file = disk.config.with_name(f"{disk.config.name}.candidate")
        self._maps = disk.maps.with_name(f"{disk.maps.name}.candidate")
        self._state = disk.state.with_name(f"{disk.state.name}.candidate")
        self._live_state = re.compile(re.escape(str(disk.state)) + r"(?![\w./-])")

    def check(self, candidate: Rendered) -> None:
        """Prove end mark, counts and syntax of the candidate.

        Raises:
            ConfigRejected: it must not be loaded.
            StoreError: the copy cannot be written.
        """
        digest = _digest(candidate)
        if digest == self._good and self._disk.state.exists():
            return
        self._count(candidate)
        self._stage(candidate)
        self._ask(candidate)
        self._good = digest

    def _count(self, candidate: Rendered) -> None:
        """What ``haproxy -c`` does not mind: a file cut at a line, one without listeners, one without servers."""
        where = str(self._file)
        cfgtext.complete(candidate.text, where)
        text = cfgtext.parse(candidate.text)
        fix = "look at the template that renders it"
        if text.bind_lines == 0:
            raise ConfigRejected(
                "the configuration has no listener: a reload would close them all", where=where, fix=fix
            )
        if text.server_lines == 0:
            raise ConfigRejected("the configuration has no server at all", where=where, fix=fix)
        for name, content in candidate.maps.items():
            if "/" in name or not name.endswith(".map") or "\0" in content:
                raise ConfigRejected(f"{name!r} cannot be a map file", where=where, fix=fix)

    def _stage(self, candidate: Rendered) -> None:
        """A copy of the candidate that refers to copies of its maps. Its line numbers are the candidate's own.

        It refers to an empty server-state file too: of every server that is down in the real one HAProxy warns, and ``-dW``
        makes that an error. A reload that was broken off leaves such a file, and no candidate would ever pass again.
        """
        path = self._file
        try:
            self._disk.prepare()
            path = self._maps
            if self._maps.exists():
                shutil.rmtree(self._maps)  # with its errors: a disk that refuses says here why
            self._maps.mkdir(parents=True)
            for name, content in candidate.maps.items():
                path = self._maps / name
                path.write_bytes(content.encode())
            path = self._state
            write_atomic(path, STATE_HEADER.encode(), mode=0o640)
            path = self._file
            text = self._live_state.sub(lambda _: str(self._state), candidate.text)
            for name in candidate.maps:
                text = text.replace(f"{self._disk.maps}/{name}", f"{self._maps}/{name}")
            write_atomic(path, text.encode(), mode=0o640)
        except OSError as error:
            raise StoreError(
                f"the candidate cannot be written: {error.strerror or error}",
                where=str(path),
                fix="check free space and owner; the live file was not touched",
            ) from error

    def _ask(self, candidate: Rendered) -> None:
        """HAProxy's own opinion. ``-dW`` makes its warnings count; plain ``-c``, for with ``-Ws`` an empty file passes."""
        command = (self._binary, "-c", "-dW", "-f", str(self._file))
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigRejected(
                f"`{' '.join(command)}` cannot be run: {error}",
                where=str(self._file),
                fix="install HAProxy, or set haproxy.binary",
            ) from error
        if done.returncode != 0:
            said = (done.stderr + done.stdout).decode(errors="replace")
            raise self._rejected(said or f"exit status {done.returncode}", candidate.text)

    def _rejected(self, said: str, text: str) -> ConfigRejected:
        """The first complaint, with its place, and the line it is about."""
        complaints = [line for line in said.split("\n") if line.startswith(("[ALERT]", "[WARNING]"))]
        alerts = [line for line in complaints if not any(summary in line for summary in _SUMMARIES)]
        words = _NOISE.sub("", "\n".join(alerts[:3]) or said).replace("\n", "; ")
        words = words.replace(f"{self._maps}/", f"{self._disk.maps}/")
        place = _PLACE.search(words)
        where, line = str(self._file), ""
        lines = text.split("\n")
        if place and 0 < int(place[2]) <= len(lines):
            where = f"{self._file}:{place[2]}"
            line = f" (line {place[2]}: {lines[int(place[2]) - 1].strip()[:200]})"
        return ConfigRejected(
            f"HAProxy refuses the configuration: {_printable(words[:_WORDS])}{line}",
            where=where,
            fix="mend the template or the settings; the live file was not touched",
        )


def _digest(candidate: Rendered) -> str:
    made = sha256(candidate.text.encode(errors="replace"))
    for name, content in sorted(candidate.maps.items()):
        made.update(f"\0{name}\0{content}".encode(errors="replace"))
    return made.hexdigest()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text).strip()
