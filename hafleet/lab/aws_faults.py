"""Faults in front of the local AWS, and counters of its calls: a WSGI layer around moto.

A rule says which calls it hits (service, operation, caller, rate, count) and what happens to them:

    throttle        the service's own throttling error
    5xx             the service's own internal error
    denied          the caller is not allowed
    expired         the caller's credentials are too old
    unreachable     the connection ends without an answer
    hang            no answer for ``seconds`` (300), then the connection ends
    slow            the answer comes after ``seconds`` (1)
    partial_page    the first page is cut to ``size`` (1) items, the next page fails
    empty_page      the first page is cut to ``size`` items, the next page is empty
    empty           an answer without any group, instance, reservation, record set or health check
    no_instances    groups without their instances
    half            every second instance of the answer is missing
    tenfold         every instance ten times, each under a new id
    stale           the answer that the same call got ``age`` (5) seconds ago, or the oldest one known
"""

import contextlib
import json
import random
import socket
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode

from hafleet.lab import aws_answers, route53_http
from hafleet.lab.aws_answers import Answer

App = Callable[[dict[str, Any], Any], Iterable[bytes]]

PLAIN = frozenset({"throttle", "5xx", "denied", "expired"})
EDITS = frozenset({"empty", "no_instances", "half", "tenfold"})
KINDS = PLAIN | EDITS | {"unreachable", "hang", "slow", "partial_page", "empty_page", "stale"}
_LONG_POLL = "AmazonSQS.ReceiveMessage"
HISTORY = 40  # answers kept per distinct call, for "stale"


@dataclass(slots=True)
class Rule:
    """One fault. Empty service, operation or caller (access key): all of them; ``count`` None: until it is cleared."""

    kind: str
    service: str = ""
    operation: str = ""
    caller: str = ""
    rate: float = 1.0
    count: int | None = None
    seconds: float | None = None
    size: int = 1
    age: float = 5.0
    id: int = 0

    def __post_init__(self) -> None:
        """Refuse what would silently never happen."""
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of fault; choose one of {', '.join(sorted(KINDS))}")
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate is {self.rate}; it is the share of calls to hit, more than 0 and at most 1")

    def fits(self, call: "Call") -> bool:
        """True when the rule is about such calls."""
        wanted = ((self.service, call.service), (self.operation, call.operation), (self.caller, call.caller))
        return all(mine in ("", theirs) for mine, theirs in wanted)


@dataclass(frozen=True, slots=True)
class Call:
    """One AWS call as it came in."""

    service: str
    operation: str
    form: tuple[tuple[str, str], ...]
    caller: str = ""  # access key

    @property
    def name(self) -> str:
        """``service.Operation``."""
        return f"{self.service}.{self.operation}"

    def has(self, key: str) -> bool:
        """True when the form has this parameter."""
        return any(name == key for name, _ in self.form)


@dataclass(slots=True)
class Faults:
    """The rules in force, the counters and the history. Thread-safe."""

    rules: list[Rule] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    cleared: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _random: random.Random = field(default_factory=lambda: random.Random(7))
    _next: int = 1
    _history: dict[Any, deque[tuple[float, Answer]]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=HISTORY))
    )

    def add(self, rule: Rule) -> Rule:
        """Put a rule in force; returns it with its id."""
        with self._lock:
            rule.id, self._next = self._next, self._next + 1
            self.rules.append(rule)
        return rule

    def clear(self, rule_id: int | None = None) -> None:
        """End one rule, or all; calls that hang end too."""
        with self._lock:
            self.rules = [rule for rule in self.rules if rule_id is not None and rule.id != rule_id]
            self.cleared.set()
            self.cleared = threading.Event()

    def pick(self, call: Call) -> Rule | None:
        """The first rule that hits this call; uses up one of its count."""
        with self._lock:
            self.calls[call.name] += 1
            for rule in self.rules:
                if rule.fits(call) and rule.count != 0 and self._random.random() < rule.rate:
                    if rule.count is not None:
                        rule.count -= 1
                    self.hits[call.name] += 1
                    return rule
        return None

    def remember(self, call: Call, answer: Answer) -> None:
        """Keep a good answer of a read for ``stale``."""
        if call.operation.startswith(("Describe", "Get", "List")):
            with self._lock:
                self._history[call].append((time.monotonic(), answer))

    def old_answer(self, call: Call, age: float) -> Answer | None:
        """The newest answer at least ``age`` seconds old, else the oldest one, else None."""
        with self._lock:
            known = self._history.get(call) or deque()
            until = time.monotonic() - age
            fit = [answer for at, answer in known if at <= until]
            return fit[-1] if fit else (known[0][1] if known else None)

    def show(self) -> dict[str, Any]:
        """The rules as JSON data."""
        return {"faults": [asdict(rule) for rule in self.rules]}

    def counts(self) -> dict[str, Any]:
        """Calls and faulted calls by ``service.Operation``."""
        with self._lock:
            return {"calls": dict(self.calls), "faulted": dict(self.hits)}

    def reset_counts(self) -> None:
        """Begin to count again."""
        with self._lock:
            self.calls.clear()
            self.hits.clear()


