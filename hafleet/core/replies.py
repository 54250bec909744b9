"""Which replies of the Runtime API mean that a command did what it should. Anything else is met by a reload.

One row per kind of command; the texts were taken from 2.6.12, 3.0.11 and 3.2.26, which agree on all of them. A plain success is
an empty reply; several commands on one line reply once each, and success of all is empty too.
"""

import re

from hafleet.core.model import Version

_SILENT = re.compile(r"")
_ANY: Version = (0, 0, 0)

# kind -> rows of (first version, replies that are good from there on); the last row that fits counts.
GOOD: dict[str, tuple[tuple[Version, re.Pattern[str]], ...]] = {
    "add": ((_ANY, re.compile(r"New server registered\.")),),
    "set": ((_ANY, _SILENT),),  # enable health, enable server, set server state|weight|health
    "remove": (
        (_ANY, _SILENT),
    ),  # set server state maint, shutdown sessions; never sent together with what must come first
    "wait": (
        ((3, 0, 0), re.compile(r"Done\.|Wait delay expired\.")),
    ),  # expired: the server stays parked till the next pass
    "del": (
        (
            (3, 2, 22),  # before, `del server` can crash HAProxy: no reply to it is good
            re.compile(
                r"Server deleted\.|No such server\."
                r"|Server still has connections attached to it, cannot remove it\."  # parked till the next pass
            ),
        ),
    ),
    "map-set": ((_ANY, _SILENT),),  # add, set and del map, commit map
    "map-prepare": ((_ANY, re.compile(r"New version created: (\d+)")),),
}


def good(kind: str, reply: str, version: Version) -> bool:
    """True when the reply (blanks around it do not count) is on the whitelist of this kind for this version."""
    fitting = [pattern for first, pattern in GOOD.get(kind, ()) if version >= first]
    return bool(fitting) and fitting[-1].fullmatch(reply.strip()) is not None
