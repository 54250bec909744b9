"""``hafleet dns reap --yes`` as a Lambda, for fleets that are scaled to zero: no node of theirs is left to reap.

Variables: HAFLEET_GROUP names the fleet's own Auto Scaling group, or several with commas between; HAFLEET_SETTINGS is the settings
file, hafleet.yaml at the root of the bundle unless told otherwise. Lambda itself sets AWS_REGION. See docs/dns.md.
"""

import json
import os
import random
import secrets
import sys
import threading
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Protocol

import hafleet
from hafleet import config
from hafleet.adapters.asg import AsgMembership
from hafleet.adapters.asg.instances import Ec2Instances
from hafleet.adapters.aws import Account
from hafleet.adapters.clock import SystemClock
from hafleet.adapters.route53 import Route53Dns
from hafleet.errors import HafleetError
from hafleet.registration import DnsPorts
from hafleet.registration.byhand import Nowhere, Reaper, place, together

_ROOT = Path(hafleet.__file__).parent.parent  # of the bundle
_WORK = 30.0  # seconds that reading and deleting may take, besides the wait between the two proofs
_LEFT = 5.0  # seconds kept for the end, so that what was done is logged


class Context(Protocol):
    """What this handler asks of Lambda's context object."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation."""
        ...


def handler(_event: object, context: Context) -> dict[str, object]:
    """Take away what dead nodes left, and log one line of JSON.

    Args:
        _event: whatever woke it; not looked at.
        context: tells how much time there is.

    Returns:
        ``done``: a line for each thing done; ``held``: what stays, with its rule and reason.

    Raises:
        HafleetError: something could not be read or done, there is not the time for two proofs, or the settings are not usable.
            Lambda counts it as an error of the function.
    """
    try:
        found = _reap(context)
    except HafleetError as error:
        _log("error", {"error": str(error)})
        raise
    _log("info", found)
    return found


def _reap(context: Context) -> dict[str, object]:
    settings = config.load(_ROOT / os.environ.get("HAFLEET_SETTINGS", "hafleet.yaml"), elsewhere=True).settings
    if settings.dns is None:
        raise HafleetError("the settings have no dns section", where="dns", fix="add one: see docs/dns.md")
    names = frozenset(name.strip() for name in os.environ.get("HAFLEET_GROUP", "").split(",")) - {""}
    if not names:
        fix = "set it to the fleet's own Auto Scaling group"
        raise HafleetError("the variable HAFLEET_GROUP is not set", where="environment", fix=fix)
    _enough(context, settings.dns.reap.confirm)
    account = Account(settings.aws, region=lambda: os.environ.get("AWS_REGION", ""))
    clock = SystemClock()
    dns = Route53Dns(settings.dns, account.route53, clock)
    chance = random.Random()
    ports = DnsPorts(dns, Ec2Instances(account), Nowhere(), clock, partial(secrets.token_hex, 4), chance)
    where = place(settings, _region(account), min(names))
    group = partial(together, AsgMembership(account), names)
    reaped = Reaper(settings, ports, group, partial(_rest, context), where).reap()
    found: dict[str, object] = {"done": list(reaped.done), "held": [asdict(held) for held in reaped.held]}
    if reaped.problems:
        _log("info", found)
        raise HafleetError("; ".join(reaped.problems))
    return found


def _enough(context: Context, confirm: float) -> None:
    """Say at once, and not halfway, that there is not the time for two proofs."""
    has, needs = context.get_remaining_time_in_millis() / 1000, confirm + _WORK
    if has < needs:
        what = f"this function may run for {has:.0f} s more, and the two proofs of a death are {confirm:.0f} s apart"
        fix = f"give it a timeout of {needs + _LEFT:.0f} s or more, or lower dns.reap.confirm"
        raise HafleetError(what, where="dns.reap.confirm", fix=fix)


def _rest(context: Context, seconds: float, why: str) -> None:
    """Wait, if that leaves the time to say what was done."""
    if context.get_remaining_time_in_millis() / 1000 < seconds + _LEFT:
        fix = "nothing: the next run goes on from here; give the function a longer timeout if it lasts"
        raise HafleetError(f"no time is left to wait {seconds:.0f} s for {why}", where="lambda", fix=fix)
    threading.Event().wait(seconds)


def _region(account: Account) -> str:
    _, _, region = account.scaling()
    return region


def _log(level: str, found: dict[str, object]) -> None:
    """One line on stdout, which Lambda hands to CloudWatch Logs."""
    sys.stdout.write(json.dumps({"level": level, "event": "reap", **found}) + "\n")
    sys.stdout.flush()
