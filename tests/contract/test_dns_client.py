"""hafleet's own Route 53 client over real HTTP: what it sends again (nothing), what it tells, what it makes of raw answers."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.serving import make_server

from hafleet.adapters.aws import Account
from hafleet.adapters.route53 import Route53Dns
from hafleet.core.dns.model import Change, Record
from hafleet.core.dns_settings import Dns
from hafleet.core.settings import Aws
from hafleet.errors import AwsDenied, AwsThrottled, ChangeRefused, SourceUnavailable, ZoneBusy
from tests.contract.dns_stages import VirtualClock

NAME = "lb.example.test"
BATCH = (Change("CREATE", Record(NAME, "A", "i-0a", 30, ("198.51.100.7",), weight=1)),)
_ZONE = "<Id>/hostedzone/Z1</Id><Name>example.test.</Name><CallerReference>r</CallerReference>"
ZONE = (200, f"<GetHostedZoneResponse><HostedZone>{_ZONE}</HostedZone></GetHostedZoneResponse>")
SETTINGS = Dns.model_validate({"name": NAME, "zone_id": "Z1"})
Reply = tuple[int, str]


def error(status: int, code: str, message: str = "words") -> Reply:
    inner = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return status, f"<ErrorResponse>{inner}<RequestId>r</RequestId></ErrorResponse>"


class Script:
    """A Route 53 that gives one answer to every change, and knows one zone."""

    def __init__(self) -> None:
        self.reply: Reply = (200, "")
        self.asked: list[str] = []
        self.told: list[tuple[str, str]] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append(f"{method} {path}")
        status, text = self.reply if path.rstrip("/").endswith("/rrset") else ZONE
        body = text.encode()
        start_response(f"{status} told", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
        return [body]

    def on_call(self, operation: str, seconds: float, outcome: str) -> None:
        self.told.append((operation, outcome))

    def changes(self) -> int:
        return len([each for each in self.asked if each == "POST /2013-04-01/hostedzone/Z1/rrset/"])


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, dict[str, Script]]]:
    current = {"script": Script()}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        return current["script"](environ, start_response)

    found = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{found.server_port}", current
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.fixture
def script(server: tuple[str, dict[str, Script]], monkeypatch: pytest.MonkeyPatch) -> Script:
    endpoint, current = server
    current["script"] = Script()
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return current["script"]


@pytest.fixture
def account(script: Script) -> Account:
    return Account(Aws(region="eu-west-1", connect_timeout=20.0, read_timeout=20.0), script.on_call)


@pytest.fixture
def dns(account: Account) -> Route53Dns:
    return Route53Dns(SETTINGS, account.route53, VirtualClock())


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (error(400, "Throttling", "Rate exceeded"), AwsThrottled, "Throttling"),
        (error(400, "PriorRequestNotComplete"), ZoneBusy, "PriorRequestNotComplete"),
        (error(503, "ServiceUnavailable"), SourceUnavailable, "ServiceUnavailable"),
        (error(403, "AccessDenied"), AwsDenied, "AccessDenied"),
        (
            error(400, "InvalidChangeBatch", "[Tried to create resource record set]"),
            ChangeRefused,
            "InvalidChangeBatch",
        ),
    ],
)
def test_no_call_is_sent_again_and_each_is_told(
    script: Script, dns: Route53Dns, reply: Reply, kind: type[Exception], code: str
) -> None:
    script.reply = reply
    with pytest.raises(kind, match=code):
        dns.change(BATCH)
    assert script.changes() == 1
    assert script.told == [("GetHostedZone", "ok"), ("ChangeResourceRecordSets", code)]


def test_messages_that_come_as_a_list_are_a_refusal(script: Script, dns: Route53Dns) -> None:
    inner = "<Messages><Message>Tried to create lb.example.test</Message></Messages><RequestId>r</RequestId>"
    script.reply = (
        400,
        f'<InvalidChangeBatch xmlns="https://route53.amazonaws.com/doc/2013-04-01/">{inner}</InvalidChangeBatch>',
    )
    with pytest.raises(ChangeRefused, match=r"InvalidChangeBatch: .*Tried to create lb\.example\.test"):
        dns.change(BATCH)


@pytest.mark.parametrize(
    "reply", [(200, "<html>portal</html>"), (200, "no xml"), (200, ""), (502, "<html>bad gateway")]
)
def test_an_answer_of_somebody_else_is_no_answer(script: Script, dns: Route53Dns, reply: Reply) -> None:
    script.reply = reply
    with pytest.raises(SourceUnavailable):
        dns.change(BATCH)
    with pytest.raises(SourceUnavailable):
        dns.tree(NAME)


def test_a_service_that_hangs_is_given_up_after_one_attempt(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30.0)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        account = Account(Aws(region="eu-west-1", read_timeout=0.3), script.on_call)
        with pytest.raises(SourceUnavailable, match="timeout"):
            Route53Dns(SETTINGS, account.route53, VirtualClock()).zone_id()
    assert script.told == [("GetHostedZone", "ReadTimeoutError")]


def test_without_credentials_it_says_so(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/none")
    account = Account(Aws(region="eu-west-1"))
    with pytest.raises(AwsDenied, match="give the instance a role"):
        Route53Dns(SETTINGS, account.route53, VirtualClock()).zone_id()
    assert script.asked == []


def test_all_clients_of_a_process_are_of_one_session(account: Account) -> None:
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append((account.route53(), *account.scaling()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4 and len(set(seen)) == 1
    clients: tuple[Any, ...] = (account.route53(), *account.scaling()[:2])
    assert len({id(client._request_signer._credentials) for client in clients}) == 1
    assert {client.meta.config.retries["total_max_attempts"] for client in clients[1:]} == {3}


@pytest.mark.parametrize(
    ("region", "host"),
    [("eu-west-1", "route53.amazonaws.com"), ("cn-north-1", "route53.amazonaws.com.cn")],
)
def test_the_endpoint_is_that_of_the_partition(monkeypatch: pytest.MonkeyPatch, region: str, host: str) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    assert Account(Aws(region=region)).route53().meta.endpoint_url == f"https://{host}"
