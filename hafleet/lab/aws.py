"""The local AWS: moto's server with the lab's physics, limits and faults. ``python -m hafleet.lab.aws --port 5600``.

moto is pinned: the lab replaces classes that moto calls private, so another version is refused instead of half working.
"""

import argparse
import contextlib
import logging
import os
import sys
import threading
import time
from typing import Any

MOTO_VERSION = "5.2.5"
TICK = 0.05  # seconds between two steps of the physics


def build(region: str, faults: Any, lock: threading.RLock, name_server: tuple[str, int, int]) -> Any:
    """moto's WSGI application with everything the lab adds. Starts Route 53's name server at this address and port.

    Raises:
        OSError: the name server's port is taken.
        RuntimeError: the installed moto is not the pinned one.
    """
    import moto

    if moto.__version__ != MOTO_VERSION:
        raise RuntimeError(
            f"moto is {moto.__version__} but the lab patches {MOTO_VERSION}; install hafleet[lab], which pins it"
        )
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    from hafleet.lab import (
        aws_asg,
        aws_control,
        aws_ec2,
        aws_events,
        aws_faults,
        aws_responses,
        dns_physics,
        iam_guard,
        route53_http,
    )
    from hafleet.lab.route53_engine import Engine

    for part in (aws_ec2, aws_asg, aws_events, aws_responses):
        part.install()
    route53 = Engine(time.time)
    policies = iam_guard.Policies()
    services = route53_http.Route53Layer(DomainDispatcherApplication(create_backend_app), route53)
    app = iam_guard.IamLayer(services, policies, region)
    paths = aws_control.Paths(faults, lock, region, route53)
    host, port, near_port = name_server
    checkers = f"{host.rpartition('.')[0].rpartition('.')[0]}.251" if host.startswith("127.") else ""
    data_plane = dns_physics.DnsPhysics(route53, host, port, checkers)
    route53.observe, route53.failures = data_plane.status, data_plane.last_failures
    paths.all["policies"] = lambda asked: policies.set(asked.change())
    paths.all["dns"] = lambda asked: data_plane.control_dns(asked.change())
    paths.all["checkers"] = lambda asked: data_plane.control_checkers(asked.change())
    with contextlib.suppress(OSError):  # somebody else's; the lab itself asks the other one
        data_plane.dns.listen("127.0.0.1", near_port)
    data_plane.follow()
    return aws_control.ControlLayer(aws_faults.FaultLayer(app, faults, lock), paths)


def follow_physics(region: str, lock: threading.RLock) -> None:
    """Run the physics for ever, from a thread."""
    from hafleet.lab import aws_control

    while True:
        time.sleep(TICK)
        with lock:
            aws_control.tick(region, time.monotonic())


def die_with_parent() -> None:
    """End this process when its standard input ends, which the parent holds open for as long as it lives."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True, name="die-with-parent").start()


def main(argv: list[str] | None = None) -> int:
    """Serve until killed; with ``--with-parent`` until the standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m hafleet.lab.aws", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5600)
    parser.add_argument("--dns-port", type=int, default=5300, help="of the name server, UDP and TCP")
    parser.add_argument("--dns-near", type=int, default=5301, help="its second port, on 127.0.0.1")
    parser.add_argument("--region", default="eu-west-1", help="the region whose groups follow the physics")
    parser.add_argument("--with-parent", action="store_true", help="end when the standard input ends")
    options = parser.parse_args(argv)
    os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # saves half a second at the first EC2 call
    if options.with_parent:
        die_with_parent()

    from werkzeug.serving import WSGIRequestHandler, run_simple

    from hafleet.lab.aws_faults import Faults

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    lock = threading.RLock()
    app = build(options.region, Faults(), lock, (options.host, options.dns_port, options.dns_near))
    threading.Thread(target=follow_physics, args=(options.region, lock), daemon=True, name="physics").start()
    run_simple(options.host, options.port, app, threaded=True, request_handler=WSGIRequestHandler)
    return 0


if __name__ == "__main__":
    sys.exit(main())
