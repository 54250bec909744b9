"""The answers of the local AWS as values: asking moto for one, and changing or forging one for a fault."""

import copy
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from werkzeug.test import run_wsgi_app

COPIES = 9  # beside the original: ten in all
_LISTS = ("AutoScalingGroups", "AutoScalingInstances", "reservationSet", "ResourceRecordSets", "HealthChecks")
_COPY_ID = re.compile(r"i-[1-9]c0de([0-9a-f]{12})")
_ORIGINALS: dict[str, str] = {}  # last 12 digits of an invented id -> the id it was made from


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer."""

    status: str  # "200 OK"
    headers: tuple[tuple[str, str], ...]  # without Content-Length
    body: bytes


def ask(app: Any, environ: dict[str, Any], body: bytes) -> Answer:
    """Run the WSGI application on this body and take the whole answer."""
    asked = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    parts, status, headers = run_wsgi_app(app, asked, buffered=True)
    kept = tuple((key, value) for key, value in headers if key.lower() not in {"content-length", "x-amz-crc32"})
    return Answer(status, kept, b"".join(parts))


_ERRORS = {  # kind -> (status, code in EC2, code elsewhere, message)
    "throttle": ("503 Service Unavailable", "RequestLimitExceeded", "Throttling", "Rate exceeded"),
    "5xx": ("500 Internal Server Error", "InternalError", "InternalFailure", "An internal error has occurred"),
    "denied": ("403 Forbidden", "UnauthorizedOperation", "AccessDenied", "The caller is not authorized to do this"),
    "expired": ("403 Forbidden", "RequestExpired", "ExpiredToken", "The security token in the request is expired"),
}


def error(kind: str, service: str) -> Answer:
    """The error that this service sends for this kind of fault."""
    status, in_ec2, elsewhere, message = _ERRORS[kind]
    if service == "ec2":
        text = f"<Response><Errors><Error><Code>{in_ec2}</Code><Message>{message}</Message></Error></Errors>"
        return Answer(status, _XML, f"{text}<RequestID>lab</RequestID></Response>".encode())
    if kind == "throttle":
        status = "400 Bad Request"  # Auto Scaling and Route 53 throttle with 400
    text = f"<ErrorResponse><Error><Type>Sender</Type><Code>{elsewhere}</Code><Message>{message}</Message></Error>"
    return Answer(status, _XML, f"{text}<RequestId>lab</RequestId></ErrorResponse>".encode())


_XML = (("Content-Type", "text/xml"),)


def edit(kind: str, answer: Answer) -> Answer:
    """The answer with the instances or groups changed as ``kind`` says; errors pass as they are."""
    if not answer.status.startswith("200"):
        return answer
    root = ET.fromstring(answer.body)  # noqa: S314  our own moto wrote it
    if kind == "empty":
        for found in _named(root, *_LISTS):
            found[:] = []
        for found in _named(root, "IsTruncated"):  # Route 53's word for another page
            found.text = "false"
    elif kind == "no_instances":
        for found in _named(root, "Instances"):
            found[:] = []
    elif kind == "half":
        _halve(root)
    elif kind == "tenfold":
        for found in _named(root, "Instances", "instancesSet", "AutoScalingInstances"):
            found.extend([_copy(item, number) for item in list(found) for number in range(1, COPIES + 1)])
    return Answer(answer.status, answer.headers, ET.tostring(root))


def without_copies(body: bytes) -> bytes:
    """The form with ids that a tenfold answer invented turned back into those of their originals."""
    return _COPY_ID.sub(lambda found: _ORIGINALS.get(found[1], found[0]), body.decode()).encode()


def _named(root: ET.Element, *names: str) -> Iterator[ET.Element]:
    return (item for item in list(root.iter()) if item.tag.rpartition("}")[2] in names)


def _halve(root: ET.Element) -> None:
    """Drop every second instance of each group, reservation, record set or health check."""
    for found in _named(root, "Instances", *_LISTS[1:]):
        found[:] = list(found)[::2]


def _copy(item: ET.Element, number: int) -> ET.Element:
    """The item as another instance: new id, other addresses."""
    twin = copy.deepcopy(item)
    for part in twin.iter():
        name, text = part.tag.rpartition("}")[2], part.text or ""
        if name in {"InstanceId", "instanceId"}:
            part.text = f"i-{number}c0de{text[7:]}"
            _ORIGINALS[text[7:]] = text
        elif name == "privateIpAddress" and text:
            part.text = str(IPv4Address(int(IPv4Address(text)) + number * 256))
    return twin
