"""An application server, small and light: one process, one address, HTTP/1.1 with keep-alive.

Started as ``python -S -E appserver.py ADDRESS PORT ID GROUP BOOT`` so that it is up in some 20 ms; it imports nothing of
hafleet. BOOT is how long it refuses connections first, in seconds. It ends when its standard input ends, or on SIGTERM
after it finished what it has begun.

    GET /healthz        200 "ok", or 503 when told to be unhealthy
    GET /_app/slow/N    from now on every answer takes N milliseconds
    GET /_app/health/N  from now on /healthz answers N
    GET /_app/count     how many requests it served, checks and /_app apart
    anything else       200 and one line: ID GROUP NUMBER PATH
"""

import os
import selectors
import signal
import socket
import sys
import time

IDLE = 75.0  # seconds after which an idle connection is closed


class Connection:
    """What one client sent and what it has yet to get."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.read = b""
        self.write = b""
        self.due = 0.0  # monotonic time at which ``write`` may go
        self.last = time.monotonic()
        self.close = False


class AppServer:
    """The server; ``run`` returns when it is told to stop and the last answer is out."""

    def __init__(self, address: str, port: int, name: str, group: str) -> None:
        self.name, self.group = name, group
        self.served, self.slow, self.health = 0, 0.0, 200
        self.stopping = False
        self.selector = selectors.DefaultSelector()
        self.connections: set[Connection] = set()
        self.listener = socket.create_server((address, port), backlog=512)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_write, False)
        self.selector.register(self.wake_read, selectors.EVENT_READ)
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        signal.set_wakeup_fd(self.wake_write)
        signal.signal(signal.SIGTERM, self.stop)

    def stop(self, *_: object) -> None:
        """Take no new connection; close idle ones; let answers finish."""
        self.stopping = True

    def run(self) -> None:
        """Serve."""
        while not (self.stopping and self.listener.fileno() < 0 and not self.connections):
            for key, _ in self.selector.select(self.next_timeout()):
                self.handle(key.fileobj, key.data)
            now = time.monotonic()
            for connection in [c for c in self.connections if c.write and c.due <= now]:
                self.flush(connection)
            self.sweep(now)

    def next_timeout(self) -> float:
        """Seconds until a delayed answer is due, a second at most."""
        due = [c.due for c in self.connections if c.write]
        return max(0.0, min([1.0] + [at - time.monotonic() for at in due]))

    def sweep(self, now: float) -> None:
        """Close what is idle for too long, and everything idle when stopping."""
        if self.stopping and self.listener.fileno() >= 0:
            self.selector.unregister(self.listener)
            self.listener.close()
        for connection in [c for c in self.connections if not c.write and not c.read]:
            if self.stopping or now - connection.last > IDLE:
                self.drop(connection)

    def handle(self, what: object, connection: object) -> None:
        """One ready descriptor."""
        if what is self.listener:
            self.accept()
        elif what is sys.stdin:
            if not os.read(0, 4096):
                os._exit(0)  # the lab is gone
        elif what == self.wake_read:
            os.read(self.wake_read, 4096)
        elif isinstance(connection, Connection) and connection in self.connections:
            self.receive(connection)

    def accept(self) -> None:
        """Take what waits in the backlog."""
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock)
            self.connections.add(connection)
            self.selector.register(sock, selectors.EVENT_READ, connection)

    def receive(self, connection: Connection) -> None:
        """Read, and answer every request that is complete."""
        try:
            data = connection.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop(connection)
            return
        connection.read += data
        connection.last = time.monotonic()
        while b"\r\n\r\n" in connection.read:
            head, _, rest = connection.read.partition(b"\r\n\r\n")
            length = content_length(head)
            if len(rest) < length:
                return
            connection.read = rest[length:]
            self.answer(connection, head)
        if connection.write and connection.due <= time.monotonic():
            self.flush(connection)

    def answer(self, connection: Connection, head: bytes) -> None:
        """Queue the answer to one request."""
        path = head.split(b" ", 2)[1].decode("latin-1")
        status, body = self.decide(path)
        closing = self.stopping or b"\nconnection: close" in head.lower() or head.split(b"\r\n")[0].endswith(b"/1.0")
        connection.close = connection.close or closing
        word = "close" if connection.close else "keep-alive"
        reason = "OK" if status < 400 else "Refused"
        fields = f"Content-Length: {len(body)}\r\nX-Instance: {self.name}\r\nConnection: {word}"
        connection.write += f"HTTP/1.1 {status} {reason}\r\n{fields}\r\n\r\n{body}".encode()
        connection.due = time.monotonic() + (0.0 if path.startswith("/_app/") else self.slow)

    def decide(self, path: str) -> tuple[int, str]:
        """Status and body for this path."""
        if path.startswith("/healthz"):
            return self.health, "ok\n" if self.health < 400 else "ill\n"
        if path.startswith("/_app/"):
            word, _, value = path.removeprefix("/_app/").partition("/")
            if word == "slow":
                self.slow = float(value) / 1000
            elif word == "health":
                self.health = int(value)
            return 200, f"{self.served}\n"
        self.served += 1
        return 200, f"{self.name} {self.group} {self.served} {path}\n"

    def flush(self, connection: Connection) -> None:
        """Send what is due; answers are small, so a full socket buffer ends the connection."""
        try:
            connection.sock.sendall(connection.write)
        except OSError:
            self.drop(connection)
            return
        connection.write = b""
        connection.last = time.monotonic()
        if connection.close:
            self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """End one connection."""
        self.connections.discard(connection)
        self.selector.unregister(connection.sock)
        connection.sock.close()


def content_length(head: bytes) -> int:
    """The Content-Length of a request head, 0 without one."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def main() -> None:
    """Refuse for the boot time, then serve."""
    address, port, name, group, boot = sys.argv[1:6]
    time.sleep(float(boot))
    AppServer(address, int(port), name, group).run()


if __name__ == "__main__":
    main()