class FaultLayer:
    """WSGI: reads what is called, lets a rule act, hands the rest to moto under one lock."""

    def __init__(self, app: App, faults: Faults, lock: threading.RLock) -> None:
        self._app = app
        self._faults = faults
        self._lock = lock

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """One request."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        call = read_call(environ, body)
        answer = self._answer(environ, body, call)
        if answer is None:
            _hang_up(environ)
        start_response(answer.status, [*answer.headers, ("Content-Length", str(len(answer.body)))])
        return [answer.body]

    def _answer(self, environ: dict[str, Any], body: bytes, call: Call) -> Answer | None:
        """The answer, or None for a connection that ends without one."""
        rule = self._faults.pick(call)
        if rule is None:
            answer = self._moto(environ, body)
            self._faults.remember(call, answer)
            return answer
        if rule.kind in PLAIN:
            return aws_answers.error(rule.kind, call.service)
        if rule.kind in {"unreachable", "hang"}:
            self._faults.cleared.wait(300.0 if rule.seconds is None else rule.seconds) if rule.kind == "hang" else None
            return None
        if rule.kind == "slow":
            self._faults.cleared.wait(1.0 if rule.seconds is None else rule.seconds)
        if rule.kind == "stale":
            return self._faults.old_answer(call, rule.age) or self._moto(environ, body)
        if rule.kind in {"partial_page", "empty_page"}:
            return self._paged(environ, call, rule)
        if rule.kind == "tenfold":
            body = aws_answers.without_copies(body)
        answer = self._moto(environ, body)
        return aws_answers.edit(rule.kind, answer) if rule.kind in EDITS else answer

    def _paged_by_query(self, environ: dict[str, Any], call: Call, rule: Rule) -> Answer:
        """The same for Route 53, whose reads have no body: later pages of its lists ask for a type or from a marker."""
        if call.has("type") or call.has("marker"):
            if rule.kind == "partial_page":
                return aws_answers.error("5xx", call.service)
            return aws_answers.edit("empty", self._moto(environ, b""))
        kept = [(key, value) for key, value in call.form if key not in {"maxitems", "path"}]
        query = urlencode([*kept, ("maxitems", str(rule.size))])
        return self._moto({**environ, "QUERY_STRING": query}, b"")

    def _paged(self, environ: dict[str, Any], call: Call, rule: Rule) -> Answer:
        if call.service == "route53":
            return self._paged_by_query(environ, call, rule)
        if call.has("NextToken"):
            if rule.kind == "partial_page":
                return aws_answers.error("5xx", call.service)
            short = urlencode([(key, value) for key, value in call.form if key != "NextToken"])
            return aws_answers.edit("empty", self._moto(environ, short.encode()))
        limit = "MaxRecords" if call.service == "autoscaling" else "MaxResults"
        kept = [(key, value) for key, value in call.form if key != limit]
        return self._moto(environ, urlencode([*kept, (limit, str(rule.size))]).encode())

    def _moto(self, environ: dict[str, Any], body: bytes) -> Answer:
        if environ.get("HTTP_X_AMZ_TARGET") == _LONG_POLL:  # it waits for seconds, and nobody else shall
            return aws_answers.ask(self._app, environ, body)
        with self._lock:
            return aws_answers.ask(self._app, environ, body)


def read_call(environ: dict[str, Any], body: bytes) -> Call:
    """Service from the credential scope; operation from the form, the target header, or for Route 53 from the path."""
    scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split(",")[0].split("/")
    service = scope[3] if len(scope) > 3 else ""
    path = environ.get("PATH_INFO", "")
    if path.startswith(route53_http.ROOT):
        asked = (("path", path), *parse_qsl(environ.get("QUERY_STRING", "")))
        return Call("route53", route53_http.operation_of(environ["REQUEST_METHOD"], path), asked, scope[0])
    simple = environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded")
    form = tuple(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)) if simple else ()
    target = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
    return Call(service, dict(form).get("Action", target), form, scope[0])


def _hang_up(environ: dict[str, Any]) -> NoReturn:
    """End the connection under werkzeug, so that the client sees no answer at all; werkzeug takes this error as that."""
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("fault: no answer")


def parse_rule(text: bytes) -> Rule:
    """A rule from the JSON of a control request.

    Raises:
        ValueError: it is no JSON object, or has unknown or missing fields.
    """
    data = json.loads(text or b"{}")
    try:
        return Rule(**data)
    except TypeError as error:
        raise ValueError(
            f"a fault needs kind, and may have service, operation, caller, rate, count, seconds, size, age: {error}"
        ) from error
