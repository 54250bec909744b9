"""What operators order for the whole fleet: a server out of rotation, a zone without new traffic.

An order is one tag of the fleet's own Auto Scaling group: every pass reads the group anyway, a new node too, and two operators never
write over each other's orders. The key names what it is about, the value says what is to be done, when, until when, by whom and why:

    hafleet:server:site/i-0abc...     drain at=2026-11-21T07:13:00Z by=kim reason=a new disk
    hafleet:zone:eu-west-1a           drain at=... until=... force=yes by=kim reason=the zone is slow

Both hold only characters that every AWS service takes in tags.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from hafleet.core.values import Refusal

Verb = Literal["drain", "maint"]

SERVER, ZONE = "hafleet:server:", "hafleet:zone:"  # how the keys begin
SHORTEST, LONGEST = 60.0, 72 * 3600.0  # seconds that an order with an end lasts, as a zonal shift of ELB
_KEY, _VALUE = 128, 256  # characters of a tag's key and value at most
_SERVER_KEY = re.compile(rf"{SERVER}([A-Za-z0-9_.:-]{{1,63}})/([A-Za-z0-9.:-]{{1,48}})")
_ZONE_KEY = re.compile(rf"{ZONE}([a-z0-9-]{{1,64}})(?:/([A-Za-z0-9_.:-]{{1,48}}))?")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_WORD = r"[\w.:/=+@-]+"
_FORM = re.compile(
    rf"(?P<verb>drain|maint) at=(?P<at>\S+)(?: until=(?P<until>\S+))?(?P<force> force=yes)?"
    rf"(?: by=(?P<by>{_WORD}))?(?: reason=(?P<reason>.*))?"
)


@dataclass(frozen=True, slots=True)
class Order:
    """One order. Times are wall clock seconds."""

    verb: Verb  # drain: no new sessions; maint: out at once
    at: float
    server: str = ""  # instance id, server name or static address; "" for an order about a zone
    zone: str = ""  # availability zone; "" for an order about a server
    backend: str = ""  # "" for every backend, and for the nodes of the zone
    until: float = 0.0  # 0: until it is taken back
    by: str = ""
    reason: str = ""
    force: bool = False  # obeyed even where nobody else would be left

    @property
    def key(self) -> str:
        """The tag's key: one order for each thing, so that the later one replaces the earlier one."""
        if self.server:
            return f"{SERVER}{self.backend}/{self.server}"
        return f"{ZONE}{self.zone}/{self.backend}" if self.backend else f"{ZONE}{self.zone}"

    @property
    def value(self) -> str:
        """The tag's value. A reason that is too long for it is cut."""
        until = f" until={_text(self.until)}" if self.until else ""
        by = f" by={_clean(self.by).replace(' ', '-')}" if self.by else ""
        reason = f" reason={_clean(self.reason)}" if self.reason else ""
        return f"{self.verb} at={_text(self.at)}{until}{' force=yes' if self.force else ''}{by}{reason}"[
            :_VALUE
        ].rstrip()

    @property
    def subject(self) -> str:
        """What it is about, for a reader."""
        if self.server:
            return f"{self.backend}/{self.server}"
        return f"zone {self.zone} in {self.backend}" if self.backend else f"zone {self.zone}"

    @property
    def sentence(self) -> str:
        """Who ordered what, when, until when and why."""
        until = f" until {_text(self.until)}" if self.until else ""
        why = f": {self.reason}" if self.reason else ""
        force = ", by force" if self.force else ""
        return f"{self.by or 'somebody'} ordered {self.verb} of {self.subject} at {_text(self.at)}{until}{force}{why}"

    def stands(self, at: float) -> bool:
        """True while it is not over."""
        return not self.until or at < self.until


@dataclass(frozen=True, slots=True)
class Told:
    """The orders that stand, the oldest first, and what is wrong with tags that cannot be read, by key."""

    orders: tuple[Order, ...] = ()
    odd: Mapping[str, str] = field(default_factory=dict)


def read(tags: Mapping[str, str], known: tuple[Order, ...], at: float) -> Told:
    """The orders among a group's tags. One that cannot be read stays as it was known.

    Args:
        tags: of the fleet's own group.
        known: orders that stood so far.
        at: wall clock seconds.
    """
    before = {order.key: order for order in known}
    found: list[Order] = []
    odd: dict[str, str] = {}
    for key, value in tags.items():
        if key.startswith((SERVER, ZONE)):
            try:
                found.append(parse(key, value))
            except Refusal as error:
                odd[key] = str(error)
                found += [before[key]] if key in before else []
    return Told(standing(found, at), odd)


def standing(orders: Sequence[Order], at: float) -> tuple[Order, ...]:
    """Those that are not over, the oldest first."""
    return tuple(sorted((order for order in orders if order.stands(at)), key=lambda order: (order.at, order.key)))


def parse(key: str, value: str) -> Order:
    """A tag -> the order. Raises Refusal for a tag that is none."""
    server, zone, form = _SERVER_KEY.fullmatch(key), _ZONE_KEY.fullmatch(key), _FORM.fullmatch(value)
    if (server is None and zone is None) or len(key) > _KEY:
        raise Refusal(f"{key[:_KEY]!r} names neither BACKEND/SERVER nor a zone")
    if form is None or (zone is not None and form["verb"] == "maint"):
        raise Refusal(f"{value[:60]!r} is no order", "hafleet writes: drain at=TIME until=TIME by=WHO reason=WHY")
    about = (
        {"backend": server[1], "server": server[2]}
        if server
        else {"zone": zone[1], "backend": zone[2] or ""}
        if zone
        else {}
    )
    return Order(
        verb="maint" if form["verb"] == "maint" else "drain",
        at=_time(form["at"]),
        until=_time(form["until"]) if form["until"] else 0.0,
        by=form["by"] or "",
        reason=form["reason"] or "",
        force=form["force"] is not None,
        **about,
    )


def checked(order: Order) -> Order:
    """The order as every node will read it. Raises Refusal where it cannot be written as a tag."""
    return parse(order.key, order.value)


def _clean(text: str) -> str:
    """Only what every AWS service takes in a tag's value."""
    return " ".join(re.sub(r"[^\w .:/=+@-]", " ", text).split())


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime(_TIME)


def _time(text: str) -> float:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise Refusal(f"{text[:40]!r} is no time", "write it as 2026-11-21T07:13:00Z") from None
