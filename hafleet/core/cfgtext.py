"""A configuration text, taken apart: its structure, and the server lines that the Runtime API can change.

The template is the user's, so hafleet compares rendered texts, not models. Two texts of the same structure differ only in what
runtime commands can do; any other difference costs a reload. ``finish`` closes a rendered text (header, stamp, end mark),
``parse`` reads one, ``complete`` proves that none of it was cut off.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType

from hafleet.core.listeners import Listener, bind_listeners, peer_listener
from hafleet.core.serverline import OWN_NAME, ServerLine, runtime_server
from hafleet.errors import ConfigRejected

__all__ = ["OWN_NAME", "STAMP", "ConfigText", "ServerLine", "complete", "digest", "finish", "parse"]

STAMP = "HAFLEET_STRUCTURE"  # environment variable of the worker that tells which structure it has loaded
OPTIONS_MARK = "# hafleet:options"  # comment directive: an option string that servers of this backend may have
FILE_MARK = "# hafleet:file"  # comment directive: a file that HAProxy reads when it loads, and a digest of its content
END_MARK = "# hafleet:end sha256="
SWITCH = ("hafleet_ready", "ready")  # backend and server: whether it is in maint is what the health endpoint answers
SWITCHED_OFF = " disabled"  # at the end of its line: HAProxy starts with a red health endpoint
OWN_PREFIX = "hafleet_"  # backends of hafleet itself: their servers carry state (drain) that no plan may touch

_PROXIES = frozenset({"backend", "listen", "frontend", "defaults"})
SECTIONS = _PROXIES | frozenset(
    [
        "global",
        "peers",
        "resolvers",
        "userlist",
        "cache",
        "mailers",
        "program",
        "ring",
        "http-errors",
        "fcgi-app",
        "log-forward",
        "log-profile",
        "crt-store",
        "traces",
        "acme",
    ]
)
_MAP = re.compile(r"\bmap(?:_[a-z0-9_]+)?\(([^,()\s]+)")


@dataclass(frozen=True, slots=True)
class ConfigText:
    """A parsed configuration text."""

    structure: str  # hex sha256 of everything a runtime command cannot change
    stamp: str  # the value of the stamp line, "" when there is none
    servers: Mapping[tuple[str, str], ServerLine]  # runtime servers by (backend, name), in file order
    fixed: frozenset[tuple[str, str]]  # servers that are structure; name "" where a server-template makes up the names
    backends: frozenset[str]  # names of backend and listen sections
    options: Mapping[str, frozenset[str]]  # backend -> every option string its runtime servers have or may have
    listeners: tuple[Listener, ...]  # bind lines of every section, and the local peer's address
    maps: Mapping[str, str]  # map file name (no folder) -> path as the text has it
    server_lines: int  # all server lines outside peers, runtime or not
    bind_lines: int  # bind lines of frontend and listen sections


def finish(body: str, *, source: str, author: str) -> str:
    """Close a rendered text: header, body, stamp section, end mark.

    Args:
        body: what the templates rendered.
        source: which settings it was made from, for the header; any text, made safe here.
        author: what wrote it, for the header; any text, made safe here.
    """
    structure = parse(body).structure
    text = (
        f"# Written by {_one_line(author)}; edits are lost: the next pass writes this file anew.\n"
        f"# Settings: {_one_line(source)}\n"
        f"# Structure: {structure}\n\n"
        f"{body.rstrip()}\n\n"
        "# The agent reads this from the running worker, to know which structure it has loaded.\n"
        f"global\n    setenv {STAMP} {structure}\n"
    )
    return f"{text}{END_MARK}{digest(text)}\n"


def complete(text: str, where: str = "candidate") -> None:
    """Prove that nothing of a finished text is missing or altered.

    ``haproxy -c`` accepts a file that was cut at the end of a line, hence the end mark.

    Raises:
        ConfigRejected: the end mark is missing, not last, or of another text.
    """
    at = text.rfind(END_MARK)
    if at < 0 or not text.endswith("\n") or "\n" in text[at:-1]:
        raise ConfigRejected(
            "the configuration is cut off: it does not end in its end mark", where=where, fix="render it again"
        )
    if text[at + len(END_MARK) : -1] != digest(text[:at]):
        raise ConfigRejected(
            "the configuration is not the text its end mark was made for", where=where, fix="render it again"
        )


def digest(text: str) -> str:
    """Hex sha256 of the text. A lone surrogate, which no file can hold, counts as a question mark."""
    return sha256(text.encode("utf-8", "replace")).hexdigest()


@lru_cache(maxsize=4)  # a pass looks at the same two texts, installed and wanted, again and again
def parse(text: str) -> ConfigText:
    """Take a text apart. Never fails: what it cannot read counts as structure, and HAProxy's own check judges it."""
    return _Parser().run(text)


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _plain(raw: str) -> str:
    """A line without indentation, trailing comment and doubled blanks. Quoted lines keep their inside as it is."""
    line = raw.strip()
    if '"' in line or "'" in line or "\\" in line:
        return line
    if "#" in line and not line.startswith((OPTIONS_MARK, FILE_MARK)):
        line = line.partition("#")[0]
    return " ".join(line.split())


