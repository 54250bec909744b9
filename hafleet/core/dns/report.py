"""What a DNS pass tells the outside, and what a dry one would do."""

from dataclasses import dataclass

from hafleet.core.dns.model import Record
from hafleet.core.dns.plan import Step
from hafleet.core.model import Held


@dataclass(frozen=True, slots=True)
class DnsReport:
    """One DNS pass. Times are wall clock seconds, ``next_at`` seconds from now."""

    at: float
    registered: bool  # every wanted record stands, with its check, and is in force
    records: tuple[Record, ...] = ()  # this node's, as far as they were seen
    leads: bool = False
    done: tuple[str, ...] = ()  # one line for each thing done
    held: tuple[Held, ...] = ()
    problems: tuple[str, ...] = ()
    waiting: str = ""  # for what; "" when nothing is pending
    next_at: float = 0.0


@dataclass(frozen=True, slots=True)
class DnsPlan:
    """Every step to what is wanted, if each one succeeds; nothing of it was done."""

    steps: tuple[Step, ...]
    records: tuple[Record, ...]  # as they stand now, the whole tree
    held: tuple[Held, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """What the DNS side would do, in words: its part of ``hafleet plan``."""

    lines: tuple[str, ...] = ()
    held: tuple[Held, ...] = ()
    problems: tuple[str, ...] = ()


NO_INTENT = Intent()
