"""Steady HTTP load in a process of its own, counted without mercy: ``python -m hafleet.lab.load --targets a:1,b:1``.

With ``--resolve NAME --dns HOST:PORT --port N`` the clients find their server by DNS instead (see resolving).

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
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

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
    resolve: str = ""  # name to ask for, instead of targets
    dns: str = ""  # host:port of the name server
    port: int = 80  # of the addresses that are found


@dataclass(slots=True)
class Totals:
    """What happened since the start."""

    sent: int = 0  # counted when the outcome is known
    failed: int = 0
    slowest: float = 0.0  # seconds
    groups: Counter[str] = field(default_factory=Counter)  # answers by group
    instances: Counter[str] = field(default_factory=Counter)  # answers by instance
    errors: Counter[str] = field(default_factory=Counter)  # failures by reason
    targets: Counter[str] = field(default_factory=Counter)  # requests by host:port, failed ones too

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
                "targets": self.targets,
            }
        )


class Failure(Exception):
    """A request that did not get its answer; the text is the reason."""


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Choice(Protocol):
    """Where one client sends its requests."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Every host:port that may be used; connections to others are closed."""
        ...

    async def target(self, kept: Collection[str]) -> str:
        """The one for the next request. ``kept``: to which there are connections. Raises Failure."""
        ...


class InTurn:
    """Fixed targets, one after the other."""

    def __init__(self, options: Options, first: int) -> None:
        self._options = options
        self._turn = first

    @property
    def targets(self) -> tuple[str, ...]:
        """As the options say at this moment."""
        return self._options.targets

    async def target(self, _kept: Collection[str]) -> str:
        """The next one."""
        self._turn += 1
        return self.targets[self._turn % len(self.targets)]


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
        choice = self._choice(number)
        due = time.monotonic() + number * self._gap() / max(1, self.options.clients)
        while not self._stop.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + self._gap(), time.monotonic() - 0.5)  # a late client does not catch up for long
            _close_others(kept, choice)
            if choice.targets or self.options.resolve:
                await self._one(number, choice, kept if keep else None)
        for stream in kept.values():
            _close(stream)

    def _choice(self, client: int) -> Choice:
        if not self.options.resolve:
            return InTurn(self.options, client)
        from hafleet.lab.resolving import Resolver, Where  # dnspython takes its time to load

        source = self._source(client)
        return Resolver(Where(self.options.resolve, self.options.dns, self.options.port), source[0] if source else "")

    def _gap(self) -> float:
        rate = self.options.rate
        return self.options.clients / rate if rate else 0.0

    async def _one(self, client: int, choice: Choice, kept: dict[str, Stream] | None) -> None:
        number = next(self._numbers)
        if self.options.requests and number >= self.options.requests:
            self._stop.set()
            return
        began = time.monotonic()
        target = ""
        try:
            target = await choice.target(kept or ())
            _close_others(kept or {}, choice)
            self.totals.targets[target] += 1
            instance, group = await asyncio.wait_for(self._exchange(client, target, kept, number), TIMEOUT)
        except (Failure, OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            self.totals.sent += 1
            self.totals.failed += 1
            self.totals.errors[f"{target} {type(error).__name__}: {error}".strip()[:120]] += 1
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
        return await asyncio.open_connection(host.strip("[]"), int(port), local_addr=self._source(client))

    def _source(self, client: int) -> tuple[str, int] | None:
        return (f"{self.options.sources}.{client % 250 + 1}", 0) if self.options.sources else None


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


def _close_others(kept: dict[str, Stream], choice: Choice) -> None:
    for gone in [target for target in kept if target not in choice.targets]:
        _close(kept.pop(gone))


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
    aim = parser.add_mutually_exclusive_group(required=True)
    aim.add_argument("--targets", default="", help="host:port,host:port; used in turn")
    aim.add_argument("--resolve", default="", metavar="NAME", help="ask DNS for this name instead")
    parser.add_argument("--dns", default="127.0.0.1:53", help="host:port of the name server to ask")
    parser.add_argument("--port", type=int, default=80, help="port of the addresses that are found")
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second; 0: as fast as possible")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--host", default="shop.example.com")
    parser.add_argument("--sources", default="", help="first three bytes of the clients' own addresses")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--listen", action="store_true", help="take commands on the standard input")
    given = parser.parse_args(argv)
    targets = tuple(filter(None, given.targets.split(",")))
    bounds = {"seconds": given.seconds, "requests": given.requests}
    name = {"resolve": given.resolve, "dns": given.dns, "port": given.port}
    options = Options(targets, given.rate, given.clients, given.host, given.sources, **bounds, **name)
    return asyncio.run(_main(options, given.listen))


if __name__ == "__main__":
    sys.exit(main())
