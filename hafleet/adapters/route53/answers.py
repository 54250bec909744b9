"""Route 53's errors in hafleet's words, and answers that are not whole."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError, ParamValidationError

from hafleet.adapters import aws
from hafleet.errors import ChangeRefused, CheckInUse, CheckTaken, HafleetError, SourceUnavailable, ZoneBusy

_REFUSALS = frozenset({"InvalidChangeBatch", "InvalidInput", "NoSuchHealthCheck"})
_PLAN = "see what it wants to do by 'hafleet dns plan'; the same again would be refused again"


class NoSuchThing(SourceUnavailable):
    """Route 53 does not know the change or the health check that was asked for."""


@contextmanager
def reading(call: str, place: str) -> Iterator[None]:
    """Turn what a read of Route 53 raises into hafleet's errors.

    Args:
        call: the API's operation, such as ``GetChange``.
        place: what it was asked of, for the message: ``zone Z08ABC``.

    Raises:
        AwsDenied, AwsThrottled, ZoneBusy, NoSuchThing, SourceUnavailable: instead of any error of boto3.
    """
    with aws.translated(f"route53:{call}", place):
        try:
            yield
        except ClientError as error:
            known = _known(error, where=f"route53:{call} in {place}")
            if known is None:
                raise
            raise known from error


@contextmanager
def writing(call: str, place: str) -> Iterator[None]:
    """The same for a call that changes something.

    Raises:
        ChangeRefused: for what the change says; besides the errors of ``reading``.
    """
    where = f"route53:{call} in {place}"
    with reading(call, place):
        try:
            yield
        except ClientError as error:
            if _code(error) not in _REFUSALS:
                raise
            raise ChangeRefused(_words(error), where=where, fix=_PLAN) from error
        except ParamValidationError as error:  # the SDK saw it before Route 53 did
            raise ChangeRefused(aws.one_line(str(error)), where=where, fix=_PLAN) from error


def partial(call: str, place: str, what: str) -> SourceUnavailable:
    """The error of an answer that is not whole."""
    fix = "nothing now: it is tried again"
    return SourceUnavailable(f"the answer is not whole: {what}", where=f"route53:{call} in {place}", fix=fix)


def _known(error: ClientError, where: str) -> HafleetError | None:
    """The errors that only Route 53 has."""
    what = _words(error)
    match _code(error):
        case "PriorRequestNotComplete":
            return ZoneBusy(what, where=where, fix="nothing: it is tried again until the zone is free")
        case "NoSuchHostedZone":
            fix = "check dns.zone_id and that this node's role is of the account that owns the zone"
            return SourceUnavailable(what, where=where, fix=fix)
        case "NoSuchChange" | "NoSuchHealthCheck":
            return NoSuchThing(what, where=where)
        case "HealthCheckAlreadyExists":
            return CheckTaken(what, where=where, fix="nothing: it is tried again by another reference")
        case "HealthCheckInUse":
            return CheckInUse(what, where=where, fix="nothing now: the check that needs it goes first")
        case "TooManyHealthChecks":
            fix = "ask AWS for more health checks, or remove those of dead nodes by 'hafleet dns reap'"
            return SourceUnavailable(what, where=where, fix=fix)
        case _:
            return None


def _code(error: ClientError) -> str:
    """The error's code. The API's reference shows an InvalidChangeBatch that is a list of messages and has none."""
    code = str(error.response.get("Error", {}).get("Code") or "")
    return code or ("InvalidChangeBatch" if "Messages" in error.response else "")


def _words(error: ClientError) -> str:
    """The code and AWS's own message, or messages."""
    told = error.response.get("Error", {}).get("Message") or ""
    if not told:
        listed = error.response.get("messages") or error.response.get("Messages") or ()
        told = json.dumps(listed) if listed else "no message"
    return aws.one_line(f"{_code(error)}: {told}")
