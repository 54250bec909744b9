"""What a fleet keeps in tags and in a pool of addresses, on the lab's AWS: orders, and Elastic IPs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from hafleet.adapters.asg import AsgMembership
from hafleet.adapters.aws import Account
from hafleet.adapters.eip import Ec2Addresses
from hafleet.adapters.orders import GroupOrders
from hafleet.core import orders
from hafleet.core.eip import Address, free, mine
from hafleet.core.orders import Order
from hafleet.core.settings import Aws
from hafleet.errors import AddressTaken, AwsThrottled, SourceUnavailable
from hafleet.lab.cloud import Cloud
from hafleet.lab.fleet import Lab
from hafleet.ports import Addresses, Orders
from tests.fakes.awshttp import Script, serve

GROUP = "edge"
AT = 1_700_000_000.0
POOL = {"hafleet:pool": "edge"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Lab(agents=False) as lab:
        lab.cloud.create_group(GROUP, 0, {"team": "web"})
        yield lab.cloud


@pytest.fixture(scope="module")
def account(cloud: Cloud) -> Iterator[Account]:
    with pytest.MonkeyPatch.context() as environ:
        for name, value in cloud.environment.items():
            environ.setenv(name, value)
        made = Account(Aws(region="eu-west-1", max_attempts=1))
        made.scaling()
        yield made


def allocate(cloud: Cloud, count: int, **tags: str) -> None:
    """So many addresses with these tags."""
    for _ in range(count):
        allocated = cloud.ec2.allocate_address(Domain="vpc")["AllocationId"]
        cloud.ec2.create_tags(Resources=[allocated], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])


def launch(cloud: Cloud, count: int) -> list[str]:
    """Ids of so many running instances."""
    answer = cloud.ec2.run_instances(ImageId="ami-12345678", MinCount=count, MaxCount=count)
    return [item["InstanceId"] for item in answer["Instances"]]


# --- orders -----------------------------------------------------------------------------------------------------------


def told(account: Account) -> orders.Told:
    none: frozenset[str] = frozenset()
    group = AsgMembership(account).read(frozenset({GROUP}), frozenset(), none).by_name[GROUP]
    assert group.tags["team"] == "web"
    return orders.read(group.tags, (), AT)


def test_an_order_comes_with_the_group_and_the_last_word_counts(account: Account) -> None:
    port: Orders = GroupOrders(account)
    server = Order(
        "drain", AT, server="i-0123456789abcdef0", backend="site", by="kim@host", reason="a new disk: +1 = 2"
    )
    zone = Order("drain", AT + 1, zone="eu-west-1a", until=AT + 3600, force=True)
    port.give(GROUP, server)
    port.give(GROUP, zone)
    assert told(account).orders == (server, zone)
    maint = replace(server, verb="maint", by="lee@host")
    port.give(GROUP, maint)
    assert told(account).orders == (maint, zone)
    port.withdraw(GROUP, {maint.key, zone.key, "hafleet:zone:not-there"})
    port.withdraw(GROUP, ())
    assert told(account) == orders.Told()


def test_two_operators_at_once_lose_nothing(account: Account) -> None:
    given = [Order("drain", AT, server=f"i-{n:017x}", backend="site") for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda order: GroupOrders(account).give(GROUP, order), given))
    assert told(account).orders == tuple(given)
    GroupOrders(account).withdraw(GROUP, {order.key for order in given})


def test_a_group_that_does_not_exist_takes_no_order(account: Account) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        GroupOrders(account).give("typo", Order("drain", AT, zone="eu-west-1a"))
    assert "autoscaling:CreateOrUpdateTags" in str(caught.value)


# --- Elastic IPs ------------------------------------------------------------------------------------------------------


def test_an_address_is_given_kept_and_given_back(cloud: Cloud, account: Account) -> None:
    tags = {"hafleet:pool": "one", "stage": "a*"}
    allocate(cloud, 1, **tags)
    allocate(cloud, 1, **{"hafleet:pool": "one", "stage": "ab"})  # a wildcard of EC2's would find this one, too
    port: Addresses = Ec2Addresses(account)
    (address,) = port.pool(tags)
    assert address == Address(address.allocation, address.ip) and port.pool({"hafleet:pool": "none"}) == ()
    one, two = launch(cloud, 2)
    association = port.associate(address, one)
    (seen,) = port.pool(tags)
    assert seen == replace(address, association=association, instance=one) and mine([seen], one) == seen
    with pytest.raises(AddressTaken):
        port.associate(address, two)
    port.release(seen)
    port.release(seen)  # again is fine
    with pytest.raises(SourceUnavailable):
        port.release(replace(seen, association=""))
    assert port.pool(tags) == (address,)


def test_what_does_not_exist_is_an_error(cloud: Cloud, account: Account) -> None:
    allocate(cloud, 1, **{"hafleet:pool": "errors"})
    port = Ec2Addresses(account)
    (address,) = port.pool({"hafleet:pool": "errors"})
    with pytest.raises(SourceUnavailable) as caught:
        port.associate(address, "i-0fffffffffffffff0")
    assert "ec2:AssociateAddress" in str(caught.value)
    cloud.fault("throttle", operation="DescribeAddresses")
    try:
        with pytest.raises(AwsThrottled):
            port.pool({"hafleet:pool": "errors"})
    finally:
        cloud.heal()


def test_ten_nodes_at_once_share_six_addresses_without_a_fight(cloud: Cloud, account: Account) -> None:
    allocate(cloud, 6, **POOL)
    nodes = launch(cloud, 10)

    def take(node: str) -> str:
        port = Ec2Addresses(account)
        for address in free(port.pool(POOL), node):
            try:
                return port.associate(address, node)
            except AddressTaken:
                continue
        return ""

    with ThreadPoolExecutor(10) as pool:
        won = dict(zip(nodes, pool.map(take, nodes), strict=True))
    found = Ec2Addresses(account).pool(POOL)
    assert sum(bool(association) for association in won.values()) == 6
    assert {a.instance: a.association for a in found} == {node: a for node, a in won.items() if a}


@pytest.mark.parametrize(
    "item",
    [
        "<publicIp>198.51.100.1</publicIp>",
        "<allocationId>eipalloc-1</allocationId>",
        "<allocationId>eipalloc-1</allocationId><publicIp>here</publicIp>",
        "",
    ],
)
def test_an_odd_answer_is_no_pool(monkeypatch: pytest.MonkeyPatch, item: str) -> None:
    tags = "<tagSet><item><key>hafleet:pool</key><value>edge</value></item></tagSet>"
    listed = f"<addressesSet><item>{item}{tags}</item></addressesSet>" if item else ""
    script = Script()
    script.on("DescribeAddresses", (200, f"<DescribeAddressesResponse>{listed}</DescribeAddressesResponse>"))
    with serve(script):
        for name, value in (("ENDPOINT_URL", script.endpoint), ("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x")):
            monkeypatch.setenv(f"AWS_{name}", value)
        with pytest.raises(SourceUnavailable):
            Ec2Addresses(Account(Aws(region="eu-west-1", max_attempts=1))).pool(POOL)
