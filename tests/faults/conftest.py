"""Fixtures of the fault tests: one local AWS per test process, and stages on it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hafleet.lab.cloud import NODES, Cloud
from hafleet.lab.haproxies import Haproxy, find
from hafleet.lab.network import claim
from hafleet.lab.processes import Processes
from tests.faults.servers import Servers, serving
from tests.faults.stage import Stage
from tests.resources import LoopbackPool


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """A local AWS, and the environment that points every client of this process to it."""
    folder = Path(tempfile.mkdtemp(prefix="hff-aws-", dir="/tmp"))
    with claim() as network, pytest.MonkeyPatch.context() as environ:
        processes = Processes(folder)
        try:
            made = Cloud(network, processes, folder / "aws.log")
            for name, value in {**made.environment, "AWS_ACCESS_KEY_ID": NODES}.items():
                environ.setenv(name, value)
            yield made
        finally:
            processes.close()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def answering() -> Iterator[Servers]:
    """What answers on every instance's address."""
    with serving() as servers:
        yield servers


@pytest.fixture(scope="session")
def one_haproxy() -> Haproxy:
    """The HAProxy of the rows that are not about its version."""
    for label in ("3.0", "2.6", "3.2"):
        found = find(label)
        if isinstance(found, Haproxy):
            return found
    pytest.fail("no HAProxy is on this machine", pytrace=False)


StageMaker = Callable[..., Stage]


@contextmanager
def stages(cloud: Cloud, haproxy: Haproxy, servers: Servers, pool: LoopbackPool) -> Iterator[StageMaker]:
    """Makes stages, and ends them all at the end of the block, with every fault of AWS."""
    with ExitStack() as stack:
        stack.callback(cloud.heal)

        def make(haproxy: Haproxy = haproxy) -> Stage:
            stage = Stage(cloud, haproxy, stack.enter_context(pool.lease()), servers)
            stack.callback(stage.close)
            return stage

        yield make


@pytest.fixture
def make_stage(
    cloud: Cloud, one_haproxy: Haproxy, answering: Servers, loopback_pool: LoopbackPool
) -> Iterator[StageMaker]:
    """``make_stage(haproxy)``: a node, not yet started."""
    with stages(cloud, one_haproxy, answering, loopback_pool) as make:
        yield make


@pytest.fixture
def stage(make_stage: StageMaker) -> Stage:
    """A node, not yet started."""
    return make_stage()


@pytest.fixture(scope="module")
def twelve(cloud: Cloud, one_haproxy: Haproxy, answering: Servers, loopback_pool: LoopbackPool) -> Iterator[Stage]:
    """A calm node with two groups of six servers, for tests that must leave it as it is."""
    with stages(cloud, one_haproxy, answering, loopback_pool) as make:
        stage = make()
        stage.boot({"asg": stage.group(6)}, {"asg": stage.group(6)})
        yield stage
