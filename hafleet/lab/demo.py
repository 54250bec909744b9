"""``hafleet demo``: a local fleet follows its Auto Scaling groups under steady traffic, while the story unfolds."""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hafleet.lab.fleet import Lab
from hafleet.lab.processes import ended_by_signals
from hafleet.lab.progress import Progress
from hafleet.lab.stage import Chapter, Stage, StoryError
from hafleet.lab.story import STORY
from hafleet.lab.traffic import Count, Traffic

NODES = 2
RATE = 200.0  # requests per second
CLIENTS = 20  # half of them keep their connections
AFTER = 0.7  # seconds of traffic after a chapter, so that late failures are its own


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

    @property
    def good(self) -> bool:
        """True when the fleet followed and nothing was lost."""
        return not self.trouble and self.failed == 0

    def data(self) -> dict[str, Any]:
        """The contract of ``--json``."""
        return {
            "name": self.name,
            "converged_s": self.converged_s,
            "reloads": self.reloads,
            "requests": self.requests,
            "failed": self.failed,
        }


class Clock:
    """Measures how long the fleet took to follow; the slowest, where a chapter makes several changes."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.seconds: float | None = None

    def restart(self) -> None:
        """The change happens now."""
        self._began = time.monotonic()

    def stop(self) -> None:
        """The fleet has followed."""
        self.seconds = max(self.seconds or 0.0, round(time.monotonic() - self._began, 2))


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
        The exit code: 0, 1 when a chapter failed or a request was lost, 130 when it was interrupted.
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
    shown.summary([(r.name, r.converged_s, r.reloads, r.requests, r.failed, r.trouble or r.note) for r in results])
    if json_output:
        steps = [result.data() for result in results]
        print(json.dumps({"steps": steps, "failed_total": sum(result.failed for result in results)}))
    return 0 if len(results) == len(story) and all(result.good for result in results) else 1


def _play(shown: Progress, binary: str, rate: float, story: Sequence[Chapter]) -> list[Result]:
    began = time.monotonic()
    shown.say("starting a local AWS, two load balancer nodes and their agents")
    with Lab(binary=binary) as lab:
        lab.open_shop(NODES)
        targets = [node.http for node in lab.nodes]
        shown.say(f"{NODES} nodes serve {', '.join(targets)} after {time.monotonic() - began:.1f} s")
        sources = lab.network.client(0).rpartition(".")[0]
        results: list[Result] = []
        with Traffic(lab.processes, targets, rate=rate, clients=CLIENTS, sources=sources) as traffic:
            for chapter in story:
                results.append(_measure(chapter, lab, traffic, shown))
                if results[-1].trouble:
                    break
        if not all(result.good for result in results):
            shown.say(f"logs and configurations are kept in {lab.keep_evidence()}")
        return results


def _measure(chapter: Chapter, lab: Lab, traffic: Traffic, shown: Progress) -> Result:
    before, reloads, clock = traffic.count(), lab.reloads(), Clock()
    shown.begin(chapter.name, lambda: _figures(traffic.latest.since(before)))
    stage = Stage(lab, traffic, shown.say, clock.restart, clock.stop)
    note = trouble = ""
    try:
        note = chapter.play(stage)
    except (StoryError, TimeoutError, OSError) as error:
        trouble = str(error)
    time.sleep(AFTER)
    count = traffic.count().since(before)
    if count.errors:
        note = f"{note}; lost: {', '.join(f'{n} x {why}' for why, n in list(count.errors.items())[:3])}"
    result = Result(chapter.name, clock.seconds, lab.reloads() - reloads, count.sent, count.failed, note, trouble)
    shown.end(result.good, result.trouble or result.note)
    return result


def _figures(count: Count) -> tuple[int, int]:
    return count.sent, count.failed
