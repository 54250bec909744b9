"""The local Route 53 over HTTP, as the REST API with XML bodies that every AWS tool speaks. botocore's model leads both ways."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from botocore.model import ListShape, Shape, StructureShape

from hafleet.lab import route53_model
from hafleet.lab.route53_engine import ApiError, Engine
from hafleet.lab.route53_words import Shape as Data
from hafleet.lab.route53_words import bare

ROOT = "/2013-04-01/"
_NAMESPACE = "https://route53.amazonaws.com/doc/2013-04-01/"
_CONTENT = ("Content-Type", "text/xml")
_NUMBERS = {"integer": int, "long": int, "float": float, "double": float}


class Route53Layer:
    """WSGI: answers the paths of Route 53, hands everything else on."""

    def __init__(self, app: Any, engine: Engine) -> None:
        self._app = app
        self._engine = engine

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """One request."""
        if not environ.get("PATH_INFO", "").startswith(ROOT):
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        try:
            status, headers, body = self._answer(environ)
        except ApiError as error:
            status, headers, body = error.status, {}, _error(error)
        start_response(_line(status), [_CONTENT, *headers.items(), ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        name, params = request(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""))
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return response(name, self._engine.call(name, {**params, **read_body(name, body)}))


def operation_of(method: str, path: str) -> str:
    """The operation that a request asks for; "" for none."""
    return next((name for verb, pattern, name in _routes() if verb == method and pattern.fullmatch(path)), "")


def request(method: str, path: str, query: str) -> tuple[str, Data]:
    """Operation and the parameters that stand in path and query.

    Raises:
        ApiError: no such operation, or a parameter that is no number.
    """
    for verb, pattern, name in _routes():
        found = pattern.fullmatch(path) if verb == method else None
        if found:
            shape = route53_model.operation(name).input_shape
            return name, {} if shape is None else _located(shape, found.groupdict(), dict(parse_qsl(query)))
    raise ApiError("InvalidAction", f"{method} {path} is no operation of Route 53", 404)


def response(name: str, answer: Data) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a good answer."""
    model = route53_model.operation(name)
    root, headers = ET.Element(f"{name}Response", xmlns=_NAMESPACE), {}
    if isinstance(model.output_shape, StructureShape):
        for member, shape in model.output_shape.members.items():
            if answer.get(member) is None:
                continue
            if shape.serialization.get("location") == "header":
                headers[shape.serialization["name"]] = str(answer[member])
            else:
                _write(root, member, shape, answer[member])
    return int(model.http.get("responseCode", 200)), headers, _bytes(root)


@cache
def _routes() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """Method, path and name of every operation; a slash at the end of a path is as good as none."""
    routes = []
    for name in route53_model.service().operation_names:
        http = route53_model.operation(name).http
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>.+?)", http["requestUri"].rstrip("/"))
        routes.append((http["method"], re.compile(f"{pattern}/?"), name))
    return tuple(sorted(routes, key=lambda route: -route[1].pattern.count("/")))


def _located(shape: StructureShape, path: dict[str, str], query: dict[str, str]) -> Data:
    found: Data = {}
    for member, item in shape.members.items():
        where, key = item.serialization.get("location"), item.serialization.get("name", member)
        if where == "uri":
            found[member] = bare(path[key])
        elif where == "querystring" and query.get(key):
            found[member] = _scalar(item, query[key])
    return found


def read_body(name: str, body: bytes) -> Data:
    """The parameters of an operation that stand in a request's body. Raises ApiError when it is no XML."""
    shape = route53_model.operation(name).input_shape
    if shape is None or not body.strip():
        return {}
    try:
        root = ET.fromstring(body)  # noqa: S314  of a client on this machine
    except ET.ParseError as error:
        raise ApiError("MalformedInput", f"Unparseable XML: {error}") from error
    found: Data = _read(shape, root)
    return found


def _read(shape: Shape, node: ET.Element) -> Any:
    if isinstance(shape, StructureShape):
        nodes = {item.tag.rpartition("}")[2]: item for item in node}
        members = ((name, item, item.serialization.get("name", name)) for name, item in shape.members.items())
        return {name: _read(item, nodes[tag]) for name, item, tag in members if tag in nodes}
    if isinstance(shape, ListShape):
        return [_read(shape.member, item) for item in node]
    return _scalar(shape, node.text or "")


def _scalar(shape: Shape, text: str) -> Any:
    if shape.type_name == "boolean":
        return text.strip().lower() == "true"
    number = _NUMBERS.get(shape.type_name)
    if number is None:
        return text
    try:
        return number(text)
    except ValueError as error:
        raise ApiError("InvalidInput", f"{text!r} is no number, as {shape.name} must be") from error


def _write(parent: ET.Element, tag: str, shape: Shape, value: Any) -> None:
    node = ET.SubElement(parent, shape.serialization.get("name", tag))
    if isinstance(shape, StructureShape):
        for member, item in shape.members.items():
            if value.get(member) is not None:
                _write(node, member, item, value[member])
    elif isinstance(shape, ListShape):
        for item in value:
            _write(node, "member", shape.member, item)
    else:
        node.text = _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if isinstance(value, datetime) else str(value)


def _error(error: ApiError) -> bytes:
    root = ET.Element("ErrorResponse", xmlns=_NAMESPACE)
    found = ET.SubElement(root, "Error")
    for tag, text in (("Type", "Sender"), ("Code", error.code), ("Message", error.message)):
        ET.SubElement(found, tag).text = text
    ET.SubElement(root, "RequestId").text = "lab"
    return _bytes(root)


def _bytes(root: ET.Element) -> bytes:
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root)


def _line(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"
