"""The scalar types of hafleet.yaml: each parses, refuses in a user's words, and documents itself in the JSON Schema.

A YAML scalar arrives here as text (``hafleet.config`` leaves the meaning of ``200`` or ``true`` to the field), so every
type takes text as well as its own Python type.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

LONGEST = 24 * 86400.0  # seconds; HAProxy's timers end at 2147483647 ms, 24.8 days
LONGEST_DRAIN = 2 * 86400.0  # seconds
SHORTEST = 0.001  # seconds; HAProxy's timers count milliseconds

_UNITS = {"us": "0.000001", "ms": "0.001", "s": "1", "m": "60", "h": "3600", "d": "86400", "": "1"}
_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_DURATION = r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(us|ms|s|m|h|d)?"
_PERCENT = r"([0-9]{1,3}(?:\.[0-9]{1,9})?)(%)?"
_SIZE = r"([0-9]{1,12})([kmg]?)"


class Refusal(ValueError):
    """A value that cannot be used: what is wrong with it, and what to write instead."""

    def __init__(self, what: str, fix: str = "") -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what}; {fix}" if fix else what)


class Model(BaseModel):
    """Base of all settings: unknown keys are errors, values never change, the text under a field is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def shown(value: object) -> str:
    """A value as a message may show it: quoted, escaped, cut after 60 characters."""
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def parse_duration(value: object) -> float:
    """``"300ms"``, ``"30s"``, ``"5m"`` or a number of seconds -> seconds, 0 to 24 days. Raises Refusal."""
    found = re.fullmatch(_DURATION, _text(value))
    if not found:
        raise Refusal(f"{shown(value)} is not a duration", "write a number and us, ms, s, m, h or d, such as 30s")
    seconds = float(Decimal(found[1]) * Decimal(_UNITS[found[2] or ""]))
    if seconds > LONGEST:
        raise Refusal(f"{shown(value)} is too long", "HAProxy's timers take at most 24d")
    return seconds


def parse_span(value: object) -> float:
    """A duration that may not be zero: at least 1 ms. Raises Refusal."""
    seconds = parse_duration(value)
    if seconds < SHORTEST:
        raise Refusal(f"{shown(value)} is too short", "write at least 1ms")
    return seconds


def parse_drain(value: object) -> float:
    """A duration that AWS can wait for: a lifecycle hook keeps an instance 48 hours at most. Raises Refusal."""
    seconds = parse_duration(value)
    if seconds > LONGEST_DRAIN:
        raise Refusal(f"{shown(value)} is too long", "AWS keeps a leaving instance 48h at most")
    return seconds


def parse_percent(value: object) -> float:
    """``"15%"`` or a fraction 0..1 -> fraction. Raises Refusal."""
    found = re.fullmatch(_PERCENT, _text(value))
    if not found:
        raise Refusal(f"{shown(value)} is not a percentage", "write it as 15%")
    fraction = float(Decimal(found[1]) / (100 if found[2] else 1))
    if fraction > 1:
        raise Refusal(f"{shown(value)} is more than 100%", "write a percentage such as 15%, or a fraction from 0 to 1")
    return fraction


def parse_size(value: object) -> int:
    """``"200k"`` or a plain count -> int, 1 to 2147483647; k, m, g are powers of 1024, as HAProxy. Raises Refusal."""
    found = re.fullmatch(_SIZE, _text(value))
    if not found:
        raise Refusal(f"{shown(value)} is not a size", "write a number, with k, m or g if you like")
    size = int(found[1]) * _SIZES[found[2]]
    if not 1 <= size < 2**31:
        raise Refusal(f"{shown(value)} is out of range for a size", "write 1 to 2147483647")
    return size


def parse_whole(value: object) -> int:
    """A whole number, as a number or as text. Raises Refusal."""
    text = _text(value)
    if not re.fullmatch(r"-?[0-9]{1,12}", text):
        raise Refusal(f"{shown(value)} is not a whole number", "write digits only, such as 3")
    return int(text)


def parse_number(value: object) -> float:
    """A number, as a number or as text. Raises Refusal."""
    text = _text(value)
    if not re.fullmatch(r"-?[0-9]{1,12}(?:\.[0-9]{1,9})?", text):
        raise Refusal(f"{shown(value)} is not a number", "write digits, with a decimal point if you like")
    return float(text)


