"""EC2's own word on single instances, over HTTP: from moto, and from a script where moto is never wrong."""

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from hafleet.adapters.asg import Ec2Instances
from hafleet.adapters.aws import Account
from hafleet.core.settings import Aws
from hafleet.errors import SourceUnavailable
from tests.fakes.awshttp import Params, Reply, Script, ec2_error, instances, item, serve

REGION = "eu-west-1"
DESCRIBE = "DescribeInstances"


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def script(credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    with serve(Script()) as served:
        monkeypatch.setenv("AWS_ENDPOINT_URL", served.endpoint)
        yield served


def ec2_instances() -> Ec2Instances:
    return Ec2Instances(Account(Aws(region=REGION, max_attempts=1)))


def iid(number: int) -> str:
    return f"i-{number:017x}"


def test_running_terminated_and_unknown_instances(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    try:
        ec2 = boto3.session.Session(region_name=REGION).client("ec2")
        made = ec2.run_instances(ImageId="ami-12c6146b", MinCount=3, MaxCount=3)["Instances"]
        one, two, three = sorted(item["InstanceId"] for item in made)
        ec2.terminate_instances(InstanceIds=[two])
        ec2.stop_instances(InstanceIds=[three])
        found = ec2_instances().states(frozenset({one, two, three, iid(1), iid(2)}))
    finally:
        server.stop()
    assert found == {one: "running", two: "terminated", three: "stopped"}


def test_nobody_is_asked_about_nobody(script: Script) -> None:
    assert ec2_instances().states(frozenset()) == {}
    assert script.asked == []


@pytest.mark.parametrize("key", ["node-1", "", "i-", "i-0123456789abcdefg", "i-0\nx"])
def test_what_is_no_instance_is_not_taken_for_a_dead_one(script: Script, key: str) -> None:
    with pytest.raises(SourceUnavailable, match="is no instance of EC2"):
        ec2_instances().states(frozenset({key, iid(1)}))
    assert script.asked == []


def test_only_those_asked_for_are_told(script: Script) -> None:
    script.on(DESCRIBE, instances(item(iid(1)), item(iid(9))))
    assert ec2_instances().states(frozenset({iid(1)})) == {iid(1): "running"}


@pytest.mark.parametrize("items", [(), (item(iid(1), state=""),)], ids=["left out", "without state"])
def test_silence_on_an_instance_is_no_proof(script: Script, items: tuple[str, ...]) -> None:
    script.on(DESCRIBE, instances(*items, item(iid(2))))
    with pytest.raises(SourceUnavailable, match=f"nothing is told of instance {iid(1)}"):
        ec2_instances().states(frozenset({iid(1), iid(2)}))


def test_a_hundred_ids_per_question(script: Script) -> None:
    def answer(params: Params) -> Reply:
        asked = [value for name, value in params.items() if name.startswith("InstanceId.")]
        assert len(asked) <= 100
        return instances(*(item(key) for key in asked))

    script.on(DESCRIBE, answer)
    ids = frozenset(iid(number) for number in range(250))
    assert ec2_instances().states(ids).keys() == ids
    assert script.count(DESCRIBE) == 3


@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_failed_read_is_an_error(script: Script, status: int) -> None:
    script.on(DESCRIBE, ec2_error(status, "Nope", "no"))
    with pytest.raises(SourceUnavailable):
        ec2_instances().states(frozenset({iid(1)}))
