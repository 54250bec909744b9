"""How ``hafleet lab scale ...`` talks to the ``hafleet lab up`` of another terminal: JSON lines over a unix socket."""

import json
import os
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]

FILE = os.environ.get("HAFLEET_LAB_SOCKET") or f"{tempfile.gettempdir()}/hafleet-lab-{os.getuid()}.sock"


def ask(path: Path, verb: str, what: Mapping[str, object]) -> Json:
    """Ask the running lab.

    Raises:
        OSError: no lab runs.
        ValueError: it refused; the message is its own.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise OSError(f"no lab answers on {path} ({error}); start one with: hafleet lab up") from error
        connection.sendall(json.dumps({"verb": verb, **what}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            answer: Json = json.loads(lines.readline() or b'{"error": "the lab ended"}')
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer


def refuse_second(path: Path) -> None:
    """Raises ValueError when a lab listens on this path already."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return
    raise ValueError(f"a lab runs already (it listens on {path}); end it with: hafleet lab down")


class Listener:
    """The lab's side. ``verbs`` maps a verb to what it does with the other fields of the request."""

    def __init__(self, path: Path, verbs: Mapping[str, Callable[[Json], Json]]) -> None:
        self._path = path
        refuse_second(path)
        path.unlink(missing_ok=True)  # of a lab that was killed

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(json.dumps(_run(verbs, self.rfile.readline())).encode() + b"\n")

        self._server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        path.chmod(0o600)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="lab control").start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)


def _run(verbs: Mapping[str, Callable[[Json], Json]], line: bytes) -> Json:
    try:
        request = json.loads(line)
        verb = request.pop("verb", "")
        if verb not in verbs:
            return {"error": f"{verb!r} is no verb of the lab; choose one of {', '.join(sorted(verbs))}"}
        return verbs[verb](request)
    except (KeyError, ValueError) as error:  # our own words, which str() of a KeyError would quote
        return {"error": str(error.args[0]) if error.args else type(error).__name__}
    except Exception as error:  # a wrong request must not end the lab
        return {"error": str(error) or type(error).__name__}
