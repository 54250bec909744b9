"""Terminate hooks of servers on the lab: the fleet lets an instance go once every node has drained it, by one voice, and never else."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from hafleet.core.endings import DRAINED
from hafleet.lab.cloud import NODES, Machine
from hafleet.lab.fleet import Lab
from hafleet.lab.node import Node
from hafleet.lab.plan import EDGE, Plan
from hafleet.lab.servers import PORT
from tests.behaviour.test_lifecycle_node import Download, Trickle, report, serves

APP, HOOK = "app", "drain-lb"
COMPLETE = "autoscaling.CompleteLifecycleAction"
END = "autoscaling:EC2_INSTANCE_TERMINATING"
CHECK = {"path": "/healthz", "interval": "300ms", "timeout": "3s", "rise": 1, "fall": 2}

pytestmark = [pytest.mark.deep, pytest.mark.timeout(600)]  # a bound for a busy machine


def hook(lab: Lab, group: str, name: str, timeout: int) -> None:
    """A terminate hook of this group."""
    lab.cloud.autoscaling.put_lifecycle_hook(
        AutoScalingGroupName=group,
        LifecycleHookName=name,
        LifecycleTransition=END,
        HeartbeatTimeout=timeout,
        DefaultResult="ABANDON",
    )


@contextmanager
def fleet(nodes: int = 3, *, timeout: int = 300, apps: int = 3, **extra: Any) -> Iterator[Lab]:
    """A lab whose application group has a hook that the settings name, and nodes that serve it."""
    source = {"asg": APP, "terminate_hook": HOOK}
    site = {"name": "site", "port": PORT, "sources": [source], "check": CHECK, "drain": "2m"}
    aws = {"connect_timeout": "5s", "read_timeout": "60s", "max_attempts": 2}  # no call is made twice for being slow
    with Lab(Plan(backends=[site], default_backend="site", extra={"aws": aws, **extra})) as lab:
        lab.cloud.control("POST", "physics", {"hook_least": 3, "terminating": 0.2, "boot": 0.2})
        lab.group(APP, apps)
        hook(lab, APP, HOOK, timeout)
        lab.group(EDGE, nodes)
        lab.wait_until(lambda: len(lab.nodes) == nodes and len(lab.members(EDGE)) == nodes, 60, f"{nodes} nodes")
        lab.wait_converged(90)
        yield lab


def there(lab: Lab, instance: str) -> str:
    """Its lifecycle state; "" when it is gone."""
    return next((machine.lifecycle for machine in lab.cloud.machines() if machine.id == instance), "")


def gone(lab: Lab, instance: str, timeout: float = 180) -> None:
    lab.wait_until(lambda: there(lab, instance) == "", timeout, f"{instance} to go")


def waits(lab: Lab, instance: str) -> None:
    lab.wait_until(lambda: there(lab, instance) == "Terminating:Wait", 60, f"{instance} to wait in its hook")


def tags(lab: Lab) -> dict[str, str]:
    """Node -> what it tells, of those that tell something."""
    told = {machine.id: machine.tags.get(DRAINED, "") for machine in lab.members(EDGE, in_service=False)}
    return {node: value for node, value in told.items() if value}


def said(lab: Lab, what: str) -> list[str]:
    """The nodes whose agents said so, lowest id first."""
    return sorted(node.id for node in lab.nodes if what in node.agent_log())


def first(lab: Lab) -> Node:
    """The node that speaks."""
    return min(lab.nodes, key=lambda node: node.id)


def ending(node: Node) -> str:
    """What this node's side of servers' hooks waits for, as its last pass told."""
    told = report(node).get("endings")
    return " ".join(row["waiting"] for row in told["rows"]) if told else ""


def doctor(lab: Lab, node: Node) -> str:
    """What ``hafleet doctor`` says there. The calls that it tries do not count."""
    found = node.command("doctor").stdout
    lab.cloud.control("DELETE", "calls")
    return found


def no_crash(lab: Lab) -> None:
    assert [
        node.id for node in lab.nodes if "Traceback" in node.agent_log() + (node.folder / "agent.log").read_text()
    ] == []


@contextmanager
def trickling(lab: Lab, machine: Machine) -> Iterator[Trickle]:
    """This instance answers as slowly as it is let."""
    lab.crash(machine.id)
    with suppress(TimeoutError):
        lab.wait_until(lambda: False, 0.3, "its port to be free")
    server = Trickle(machine.address)
    try:
        yield server
    finally:
        server.close()


def test_one_node_completes_the_hook_once_when_the_last_download_has_ended_on_another() -> None:
    with fleet(apps=1) as lab:
        (machine,) = lab.members(APP)
        speaker, other, holder = sorted(lab.nodes, key=lambda node: node.id)
        with trickling(lab, machine) as server:
            lab.wait_converged(60)
            download = Download(holder)
            assert download.begun.wait(60)
            lab.terminate(machine.id)
            waits(lab, machine.id)
            wanted = {speaker.id: machine.id[-8:], other.id: machine.id[-8:]}
            lab.wait_until(lambda: tags(lab) == wanted, 60, "the two others to tell that they have drained it")
            lab.wait_until(
                lambda: ending(speaker) == f"{holder.id} to drain it", 60, "the speaker to wait for the third"
            )
            lab.wait_until(
                lambda: ending(holder) == "this node to drain it", 60, "the third to know that it is the one"
            )
            lab.wait_until(
                lambda: ending(other) == f"{speaker.id} to speak for the fleet", 60, "the second to leave it"
            )
            told = other.command("explain", machine.id).stdout
            assert f"hook drain-lb of app: drained by {speaker.id}, {other.id}" in told
            assert f"waits for {holder.id}; {speaker.id} completes it" in told
            assert f"waits: {holder.id} to drain it" in speaker.command("status").stdout
            assert "ok    hook drain-lb            group app waits 300 s" in doctor(lab, other)
            assert lab.cloud.calls().get(COMPLETE, 0) == 0
            assert there(lab, machine.id) == "Terminating:Wait"
            server.ends.set()
            gone(lab, machine.id)
            download.join(60)
        assert download.whole
        released = f"completed hook drain-lb of app for {machine.id}: every node has drained it"
        lab.wait_until(lambda: said(lab, released) == [speaker.id], 60, "the speaker, and nobody else, to say it")
        assert lab.cloud.calls()[COMPLETE] == 1
        lab.wait_until(lambda: tags(lab) == {}, 60, "the tags to be empty")
        lab.wait_converged(60)
        no_crash(lab)


def test_what_is_killed_refused_deleted_or_dead_leaves_nothing_behind() -> None:
    with fleet(2) as lab:
        # the speaker is killed after it has decided, before AWS has heard it
        one = lab.members(APP)[0]
        speaker = first(lab)
        assert speaker.agent is not None
        silent = lab.cloud.fault("unreachable", operation="CompleteLifecycleAction", caller=NODES)
        lab.terminate(one.id)
        lab.wait_until(lambda: lab.cloud.faulted() >= 1, 90, "the call that nobody hears")
        starts = speaker.agent.starts
        speaker.agent.kill()
        lab.cloud.heal(silent)
        gone(lab, one.id)
        lab.wait_until(lambda: speaker.agent is not None and speaker.agent.starts == starts + 1, 60, "the next agent")
        assert lab.cloud.calls()[COMPLETE] - lab.cloud.faulted() == 1
        # refused for a while
        lab.wait_converged(60)
        two = lab.members(APP)[0]
        before = lab.cloud.faulted()
        denied = lab.cloud.fault("denied", operation="CreateTags", caller=NODES)
        lab.terminate(two.id)
        lab.wait_until(lambda: lab.cloud.faulted() >= before + 3, 90, "tags that are refused")
        waits(lab, two.id)
        unread = lab.cloud.fault("denied", operation="DescribeTags", caller=NODES)
        assert (
            "hook drain-lb of app: which nodes have drained it is not known"
            in speaker.command("explain", two.id).stdout
        )
        lab.cloud.heal(unread)
        lab.cloud.heal(denied)
        gone(lab, two.id)
        # an instance that dies by itself goes through its hook, too
        lab.wait_converged(60)
        three = lab.members(APP)[0]
        lab.kill(three.id)
        gone(lab, three.id)
        released = f"completed hook drain-lb of app for {three.id}: every node has drained it"
        lab.wait_until(lambda: said(lab, released) == [speaker.id], 60, "the speaker to say it")
        # the hook is deleted while the fleet waits for it
        lab.wait_converged(60)
        four = lab.members(APP)[0]
        calls = lab.cloud.calls()[COMPLETE]
        denied = lab.cloud.fault("denied", operation="CreateTags", caller=NODES)
        lab.terminate(four.id)
        waits(lab, four.id)
        lab.cloud.autoscaling.delete_lifecycle_hook(AutoScalingGroupName=APP, LifecycleHookName=HOOK)
        gone(lab, four.id)
        lab.cloud.heal(denied)
        lab.wait_converged(60)
        assert lab.cloud.calls()[COMPLETE] == calls
        lab.wait_until(lambda: tags(lab) == {}, 60, "the tags to be empty")
        no_crash(lab)


def test_a_dead_agent_holds_the_hook_until_aws_ends_it_and_nothing_else() -> None:
    with fleet(2, timeout=45) as lab:  # what is looked for has to come before AWS ends the wait
        dead = first(lab)
        assert dead.agent is not None
        dead.agent.stop()
        doubt = "group app waits 45 s, and the drain of site may last 120 s; raise the hook's HeartbeatTimeout"
        assert doubt in doctor(lab, dead)
        machine = lab.members(APP)[0]
        other = next(node for node in lab.nodes if node is not dead)
        lab.terminate(machine.id)
        waits(lab, machine.id)
        lab.wait_until(lambda: tags(lab) == {other.id: machine.id[-8:]}, 60, "the node that lives to tell")
        lab.wait_until(lambda: ending(other) == f"{dead.id} to speak for the fleet", 60, "it to say for whom it waits")
        gone(lab, machine.id)
        assert lab.cloud.calls().get(COMPLETE, 0) == 0
        assert serves(other)
        assert serves(dead)
        lab.wait_until(lambda: other.in_rotation("site") == lab.expected("site"), 60, "the other to follow its group")
        no_crash(lab)
