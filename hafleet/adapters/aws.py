"""How hafleet speaks to AWS: clients with bounded waits, counted calls, and one translation of every failure.

Endpoint and credentials come from where every AWS tool takes them: the environment, the profile, the instance role.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from hafleet import __version__
from hafleet.core.settings import Aws
from hafleet.errors import AwsDenied, AwsThrottled, SourceUnavailable

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_route53 import Route53Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

OnCall = Callable[[str, float, str], None]  # operation, seconds it took with its retries, "ok" or an error code

_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)
_THROTTLED = frozenset(
    {"RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "TooManyRequestsException", "SlowDown"}
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "SignatureDoesNotMatch"})
_DENIED = _EXPIRED | frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "NotAuthorized",
        "OptInRequired",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
_NO_SUCH = "InvalidInstanceID.NotFound"
_ID = re.compile(r"\bi-[0-9a-f]{8,17}\b")
_REFUSED = re.compile(r"not authorized to perform: ([\w-]+:\w+)")
_LONG_POLL = 20.0  # seconds that SQS holds a receive at most
_STARTED = "hafleet_started"  # key in botocore's request context


class NoSuchInstances(SourceUnavailable):
    """EC2 refused a whole question because it does not know ``ids``, which its message names."""

    def __init__(self, what: str, *, where: str, ids: frozenset[str]) -> None:
        self.ids = ids
        super().__init__(what, where=where, fix="nothing: the others are asked for again")


class Calls:
    """Watches the calls of its clients: tells a hook of each, and remembers how far this clock is from AWS's."""

    def __init__(self, on_call: OnCall) -> None:
        self._on_call = on_call
        self.skew: float | None = None  # seconds this host's clock is ahead of AWS; None before the first answer

    def watch(self, client: "AutoScalingClient | EC2Client | Route53Client | SNSClient | SQSClient") -> None:
        """Follow this client's calls."""
        events = client.meta.events
        events.register("before-call", self._before)
        events.register("after-call", self._after)
        events.register("after-call-error", self._failed)

    def _before(self, context: dict[str, Any], **_: Any) -> None:  # botocore's event arguments
        context[_STARTED] = time.monotonic()

    def _after(self, model: Any, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        self._tell(model.name, context, parsed.get("Error", {}).get("Code") or "ok")
        date = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        try:
            self.skew = time.time() - parsedate_to_datetime(date).timestamp()
        except (TypeError, ValueError):  # no date, or one that is none
            pass

    def _failed(self, exception: Exception, context: dict[str, Any], event_name: str, **_: Any) -> None:
        self._tell(event_name.rpartition(".")[2], context, type(exception).__name__)

    def _tell(self, operation: str, context: dict[str, Any], outcome: str) -> None:
        self._on_call(operation, time.monotonic() - context.get(_STARTED, time.monotonic()), outcome)


def ignore(operation: str, seconds: float, outcome: str) -> None:
    """Where nobody counts calls."""


def no_region() -> str:
    """Where nobody else knows the region. Raises SourceUnavailable."""
    raise SourceUnavailable(
        "no AWS region is known", where="aws", fix="set aws.region in the settings, or AWS_DEFAULT_REGION"
    )


class Account:
    """The clients of one process, for any thread.

    All are of one session, for each session holds its own copy of the SDK's tables in memory. It is made at the first call: before
    that, IMDS may not have told the region yet.

    Args:
        settings: region, waits and attempts.
        on_call: told of every call: operation, seconds, outcome.
        region: asked for the region when neither settings nor environment name one.
    """

    def __init__(self, settings: Aws, on_call: OnCall = ignore, region: Callable[[], str] = no_region) -> None:
        self._settings = settings
        self._ask_region = region
        self._calls = Calls(on_call)
        self._lock = threading.Lock()  # neither making a session nor making a client is safe in two threads
        self._session: boto3.session.Session | None = None
        self._scaling: tuple[AutoScalingClient, EC2Client] | None = None
        self._route53: Route53Client | None = None
        self._messages: tuple[SQSClient, SNSClient] | None = None

    @property
    def skew(self) -> float | None:
        """Seconds this host's clock is ahead of AWS; None before the first answer."""
        return self._calls.skew

    def scaling(self) -> "tuple[AutoScalingClient, EC2Client, str]":
        """Clients of EC2 Auto Scaling and EC2, and their region. Raises SourceUnavailable when none can be made."""
        with self._lock:
            session = self._connect()
            if self._scaling is None:
                config = _config(self._settings, self._settings.max_attempts)
                with translated("session", session.region_name):
                    made = session.client("autoscaling", config=config), session.client("ec2", config=config)
                for client in made:
                    self._calls.watch(client)
                self._scaling = made
            return *self._scaling, session.region_name

    def route53(self) -> "Route53Client":
        """A client of Route 53 that never tries a call again by itself. Raises SourceUnavailable when none can be made.

        Its endpoint is the one of the region's partition. Whoever calls it paces its own attempts: an attempt of the SDK's
        would take tokens that nobody counted, and give up before a busy zone is free.
        """
        with self._lock:
            session = self._connect()
            if self._route53 is None:
                with translated("session", session.region_name):
                    self._route53 = session.client("route53", config=_config(self._settings, attempts=1))
                self._calls.watch(self._route53)
            return self._route53

    def messages(self) -> "tuple[SQSClient, SNSClient, str]":
        """Clients of SQS and SNS, and their region. Raises SourceUnavailable when none can be made.

        They wait longer for an answer than a long poll lasts, and never try again by themselves.
        """
        with self._lock:
            session = self._connect()
            if self._messages is None:
                waits = Config(read_timeout=_LONG_POLL + self._settings.read_timeout)
                config = _config(self._settings, attempts=1).merge(waits)
                with translated("session", session.region_name):
                    made = session.client("sqs", config=config), session.client("sns", config=config)
                for client in made:
                    self._calls.watch(client)
                self._messages = made
            return *self._messages, session.region_name

    def _connect(self) -> boto3.session.Session:
        if self._session is None:
            with translated("session", "?"):
                named = self._settings.region or boto3.session.Session().region_name
            region = named or self._ask_region() or no_region()
            with translated("session", region):
                session = boto3.session.Session(region_name=region)
                if session.get_credentials() is None:  # clients made without any would never look for them again
                    raise NoCredentialsError
            self._session = session
        return self._session


def _config(settings: Aws, attempts: int) -> Config:
    """Bounded waits and attempts. One layer of retries only: the pass itself comes again by its timer."""
    return Config(
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        tcp_keepalive=True,
        user_agent_extra=f"hafleet/{__version__}",
    )


@contextmanager
def translated(call: str, region: str) -> Iterator[None]:
    """Turn what the SDK raises into hafleet's errors.

    Args:
        call: IAM action of the call, such as ``ec2:DescribeInstances``, for the message and its remedy.
        region: where it went.

    Raises:
        AwsDenied, AwsThrottled, NoSuchInstances, SourceUnavailable: instead of any error of boto3.
    """
    where = f"{call} in {region}"
    try:
        yield
    except ClientError as error:
        raise _from_answer(error, call, where) from error
    except _NO_CREDENTIALS as error:
        fix = "give the instance a role, or put credentials into the agent's environment"
        raise AwsDenied(one_line(str(error)), where=where, fix=fix) from error
    except (BotoCoreError, ResponseParserError) as error:
        fix = "check the route, the VPC endpoint and the region; HAProxy keeps what it has"
        raise SourceUnavailable(one_line(str(error)), where=where, fix=fix) from error


def _from_answer(error: ClientError, call: str, where: str) -> SourceUnavailable:
    """An error answer. Status and code are both looked at: a proxy or a denial may come without a code of its own."""
    told = error.response.get("Error", {})
    code = str(told.get("Code") or "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = str(told.get("Message") or "no message")
    what = one_line(f"{code or status}: {message}")
    if code == _NO_SUCH:
        return NoSuchInstances(what, where=where, ids=frozenset(_ID.findall(message)))
    if code.startswith("Throttl") or code in _THROTTLED or status == 429:
        return AwsThrottled(
            what, where=where, fix="nothing now: it is tried again; if it lasts, run fewer agents or ask AWS"
        )
    if code in _EXPIRED:
        return AwsDenied(what, where=where, fix="renew the credentials, and check this host's clock")
    if code in _DENIED or status in {401, 403}:
        fix = f"allow {_lacking(message, call)} to this node's role; `hafleet iam-policy` prints all that it needs"
        return AwsDenied(what, where=where, fix=fix)
    return SourceUnavailable(what, where=where, fix="nothing now: it is tried again; HAProxy keeps what it has")


def _lacking(message: str, call: str) -> str:
    """The action to allow. AWS may name another than the call's (CreateQueue needs TagQueue, too), and SQS writes it small."""
    named = _REFUSED.search(message)
    return call if named is None or named[1].lower() == call.lower() else named[1]


def one_line(text: str) -> str:
    """One line of at most 300 characters: answers may hold whole pages."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300].rstrip(". ")
