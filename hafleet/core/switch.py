"""The switch of the health endpoint: red while the node leaves, and traffic goes on.

HAProxy answers its ``monitor-uri`` with 503 while server ``ready`` of backend ``hafleet_ready`` is in maint. A runtime command
sets that; and because a reload or a cold start forgets it, the installed file says it too, by ``disabled`` on that server's
line. Both are the same structure, so neither costs a reload.
"""

import re
from dataclasses import replace

from hafleet.core.cfgtext import END_MARK, SECTIONS, SWITCH, SWITCHED_OFF, complete, digest
from hafleet.core.command import Command
from hafleet.core.model import Memory, Rendered, RunningServer, Unknown, Worker
from hafleet.core.serverstate import UNFINISHED
from hafleet.errors import ConfigRejected, HafleetError

_BACKEND, _SERVER = SWITCH
_HEAD = re.compile(rf"^[ \t]*backend[ \t]+{_BACKEND}[ \t]*(?:#.*)?$", re.MULTILINE)
# What comes first: the server's line (less "disabled", and less a comment), or another section.
_NEXT = re.compile(
    rf"^[ \t]*(?:(?P<line>server[ \t]+{_SERVER}[ \t][^#\n\"'\\]*?)(?P<off>{SWITCHED_OFF})?[ \t]*(?:#.*)?"
    rf"|(?:{'|'.join(sorted(SECTIONS))})\b.*)$",
    re.MULTILINE,
)


def commands(worker: Worker | Unknown, memory: Memory) -> tuple[Command, ...]:
    """What turns the running worker's health endpoint; nothing where it is as the phase wants it, or cannot be turned."""
    server, red = _running(worker), _red(memory)
    if server is None or (server.maint or server.drain) == red:
        return ()
    return (Command(f"set server {_BACKEND}/{_SERVER} state {'maint' if red else 'ready'}", "set"),)


def coloured(rendered: Rendered, memory: Memory) -> Rendered:
    """The files so that a reload or a cold start comes up with the health endpoint that the phase wants."""
    return replace(rendered, text=switched(rendered.text, red=_red(memory)))


def faults(worker: Worker | Unknown, memory: Memory) -> tuple[HafleetError, ...]:
    """What keeps the health endpoint of a leaving node from turning red: a template of the user's left the switch out."""
    if not _red(memory) or not lacks(worker):
        return ()
    what = "the health endpoint cannot be made red while this node leaves"
    fix = f"have the templates print it with its server {_SERVER}, as partials/internals.cfg.j2 does"
    return (HafleetError(what, where=f"backend {_BACKEND}", fix=fix),)


def is_green(worker: Worker | Unknown) -> bool:
    """True when the health endpoint answers 200. Without a switch it never turns red."""
    server = _running(worker)
    return not isinstance(worker, Unknown) and (server is None or not (server.maint or server.drain))


def lacks(worker: Worker | Unknown) -> bool:
    """True for a worker of a configuration of ours that has no such switch."""
    return not isinstance(worker, Unknown) and worker.stamp not in {"", UNFINISHED} and _running(worker) is None


def switched(text: str, *, red: bool) -> str:
    """The finished text so that HAProxy starts with a health endpoint of this colour: the same structure, a new end mark.

    A text without the switch, or that is not whole, is returned as it is.
    """
    head = _HEAD.search(text)
    found = _NEXT.search(text, head.end()) if head else None
    if found is None or found["line"] is None or (found["off"] is not None) == red:
        return text
    try:
        complete(text)
    except ConfigRejected:
        return text
    at = text.rfind(END_MARK)
    rest = found.end("line") if red else found.end("off")
    body = f"{text[: found.end('line')]}{SWITCHED_OFF if red else ''}{text[rest:at]}"
    return f"{body}{END_MARK}{digest(body)}\n"


def _red(memory: Memory) -> bool:
    return memory.phase == "leaving"


def _running(worker: Worker | Unknown) -> RunningServer | None:
    return None if isinstance(worker, Unknown) else worker.servers.get(SWITCH)
