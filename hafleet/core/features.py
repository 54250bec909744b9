"""What differs between HAProxy versions, in one table. Everything else in hafleet asks this, never the version.

Measured on 2.6.12, 3.0.11 and 3.2.26 (Debian), or read in HAProxy's own changelog where a row says so.
"""

from dataclasses import dataclass

from hafleet.core.model import Version

OLDEST: Version = (2, 6, 0)  # the first version whose `add server` needs no experimental mode


@dataclass(frozen=True, slots=True)
class Features:
    """What one HAProxy version can do. Each field says since when."""

    version: Version
    reload_answers: bool  # 2.7: the master's `reload` waits and answers Success=0|1; before, poll `show proc`
    add_cookie: bool  # 3.0: `add server` takes `cookie`; 2.6 refuses it
    safe_del: bool  # 3.2.22: the last of the fixes of `del server`; 2.6.12 crashes when the server refused connections
    pool_options: bool  # before 3.0: an added server reuses connections only with its pool options spelled out
    prompt_per_line: bool  # 3.2: one prompt per line; before, one per command of a line
    line_bytes: int  # longest command line; 3.2 refuses what does not fit its buffer, earlier ones take more


# field -> first version that has it. The negative ones (a flaw that ended) are in _UNTIL.
_SINCE: dict[str, Version] = {
    "reload_answers": (2, 7, 0),  # changelog
    "add_cookie": (3, 0, 0),
    "safe_del": (3, 2, 22),  # changelog
    "prompt_per_line": (3, 2, 0),
}
_UNTIL: dict[str, Version] = {
    "pool_options": (3, 0, 0),
}
_LINE_BYTES = 15_000  # the same for all: below the 16 kB buffer of 3.2


def features(version: Version) -> Features:
    """The row for this version."""
    since = {name: version >= first for name, first in _SINCE.items()}
    until = {name: version < end for name, end in _UNTIL.items()}
    return Features(version=version, line_bytes=_LINE_BYTES, **since, **until)
