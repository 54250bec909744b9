"""The local Route 53 as a WSGI layer: requests that boto3 would never send."""

from typing import Any

import pytest
from botocore import xform_name
from werkzeug.test import Client

from hafleet.lab import route53_http, route53_model
from hafleet.lab.route53_client import EngineClient
from hafleet.lab.route53_engine import Engine

ROOT = "/2013-04-01"


def elsewhere(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("418 I'm a teapot", [])
    return [b"another service"]


@pytest.fixture
def engine() -> Engine:
    return Engine(lambda: 1_000_000_000.0)


@pytest.fixture
def client(engine: Engine) -> Client:
    return Client(route53_http.Route53Layer(elsewhere, engine))


def test_other_paths_are_handed_on(client: Client) -> None:
    assert client.get("/").status_code == 418
    assert client.get("/2020-05-31/distribution").data == b"another service"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", f"{ROOT}/nothing", 404),
        ("PUT", f"{ROOT}/hostedzone", 404),
        ("GET", f"{ROOT}/hostedzone/Z1/rrset/x/y", 404),
        ("GET", f"{ROOT}/hostedzone/Z1", 404),
        ("GET", f"{ROOT}/trafficpolicies", 501),
        ("GET", f"{ROOT}/hostedzone?maxitems=none", 400),
    ],
)
def test_a_request_that_cannot_be_served_is_answered_by_an_error(
    client: Client, method: str, path: str, code: int
) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == code
    assert answer.text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<ErrorResponse')
    assert answer.content_length == len(answer.data)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<CreateHostedZoneRequest>", "Unparseable XML"),
        ("", "Value null at 'name' failed to satisfy constraint: Member must not be null"),
        ("<R><Name>a.test</Name></R>", "Value null at 'callerReference'"),
        ("<R><Name>a.test</Name><CallerReference></CallerReference></R>", "greater than or equal to 1"),
    ],
)
def test_a_body_that_is_none_is_refused(client: Client, body: str, text: str) -> None:
    answer = client.post(f"{ROOT}/hostedzone", data=body)
    assert (answer.status_code, text in answer.text) == (400, True), answer.text


def test_a_number_that_is_none_is_refused(client: Client) -> None:
    body = "<R><CallerReference>a</CallerReference><HealthCheckConfig><Port>http</Port></HealthCheckConfig></R>"
    answer = client.post(f"{ROOT}/healthcheck", data=body)
    assert (answer.status_code, "'http' is no number, as Port must be" in answer.text) == (400, True)


def test_a_slash_at_the_end_and_empty_parameters_do_not_matter(client: Client, engine: Engine) -> None:
    made = EngineClient(engine).create_hosted_zone(Name="a.test", CallerReference="a")["HostedZone"]["Id"]
    for path in (f"{made}/rrset", f"{made}/rrset/", f"{made}/rrset?name=&type="):
        assert client.get(f"{ROOT}{path}").text.count("<ResourceRecordSet>") == 2


def test_names_are_escaped_for_xml(client: Client, engine: Engine) -> None:
    body = "<R><Name>a.test</Name><CallerReference>x</CallerReference><HostedZoneConfig><Comment>a &lt; b</Comment></HostedZoneConfig></R>"
    answer = client.post(f"{ROOT}/hostedzone", data=body)
    assert (answer.status_code, "<Comment>a &lt; b</Comment>" in answer.text) == (201, True)
    assert answer.headers["Location"].startswith(f"{ROOT}/hostedzone/Z")
    assert engine.dump()[0]["HostedZone"]["Config"]["Comment"] == "a < b"


def test_every_operation_is_found_by_its_method_and_path() -> None:
    for name in route53_model.service().operation_names:
        http = route53_model.operation(name).http
        path = http["requestUri"].replace("{", "").replace("}", "")
        assert route53_http.operation_of(http["method"], path) == name


def test_an_unknown_path_is_no_operation() -> None:
    assert route53_http.operation_of("GET", f"{ROOT}/nothing") == ""


def test_the_client_has_every_operation_by_boto3s_name() -> None:
    client = EngineClient(Engine(lambda: 0.0))
    for name in route53_model.service().operation_names:
        assert callable(getattr(client, xform_name(name)))
