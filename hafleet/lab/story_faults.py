"""Chapters in which something breaks: templates, AWS, an agent. Nothing that serves may notice."""

import json
import os
import time

from hafleet.lab.cloud import NODES
from hafleet.lab.node import Node
from hafleet.lab.stage import SETTLE, Stage, StoryError

WATCH = 4.0  # how long a fault lasts
TEMPLATE = "haproxy.cfg.j2"
EDITED = """{% extends "shipped/haproxy.cfg.j2" %}
{% block extra %}
backend hello
    mode http
    http-request return status 200 content-type text/plain string "hello from a template of our own"
{% endblock %}
"""
BROKEN = EDITED.replace("{% endblock %}", "{% endblok %}")


def template_edit(stage: Stage) -> str:
    """A user's template on every node: one graceful reload each."""
    before = {node.id: node.reloads() for node in stage.lab.nodes}
    for node in stage.lab.nodes:
        write_template(node, EDITED)
    for node in stage.lab.nodes:
        stage.lab.wait_until(
            lambda node=node: b"\nbackend hello\n" in node.config.read_bytes() and node.reloads() > before[node.id],  # type: ignore[misc]
            SETTLE,
            f"node {node.id} to load the edited template",
        )
    stage.follow()
    counts = [node.reloads() - before[node.id] for node in stage.lab.nodes]
    if any(count != 1 for count in counts):
        raise StoryError(f"one reload per node was wanted, and these were done: {counts}")
    return "1 graceful reload on each node"


def broken_template(stage: Stage) -> str:
    """A template that does not render is refused; the old configuration serves on."""
    texts, reloads = stage.texts(), stage.lab.reloads()
    logs = {node.id: len(node.agent_log()) for node in stage.lab.nodes}
    for node in stage.lab.nodes:
        write_template(node, BROKEN)
    said = ""
    for node in stage.lab.nodes:
        stage.lab.wait_until(
            lambda node=node: bool(_complaint(node, logs[node.id])),  # type: ignore[misc]
            SETTLE,
            f"node {node.id} to say that its template is broken",
        )
        said = _complaint(node, logs[node.id])
    stage.converged()
    _unchanged(stage, texts, reloads)
    for node in stage.lab.nodes:
        write_template(node, EDITED)
    stage.lab.wait_converged(SETTLE)
    return f"refused: {said}"


def aws_unreachable(stage: Stage) -> str:
    """No AWS for the nodes, while a group grows: nothing changes, and afterwards they catch up."""
    stage.lab.cloud.fault("unreachable", caller=NODES)
    stage.lab.scale("shop-green", 4)
    stage.in_service("shop-green", 4)
    return _hold(stage, stage.texts())


def partial_answer(stage: Stage) -> str:
    """The second page of every answer fails, then every second instance is missing without a word why: nothing changes."""
    texts = stage.texts()
    seen = []
    for kind, what in (("partial_page", "page 2 lost"), ("half", "half the instances missing")):
        stage.say(what)
        stage.lab.cloud.fault(kind, service="autoscaling", caller=NODES)
        seen.append(f"{what}: {_hold(stage, texts)}")
    return "; ".join(seen)


def _hold(stage: Stage, texts: dict[str, bytes]) -> str:
    """Watch that nothing changes while a fault is in force; end it, and time how the nodes catch up."""
    cloud, reloads = stage.lab.cloud, stage.lab.reloads()
    hits = cloud.faulted()
    rotation = [node.in_rotation("shop") for node in stage.lab.nodes]
    try:
        until = time.monotonic() + WATCH
        while time.monotonic() < until:
            time.sleep(0.25)
            _unchanged(stage, texts, reloads)
        if [node.in_rotation("shop") for node in stage.lab.nodes] != rotation:
            raise StoryError("servers entered or left rotation during the fault")
        hits = cloud.faulted() - hits
    finally:
        cloud.heal()
    if hits == 0:
        raise StoryError("the fault hit no call, so this shows nothing")
    stage.restart_clock()
    stage.follow()
    return f"{WATCH:g} s and {hits} bad answers: configuration byte-identical, 0 reloads"


def _unchanged(stage: Stage, texts: dict[str, bytes], reloads: int) -> None:
    if stage.texts() != texts:
        raise StoryError("a configuration file changed")
    if stage.lab.reloads() != reloads:
        raise StoryError(f"{stage.lab.reloads() - reloads} reloads were done")


def agent_killed(stage: Stage) -> str:
    """SIGKILL for one agent: HAProxy serves on, and the next agent finds the change it missed."""
    agent = stage.lab.nodes[0].agent
    if agent is None:
        raise StoryError("this lab runs no agents")
    starts = agent.starts
    agent.kill()
    stage.lab.scale("shop-green", 3)
    stage.lab.wait_until(lambda: agent.starts > starts, SETTLE, "the agent to be started again")
    stage.follow()
    stage.gone("shop-green", 3)
    return "the new agent drained the server that left meanwhile"


def write_template(node: Node, text: str) -> None:
    """Put a template of the user's own in place, in one step."""
    beside = node.templates / f".{TEMPLATE}.new"
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, node.templates / TEMPLATE)


def _complaint(node: Node, offset: int) -> str:
    """What the agent has said about the template since this place of its log; empty when nothing."""
    for line in node.agent_log()[offset:].splitlines():
        if f"{TEMPLATE}:" in line:
            try:
                record = json.loads(line)
            except ValueError:
                return line
            texts = [str(value) for value in record.values() if f"{TEMPLATE}:" in str(value)]
            return texts[0].replace(f"{node.folder}/", "")
    return ""
