"""The local AWS against real boto3 calls: limits, physics and faults. What stock moto gets wrong is wrong nowhere here."""

import time
from collections.abc import Callable, Iterator

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from hafleet.lab.cloud import REGION, Cloud
from hafleet.lab.fleet import Lab
from hafleet.lab.processes import wait_until


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(agents=False) as lab:
        lab.cloud.control("POST", "physics", {"boot": 0.2, "terminating": 0.6, "dead": 0.2, "quarantine": 0})
        yield lab


@pytest.fixture
def cloud(lab: Lab) -> Iterator[Cloud]:
    yield lab.cloud
    lab.cloud.heal()


@pytest.fixture(scope="module")
def group(lab: Lab) -> str:
    """A group of four that serve."""
    lab.cloud.create_group("target", 4, {})
    settled(lab.cloud, "target", 4)
    return "target"


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Code and message of the error that this call meets."""
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def states(cloud: Cloud, group: str) -> list[str]:
    found = cloud.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
    return [item["LifecycleState"] for item in found[0]["Instances"]]


def settled(cloud: Cloud, group: str, count: int) -> None:
    wait_until(lambda: states(cloud, group) == ["InService"] * count, 60, f"{group} to have {count} in service")


class TestLimits:
    def test_a_capacity_outside_the_limits_is_refused_and_nothing_is_launched(self, cloud: Cloud) -> None:
        cloud.create_group("limits", 1, {}, most=3)
        asg = cloud.autoscaling
        code, text = refusal(lambda: asg.set_desired_capacity(AutoScalingGroupName="limits", DesiredCapacity=4))
        assert (code, "above max value 3" in text) == ("ValidationError", True)
        asg.update_auto_scaling_group(AutoScalingGroupName="limits", MinSize=1)
        code, text = refusal(lambda: asg.set_desired_capacity(AutoScalingGroupName="limits", DesiredCapacity=0))
        assert (code, "below min value 1" in text) == ("ValidationError", True)
        assert len(states(cloud, "limits")) == 1

    def test_a_lower_maximum_takes_the_desired_capacity_with_it(self, cloud: Cloud) -> None:
        cloud.create_group("lower", 3, {})
        cloud.autoscaling.update_auto_scaling_group(AutoScalingGroupName="lower", MaxSize=1)
        settled(cloud, "lower", 1)

    def test_contradicting_sizes_and_unknown_groups_are_refused(self, cloud: Cloud) -> None:
        asg = cloud.autoscaling
        cloud.create_group("sizes", 0, {}, most=2)
        code, _ = refusal(lambda: asg.update_auto_scaling_group(AutoScalingGroupName="sizes", MinSize=3))
        assert code == "ValidationError"
        code, _ = refusal(lambda: asg.update_auto_scaling_group(AutoScalingGroupName="sizes", DesiredCapacity=3))
        assert code == "ValidationError"
        code, text = refusal(lambda: asg.set_desired_capacity(AutoScalingGroupName="nobody", DesiredCapacity=1))
        assert (code, "not found" in text) == ("ValidationError", True)

    def test_a_name_is_taken_once(self, cloud: Cloud) -> None:
        cloud.create_group("twice", 1, {})
        assert refusal(lambda: cloud.create_group("twice", 5, {}))[0] == "AlreadyExists"
        settled(cloud, "twice", 1)

    def test_a_group_with_instances_is_deleted_only_by_force(self, cloud: Cloud) -> None:
        cloud.create_group("doomed", 1, {})
        asg = cloud.autoscaling
        assert refusal(lambda: asg.delete_auto_scaling_group(AutoScalingGroupName="doomed"))[0] == "ResourceInUse"
        asg.delete_auto_scaling_group(AutoScalingGroupName="doomed", ForceDelete=True)
        assert not asg.describe_auto_scaling_groups(AutoScalingGroupNames=["doomed"])["AutoScalingGroups"]

    def test_groups_come_in_pages_of_fifty_and_a_hundred_at_most(self, cloud: Cloud) -> None:
        asg = cloud.autoscaling
        for number in range(52):
            cloud.create_group(f"page-{number:02}", 0, {"page": "yes"})
        filters = [{"Name": "tag:page", "Values": ["yes"]}]
        page = asg.describe_auto_scaling_groups(Filters=filters)  # type: ignore[arg-type]
        assert (len(page["AutoScalingGroups"]), "NextToken" in page) == (50, True)
        rest = asg.describe_auto_scaling_groups(Filters=filters, NextToken=page["NextToken"])  # type: ignore[arg-type]
        assert (len(rest["AutoScalingGroups"]), "NextToken" in rest) == (2, False)
        assert refusal(lambda: asg.describe_auto_scaling_groups(MaxRecords=101))[0] == "ValidationError"
        assert refusal(lambda: asg.describe_auto_scaling_groups(NextToken="x"))[0] == "InvalidNextToken"

    def test_ids_are_limited_to_fifty_and_a_thousand(self, cloud: Cloud) -> None:
        ids = [f"i-{number:017x}" for number in range(1001)]
        asg, ec2 = cloud.autoscaling, cloud.ec2
        assert refusal(lambda: asg.describe_auto_scaling_instances(InstanceIds=ids[:51]))[0] == "ValidationError"
        assert refusal(lambda: ec2.describe_instances(InstanceIds=ids))[0] == "InvalidParameterValue"
        assert refusal(lambda: ec2.describe_instances(MaxResults=4))[0] == "InvalidParameterValue"


class TestPhysics:
    def test_an_instance_is_pending_before_it_serves(self, cloud: Cloud) -> None:
        cloud.control("POST", "physics", {"groups": {"boot": {"boot": 600}}})
        cloud.create_group("boot", 2, {})
        assert states(cloud, "boot") == ["Pending", "Pending"]
        cloud.control("POST", "physics", {"groups": {"boot": {"boot": 0.2}}})
        settled(cloud, "boot", 2)

    def test_instances_are_spread_over_the_zones_and_the_oldest_leaves(self, cloud: Cloud) -> None:
        cloud.create_group("zones", 4, {})
        settled(cloud, "zones", 4)
        first, *_ = members = [m for m in cloud.machines() if m.group == "zones"]
        assert sorted(m.zone for m in members) == [f"{REGION}a"] * 2 + [f"{REGION}b"] * 2
        cloud.control("POST", "physics", {"groups": {"zones": {"terminating": 600}}})
        cloud.scale("zones", 3)
        assert [m.id for m in cloud.machines() if m.lifecycle == "Terminating"] == [first.id]

    def test_a_leaving_instance_runs_until_its_time_is_over_and_then_has_no_address(self, cloud: Cloud) -> None:
        cloud.create_group("leave", 1, {})
        settled(cloud, "leave", 1)
        [machine] = [m for m in cloud.machines() if m.group == "leave"]
        cloud.control("POST", "physics", {"groups": {"leave": {"terminating": 600}}})
        cloud.scale("leave", 0)
        assert states(cloud, "leave") == ["Terminating"]
        assert next(m for m in cloud.machines() if m.id == machine.id).ec2 == "running"
        cloud.control("POST", "physics", {"groups": {"leave": {"terminating": 0.2}}})
        settled(cloud, "leave", 0)
        [found] = cloud.ec2.describe_instances(InstanceIds=[machine.id])["Reservations"][0]["Instances"]
        assert found["State"]["Name"] == "terminated"
        assert "PrivateIpAddress" not in found
        assert not found.get("NetworkInterfaces")

    def test_an_address_is_used_again(self, cloud: Cloud) -> None:
        cloud.create_group("reuse", 1, {})
        settled(cloud, "reuse", 1)
        [old] = [m for m in cloud.machines() if m.group == "reuse"]
        cloud.ec2.terminate_instances(InstanceIds=[old.id])
        wait_until(lambda: old.id not in {m.id for m in cloud.machines()}, 60, "it to be gone")
        settled(cloud, "reuse", 1)
        cloud.scale("reuse", 12)
        [*fresh] = [m for m in cloud.machines() if m.group == "reuse"]
        assert old.id not in {m.id for m in fresh}
        assert old.address in {m.address for m in fresh}

    @pytest.mark.parametrize("end", ["terminate", "stop", "unhealthy"])
    def test_a_dead_instance_is_replaced(self, cloud: Cloud, end: str) -> None:
        group = f"dead-{end}"
        cloud.create_group(group, 2, {})
        settled(cloud, group, 2)
        victim, other = (m.id for m in cloud.machines() if m.group == group)
        if end == "terminate":
            cloud.ec2.terminate_instances(InstanceIds=[victim])
        elif end == "stop":
            cloud.ec2.stop_instances(InstanceIds=[victim])
        else:
            cloud.autoscaling.set_instance_health(InstanceId=victim, HealthStatus="Unhealthy")
        wait_until(lambda: victim not in {m.id for m in cloud.machines() if m.group == group}, 60, "it to be gone")
        settled(cloud, group, 2)
        assert other in {m.id for m in cloud.machines() if m.group == group}

    def test_standby_is_kept_and_comes_back(self, cloud: Cloud) -> None:
        cloud.create_group("standby", 2, {})
        settled(cloud, "standby", 2)
        asg, name = cloud.autoscaling, next(m.id for m in cloud.machines() if m.group == "standby")
        asg.enter_standby(AutoScalingGroupName="standby", InstanceIds=[name], ShouldDecrementDesiredCapacity=True)
        wait_until(lambda: sorted(states(cloud, "standby")) == ["InService", "Standby"], 60, "standby")
        time.sleep(0.3)
        assert sorted(states(cloud, "standby")) == ["InService", "Standby"]  # neither ended nor replaced
        asg.exit_standby(AutoScalingGroupName="standby", InstanceIds=[name])
        settled(cloud, "standby", 2)

    def test_retiring_one_can_shrink_the_group_but_not_below_its_minimum(self, cloud: Cloud) -> None:
        cloud.create_group("retire", 2, {})
        settled(cloud, "retire", 2)
        asg, name = cloud.autoscaling, next(m.id for m in cloud.machines() if m.group == "retire")
        asg.terminate_instance_in_auto_scaling_group(InstanceId=name, ShouldDecrementDesiredCapacity=True)
        settled(cloud, "retire", 1)
        asg.update_auto_scaling_group(AutoScalingGroupName="retire", MinSize=1)
        left = next(m.id for m in cloud.machines() if m.group == "retire")
        code, _ = refusal(
            lambda: asg.terminate_instance_in_auto_scaling_group(InstanceId=left, ShouldDecrementDesiredCapacity=True)
        )
        assert code == "ValidationError"

    def test_weighted_capacity_is_told_per_instance_and_counts(self, cloud: Cloud) -> None:
        subnets = ",".join(cloud._subnets)
        cloud.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName="weights",
            MinSize=0,
            MaxSize=20,
            DesiredCapacity=6,
            VPCZoneIdentifier=subnets,
            MixedInstancesPolicy={
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {"LaunchTemplateName": "lab"},
                    "Overrides": [
                        {"InstanceType": "c5.large", "WeightedCapacity": "2"},
                        {"InstanceType": "c5.xlarge", "WeightedCapacity": "4"},
                    ],
                }
            },
        )
        found = cloud.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=["weights"])
        members = found["AutoScalingGroups"][0]["Instances"]
        assert [(m["InstanceType"], m["WeightedCapacity"]) for m in members] == [("c5.large", "2"), ("c5.xlarge", "4")]

    def test_the_physics_refuse_a_figure_they_do_not_know(self, cloud: Cloud) -> None:
        with pytest.raises(ValueError, match="no figure of the physics"):
            cloud.control("POST", "physics", {"boots": 1})


class TestFaults:
    @pytest.mark.parametrize(
        ("kind", "code", "status"),
        [
            ("throttle", "Throttling", 400),
            ("5xx", "InternalFailure", 500),
            ("denied", "AccessDenied", 403),
            ("expired", "ExpiredToken", 403),
        ],
    )
    def test_errors_have_the_service_s_own_code(
        self, cloud: Cloud, group: str, kind: str, code: str, status: int
    ) -> None:
        cloud.fault(kind, service="autoscaling")
        with pytest.raises(ClientError) as caught:
            states(cloud, group)
        answer = caught.value.response
        assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)

    def test_ec2_throttles_in_its_own_words(self, cloud: Cloud, group: str) -> None:
        cloud.fault("throttle", service="ec2")
        with pytest.raises(ClientError) as caught:
            cloud.ec2.describe_instances()
        assert caught.value.response["Error"]["Code"] == "RequestLimitExceeded"
        assert len(states(cloud, group)) == 4  # the other service answers

    def test_unreachable_ends_the_connection(self, cloud: Cloud, group: str) -> None:
        cloud.fault("unreachable")
        with pytest.raises(ConnectionClosedError):
            states(cloud, group)

    def test_hang_lasts_until_the_client_gives_up(self, cloud: Cloud, group: str) -> None:
        import boto3

        impatient = Config(read_timeout=0.3, retries={"mode": "standard", "total_max_attempts": 1})
        client = boto3.client(
            "autoscaling",
            endpoint_url=cloud.url,
            region_name=REGION,
            aws_access_key_id="lab",
            aws_secret_access_key="lab",
            config=impatient,
        )
        cloud.fault("hang")
        with pytest.raises(ReadTimeoutError):
            client.describe_auto_scaling_groups(AutoScalingGroupNames=[group])
        client.close()

    @pytest.mark.parametrize(("kind", "count"), [("half", 2), ("no_instances", 0), ("tenfold", 40)])
    def test_edited_answers(self, cloud: Cloud, group: str, kind: str, count: int) -> None:
        cloud.fault(kind, service="autoscaling")
        assert len(states(cloud, group)) == count

    def test_empty_has_no_group(self, cloud: Cloud, group: str) -> None:
        cloud.fault("empty")
        assert not cloud.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]

    def test_tenfold_instances_exist_in_ec2_too_with_addresses_of_their_own(self, cloud: Cloud, group: str) -> None:
        cloud.fault("tenfold")
        found = cloud.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
        ids = {item["InstanceId"] for item in found[0]["Instances"]}
        answer = cloud.ec2.describe_instances(InstanceIds=sorted(ids))["Reservations"]
        machines = [machine for reservation in answer for machine in reservation["Instances"]]
        assert {machine["InstanceId"] for machine in machines} == ids
        assert len({machine["PrivateIpAddress"] for machine in machines}) == 40

    def test_a_lost_page_is_an_error_and_an_empty_page_is_not(self, cloud: Cloud, group: str) -> None:
        names = [group, "other"]
        if "other" not in {m.group for m in cloud.machines()}:
            cloud.create_group("other", 1, {})
        pages = cloud.autoscaling.get_paginator("describe_auto_scaling_groups")
        cloud.fault("empty_page", service="autoscaling")
        found = [g for page in pages.paginate(AutoScalingGroupNames=names) for g in page["AutoScalingGroups"]]
        assert len(found) == 1
        cloud.heal()
        cloud.fault("partial_page", service="autoscaling")
        with pytest.raises(ClientError):
            list(pages.paginate(AutoScalingGroupNames=names))

    def test_stale_answers_are_older_than_the_newest_one(self, cloud: Cloud, group: str) -> None:
        assert len(states(cloud, group)) == 4
        cloud.scale(group, 5)
        time.sleep(0.1)
        assert len(states(cloud, group)) == 5
        cloud.fault("stale", age=0.1)
        assert len(states(cloud, group)) == 4
        cloud.heal()
        cloud.scale(group, 4)
        settled(cloud, group, 4)

    def test_a_rule_ends_by_its_count(self, cloud: Cloud, group: str) -> None:
        cloud.fault("5xx", service="autoscaling", count=1)
        with pytest.raises(ClientError):
            states(cloud, group)
        assert len(states(cloud, group)) == 4

    def test_calls_are_counted_by_operation(self, cloud: Cloud, group: str) -> None:
        cloud.control("DELETE", "calls")
        states(cloud, group)
        states(cloud, group)
        assert cloud.calls() == {"autoscaling.DescribeAutoScalingGroups": 2}

    def test_an_unknown_kind_is_refused(self, cloud: Cloud) -> None:
        with pytest.raises(ValueError, match="no kind of fault"):
            cloud.fault("gremlin")