class _Parser:
    """One run over a text. Holds what is known of the section it is in."""

    def __init__(self) -> None:
        self.lines: list[str] = []  # the structure
        self.servers: dict[tuple[str, str], ServerLine] = {}
        self.fixed: set[tuple[str, str]] = set()
        self.options: dict[str, set[str]] = {}
        self.backends: set[str] = set()
        self.listeners: list[Listener] = []
        self.peers: list[tuple[str, str, int]] = []
        self.localpeer = ""
        self.stamp = ""
        self.section = ""
        self.backend = ""  # name of the backend or listen section we are in, "" elsewhere
        self.pending: list[tuple[str, ServerLine]] = []  # runtime servers of this backend with their text
        self.inherits = False  # a defaults section has default-server: `add server` would not get those options
        self.own_default = False  # so has this backend
        self.conditions = 0  # depth of .if
        self.server_lines = 0
        self.bind_lines = 0

    def run(self, text: str) -> ConfigText:
        for number, raw in enumerate(text.split("\n"), 1):
            line = _plain(raw)
            if line:
                self.read(line, number)
        self.close()
        own = peer_listener(self.peers, self.localpeer)
        found = (*self.listeners, own) if own else tuple(self.listeners)
        options = {name: frozenset(texts) for name, texts in sorted(self.options.items())}
        joined = "\n".join((*self.lines, *_option_lines(options)))
        maps = {path.rpartition("/")[2]: path for path in _MAP.findall(joined)}
        return ConfigText(
            structure=digest(joined),
            stamp=self.stamp,
            servers=MappingProxyType(self.servers),
            fixed=frozenset(self.fixed),
            backends=frozenset(self.backends),
            options=MappingProxyType(options),
            listeners=found,
            maps=MappingProxyType(maps),
            server_lines=self.server_lines,
            bind_lines=self.bind_lines,
        )

    def read(self, line: str, number: int) -> None:
        """One line that is not blank."""
        word = line.partition(" ")[0]
        if word == "server":
            self.server(line)
        elif word in SECTIONS:
            self.open(word, line)
        elif line.startswith(OPTIONS_MARK):
            if self.backend:
                self.options.setdefault(self.backend, set()).add(" ".join(line[len(OPTIONS_MARK) :].split()))
        elif word == "setenv" and line.startswith(f"setenv {STAMP} "):
            self.stamp = line.rpartition(" ")[2]
        elif line.startswith(FILE_MARK):
            self.lines.append(line)
        elif not line.startswith("#"):
            self.other(word, line, number)

    def open(self, word: str, line: str) -> None:
        """A new section begins."""
        self.close()
        self.section = word
        name = line.split(" ", 2)[1] if " " in line else ""
        self.backend = name if word in {"backend", "listen"} else ""
        if self.backend:
            self.backends.add(name)
        self.lines.append(line)

    def close(self) -> None:
        """The section ends: an empty global section leaves no trace, and pending servers are judged."""
        if self.lines and self.lines[-1] == "global":
            self.lines.pop()
        plain = not (self.inherits or self.own_default or self.backend.startswith(OWN_PREFIX))
        for line, server in self.pending:
            key = (server.backend, server.name)
            if plain and key not in self.servers:
                self.servers[key] = server
                self.options.setdefault(server.backend, set()).add(server.options)
            else:
                self.lines.append(line)
                self.fixed.add(key)
        self.pending = []
        self.own_default = False

    def server(self, line: str) -> None:
        """A server line: runtime server, or structure where it is odd."""
        if self.section == "peers":
            self.lines.append(line)
            return
        self.server_lines += 1
        if self.backend == SWITCH[0] and line.startswith(f"server {SWITCH[1]} "):
            line = line.removesuffix(SWITCHED_OFF)  # a runtime command does the same: no structure
        server = None if self.conditions or not self.backend else runtime_server(self.backend, line)
        if server is None:
            self.lines.append(line)
            self.fixed.add((self.backend, [*line.split(" "), ""][1]))
        else:
            self.pending.append((line, server))

    def other(self, word: str, line: str, number: int) -> None:
        """A directive that is structure; some of them also tell where HAProxy listens."""
        self.lines.append(line)
        if word == ".if":
            self.conditions += 1
        elif word == ".endif":
            self.conditions -= 1
        elif word == "default-server" and self.section in _PROXIES:
            self.own_default = True
            self.inherits = self.inherits or self.section == "defaults"
        elif word == "server-template":
            self.fixed.add((self.backend, ""))
        elif word == "localpeer":
            self.localpeer = line.rpartition(" ")[2]
        elif word == "bind":
            self.bind_lines += self.section != "peers"
            self.listeners.extend(bind_listeners(line, number))
        elif word == "peer":
            name, target = [*line.split(" "), "", ""][1:3]
            self.peers.append((name, target, number))


def _option_lines(options: Mapping[str, frozenset[str]]) -> Iterator[str]:
    for backend, texts in options.items():
        for text in sorted(texts):
            yield f"{OPTIONS_MARK} {backend} {text}"
