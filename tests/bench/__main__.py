"""Figures of speed and memory as JSON, each beside the floor that this machine allows: ``make bench``.

Nothing here passes or fails: the machine is whoever's. ``target`` is what the project promises itself on two ordinary cores.
``ARGS="--haproxy 3.2"`` chooses another HAProxy, ``ARGS="--only scale"`` one part.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

from hafleet.lab.haproxies import LABELS, Haproxy, find
from tests.bench import arrival, events, memory, scale

PARTS: dict[str, Callable[[Haproxy], dict[str, Any]]] = {
    "scale": scale.measure,
    "arrival": arrival.measure,
    "events": events.measure,
    "memory": memory.measure,
}


def main() -> int:
    """Run the parts asked for and print one JSON document."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--haproxy", choices=LABELS, default=LABELS[0])
    parser.add_argument("--only", choices=sorted(PARTS))
    given = parser.parse_args()
    found = find(given.haproxy)
    if not isinstance(found, Haproxy):
        print(f"HAProxy {given.haproxy} could not be had: {found.reason}", file=sys.stderr)
        return 1
    result: dict[str, Any] = {
        "haproxy": ".".join(map(str, found.version)),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }
    for name, part in PARTS.items():
        if given.only in {None, name}:
            print(f"measuring: {name} ...", file=sys.stderr, flush=True)
            result[name] = part(found)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
