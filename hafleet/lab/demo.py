"""``hafleet demo``: a local fleet follows its Auto Scaling groups under steady traffic, while the story unfolds."""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hafleet.lab.fleet import Lab
from hafleet.lab.node import HTTP_PORT
from hafleet.lab.plan import DNS_NAME, shop_plan
from hafleet.lab.processes import ended_by_signals
from hafleet.lab.progress import Progress, Row
from hafleet.lab.stage import Chapter, Stage, StoryError
from hafleet.lab.story import STORY
from hafleet.lab.traffic import ByName, Count, Traffic

NODES = 2
RATE = 200.0  # requests per second
CLIENTS = 20  # half of them keep their connections
AFTER = 0.3  # seconds of traffic after a chapter, so that late failures are its own


@dataclass(frozen=True, slots=True)
class Result:
    """One chapter, measured."""

    name: str
    converged_s: float | None  # from the change until every node followed, slowest change; None when one did not
    reloads: int
    requests: int
    failed: int
    note: str = ""
    trouble: str = ""  # why the chapter failed, lost requests apart
    dns_s: float | None = None  # from the change until DNS had followed; None where DNS has nothing to follow
    may_lose: str = ""  # why requests are lost here whatever anybody does; "": none may be

    @property
    def good(self) -> bool:
        """True when the fleet followed and nothing was lost that need not be."""
        return not self.trouble and self.wrongly_lost == 0

    @property
    def wrongly_lost(self) -> int:
        """Requests that were lost where none may be."""
        return 0 if self.may_lose else self.failed

    def data(self) -> dict[str, Any]:
        """The contract of ``--json``."""
        return {
            "name": self.name,
            "converged_s": self.converged_s,
            "reloads": self.reloads,
            "requests": self.requests,
            "failed": self.failed,
            "may_lose": bool(self.may_lose),
            "dns_s": self.dns_s,
        }

    def row(self) -> Row:
        """The contract of the summary."""
        note = self.trouble or self.note
        return Row(
            self.name, self.converged_s, self.dns_s, self.reloads, self.requests, self.failed, self.may_lose, note
        )


class Clock:
    """Measures how long the fleet took to follow; the slowest, where a chapter makes several changes."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.seconds: float | None = None
        self.dns: float | None = None

    def restart(self) -> None:
        """The change happens now."""
        self._began = time.monotonic()

    def stop(self) -> None:
        """The fleet has followed."""
        self.seconds = max(self.seconds or 0.0, round(time.monotonic() - self._began, 2))

    def dns_took(self, seconds: float) -> None:
        """DNS has followed, so many seconds after the change; where HAProxy has nothing to follow, so has the fleet."""
        self.dns = round(seconds, 2)


def run_demo(
    *,
    json_output: bool,
    binary: str = "haproxy",
    rate: float = RATE,
    progress: Progress | None = None,
    story: Sequence[Chapter] = STORY,
) -> int:
    """Play the story.

    Args:
        json_output: print the results as one JSON document on the standard output; progress goes to standard error.
        binary: the HAProxy to run.
        rate: requests per second.
        progress: where to show what happens; None: chosen by the terminal.
        story: the chapters.

    Returns:
        The exit code: 0, 1 when a chapter failed or a request was lost that need not be, 130 when it was interrupted.
    """
    if shutil.which(binary) is None:
        print(f"hafleet demo: no {binary} on this machine; install it: apt-get install haproxy", file=sys.stderr)
        return 1
    shown = progress or Progress.on_terminal(to_stderr=json_output)
    try:
        with ended_by_signals(), shown:
            results = _play(shown, binary, rate, story)
    except KeyboardInterrupt:
        shown.console.print("interrupted; everything is ended")
        return 130
    except (TimeoutError, OSError, RuntimeError) as error:
        shown.console.print(f"the lab did not come up: {error}", markup=False)
        return 1
    shown.summary([result.row() for result in results])
    if json_output:
        totals = {"failed_total": sum(result.wrongly_lost for result in results)}
        totals["lost_with_node_total"] = sum(result.failed - result.wrongly_lost for result in results)
        print(json.dumps({"steps": [result.data() for result in results], **totals}))
    whole = len(results) == sum(len(chapter.played) for chapter in story)
    return 0 if whole and all(result.good for result in results) else 1


def _play(shown: Progress, binary: str, rate: float, story: Sequence[Chapter]) -> list[Result]:
    began = time.monotonic()
    shown.say("starting a local AWS with Route 53, two load balancer nodes and their agents")
    with Lab(shop_plan(), binary=binary) as lab:
        lab.open_shop(NODES)
        shown.say(f"{NODES} nodes serve and stand in DNS after {time.monotonic() - began:.1f} s: {lab.dig()}")
        targets = ByName(DNS_NAME, lab.cloud.dns, HTTP_PORT)
        sources = lab.network.client(0).rpartition(".")[0]
        results: list[Result] = []
        with Traffic(lab.processes, targets, rate=rate, clients=CLIENTS, sources=sources) as traffic:
            for chapter in story:
                results += _measure(chapter, lab, traffic, shown)
                if results[-1].trouble:
                    break
        if not all(result.good for result in results):
            shown.say(f"logs and configurations are kept in {lab.keep_evidence()}")
        return results


def _measure(chapter: Chapter, lab: Lab, traffic: Traffic, shown: Progress) -> list[Result]:
    """Play a chapter, and those within it; their results, its own last."""
    inner: list[Result] = []
    before, reloads, clock = traffic.count(), lab.reloads(), Clock()
    shown.begin(chapter.name, lambda: _figures(traffic.latest.since(before), inner))

    def meanwhile() -> None:
        for other in chapter.meanwhile:
            inner.extend(_measure(other, lab, traffic, shown))
            if inner[-1].trouble:
                raise StoryError(f"{other.name} failed meanwhile")

    say = partial(shown.say, name=chapter.name)
    stage = Stage(lab, traffic, say, clock.restart, clock.stop, clock.dns_took, meanwhile)
    note = trouble = ""
    try:
        note = chapter.play(stage)
    except (StoryError, TimeoutError, OSError) as error:
        trouble = str(error)
    time.sleep(AFTER)
    count = traffic.count().since(before)
    sent, failed = _figures(count, inner)
    if failed:
        note = f"{note}; lost: {', '.join(f'{n} x {why}' for why, n in list(count.errors.items())[:3])}"
    converged = clock.dns if clock.seconds is None else clock.seconds
    result = Result(
        name=chapter.name,
        converged_s=converged,
        reloads=lab.reloads() - reloads - sum(other.reloads for other in inner),
        requests=sent,
        failed=failed,
        note=note,
        trouble=trouble,
        dns_s=clock.dns,
        may_lose=chapter.may_lose,
    )
    shown.end(chapter.name, result.good, result.trouble or result.note)
    return [*inner, result]


def _figures(count: Count, inner: Sequence[Result]) -> tuple[int, int]:
    """Requests sent and failed, without those that are counted in chapters within this one."""
    return count.sent - sum(other.requests for other in inner), count.failed - sum(other.failed for other in inner)
