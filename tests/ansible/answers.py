"""Answers every request with 200, at one address and port, until it is killed."""

import sys
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went in the middle, as HAProxy does when it is restarted."""

    request_queue_size = 128


if __name__ == "__main__":
    with Server((sys.argv[1], int(sys.argv[2])), Answer) as server:
        print("listens", flush=True)
        server.serve_forever()
