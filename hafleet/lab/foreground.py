"""``hafleet lab up``: a lab that stays until Ctrl-C, and obeys the other ``hafleet lab`` commands."""

import sys
import threading
from pathlib import Path
from typing import Any

from hafleet.lab.cloud import NODES
from hafleet.lab.fleet import Lab
from hafleet.lab.plan import shop_plan
from hafleet.lab.processes import ended_by_signals
from hafleet.lab.remote import FILE, Json, Listener, refuse_second


def keep_up(binary: str, nodes: int) -> int:
    """Run a lab until it is told to end. Returns the exit code."""
    over = threading.Event()
    try:
        refuse_second(Path(FILE))
        print("starting a local AWS and the fleet ...", flush=True)
        with ended_by_signals(), Lab(shop_plan(), binary=binary) as lab:
            listener = Listener(Path(FILE), verbs(lab, over))
            try:
                lab.open_shop(nodes)
                print(welcome(lab), flush=True)
                while not over.wait(0.2):
                    if lab.trouble is not None:
                        raise lab.trouble
            finally:
                listener.close()
    except KeyboardInterrupt:
        print("the lab is ended")
    except (ValueError, TimeoutError, OSError, RuntimeError) as error:
        print(f"hafleet lab up: {error}", file=sys.stderr)
        return 1
    return 0


def verbs(lab: Lab, over: threading.Event) -> dict[str, Any]:
    """What the other commands can ask for."""

    def scale(request: Json) -> Json:
        group = str(request["group"])
        known = lab.cloud.groups()
        if group not in known:
            raise ValueError(f"there is no group {group}; there are {', '.join(sorted(known))}")
        lab.scale(group, int(request["desired"]))
        return {}

    def kill(request: Json) -> Json:
        instance = str(request["instance"])
        if instance not in {machine.id for machine in lab.cloud.machines()}:
            raise ValueError(f"there is no instance {instance}; `hafleet lab status` lists them")
        lab.kill(instance)
        return {}

    def weight(request: Json) -> Json:
        lab.set_weight(str(request["backend"]), str(request["group"]), int(request["weight"]))
        return {}

    def fault(request: Json) -> Json:
        kind = str(request.pop("kind"))
        if kind == "heal":
            lab.cloud.heal()
            return {}
        return {"id": lab.cloud.fault(kind, **request)}

    def down(_request: Json) -> Json:
        over.set()
        return {}

    def status(_request: Json) -> Json:
        return lab.status()

    return {"scale": scale, "kill": kill, "weight": weight, "fault": fault, "down": down, "status": status}


def welcome(lab: Lab) -> str:
    """Addresses, variables and what to try."""
    exports = "\n".join(f"  export {key}={value}" for key, value in lab.cloud.environment.items())
    node = lab.nodes[0]
    nodes = "\n".join(f"  http://{n.http}/   {n.folder}" for n in lab.nodes)
    return f"""
The lab is up. Its nodes, and their folders:
{nodes}
Any AWS tool reaches the local AWS with
{exports}
The nodes stand in Route 53, whose name server is {lab.cloud.dns}:
  {lab.dig()}
And `hafleet plan`, `observe`, `doctor` ... work as on the first node with
  export AWS_EC2_METADATA_SERVICE_ENDPOINT={node.imds.url}
  export AWS_ACCESS_KEY_ID={NODES}
  export HAFLEET_CONFIG={node.settings}
Try, in another terminal:
  curl -H 'Host: shop.example.com' http://{node.http}/
  hafleet lab status
  hafleet lab scale shop-blue 6
  hafleet lab weight shop shop-green 50
  hafleet lab fault unreachable        hafleet lab fault heal
  hafleet status --watch -c {node.settings}
  tail -f {node.folder}/agent.log
Or edit hafleet.yaml in a node's folder, or put a template into its templates/.
Ctrl-C, or hafleet lab down, ends it."""
