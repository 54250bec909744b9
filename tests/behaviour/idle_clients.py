"""Idle keep-alive clients, in a process of their own: ``python -m tests.behaviour.idle_clients HOST PORT CLIENTS``.

Each holds one connection, is silent for a while, and then sends a request *without looking* whether the connection is still
open, as a client does whose request crosses the server's close on the wire. A connection that is closed under it is a lost
request. ``Connection: close`` in an answer is obeyed and costs nothing. All pauses are between half and three halves of a second.

A line ``{"ready": true}`` says that every client is connected and has had an answer. At the end of the standard input each
client finishes what it does, and the totals follow: ``{"sent": N, "lost": N, "closed_politely": N}``.
"""

import asyncio
import json
import random
import resource
import sys
from dataclasses import asdict, dataclass

PAUSE = (0.5, 1.5)  # seconds of silence
TIMEOUT = 30.0
REQUEST = b"GET /idle HTTP/1.1\r\nHost: site.example.com\r\n\r\n"


@dataclass
class Totals:
    """What happened so far."""

    sent: int = 0
    lost: int = 0
    closed_politely: int = 0
    bad: int = 0  # answers other than 200


async def client(address: tuple[str, int], totals: Totals, ready: asyncio.Semaphore, stop: asyncio.Event) -> None:
    """One client, to the end."""
    stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    first = True
    while not stop.is_set():
        if stream is None:
            stream = await asyncio.open_connection(*address)
        if not first:
            await asyncio.sleep(random.uniform(*PAUSE))
        totals.sent += 1
        try:
            closing = await asyncio.wait_for(exchange(*stream, totals), TIMEOUT)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            totals.lost += 1
            closing = True
        if closing:
            stream[1].close()
            stream = None
        if first:
            ready.release()
            first = False
    if stream is not None:
        stream[1].close()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, totals: Totals) -> bool:
    """One request and its answer; True when the server says that it closes."""
    writer.write(REQUEST)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    await reader.readexactly(int(head.partition("content-length:")[2].split("\r\n")[0] or 0))
    totals.bad += head[9:12] != "200"
    closing = "connection: close" in head
    totals.closed_politely += closing
    return closing


async def main(host: str, port: int, clients: int) -> None:
    """All clients, until the standard input ends."""
    totals, ready, stop = Totals(), asyncio.Semaphore(0), asyncio.Event()
    tasks = []
    for _ in range(clients):
        tasks.append(asyncio.create_task(client((host, port), totals, ready, stop)))
        await asyncio.sleep(0.0005)  # a thousand at once would only measure the backlog
    for _ in range(clients):
        await ready.acquire()
    print(json.dumps({"ready": True}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    stop.set()
    await asyncio.gather(*tasks)
    print(json.dumps(asdict(totals)), flush=True)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
