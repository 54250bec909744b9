"""AWS's query protocol from a script: a real HTTP server whose every answer a test writes itself."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

Params = Mapping[str, str]
Reply = tuple[int, str]
Answer = Callable[[Params], Reply]


class Script:
    """Answers in order, per action; the last one of an action stands for all later calls."""

    def __init__(self) -> None:
        self.asked: list[Params] = []
        self._answers: dict[str, list[Answer]] = {}
        self.endpoint = ""

    def on(self, action: str, *answers: Reply | Answer) -> None:
        """What the next calls of an action get."""
        self._answers[action] = [_constant(a) if isinstance(a, tuple) else a for a in answers]

    def answer(self, params: Params) -> Reply:
        """The answer to one call."""
        self.asked.append(params)
        rest = self._answers[params["Action"]]
        return (rest.pop(0) if len(rest) > 1 else rest[0])(params)

    def count(self, action: str) -> int:
        """Calls of one action so far."""
        return sum(params["Action"] == action for params in self.asked)


def _constant(reply: Reply) -> Answer:
    return lambda _: reply


@contextmanager
def serve(script: Script) -> Iterator[Script]:
    """Serve a script on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server calls
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, text = script.answer({key: values[0] for key, values in parse_qs(body).items()})
            if status == 0:  # hang up without a word
                self.close_connection = True
                return
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    class Server(ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        script.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()


# --- answers ------------------------------------------------------------------------------------------------------


def groups(*members: str, token: str = "") -> Reply:
    """A page of DescribeAutoScalingGroups."""
    more = f"<NextToken>{token}</NextToken>" if token else ""
    inner = f"<AutoScalingGroups>{''.join(members)}</AutoScalingGroups>{more}"
    body = f"<DescribeAutoScalingGroupsResult>{inner}</DescribeAutoScalingGroupsResult>"
    return 200, f"<DescribeAutoScalingGroupsResponse>{body}</DescribeAutoScalingGroupsResponse>"


def group(name: str, *items: str, desired: str = "1", tags: Mapping[str, str] | None = None) -> str:
    """One group; ``desired`` is text so that it may be odd, and absent when empty."""
    labels = "".join(
        f"<member><Key>{escape(k)}</Key><Value>{escape(v)}</Value></member>" for k, v in (tags or {}).items()
    )
    wanted = f"<DesiredCapacity>{desired}</DesiredCapacity>" if desired else ""
    called = f"<AutoScalingGroupName>{escape(name)}</AutoScalingGroupName>" if name else ""
    return f"<member>{called}{wanted}<Instances>{''.join(items)}</Instances><Tags>{labels}</Tags></member>"


def member(key: str, state: str = "InService", extra: str = "") -> str:
    """One instance of a group."""
    named = f"<InstanceId>{key}</InstanceId>" if key else ""
    told = f"<LifecycleState>{state}</LifecycleState>" if state else ""
    return f"<member>{named}{told}<AvailabilityZone>eu-west-1a</AvailabilityZone>{extra}</member>"


def instances(*items: str, token: str = "") -> Reply:
    """A page of DescribeInstances; every item in a reservation of its own."""
    sets = "".join(f"<item><instancesSet>{item}</instancesSet></item>" for item in items)
    more = f"<nextToken>{token}</nextToken>" if token else ""
    return 200, f"<DescribeInstancesResponse><reservationSet>{sets}</reservationSet>{more}</DescribeInstancesResponse>"


def item(key: str, address: str = "10.0.0.1", inside: str = "", state: str = "running") -> str:
    """One instance of EC2."""
    where = f"<privateIpAddress>{address}</privateIpAddress>" if address else ""
    return (
        f"<item><instanceId>{key}</instanceId><instanceState><name>{state}</name></instanceState>{where}{inside}</item>"
    )


def interface(index: int, address: str, *six: str) -> str:
    """One network interface."""
    listed = "".join(f"<item><ipv6Address>{one}</ipv6Address></item>" for one in six)
    return (
        f"<item><attachment><deviceIndex>{index}</deviceIndex></attachment><privateIpAddress>{address}</privateIpAddress>"
        f"<ipv6AddressesSet>{listed}</ipv6AddressesSet></item>"
    )


def error(status: int, code: str, message: str = "no") -> Reply:
    """An error of Auto Scaling."""
    told = f"<Code>{code}</Code><Message>{message}</Message>"
    return status, f"<ErrorResponse><Error>{told}</Error><RequestId>r</RequestId></ErrorResponse>"


def ec2_error(status: int, code: str, message: str) -> Reply:
    """An error of EC2."""
    told = f"<Code>{code}</Code><Message>{message}</Message>"
    return status, f"<Response><Errors><Error>{told}</Error></Errors><RequestID>r</RequestID></Response>"
