"""The texts of hafleet.yaml that reach haproxy.cfg, AWS or a Host header, each with the one pattern that admits it."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from hafleet.core.values import Refusal, shown

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = rf"(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}"
_URI = r"/(?:[A-Za-z0-9._~&*+,=:@/-]|%[0-9A-Fa-f]{2})*"
_PATH = r"/[A-Za-z0-9._@+=:/-]*"
_PATH_FIX = "write an absolute path of letters, digits and . _ @ + = : / -"
_QUERY = r"(?:[A-Za-z0-9._~&*+,=:@/?-]|%[0-9A-Fa-f]{2})*"
_AWS = (
    r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]"  # CR, LF and TAB are legal in a group's name, but nobody can type them apart
)
_STATUS = r"[1-5][0-9]{2}(?:-[1-5][0-9]{2})?"
_FETCH = r"[a-z][a-z0-9_.]*(?:\([A-Za-z0-9_.:,/=-]*\))?"


@dataclass(frozen=True, slots=True)
class Shape:
    """Annotation of a text that must match a pattern as a whole.

    Args:
        pattern: a regular expression that Python and ECMA-262 read alike (it is published in the JSON Schema).
        noun: what the text is, with its article: "a name".
        fix: what to write instead.
        longest: most characters allowed.
        number: editors may offer a bare number too.
    """

    pattern: str
    noun: str
    fix: str
    longest: int = 255
    number: bool = False

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.accept, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        kinds = ["string", "integer"] if self.number else "string"
        return {**found, "type": kinds, "pattern": f"^(?:{self.pattern})$", "maxLength": self.longest}

    def accept(self, value: str) -> str:
        """The value as it is. Raises Refusal when it does not match or is too long."""
        if len(value) > self.longest:
            raise Refusal(f"{shown(value)} is too long for {self.noun}", f"use at most {self.longest} characters")
        if not re.fullmatch(self.pattern, value):
            raise Refusal(f"{shown(value)} is not {self.noun}", self.fix)
        return value


def parse_domain(text: str) -> str:
    """A host name or ``*.suffix`` -> lower-case ASCII. Raises Refusal."""
    fix = "write a host name such as example.com, or *.example.com for every name below it"
    name = text.lower().removesuffix(".")
    if not name.isascii():
        if re.search("[ßς\u200c\u200d]", name):  # two IDNA editions map these differently: a name must mean one thing
            raise Refusal(f"{shown(text)} has more than one ASCII form", "write it in its xn-- form")
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            raise Refusal(f"{shown(text)} is not a host name", fix) from None
    if len(name) > 253 or not re.fullmatch(_DOMAIN, name):
        raise Refusal(f"{shown(text)} is not a host name", fix)
    return name


def parse_host(text: str) -> str:
    """A host name -> lower-case ASCII. Raises Refusal, for ``*.suffix`` too."""
    name = parse_domain(text)
    if name.startswith("*"):
        raise Refusal(f"{shown(text)} is not one host's name", "write it without a star")
    return name


Name = Annotated[str, Shape(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*", "a name", "use letters, digits and _ . : - only", 63)]
FleetName = Annotated[
    str, Shape(r"[A-Za-z0-9][A-Za-z0-9_-]*", "a fleet's name", "use letters, digits, _ and - only", 63)
]
NodeId = Annotated[str, Shape(r"[A-Za-z0-9][A-Za-z0-9-]*", "a node's id", "use letters, digits and - only", 63)]
Place = Annotated[
    str, Shape(r"[a-z0-9-]*", "a region or zone", "write it as AWS does, such as eu-west-1 or eu-west-1a", 64)
]
Region = Annotated[
    str, Shape(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}", "a region", "write it as AWS does, such as eu-west-1", 64)
]
FilePath = Annotated[str, Shape(_PATH, "a path", _PATH_FIX)]
SocketPath = Annotated[str, Shape(_PATH, "a socket's path", _PATH_FIX, 97)]  # HAProxy's own limit
Program = Annotated[str, Shape(rf"{_PATH}|[A-Za-z0-9._+-]+", "a program", "write its name or its absolute path")]
CaFile = Annotated[str, Shape(rf"@system-ca|{_PATH}", "a CA file", 'write an absolute path, or "@system-ca"')]
Uri = Annotated[str, Shape(_URI, "a path of a URL", "begin with /, write anything unusual as %XX, no query")]
CheckUri = Annotated[
    str, Shape(rf"{_URI}(?:\?{_QUERY})?", "a path of a URL", "begin with /, write anything unusual as %XX")
]
HostHeader = Annotated[
    str,
    Shape(
        r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?",
        "a Host header",
        "write a host name, with :port if you like",
    ),
]
Statuses = Annotated[
    str,
    Shape(
        rf"{_STATUS}(?:,{_STATUS})*",
        "a list of HTTP statuses",
        'write one such as "200", a range such as "200-299", or several with commas and no spaces',
        number=True,
    ),
]
BodyText = Annotated[
    str,
    Shape(
        r"(?! )(?!.* $)[ !%&(-\[\]-_a-~]+",
        "a text to look for",
        "use plain ASCII without quotes, #, $, backslash and outer spaces",
        200,
    ),
]
Sample = Annotated[
    str,
    Shape(
        rf"{_FETCH}(?:,{_FETCH})*",
        "a sample expression",
        "write src, or one such as req.cook(session) or req.hdr(x-user),lower",
    ),
]
Balance = Annotated[
    str,
    Shape(
        r"roundrobin|leastconn|first|random(?:\([1-9][0-9]?\))?|source|uri"
        r"|hdr\([A-Za-z0-9_-]{1,64}\)|url_param [A-Za-z0-9_-]{1,64}",
        "a balance algorithm that servers can join at run time",
        "use roundrobin, leastconn, first, random, source, uri, hdr(NAME) or url_param NAME",
    ),
]
Alpn = Annotated[
    str,
    Shape(
        r"[a-z0-9./-]+(?:,[a-z0-9./-]+)*",
        "a list of protocols",
        "write them with commas and no spaces, such as h2,http/1.1",
    ),
]
ZoneId = Annotated[str, Shape(r"[A-Z0-9]+", "a hosted zone's id", "write it as Route 53 shows it, such as Z08ABC", 32)]
GroupLabel = Annotated[
    str,
    Shape(
        r"(?:[a-z0-9_-]|\{region\}|\{zone\})+",
        "a leaf group's name",
        "use small letters, digits, - and _, or {region} and {zone}",
        63,
    ),
]
Location = Annotated[
    str,
    Shape(
        r"\*|continent-(?:AF|AN|AS|EU|NA|OC|SA)|[A-Z]{2}(?:-[A-Z0-9]{1,3})?",
        "a place",
        'write "*", a continent such as continent-EU, a country such as DE, or a state such as US-CA',
        16,
    ),
]
AlarmName = Annotated[
    str, Shape(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+", "an alarm's name", "write it as CloudWatch shows it")
]
SearchText = Annotated[
    str, Shape(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+", "a text to look for", "use at most 255 characters in one line")
]
CookieName = Annotated[str, Shape(r"[A-Za-z0-9_-]+", "a cookie's name", "use letters, digits, _ and - only", 64)]
GroupName = Annotated[str, Shape(_AWS + "+", "an Auto Scaling group's name", "write the name as AWS shows it")]
HookName = Annotated[
    str, Shape(r"[A-Za-z0-9_/-]+", "a lifecycle hook's name", "use letters, digits, - _ and / only")
]  # AsciiStringMaxLen255 of the Auto Scaling API
TagText = Annotated[str, Shape(_AWS + "*", "a tag", "write the tag as AWS shows it", 256)]
Queue = Annotated[
    str, Shape(r"auto|none|https?://[A-Za-z0-9._:/-]+", "a queue", "write auto, none or the queue's URL", 1024)
]
Domain = Annotated[str, AfterValidator(parse_domain)]
HostName = Annotated[str, AfterValidator(parse_host)]
