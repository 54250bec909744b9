"""Hears messages of an event queue, and wakes the pass for those that are ours."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from botocore.exceptions import ClientError

from hafleet.adapters import aws
from hafleet.adapters.queue.prover import Prover
from hafleet.core.events import Heard, Scope, heard
from hafleet.core.queues import POLL, account_of
from hafleet.errors import HafleetError
from hafleet.ports import Clock, Wakeups

NO_QUEUE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_SENT: Final = "SentTimestamp"
_NOTHING = 1.0  # seconds until a queue that is not there yet is asked for again; that costs no call
_BATCH = 10  # messages per receive at most (SQS)
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds after failures in a row
_LONGEST_STOP = 2.0  # seconds that a stop waits for a poll


class Queue(Protocol):
    """Which queue to hear."""

    def url(self) -> str:
        """Its URL; "" while there is nothing to hear. Asked before every poll; may make the queue. Raises HafleetError."""
        ...

    def lost(self) -> None:
        """SQS does not know the queue of this URL any more."""
        ...


class FixedQueue:
    """A queue that the operator made."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self) -> str:
        """See ``Queue.url``."""
        return self._url

    def lost(self) -> None:
        """See ``Queue.lost``. It may come back: nothing to forget."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What becomes of a message."""

    wakeups: Wakeups  # woken for those that are ours
    scope: Callable[[], Scope]  # asked once per batch whose events are ours; the account is the queue's
    tell: Callable[[Heard], None]  # told of all that is for nobody, and of failures, one line each
    prover: Prover | None = None  # told of everything


class QueueListener:
    """Implements ``ports.Watch``. Polls at once, in a thread of its own; nothing but ``stop`` ends it.

    A message is deleted once it was looked at, whatever it was: it carries no truth. One that is not deleted for a failure of the
    call comes again, and wakes again, which does no harm.

    Args:
        account: whose SQS client is used.
        queue: which queue to hear.
        hearing: what becomes of a message.
        clock: how a pause after a failure is waited.
    """

    def __init__(self, account: aws.Account, queue: Queue, hearing: Hearing, clock: Clock) -> None:
        self._account = account
        self._queue = queue
        self._hearing = hearing
        self._clock = clock
        self._chance = random.Random()
        self._stops = threading.Event()
        self._failures = 0  # polls in a row
        self._thread = threading.Thread(target=self._loop, daemon=True, name="events")
        self._thread.start()

    def stop(self) -> None:
        """End it. A long poll is left behind; SQS gives what it might have received to the next reader after a while."""
        self._stops.set()
        self._thread.join(_LONGEST_STOP)

    def _loop(self) -> None:
        while not self._stops.is_set():
            try:
                self._poll()
                self._failures = 0
                self._polled(failing=False)
            except Exception as error:  # without events the timer still finds every change
                self._polled(failing=True)
                self._failed(error)
                self._clock.wait(self._stops, self._pause())

    def _poll(self) -> None:
        """One long poll, and all that it brought. Raises SourceUnavailable."""
        url = self._queue.url()
        if not url:
            self._clock.wait(self._stops, _NOTHING)
            return
        client, _, region = self._account.messages()
        with aws.translated("sqs:ReceiveMessage", region), _losing(self._queue):
            answer: Any = client.receive_message(
                QueueUrl=url, MaxNumberOfMessages=_BATCH, WaitTimeSeconds=POLL, MessageSystemAttributeNames=[_SENT]
            )
        messages = answer.get("Messages") or []
        if not messages or self._stops.is_set():
            return
        scope = replace(self._hearing.scope(), account=account_of(url))
        for message in messages:
            self._hear(heard(str(message.get("Body") or ""), scope), message.get("Attributes") or {})
        entries: Any = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]} for number, message in enumerate(messages)
        ]
        with aws.translated("sqs:DeleteMessage", region):
            client.delete_message_batch(QueueUrl=url, Entries=entries)

    def _hear(self, found: Heard, attributes: Mapping[str, str]) -> None:
        sent = attributes.get(_SENT, "")  # milliseconds since the epoch
        if self._hearing.prover is not None:
            self._hearing.prover.heard(found, self._clock.wall() - int(sent) / 1000 if sent.isdecimal() else None)
        if found.kind == "wake":
            self._hearing.wakeups.wake(found.text)
        elif found.kind != "pulse":
            self._hearing.tell(found)

    def _polled(self, *, failing: bool) -> None:
        if self._hearing.prover is not None:
            self._hearing.prover.polled(failing=failing)

    def _failed(self, error: Exception) -> None:
        """Told at the first failure, and each time their number doubles: a queue that is gone for a day is few lines."""
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:
            odd = aws.one_line(f"internal error, please report it: {error!r}")
            what = (
                " ".join(str(error).split()) if isinstance(error, HafleetError) else odd
            )  # whole: its end says what to do
            self._hearing.tell(Heard("fault", f"no events: {what}"))

    def _pause(self) -> float:
        """Seconds, by full jitter."""
        most = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures, 10))
        return self._chance.uniform(_FIRST_PAUSE / 2, most)


@contextmanager
def _losing(queue: Queue) -> Iterator[None]:
    """Let the queue know when SQS does not know it."""
    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in NO_QUEUE:
            queue.lost()
        raise
