"""For any two configurations, carrying out the plan makes the running HAProxy equal to a fresh start on the new file.

``HAFLEET_EXAMPLES`` sets how many random steps each version makes (default 30).
"""

import os
from pathlib import Path

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from hafleet.core import cfgtext
from hafleet.core.model import Rendered, RunningServer
from hafleet.lab.haproxies import Haproxy
from tests.integration.rig import CHECK, Config, Rig, Srv, rigged, servers, wait
from tests.resources import Loopback

EXAMPLES = int(os.environ.get("HAFLEET_EXAMPLES", "30"))
OPTIONS = (CHECK, f"{CHECK} backup", "maxconn 50", f"{CHECK} slowstart 1s")
LIVE, DEAD = 4, 2

Row = tuple[str, str, int, int, int, bool, bool]


@st.composite
def configurations(draw: st.DrawFn, addresses: tuple[str, ...]) -> Config:
    backends = {}
    for backend in draw(st.lists(st.sampled_from(("site", "api", "blog")), min_size=1, max_size=3, unique=True)):
        numbers = draw(st.lists(st.integers(0, len(addresses) - 1), max_size=5, unique=True))
        base = draw(st.sampled_from(OPTIONS[:1] * 3 + OPTIONS))
        backends[backend] = tuple(
            Srv(
                f"i-0000000{number}",
                addresses[number],
                port=draw(st.sampled_from((8080, 8080, 8080, 8081))),
                weight=draw(st.sampled_from((100, 100, 0, 1, 17, 256))),
                options=draw(st.sampled_from((base, base, base, f"{CHECK} backup"))),
            )
            for number in sorted(numbers)
        )
    paths = draw(st.dictionaries(st.sampled_from([f"/{n}" for n in range(8)]), st.sampled_from(sorted(backends))))
    may = dict.fromkeys(backends, (CHECK, f"{CHECK} backup"))
    frontend = draw(st.sampled_from(((), (), (), ("maxconn 150",))))
    return Config(backends, paths, frontend=frontend, directives=may)


def rows(found: dict[tuple[str, str], RunningServer], wanted: Rendered) -> dict[tuple[str, str], Row]:
    """What must be equal, without servers that are parked."""
    keys = cfgtext.parse(wanted.text).servers
    return {
        key: (s.name, s.address, s.port, s.id, s.weight, s.maint, s.checked)
        for key, s in found.items()
        if key in keys or not s.maint
    }


def entries(rig: Rig) -> dict[str, str]:
    """The map as the worker has it; the first of two equal keys counts."""
    with rig.proxy._runtime.open() as connection:
        text = connection.ask(f"show map {rig.settings.maps_dir}/paths.map")[0]
    found: dict[str, str] = {}
    for line in text.strip().split("\n"):
        _, key, value = line.split(" ")
        found.setdefault(key, value)
    return found


def live(rig: Rig, config: Config, addresses: tuple[str, ...]) -> set[tuple[str, str]]:
    """The servers that must be up: those that run, and those without checks."""
    return {
        (backend, s.name)
        for backend, members in config.backends.items()
        for s in members
        if "check" not in s.options or (s.address in addresses[:LIVE] and s.port == 8080)
    }


def up(rig: Rig, config: Config) -> set[tuple[str, str]]:
    wanted = {(backend, s.name) for backend, members in config.backends.items() for s in members}
    return {key for key, s in rig.observe().servers.items() if key in wanted and s.up and not s.maint}


def test_the_plan_leads_to_what_a_fresh_start_would_be(haproxy: Haproxy, tmp_path: Path, loopback: Loopback) -> None:
    addresses = tuple(loopback.address() for _ in range(LIVE + DEAD))
    seen = {"reloads": 0, "runtime": 0}
    (tmp_path / "run").mkdir()

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True
    )
    @given(config=configurations(addresses))
    def step(config: Config) -> None:
        wanted = running.render(config)
        plan = running.apply(wanted)
        note("\n".join(plan.lines()))
        seen["reloads" if plan.reload else "runtime"] += 1
        again = running.plan(wanted)
        assert again.empty, again.lines()
        folder = tmp_path / f"fresh{sum(seen.values())}"
        folder.mkdir()
        with rigged(haproxy, folder, fresh_address) as fresh:
            worker = fresh.start(config)
            now = running.observe()
            assert rows(dict(now.servers), wanted) == rows(dict(worker.servers), wanted)
            assert entries(running) == entries(fresh)
            wait(lambda: up(running, config) == live(running, config, addresses))
            wait(lambda: up(fresh, config) == live(fresh, config, addresses))

    fresh_address = loopback.address()
    with servers(addresses[:LIVE]), rigged(haproxy, tmp_path / "run", loopback.address()) as running:
        running.start(Config({"site": (), "api": (), "blog": ()}))
        step()
    assert seen["reloads"] > 0
    assert seen["runtime"] > 0
