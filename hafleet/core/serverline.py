"""One ``server`` line of a configuration, and whether the Runtime API can change it."""

import re
from functools import lru_cache
from typing import NamedTuple

OWN_NAME = "%N"  # stands for the server's own name in an option string, so that cookies do not make every server differ

# Options after which a server line is not a plain runtime server: its state or address is driven by something else.
_ODD = frozenset({"disabled", "enabled", "track", "resolvers", "init-addr", "namespace", "agent-check", "redir"})
_LINE = re.compile(r"server (\S+) (\S+) id ([0-9]+) weight ([0-9]+)(?: (.*))?")  # the order of the shipped template
_QUOTING = frozenset("\"'\\$;#")
_NUMBER = re.compile(r"[0-9]+")
_IPV4 = re.compile(r"(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}):(\d{1,5})", re.ASCII)
_IPV6 = re.compile(r"\[?([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\]?:([0-9]{1,5})")


class ServerLine(NamedTuple):
    """One server that the Runtime API can change. A tuple, not a dataclass: 10,000 of them are built per text."""

    backend: str
    name: str
    address: str  # IP literal without brackets
    port: int
    id: int
    weight: int
    options: str  # everything else, own name as %N

    @property
    def command_options(self) -> str:
        """The options as ``add server`` takes them."""
        return self.options.replace(OWN_NAME, self.name)

    @property
    def checked(self) -> bool:
        """True when HAProxy checks its health."""
        return "check" in self.options.split(" ")


def runtime_server(backend: str, line: str) -> ServerLine | None:
    """The line (single blanks, no comment) as a runtime server, or None when it is anything but plain.

    Not plain is: no explicit id, a host name or a socket for an address, quoting, or an option after which something else
    drives the server's state.
    """
    found = _LINE.fullmatch(line)
    name, target, number, weight, tail = found.groups(default="") if found else _tokens(line)
    where = _IPV4.fullmatch(target) or _IPV6.fullmatch(target)
    if not (where and number and weight and number != "0") or where[1] in {"0.0.0.0", "::"} or "%" in tail:
        return None
    if name in tail:
        tail = " ".join(OWN_NAME if word == name else word for word in tail.split(" "))
    if not _is_plain(tail):
        return None
    return ServerLine(backend, name, where[1], int(where[2]), int(number), int(weight), tail)


@lru_cache(maxsize=256)  # nearly all servers of a backend have the same options
def _is_plain(tail: str) -> bool:
    words = set(tail.split(" "))
    return not (words & _ODD or {"id", "weight"} & words or set(tail) & _QUOTING)


def _tokens(line: str) -> tuple[str, str, str, str, str]:
    """(name, target, id, weight, rest) of a server line whose options stand in any order."""
    words = line.split(" ")[1:]
    name, target, rest = *[*words, "", ""][:2], words[2:]
    found = {"id": "", "weight": "1"}
    for key in found:
        if key in rest[:-1]:
            at = rest.index(key)
            found[key] = rest[at + 1] if _NUMBER.fullmatch(rest[at + 1]) else ""
            del rest[at : at + 2]
    return name, target, found["id"], found["weight"], " ".join(rest)
