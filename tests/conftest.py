"""Fixtures of every kind of test: the HAProxy versions, and loopback networks. Fixtures of one kind live in its own folder."""

import os
from collections.abc import Callable, Iterator

import pytest

from hafleet.lab.haproxies import LABELS, Haproxy, Unavailable, find
from tests.resources import Loopback, LoopbackPool
from tests.resources import free_port as find_free_port

REQUIRE = "HAFLEET_REQUIRE_VERSIONS"  # set to 1, a version that could not be had fails its tests
MISSING = "could not be had"
DEEP_BOUND = 600  # seconds for a deep test that names no bound of its own; alone on a quiet machine it takes up to 60


@pytest.fixture(scope="session", params=LABELS)
def haproxy(request: pytest.FixtureRequest) -> Haproxy:
    """Each HAProxy version in turn. One that is not here skips its tests, and the end of the run says so."""
    found = find(request.param)
    if isinstance(found, Haproxy):
        return found
    what = f"HAProxy {found.label} {MISSING}: {found.reason}"
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{what} ({REQUIRE}=1)", pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def loopback_pool() -> Iterator[LoopbackPool]:
    """For tests that need several networks: ``with loopback_pool.lease() as network``."""
    pool = LoopbackPool()
    yield pool
    pool.close()


@pytest.fixture
def loopback(loopback_pool: LoopbackPool) -> Iterator[Loopback]:
    """A /24 of loopback addresses that is this test's alone."""
    with loopback_pool.lease() as network:
        yield network


@pytest.fixture
def free_port() -> Callable[..., int]:
    """``free_port(address="127.0.0.1")``: a port that nobody listens on."""
    return find_free_port


@pytest.hookimpl(trylast=True)  # after pytest's own order, by version
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked ``deep`` wait for `make deep`; with ``besides=("2.6",)`` those on that HAProxy run always.

    HAFLEET_DEEP: unset, the others run; ``1``, all run; ``only``, those run that wait.
    """
    keep_together(items)
    for item in items:
        if item.get_closest_marker("deep") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(DEEP_BOUND))
    wanted = os.environ.get("HAFLEET_DEEP")
    if wanted == "1":
        return
    deep = [item for item in items if waits(item)]
    if wanted == "only":
        rest = [item for item in items if item not in set(deep)]
        config.hook.pytest_deselected(items=rest)
        items[:] = deep
        return
    for item in deep:
        item.add_marker(pytest.mark.skip(reason="deep: `make deep` and continuous integration run it"))


def keep_together(items: list[pytest.Item]) -> None:
    """Tests of one xdist_group go to one worker, in order: with ``--dist loadgroup`` their ids end with @group.

    pytest-xdist 3.8 writes that to where pytest 9.2 no longer looks, and without a word deals them out one by one.
    """
    for item in items:
        grouped = getattr(item, "_nodeid", "")
        if grouped.startswith(f"{item.nodeid}@"):
            item._id = type(item._id).parse(grouped)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Where all reports come together a test has its own name again, by which it can be asked for."""
    if "PYTEST_XDIST_WORKER" not in os.environ and report.nodeid.rfind("@") > report.nodeid.rfind("]"):
        report.nodeid = report.nodeid.rpartition("@")[0]


def waits(item: pytest.Item) -> bool:
    """True for a test that `make test` leaves out."""
    callspec = getattr(item, "callspec", None)  # only a parametrised test has one
    version = callspec.params.get("haproxy") if callspec else None
    mark = item.get_closest_marker("deep")
    return mark is not None and version not in mark.kwargs.get("besides", ())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly which HAProxy versions the run did not see, and how many tests that cost."""
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    for label in LABELS:
        count = sum(f"HAProxy {label} {MISSING}" in text for text in skipped)
        found = find(label)
        if count and isinstance(found, Unavailable):
            line = f"HAProxy {label} {MISSING}: {found.reason}: {count} tests did not run on it"
            terminalreporter.write_line(line, red=True, bold=True)
        if isinstance(found, Haproxy) and found.stands_in:
            version = ".".join(map(str, found.version))
            terminalreporter.write_line(f"HAProxy {version} stood in for {label}", yellow=True, bold=True)
