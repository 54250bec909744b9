"""Who this node is: IMDSv2 over real HTTP, and a node described by hand."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address, IPv6Address
from socketserver import ThreadingTCPServer

import pytest

from hafleet.adapters.imds import ImdsMetadata, StaticMetadata
from hafleet.adapters.imds.service import Service
from hafleet.core.model import Node, Notice, Notices
from hafleet.core.settings import Static
from hafleet.errors import MetadataUnavailable

META = "/latest/meta-data/"
ITEMS = {
    f"{META}instance-id": "i-0123456789abcdef0",
    f"{META}local-ipv4": "10.0.0.7",
    f"{META}placement/availability-zone": "eu-west-1a",
    f"{META}placement/region": "eu-west-1",
    f"{META}tags/instance/aws:autoscaling:groupName": "edge",
}
NODE = Node("i-0123456789abcdef0", IPv4Address("10.0.0.7"), "eu-west-1a", "eu-west-1", "edge")


class Imds:
    """A metadata service that a test bends."""

    def __init__(self) -> None:
        self.items = dict(ITEMS)
        self.asked: list[str] = []
        self.token_status = 200
        self.token = "secret"
        self.item_status = 0  # what every item is answered by; 0: as it should be
        self.environ: dict[str, str] = {}

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        self.asked.append(f"{method} {path}")
        if path == "/latest/api/token":
            asks = method == "PUT" and "x-aws-ec2-metadata-token-ttl-seconds" in headers
            return (self.token_status, self.token) if asks else (405, "")
        if headers.get("x-aws-ec2-metadata-token") != self.token:
            return 401, ""
        if self.item_status:
            return self.item_status, ""
        return (200, self.items[path]) if path in self.items else (404, "not found")


@pytest.fixture
def imds() -> Iterator[Imds]:
    bent = Imds()

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            told = {key.lower(): value for key, value in self.headers.items()}
            status, text = bent.answer(self.command, self.path.removeprefix("/base"), told)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_PUT = reply  # noqa: N815  # the names that http.server calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        bent.environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}/base/"}
        yield bent
        server.shutdown()
        thread.join()


def test_identity_is_read_once_and_the_group_now_and_then(imds: Imds) -> None:
    metadata = ImdsMetadata(imds.environ)
    assert [metadata.identity() for _ in range(3)] == [NODE] * 3
    assert len(imds.asked) == 8  # one token, seven items
    assert metadata.region() == "eu-west-1"
    metadata._until = 0.0  # as if a minute had passed
    imds.items[f"{META}tags/instance/aws:autoscaling:groupName"] = "other"
    assert metadata.identity().group == "other"
    assert len(imds.asked) == 11  # the three that can change


def test_the_region_alone(imds: Imds) -> None:
    assert ImdsMetadata(imds.environ).region() == "eu-west-1"


def test_without_instance_tags_the_group_is_empty(imds: Imds) -> None:
    del imds.items[f"{META}tags/instance/aws:autoscaling:groupName"]
    assert ImdsMetadata(imds.environ).identity().group == ""


def test_an_instance_with_ipv6_only(imds: Imds) -> None:
    del imds.items[f"{META}local-ipv4"]
    imds.items[f"{META}ipv6"] = "fd00::7"
    node = ImdsMetadata(imds.environ).identity()
    assert (node.address, node.ipv6, node.public) == (IPv6Address("fd00::7"), IPv6Address("fd00::7"), None)


def test_an_instance_without_any_address_is_none(imds: Imds) -> None:
    del imds.items[f"{META}local-ipv4"]
    with pytest.raises(MetadataUnavailable, match="there is no ipv6"):
        ImdsMetadata(imds.environ).identity()


def test_addresses_that_the_world_reaches(imds: Imds) -> None:
    imds.items[f"{META}public-ipv4"] = "198.51.100.7"
    imds.items[f"{META}ipv6"] = "2001:db8:0:0::7"
    expected = replace(NODE, public=IPv4Address("198.51.100.7"), ipv6=IPv6Address("2001:db8::7"))
    assert ImdsMetadata(imds.environ).identity() == expected


def test_an_elastic_address_comes_and_goes_while_the_agent_runs(imds: Imds) -> None:
    metadata = ImdsMetadata(imds.environ)
    assert metadata.identity().public is None
    imds.items[f"{META}public-ipv4"] = "198.51.100.7"
    assert metadata.identity().public is None  # for a minute
    metadata._until = 0.0
    assert metadata.identity().public == IPv4Address("198.51.100.7")
    imds.item_status = 500
    metadata._until = 0.0
    assert metadata.identity().public == IPv4Address("198.51.100.7")  # silence takes nothing away
    imds.item_status = 0
    del imds.items[f"{META}public-ipv4"]
    assert metadata.identity().public is None


def test_an_expired_token_is_renewed(imds: Imds) -> None:
    metadata = ImdsMetadata(imds.environ)
    metadata.identity()
    imds.token = "another"
    metadata._until = 0.0
    assert metadata.identity() == NODE


def test_once_known_a_node_stays_known(imds: Imds) -> None:
    metadata = ImdsMetadata(imds.environ)
    metadata.identity()
    metadata._until = 0.0
    imds.item_status = 500
    assert metadata.identity() == NODE


def test_version_one_is_never_spoken(imds: Imds) -> None:
    imds.token_status = 404
    with pytest.raises(MetadataUnavailable, match="set the instance's HttpTokens to required"):
        ImdsMetadata(imds.environ).identity()
    assert imds.asked == ["PUT /latest/api/token"]


def test_a_service_that_is_switched_off_says_so(imds: Imds) -> None:
    imds.token_status = 403
    with pytest.raises(MetadataUnavailable, match="switched off"):
        ImdsMetadata(imds.environ).identity()


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_refused_item_is_unavailable(imds: Imds, status: int) -> None:
    imds.item_status = status
    with pytest.raises(MetadataUnavailable, match=f"HTTP {status}"):
        ImdsMetadata(imds.environ).identity()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("instance-id", "i-fake"),
        ("instance-id", ""),
        ("local-ipv4", "<html>"),
        ("local-ipv4", ""),
        ("public-ipv4", "<html>"),
        ("ipv6", "portal"),
        ("placement/region", ""),
        ("instance-id", "i-0\nx"),
    ],
)
def test_an_answer_of_somebody_else_is_not_taken(imds: Imds, path: str, text: str) -> None:
    imds.items[f"{META}{path}"] = text
    with pytest.raises(MetadataUnavailable, match="check who answers"):
        ImdsMetadata(imds.environ).identity()


def test_a_token_that_could_not_stand_in_a_header_is_none(imds: Imds) -> None:
    imds.token = "a\r\nx: y"
    with pytest.raises(MetadataUnavailable, match="no session token"):
        ImdsMetadata(imds.environ).identity()


def test_a_service_that_hangs_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        with pytest.raises(MetadataUnavailable, match="raise the hop limit"):
            ImdsMetadata(environ, timeout=0.2).identity()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://127.0.0.1:99999", "nonsense", "http://[::1"])
def test_an_endpoint_that_nobody_serves(endpoint: str) -> None:
    with pytest.raises(MetadataUnavailable, match="does not answer"):
        ImdsMetadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint}, timeout=0.5).identity()


def test_the_endpoint_by_mode() -> None:
    assert Service({}).endpoint == "http://169.254.169.254"
    assert Service({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"}).endpoint == "http://[fd00:ec2::254]"


def test_a_node_described_by_hand() -> None:
    static = Static.model_validate(
        {"id": "node-1", "private_ip": "10.0.0.7", "zone": "a", "region": "r", "asg": "edge"}
    )
    assert StaticMetadata(static).identity() == Node("node-1", IPv4Address("10.0.0.7"), "a", "r", "edge")


@pytest.mark.parametrize(
    ("private", "public", "expected"),
    [
        ("10.0.0.7", None, (None, None)),
        ("10.0.0.7", "198.51.100.7", (IPv4Address("198.51.100.7"), None)),
        ("10.0.0.7", "2001:db8::7", (None, IPv6Address("2001:db8::7"))),
        ("fd00::7", None, (None, IPv6Address("fd00::7"))),
        ("fd00::7", "198.51.100.7", (IPv4Address("198.51.100.7"), IPv6Address("fd00::7"))),
    ],
)
def test_the_public_addresses_of_a_node_described_by_hand(
    private: str, public: str | None, expected: tuple[IPv4Address | None, IPv6Address | None]
) -> None:
    node = StaticMetadata(
        Static.model_validate({"id": "node-1", "private_ip": private, "public_ip": public})
    ).identity()
    assert (node.public, node.ipv6) == expected


# --- what is announced ------------------------------------------------------------------------------------------------

TARGET, SPOT = f"{META}autoscaling/target-lifecycle-state", f"{META}spot/instance-action"
REBALANCE, MAINTENANCE = f"{META}events/recommendations/rebalance", f"{META}events/maintenance/scheduled"
REBOOT = (
    '{"NotBefore": "21 Jan 2026 09:00:43 GMT", "Code": "system-reboot", "Description": "scheduled reboot", '
    '"EventId": "instance-event-0d59937288b749b32", "NotAfter": "21 Jan 2026 09:17:23 GMT", "State": "active"}'
)
AT_REBOOT = 1768986043.0


def test_nothing_is_announced(imds: Imds) -> None:
    assert ImdsMetadata(imds.environ).notices() == Notices()
    assert imds.asked == ["PUT /latest/api/token", *(f"GET {path}" for path in (TARGET, SPOT, REBALANCE, MAINTENANCE))]


def test_all_that_can_be_announced_at_once(imds: Imds) -> None:
    imds.items[TARGET] = "Terminated\n"
    imds.items[SPOT] = '{"action": "terminate", "time": "2026-01-21T09:00:43Z"}'
    imds.items[REBALANCE] = '{"noticeTime": "2026-01-21T08:58:43Z"}'
    imds.items[MAINTENANCE] = f"[{REBOOT}]"
    assert ImdsMetadata(imds.environ).notices() == Notices(
        target="Terminated",
        spot=Notice("terminate", AT_REBOOT),
        rebalance=AT_REBOOT - 120,
        maintenance=(Notice("system-reboot", AT_REBOOT),),
    )


@pytest.mark.parametrize(
    "state",
    ["InService", "Standby", "Detached", "Warmed:Running", "Warmed:Stopped", "Warmed:Terminating:Wait", "Something"],
)
def test_a_target_state_is_told_as_it_stands(imds: Imds, state: str) -> None:
    imds.items[TARGET] = state
    assert ImdsMetadata(imds.environ).notices().target == state


def test_what_is_announced_is_read_each_time(imds: Imds) -> None:
    metadata = ImdsMetadata(imds.environ)
    assert metadata.notices().target == ""
    imds.items[TARGET] = "InService"
    assert metadata.notices().target == "InService"
    imds.items[TARGET] = "Terminated"
    assert metadata.notices().target == "Terminated"


def test_a_token_that_ended_is_renewed_for_notices(imds: Imds) -> None:
    metadata = ImdsMetadata(imds.environ)
    metadata.notices()
    imds.token = "another"
    imds.items[TARGET] = "Standby"
    assert metadata.notices().target == "Standby"


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_silence_is_not_the_absence_of_notices(imds: Imds, status: int) -> None:
    imds.item_status = status
    with pytest.raises(MetadataUnavailable, match=f"HTTP {status}"):
        ImdsMetadata(imds.environ).notices()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (TARGET, "<html>a portal</html>"),
        (TARGET, "In Service"),
        (TARGET, "x" * 300),
        (SPOT, ""),
        (SPOT, "{bad"),
        (SPOT, "[]"),
        (SPOT, '{"action": "terminate"}'),
        (SPOT, '{"action": "terminate", "time": 5}'),
        (SPOT, '{"action": "terminate", "time": "soon"}'),
        (SPOT, '{"action": "", "time": "2026-01-21T09:00:43Z"}'),
        (SPOT, '{"action": null, "time": "2026-01-21T09:00:43Z"}'),
        (REBALANCE, "{}"),
        (REBALANCE, "null"),
    ],
)
def test_a_notice_that_cannot_be_read_is_unknown_with_its_place(imds: Imds, path: str, text: str) -> None:
    imds.items[path] = text
    with pytest.raises(MetadataUnavailable, match=f"{path} cannot be read: .*check who answers") as caught:
        ImdsMetadata(imds.environ).notices()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", ()),
        ("", ()),
        ("{}", (Notice("unknown", 0.0),)),
        ("<html>a portal</html>", (Notice("unknown", 0.0),)),
        ("[" * 60000, (Notice("unknown", 0.0),)),
        (f"[{REBOOT.replace('active', 'completed')}]", ()),
        (f"[{REBOOT.replace('active', 'canceled')}]", ()),
        ('[{"Code": "system-reboot", "State": "active"}]', (Notice("system-reboot", 0.0),)),
        ('[{"NotBefore": "21 Jan 2026 09:00:43 GMT"}]', (Notice("unknown", AT_REBOOT),)),
        ('[{"Code": "a\\nb", "NotBefore": 7}]', (Notice("unknown", 0.0),)),
        (f'[5, null, {REBOOT}, {{"Code": "instance-stop", "NotBefore": "20 Jan 2026 09:00:43 GMT"}}]', None),
    ],
)
def test_maintenance_is_told_as_far_as_it_can_be_read(
    imds: Imds, text: str, expected: tuple[Notice, ...] | None
) -> None:
    imds.items[MAINTENANCE] = text
    imds.items[TARGET] = "Terminated"
    in_order = (Notice("instance-stop", AT_REBOOT - 86400), Notice("system-reboot", AT_REBOOT))
    told = ImdsMetadata(imds.environ).notices()
    assert told == Notices(target="Terminated", maintenance=in_order if expected is None else expected)


def test_many_events_are_one_answer(imds: Imds) -> None:
    imds.items[MAINTENANCE] = f"[{', '.join([REBOOT] * 50)}]"  # longer than one packet, and than what a token may be
    assert len(ImdsMetadata(imds.environ).notices().maintenance) == 50


def test_two_threads_share_a_service_whose_token_ends(imds: Imds) -> None:
    metadata = ImdsMetadata(imds.environ)
    imds.items[TARGET] = "InService"
    faults: list[BaseException] = []

    def ask() -> None:
        for number in range(15):
            imds.token = f"{threading.get_ident()}-{number}"
            try:
                metadata.notices()
            except MetadataUnavailable:  # the other thread made a third token meanwhile
                pass
            except BaseException as fault:
                faults.append(fault)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    imds.token = "the last"
    assert metadata.notices().target == "InService"


def test_nothing_is_announced_for_a_node_described_by_hand() -> None:
    static = Static.model_validate({"id": "node-1", "private_ip": "10.0.0.7"})
    assert StaticMetadata(static).notices() == Notices()
