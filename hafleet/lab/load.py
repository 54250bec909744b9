"""Steady HTTP load in a process of its own, counted without mercy: ``python -m hafleet.lab.load --targets a:1,b:1``.

Half of the clients keep their connections, half open one per request. Every request has a number, which the application
server echoes; an answer to another request counts as failed. So does everything else that is not a complete 200 within
the time: a refused or reset connection, a 5xx, and a keep-alive connection that the server closed under a request.
Nothing is ever sent twice. Only a connection that was seen closed before the first byte of a request is
replaced without a count, as every client must.

Totals go to the standard output as JSON lines; commands come as JSON lines on the standard input:
``{"targets": ["host:port", ...]}`` moves the load, ``{"rate": 100}`` changes it, ``{"stop": true}`` ends it.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

REPORT = 0.1  # seconds between two reports
TIMEOUT = 5.0  # seconds for one request, all in all


@dataclass(slots=True)
class Options:
    """What to send. ``rate`` is requests per second over all clients; 0: as fast as they can."""

    targets: tuple[str, ...]
    rate: float
    clients: int
    host: str
    sources: str = ""  # "127.9.250": clients connect from 127.9.250.1 and up
    seconds: float = 0.0  # 0: until told to stop
    requests: int = 0  # 0: until told to stop


@dataclass(slots=True)
class Totals:
    """What happened since the start."""

    sent: int = 0  # counted when the outcome is known
    failed: int = 0
    slowest: float = 0.0  # seconds
    groups: Counter[str] = field(default_factory=Counter)  # answers by group
    instances: Counter[str] = field(default_factory=Counter)  # answers by instance
    errors: Counter[str] = field(default_factory=Counter)  # failures by reason

    def line(self) -> str:
        """One JSON line."""
        return json.dumps(
            {
                "sent": self.sent,
                "failed": self.failed,
                "slowest_ms": round(self.slowest * 1000, 1),
                "groups": self.groups,
                "instances": self.instances,
                "errors": self.errors,
            }
        )


class Failure(Exception):
    """A request that did not get its answer; the text is the reason."""


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Load:
    """The clients and their totals."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.totals = Totals()
        self._numbers = itertools.count()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Send until told to stop, or until the bound of time or number."""
        tasks = [asyncio.create_task(self._client(n)) for n in range(self.options.clients)]
        reporter = asyncio.create_task(self._report())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), self.options.seconds or None)
        self._stop.set()
        await asyncio.gather(*tasks)
        reporter.cancel()
        print(self.totals.line(), flush=True)

    def command(self, line: str) -> None:
        """Obey one line of the standard input."""
        wish = json.loads(line)
        if "targets" in wish:
            self.options.targets = tuple(wish["targets"])
        if "rate" in wish:
            self.options.rate = float(wish["rate"])
        if wish.get("stop"):
            self._stop.set()

    def stop(self) -> None:
        """Let every client finish its request and end."""
        self._stop.set()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT)
            print(self.totals.line(), flush=True)

    async def _client(self, number: int) -> None:
        kept: dict[str, Stream] = {}
        keep = number % 2 == 0
        turn = number
        due = time.monotonic() + number * self._gap() / max(1, self.options.clients)
        while not self._stop.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + self._gap(), time.monotonic() - 0.5)  # a late client does not catch up for long
            targets = self.options.targets
            for gone in [target for target in kept if target not in targets]:
                _close(kept.pop(gone))
            if not targets:
                continue
            turn += 1
            await self._one(number, targets[turn % len(targets)], kept if keep else None)
        for stream in kept.values():
            _close(stream)

    def _gap(self) -> float:
        rate = self.options.rate
        return self.options.clients / rate if rate else 0.0

    async def _one(self, client: int, target: str, kept: dict[str, Stream] | None) -> None:
        number = next(self._numbers)
        if self.options.requests and number >= self.options.requests:
            self._stop.set()
            return
        began = time.monotonic()
        try:
            instance, group = await asyncio.wait_for(self._exchange(client, target, kept, number), TIMEOUT)
        except (Failure, OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            self.totals.sent += 1
            self.totals.failed += 1
            self.totals.errors[f"{target} {type(error).__name__}: {error}"[:120]] += 1
            if kept is not None and target in kept:
                _close(kept.pop(target))
            return
        self.totals.sent += 1
        self.totals.slowest = max(self.totals.slowest, time.monotonic() - began)
        self.totals.instances[instance] += 1
        self.totals.groups[group] += 1

    async def _exchange(self, client: int, target: str, kept: dict[str, Stream] | None, number: int) -> tuple[str, str]:
        stream = kept.pop(target, None) if kept is not None else None
        if stream is not None and (stream[0].at_eof() or stream[1].is_closing()):
            _close(stream)  # closed while it was idle, before anything of this request was sent
            stream = None
        if stream is None:
            stream = await self._connect(client, target)
        reader, writer = stream
        try:
            word = "close" if kept is None else "keep-alive"
            path = f"/r/{number}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.options.host}\r\nConnection: {word}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].split("\r\n")[0] or 0)
            body = (await reader.readexactly(length)).decode()
        except BaseException:
            _close(stream)
            raise
        if kept is None or "connection: close" in head:
            _close(stream)
        else:
            kept[target] = stream
        return _read_answer(head, body, path)

    async def _connect(self, client: int, target: str) -> Stream:
        host, _, port = target.rpartition(":")
        source = (f"{self.options.sources}.{client % 250 + 1}", 0) if self.options.sources else None
        return await asyncio.open_connection(host, int(port), local_addr=source)


def _read_answer(head: str, body: str, path: str) -> tuple[str, str]:
    """Instance and group of the answer. Raises Failure when it is not the 200 to this request."""
    status = head[9:12]
    if status != "200":
        raise Failure(f"status {status}")
    words = body.split()
    if len(words) != 4 or words[3] != path:
        raise Failure(f"answer {body[:40]!r} to {path}")
    return words[0], words[1]


def _close(stream: Stream) -> None:
    stream[1].close()


async def _obey(load: Load) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        load.command(line.decode())
    load.stop()  # whoever started this is gone


async def _main(options: Options, listen: bool) -> int:
    load = Load(options)
    commands = asyncio.create_task(_obey(load)) if listen else None
    await load.run()
    if commands is not None:
        commands.cancel()
    return 1 if load.totals.failed else 0


def main(argv: list[str] | None = None) -> int:
    """Exit code 1 when a request failed."""
    parser = argparse.ArgumentParser(prog="python -m hafleet.lab.load", description=__doc__.splitlines()[0])
    parser.add_argument("--targets", required=True, help="host:port,host:port; used in turn")
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second; 0: as fast as possible")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--host", default="shop.example.com")
    parser.add_argument("--sources", default="", help="first three bytes of the clients' own addresses")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--listen", action="store_true", help="take commands on the standard input")
    given = parser.parse_args(argv)
    targets = tuple(filter(None, given.targets.split(",")))
    options = Options(targets, given.rate, given.clients, given.host, given.sources, given.seconds, given.requests)
    return asyncio.run(_main(options, given.listen))


if __name__ == "__main__":
    sys.exit(main())
