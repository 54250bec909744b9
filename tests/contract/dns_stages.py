"""Two Route 53s to speak to: the strict one in process, on a clock of its own, and the same over real HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

from werkzeug.serving import make_server

from hafleet.adapters.aws import Account
from hafleet.adapters.route53 import Route53Dns
from hafleet.core.dns_settings import Dns
from hafleet.lab.route53_client import EngineClient
from hafleet.lab.route53_engine import Engine
from hafleet.lab.route53_http import Route53Layer

if TYPE_CHECKING:
    from mypy_boto3_route53 import Route53Client

ZONE = "example.test"
NAME = "lb.example.test"


class VirtualClock:
    """Implements ``ports.Clock``: time goes on when someone waits."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.now += seconds
        return event.is_set()


class Stage(Protocol):
    """What the contract suite needs of a Route 53. Both keep a virtual clock, so that no test waits."""

    @property
    def clock(self) -> VirtualClock:
        """The time that service and port see."""
        ...

    @property
    def client(self) -> "Route53Client":
        """To set the scene, past the port."""
        ...

    @property
    def engine(self) -> Engine:
        """What stands behind it all: its limits and its counts."""
        ...

    @property
    def zone_id(self) -> str:
        """The public zone of the tests."""
        ...


class InProcess:
    """The engine, called directly."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.engine = Engine(self.clock.wall)
        self.client = cast("Route53Client", EngineClient(self.engine))
        self.zone_id = make_zone(self.client, ZONE)


class OverHttp:
    """The engine behind a real HTTP server, and hafleet's own boto3 client in front; the environment's endpoint names it."""

    def __init__(self, clock: VirtualClock, engine: Engine, account: Account) -> None:
        self.clock = clock
        self.engine = engine
        self.client = account.route53()
        self.zone_id = make_zone(self.client, ZONE)


@contextmanager
def served(engine: Engine) -> Iterator[str]:
    """The endpoint of an engine on loopback."""
    server = make_server("127.0.0.1", 0, Route53Layer(_nowhere, engine), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _nowhere(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [("Content-Length", "0")])
    return []


def make_zone(client: "Route53Client", name: str, **more: Any) -> str:
    """A hosted zone; its bare id."""
    answer = client.create_hosted_zone(Name=name, CallerReference=f"{name} {len(more)}", **more)
    return answer["HostedZone"]["Id"].rpartition("/")[2]


def settings(**more: Any) -> Dns:
    """The section of the settings."""
    return Dns.model_validate({"name": NAME, "zone": ZONE, **more})


def port(stage: Stage, **more: Any) -> Route53Dns:
    """The port under test."""
    return Route53Dns(settings(**more), lambda: stage.client, stage.clock)