def parse_flag(value: object) -> bool:
    """true or false, in the spellings of YAML 1.2. Raises Refusal for yes, no, on, off, 1 and 0."""
    flag = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}.get(str(value))
    if flag is None:
        raise Refusal(f"{shown(value)} is neither true nor false", "write true or false")
    return flag


def parse_address(value: object) -> IPv4Address | IPv6Address:
    """One host's IP address. Raises Refusal for names, networks, scopes, and addresses that no server can have."""
    fix = "write an IPv4 or IPv6 address; host names are not looked up, so that no reload depends on DNS"
    try:
        address = ip_address(value if isinstance(value, str) else str(value))
    except ValueError:
        raise Refusal(f"{shown(value)} is not an IP address", fix) from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise Refusal(f"{shown(value)} carries a scope", "write the address without the part from % on")
    if address.is_unspecified or address.is_multicast:
        raise Refusal(f"{shown(value)} is not the address of one host", fix)
    return address


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where something listens. ``address`` is None for every IPv4 address of the host."""

    address: IPv4Address | IPv6Address | None
    port: int

    @property
    def wildcard(self) -> bool:
        """True when it listens on every address of its family."""
        return self.address is None or self.address.is_unspecified

    def overlaps(self, other: "Endpoint") -> bool:
        """True when both cannot listen on one host. ``[::]`` also takes IPv4, as Linux does unless told otherwise."""
        return self.port == other.port and (self.wildcard or other.wildcard or self.address == other.address)

    def render(self) -> str:
        """``:80``, ``10.0.0.1:443`` or ``[::]:443``."""
        if isinstance(self.address, IPv6Address):
            return f"[{self.address}]:{self.port}"
        return f"{self.address or ''}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """``":80"``, ``"*:80"``, ``"10.0.0.1:443"`` or ``"[::]:443"`` -> Endpoint. Raises Refusal."""
    fix = 'write an address and a port, such as ":80", "10.0.0.1:443" or "[::]:443"'
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]{2,45}\]|[0-9.]{7,15}|\*|):([0-9]{1,5})", text)
    if not found or not 1 <= int(found[2]) <= 65535:
        raise Refusal(f"{shown(text)} is not an address to listen on", fix)
    if found[1] in ("", "*"):
        return Endpoint(None, int(found[2]))
    try:
        address = ip_address(found[1].strip("[]"))
    except ValueError:
        raise Refusal(f"{shown(text)} is not an address to listen on", fix) from None
    if (address.version == 6) is not found[1].startswith("["):
        raise Refusal(f"{shown(text)} is not an address to listen on", fix)
    return Endpoint(address, int(found[2]))


def _text(value: object) -> str:
    """A scalar as text; a bool has no meaning as a number, so it becomes a text that nothing matches."""
    if isinstance(value, float):
        return f"{value:.9f}".rstrip("0").rstrip(".")
    return "" if isinstance(value, bool) else str(value)


def _either(pattern: str, words: str, least: float, most: float) -> WithJsonSchema:
    """The JSON Schema of a value that is a number or a text of this pattern; ``words`` name the text for readers."""
    number = {"type": "number", "minimum": least, "maximum": most}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "pattern": f"^{pattern}$", "description": words}]})


Duration = Annotated[float, BeforeValidator(parse_duration), _either(_DURATION, "duration", 0, LONGEST)]
Span = Annotated[float, BeforeValidator(parse_span), _either(_DURATION, "duration above 0", SHORTEST, LONGEST)]
Drain = Annotated[float, BeforeValidator(parse_drain), _either(_DURATION, "duration", 0, LONGEST_DRAIN)]
Percent = Annotated[float, BeforeValidator(parse_percent), _either(_PERCENT, "percentage", 0, 1)]
Size = Annotated[int, BeforeValidator(parse_size), _either(_SIZE, "size", 1, 2**31 - 1)]
Whole = Annotated[int, BeforeValidator(parse_whole)]
Count = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(parse_whole)]
Share = Annotated[int, Field(ge=0, le=1000), BeforeValidator(parse_whole)]
Threads = Annotated[int, Field(ge=1, le=256), BeforeValidator(parse_whole)]
Connections = Annotated[int, Field(ge=10, le=100_000_000), BeforeValidator(parse_whole)]
Number = Annotated[float, BeforeValidator(parse_number)]
Flag = Annotated[bool, BeforeValidator(parse_flag)]
Port = Annotated[int, Field(ge=1, le=65535), BeforeValidator(parse_whole)]
Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(parse_address)]
Bind = Annotated[str, AfterValidator(lambda text: parse_endpoint(text).render())]
