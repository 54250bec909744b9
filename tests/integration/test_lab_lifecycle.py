"""The lab's lifecycle against real boto3 calls: hooks and their messages, warm pools, standby, detach, notices of IMDS."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from hafleet.lab.cloud import REGION, Cloud, Machine
from hafleet.lab.fleet import Lab
from hafleet.lab.node import IMDS_PORT
from hafleet.lab.processes import wait_until

LAUNCH, END = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
TARGET = "meta-data/autoscaling/target-lifecycle-state"
NUMBERS = count(1)

pytestmark = pytest.mark.xdist_group("lab lifecycle")  # its tests share one lab, in order


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(agents=False) as lab:
        lab.cloud.control("POST", "physics", {"boot": 0.1, "terminating": 0.3, "dead": 0.2, "transit": 0.1})
        yield lab


@pytest.fixture
def cloud(lab: Lab) -> Iterator[Cloud]:
    lab.cloud.control("POST", "physics", {"hook_least": 30, "hook_speed": 1})
    yield lab.cloud
    lab.cloud.heal()


@pytest.fixture
def name(cloud: Cloud) -> str:
    """An empty group of its own."""
    group = f"life-{next(NUMBERS)}"
    cloud.create_group(group, 0, {})
    return group


def client(cloud: Cloud, service: str) -> Any:
    session: Any = boto3.Session("lab", "lab", region_name=REGION)
    return session.client(service, endpoint_url=cloud.url)


def hook(cloud: Cloud, group: str, name: str, transition: str, **fields: Any) -> None:
    """A hook whose timeout is half an hour unless said otherwise: it never ends by itself within a test."""
    wanted = {"HeartbeatTimeout": 1800, **fields}
    cloud.autoscaling.put_lifecycle_hook(
        AutoScalingGroupName=group, LifecycleHookName=name, LifecycleTransition=transition, **wanted
    )


def complete(cloud: Cloud, group: str, name: str, instance: str, result: str = "CONTINUE") -> None:
    cloud.autoscaling.complete_lifecycle_action(
        AutoScalingGroupName=group, LifecycleHookName=name, InstanceId=instance, LifecycleActionResult=result
    )


def beat(cloud: Cloud, group: str, name: str, instance: str) -> None:
    cloud.autoscaling.record_lifecycle_action_heartbeat(
        AutoScalingGroupName=group, LifecycleHookName=name, InstanceId=instance
    )


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Code and message of the error that this call meets."""
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    return error["Code"], error["Message"].partition(" (reached max")[0]


def members(cloud: Cloud, group: str) -> dict[str, Machine]:
    return {machine.id: machine for machine in cloud.machines() if machine.group == group}


def states(cloud: Cloud, group: str) -> list[str]:
    return sorted(machine.lifecycle for machine in members(cloud, group).values())


def wait_for(cloud: Cloud, group: str, *wanted: str) -> list[str]:
    """Wait for these lifecycle states; the ids of the group's instances."""
    wait_until(
        lambda: states(cloud, group) == sorted(wanted), 60, f"{group} to be {wanted}, not {states(cloud, group)}"
    )
    return list(members(cloud, group))


def state_of(cloud: Cloud, group: str, instance: str) -> str:
    machine = members(cloud, group).get(instance)
    return machine.lifecycle if machine else "gone"


def messages(sqs: Any, queue: str, wanted: int) -> list[dict[str, Any]]:
    """Wait for so many messages."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", []):
            found.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return len(found) >= wanted

    wait_until(enough, 60, f"{wanted} messages")
    return found


def queue(sqs: Any, name: str) -> tuple[str, str]:
    """URL and ARN of a new queue."""
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def metadata(node: Any, path: str) -> str:
    """What IMDS of a node answers by HTTP, as its agent sees it."""
    base = f"http://{node.address}:{IMDS_PORT}/latest/"
    header = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    asked = urllib.request.Request(f"{base}api/token", method="PUT", headers=header)
    token = urllib.request.urlopen(asked, timeout=30).read().decode()
    read = urllib.request.Request(base + path, headers={"X-aws-ec2-metadata-token": token})
    answer: bytes = urllib.request.urlopen(read, timeout=30).read()
    return answer.decode()


class TestLaunch:
    def test_an_instance_runs_and_waits_until_every_hook_is_completed(self, cloud: Cloud, name: str) -> None:
        hook(cloud, name, "a", LAUNCH)
        hook(cloud, name, "b", LAUNCH)
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "Pending:Wait")
        assert members(cloud, name)[instance].ec2 == "running"
        complete(cloud, name, "a", instance)
        assert [action["hook"] for action in cloud.waiting() if action["group"] == name] == ["b"]
        assert states(cloud, name) == ["Pending:Wait"]
        complete(cloud, name, "b", instance)
        wait_for(cloud, name, "InService")

    def test_by_token_and_only_by_its_own(self, cloud: Cloud, name: str) -> None:
        hook(cloud, name, "a", LAUNCH)
        cloud.scale(name, 1)
        wait_for(cloud, name, "Pending:Wait")
        [action] = [action for action in cloud.waiting() if action["group"] == name]
        asg, what = cloud.autoscaling, {"AutoScalingGroupName": name, "LifecycleHookName": "a"}
        other = "00000000-0000-4000-8000-000000000000"
        call = asg.complete_lifecycle_action
        code, text = refusal(lambda: call(**what, LifecycleActionToken=other, LifecycleActionResult="CONTINUE"))
        assert (code, text) == ("ValidationError", f"No active Lifecycle Action found with token {other}")
        call(**what, LifecycleActionToken=action["token"], LifecycleActionResult="CONTINUE")
        wait_for(cloud, name, "InService")

    def test_what_is_over_is_refused_in_aws_s_words(self, cloud: Cloud, name: str) -> None:
        hook(cloud, name, "a", LAUNCH)
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "Pending:Wait")
        assert refusal(lambda: complete(cloud, name, "a", instance, "MAYBE"))[0] == "ValidationError"
        complete(cloud, name, "a", instance)
        nothing = ("ValidationError", f"No active Lifecycle Action found with instance ID {instance}")
        assert refusal(lambda: complete(cloud, name, "a", instance)) == nothing
        assert refusal(lambda: beat(cloud, name, "a", instance)) == nothing
        assert refusal(lambda: beat(cloud, name, "none", instance))[0] == "ValidationError"
        assert refusal(lambda: beat(cloud, "no-group", "a", instance))[0] == "ValidationError"

    def test_an_abandoned_launch_ends_and_is_replaced(self, cloud: Cloud, name: str) -> None:
        hook(cloud, name, "a", LAUNCH)
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "Pending:Wait")
        complete(cloud, name, "a", instance, "ABANDON")
        wait_until(lambda: state_of(cloud, name, instance) == "gone", 60, "it to be gone")
        [other] = wait_for(cloud, name, "Pending:Wait")
        assert other != instance

    @pytest.mark.parametrize(("default", "stays"), [("CONTINUE", True), ("ABANDON", False)])
    def test_a_timeout_gives_the_default_result(self, cloud: Cloud, name: str, default: str, stays: bool) -> None:
        cloud.control("POST", "physics", {"hook_least": 1})
        hook(cloud, name, "a", LAUNCH, HeartbeatTimeout=4, DefaultResult=default)  # it must be seen to wait
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "Pending:Wait")
        wanted = "InService" if stays else "gone"
        wait_until(lambda: state_of(cloud, name, instance) == wanted, 60, wanted)

    def test_heartbeats_keep_it_waiting(self, cloud: Cloud, name: str) -> None:
        cloud.control("POST", "physics", {"hook_speed": 15})  # a minute in four seconds
        hook(cloud, name, "a", LAUNCH, HeartbeatTimeout=60, DefaultResult="CONTINUE")
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "Pending:Wait")
        for beats in range(1, 4):
            beat(cloud, name, "a", instance)
            [action] = [action for action in cloud.waiting() if action["group"] == name]
            assert action["heartbeats"] == beats
            assert action["left"] > 0
        wait_for(cloud, name, "InService")

    def test_an_instance_that_waits_counts_and_is_not_launched_twice(self, cloud: Cloud, name: str) -> None:
        hook(cloud, name, "a", LAUNCH)
        cloud.scale(name, 2)
        wait_for(cloud, name, "Pending:Wait", "Pending:Wait")
        cloud.scale(name, 1)  # one of those that wait is retired, without the hook of a launch in its way
        wait_until(lambda: states(cloud, name) == ["Pending:Wait"], 60, "one to be left")


class TestEnd:
    def test_the_machine_runs_until_the_hook_is_completed_and_its_successor_comes_at_once(
        self, cloud: Cloud, name: str
    ) -> None:
        hook(cloud, name, "out", END)
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "InService")
        cloud.autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=instance, ShouldDecrementDesiredCapacity=False
        )
        assert state_of(cloud, name, instance).startswith("Terminating")
        wait_for(cloud, name, "InService", "Terminating:Wait")
        machine = members(cloud, name)[instance]
        assert (machine.ec2, machine.metadata[TARGET]) == ("running", "Terminated")
        [before] = [action["token"] for action in cloud.waiting() if action["group"] == name]
        cloud.autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=instance, ShouldDecrementDesiredCapacity=False
        )
        assert [action["token"] for action in cloud.waiting() if action["group"] == name] == [before]  # not begun anew
        complete(cloud, name, "out", instance)
        wait_until(lambda: state_of(cloud, name, instance) == "gone", 60, "it to be gone")
        [other] = wait_for(cloud, name, "InService")
        assert other != instance

    def test_abandon_ends_the_wait_for_the_other_hooks_too(self, cloud: Cloud, name: str) -> None:
        hook(cloud, name, "a", END)
        hook(cloud, name, "b", END)
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "InService")
        cloud.scale(name, 0)
        wait_for(cloud, name, "Terminating:Wait")
        complete(cloud, name, "a", instance, "ABANDON")
        wait_for(cloud, name)

    def test_a_hook_that_is_deleted_lets_go(self, cloud: Cloud, name: str) -> None:
        hook(cloud, name, "out", END)
        cloud.scale(name, 1)
        wait_for(cloud, name, "InService")
        cloud.scale(name, 0)
        wait_for(cloud, name, "Terminating:Wait")
        cloud.autoscaling.delete_lifecycle_hook(AutoScalingGroupName=name, LifecycleHookName="out")
        wait_for(cloud, name)

    def test_a_machine_that_died_goes_through_its_hooks_too(self, cloud: Cloud, name: str) -> None:
        hook(cloud, name, "out", END)
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "InService")
        cloud.ec2.terminate_instances(InstanceIds=[instance])
        wait_for(cloud, name, "InService", "Terminating:Wait")
        assert members(cloud, name)[instance].ec2 == "terminated"
        complete(cloud, name, "out", instance)
        wait_for(cloud, name, "InService")

    def test_no_hooks_for_a_forced_deletion(self, cloud: Cloud, name: str) -> None:
        hook(cloud, name, "out", END)
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "InService")
        cloud.autoscaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
        [found] = cloud.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"]
        assert found["State"]["Name"] == "terminated"


class TestAside:
    def test_no_hooks_for_standby_and_back(self, cloud: Cloud, name: str) -> None:
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "InService")
        hook(cloud, name, "in", LAUNCH)
        hook(cloud, name, "out", END)
        asg = cloud.autoscaling
        asg.enter_standby(AutoScalingGroupName=name, InstanceIds=[instance], ShouldDecrementDesiredCapacity=True)
        wait_for(cloud, name, "Standby")
        assert members(cloud, name)[instance].metadata[TARGET] == "Standby"
        asg.exit_standby(AutoScalingGroupName=name, InstanceIds=[instance])
        wait_for(cloud, name, "InService")
        assert members(cloud, name)[instance].metadata[TARGET] == "InService"

    def test_no_hooks_for_detach_and_the_machine_runs_on(self, cloud: Cloud, name: str) -> None:
        hook(cloud, name, "out", END)
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "InService")
        cloud.autoscaling.detach_instances(
            AutoScalingGroupName=name, InstanceIds=[instance], ShouldDecrementDesiredCapacity=True
        )
        wait_for(cloud, name)
        machine = next(machine for machine in cloud.machines() if machine.id == instance)
        assert (machine.ec2, machine.metadata[TARGET]) == ("running", "Detached")
        assert "aws:autoscaling:groupName" not in machine.tags
        cloud.autoscaling.attach_instances(AutoScalingGroupName=name, InstanceIds=[instance])
        wait_for(cloud, name, "InService")

    def test_who_leaves_cannot_stand_by_or_be_detached(self, cloud: Cloud, name: str) -> None:
        hook(cloud, name, "out", END)
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "InService")
        cloud.scale(name, 0)
        wait_for(cloud, name, "Terminating:Wait")
        asg: Any = cloud.autoscaling
        what = {"AutoScalingGroupName": name, "InstanceIds": [instance], "ShouldDecrementDesiredCapacity": False}
        assert refusal(lambda: asg.enter_standby(**what))[0] == "ValidationError"
        assert refusal(lambda: asg.detach_instances(**what))[0] == "ValidationError"
        assert states(cloud, name) == ["Terminating:Wait"]

    def test_unhealthy_within_the_grace_period_is_not_heard(self, cloud: Cloud, name: str) -> None:
        asg = cloud.autoscaling
        asg.update_auto_scaling_group(AutoScalingGroupName=name, HealthCheckGracePeriod=600)
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "InService")
        asg.set_instance_health(InstanceId=instance, HealthStatus="Unhealthy")
        told = asg.describe_auto_scaling_instances(InstanceIds=[instance])["AutoScalingInstances"]
        assert told[0]["HealthStatus"].lower() == "healthy"
        asg.set_instance_health(InstanceId=instance, HealthStatus="Unhealthy", ShouldRespectGracePeriod=False)
        wait_until(lambda: state_of(cloud, name, instance) == "gone", 60, "it to be replaced")


class TestDefinition:
    def test_hooks_are_told_as_they_were_given_and_live_with_the_group(self, cloud: Cloud) -> None:
        group = f"life-{next(NUMBERS)}"
        asg = cloud.autoscaling
        asg.create_auto_scaling_group(
            AutoScalingGroupName=group,
            MinSize=0,
            MaxSize=1,
            DesiredCapacity=1,
            LaunchTemplate={"LaunchTemplateName": "lab"},
            VPCZoneIdentifier=",".join(cloud._subnets),
            LifecycleHookSpecificationList=[
                {
                    "LifecycleHookName": "in",
                    "LifecycleTransition": LAUNCH,
                    "HeartbeatTimeout": 45,
                    "DefaultResult": "CONTINUE",
                    "RoleARN": "arn:aws:iam::123456789012:role/hooks",
                    "NotificationTargetARN": f"arn:aws:sqs:{REGION}:123456789012:nobody",
                    "NotificationMetadata": "stage",
                }
            ],
        )
        [told] = asg.describe_lifecycle_hooks(AutoScalingGroupName=group)["LifecycleHooks"]
        assert told == {
            "LifecycleHookName": "in",
            "AutoScalingGroupName": group,
            "LifecycleTransition": LAUNCH,
            "HeartbeatTimeout": 45,
            "GlobalTimeout": 4500,
            "DefaultResult": "CONTINUE",
            "RoleARN": "arn:aws:iam::123456789012:role/hooks",
            "NotificationTargetARN": f"arn:aws:sqs:{REGION}:123456789012:nobody",
            "NotificationMetadata": "stage",
        }
        wait_for(cloud, group, "Pending:Wait")

    def test_timeouts_below_half_a_minute_are_for_the_lab_alone(self, cloud: Cloud, name: str) -> None:
        assert refusal(lambda: hook(cloud, name, "a", LAUNCH, HeartbeatTimeout=29))[0] == "ValidationError"
        cloud.control("POST", "physics", {"groups": {name: {"hook_least": 1}}})
        hook(cloud, name, "a", LAUNCH, HeartbeatTimeout=29)

    def test_fifty_hooks_at_most(self, cloud: Cloud, name: str) -> None:
        for number in range(50):
            hook(cloud, name, f"h{number}", LAUNCH)
        assert refusal(lambda: hook(cloud, name, "more", LAUNCH))[0] == "LimitExceeded"
        hook(cloud, name, "h7", LAUNCH, HeartbeatTimeout=60)  # a change is no hook more

    def test_what_does_not_exist_is_refused(self, cloud: Cloud, name: str) -> None:
        asg = cloud.autoscaling
        missing: list[Callable[[], object]] = [
            lambda: asg.delete_lifecycle_hook(AutoScalingGroupName=name, LifecycleHookName="none"),
            lambda: asg.describe_lifecycle_hooks(AutoScalingGroupName="no-group"),
            lambda: hook(cloud, "no-group", "a", LAUNCH),
        ]
        assert [refusal(call)[0] for call in missing] == ["ValidationError"] * 3

    def test_metrics_can_be_switched_off(self, cloud: Cloud, name: str) -> None:
        asg = cloud.autoscaling
        asg.enable_metrics_collection(AutoScalingGroupName=name, Granularity="1Minute")
        asg.disable_metrics_collection(AutoScalingGroupName=name)
        [group] = asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        assert not group.get("EnabledMetrics")


class TestWarmPool:
    def test_instances_wait_outside_the_group_and_are_taken_first(self, cloud: Cloud, name: str) -> None:
        asg = cloud.autoscaling
        hook(cloud, name, "in", LAUNCH)
        asg.put_warm_pool(AutoScalingGroupName=name, MinSize=1, MaxGroupPreparedCapacity=1, PoolState="Stopped")
        [instance] = wait_for(cloud, name, "Warmed:Pending:Wait")
        assert members(cloud, name)[instance].metadata[TARGET] == "Warmed:Stopped"
        [group] = asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        assert group["Instances"] == []
        complete(cloud, name, "in", instance)
        wait_for(cloud, name, "Warmed:Stopped")
        [told] = asg.describe_warm_pool(AutoScalingGroupName=name)["Instances"]
        assert (told["InstanceId"], told["LifecycleState"]) == (instance, "Warmed:Stopped")
        assert members(cloud, name)[instance].ec2 == "stopped"
        asg.put_warm_pool(AutoScalingGroupName=name, MinSize=0, MaxGroupPreparedCapacity=1)
        cloud.scale(name, 1)
        assert wait_for(cloud, name, "Pending:Wait") == [instance]  # the hook fires a second time
        complete(cloud, name, "in", instance)
        wait_for(cloud, name, "InService")

    def test_scale_in_can_take_them_back_and_the_end_s_hooks_run(self, cloud: Cloud, name: str) -> None:
        asg = cloud.autoscaling
        hook(cloud, name, "out", END)
        asg.put_warm_pool(
            AutoScalingGroupName=name,
            MaxGroupPreparedCapacity=1,
            PoolState="Running",
            InstanceReusePolicy={"ReuseOnScaleIn": True},
        )
        [instance] = wait_for(cloud, name, "Warmed:Running")
        cloud.scale(name, 1)
        wait_for(cloud, name, "InService")
        cloud.scale(name, 0)
        assert wait_for(cloud, name, "Warmed:Pending:Wait") == [instance]
        complete(cloud, name, "out", instance)
        wait_for(cloud, name, "Warmed:Running")
        asg.delete_warm_pool(AutoScalingGroupName=name)
        wait_for(cloud, name, "Warmed:Terminating:Wait")
        complete(cloud, name, "out", instance)
        wait_for(cloud, name)


class TestMessages:
    def test_a_hook_tells_its_queue(self, cloud: Cloud, name: str) -> None:
        sqs = client(cloud, "sqs")
        url, arn = queue(sqs, f"{name}-hook")
        hook(cloud, name, "in", LAUNCH, NotificationTargetARN=arn, RoleARN="arn:r", NotificationMetadata="meta")
        cloud.scale(name, 1)
        test, told = messages(sqs, url, 2)
        assert test["Event"] == "autoscaling:TEST_NOTIFICATION"
        [action] = [action for action in cloud.waiting() if action["group"] == name]
        wanted = {
            "AutoScalingGroupName": name,
            "EC2InstanceId": action["instance"],
            "LifecycleActionToken": action["token"],
            "LifecycleHookName": "in",
            "LifecycleTransition": LAUNCH,
            "NotificationMetadata": "meta",
            "Origin": "EC2",
            "Destination": "AutoScalingGroup",
            "Service": "AWS Auto Scaling",
        }
        assert {key: told.get(key) for key in wanted} == wanted

    def test_a_hook_without_metadata_says_nothing_of_it(self, cloud: Cloud, name: str) -> None:
        sqs = client(cloud, "sqs")
        url, arn = queue(sqs, f"{name}-bare")
        hook(cloud, name, "in", LAUNCH, NotificationTargetARN=arn, RoleARN="arn:r")
        cloud.scale(name, 1)
        assert "NotificationMetadata" not in messages(sqs, url, 2)[1]

    def test_topics_hear_of_what_they_asked_for(self, cloud: Cloud, name: str) -> None:
        sqs, sns, asg = client(cloud, "sqs"), client(cloud, "sns"), cloud.autoscaling
        url, arn = queue(sqs, f"{name}-topic")
        topic = sns.create_topic(Name=f"{name}-topic")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        kinds = ["autoscaling:EC2_INSTANCE_LAUNCH", "autoscaling:EC2_INSTANCE_TERMINATE"]
        asg.put_notification_configuration(AutoScalingGroupName=name, TopicARN=topic, NotificationTypes=kinds)
        told = asg.describe_notification_configurations(AutoScalingGroupNames=[name])["NotificationConfigurations"]
        assert [(entry["TopicARN"], entry["NotificationType"]) for entry in told] == [(topic, kind) for kind in kinds]
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "InService")
        cloud.scale(name, 0)
        heard = [json.loads(message["Message"]) for message in messages(sqs, url, 3)]
        assert [message["Event"] for message in heard] == ["autoscaling:TEST_NOTIFICATION", *kinds]
        assert [message.get("EC2InstanceId") for message in heard] == [None, instance, instance]
        asg.delete_notification_configuration(AutoScalingGroupName=name, TopicARN=topic)
        assert not asg.describe_notification_configurations(AutoScalingGroupNames=[name])["NotificationConfigurations"]
        unknown = ["autoscaling:NONE"]
        call = asg.put_notification_configuration
        refused = refusal(lambda: call(AutoScalingGroupName=name, TopicARN=topic, NotificationTypes=unknown))
        assert refused[0] == "ValidationError"

    @pytest.mark.parametrize("through", ["sqs", "sns"])
    def test_rules_of_eventbridge_deliver_the_events(self, cloud: Cloud, name: str, through: str) -> None:
        sqs, sns, events = client(cloud, "sqs"), client(cloud, "sns"), client(cloud, "events")
        url, arn = queue(sqs, f"{name}-events")
        second, more = queue(sqs, f"{name}-second")
        target = arn
        if through == "sns":
            target = sns.create_topic(Name=f"{name}-events")["TopicArn"]
            attributes = {"RawMessageDelivery": "true"}
            sns.subscribe(TopicArn=target, Protocol="sqs", Endpoint=arn, Attributes=attributes)
        pattern = {"source": ["aws.autoscaling"], "detail": {"AutoScalingGroupName": [name]}}
        events.put_rule(Name=f"{name}-rule", EventPattern=json.dumps(pattern))
        gone = f"arn:aws:sqs:{REGION}:123456789012:nobody"
        targets = [{"Id": "0", "Arn": gone}, {"Id": "1", "Arn": target}, {"Id": "2", "Arn": more}]
        events.put_targets(Rule=f"{name}-rule", Targets=targets)
        hook(cloud, name, "in", LAUNCH)
        hook(cloud, name, "out", END)
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "Pending:Wait")
        complete(cloud, name, "in", instance)
        wait_for(cloud, name, "InService")
        cloud.scale(name, 0)
        wait_for(cloud, name, "Terminating:Wait")
        complete(cloud, name, "out", instance)
        told = messages(sqs, url, 4)
        assert [event["detail-type"] for event in told] == [
            "EC2 Instance-launch Lifecycle Action",
            "EC2 Instance Launch Successful",
            "EC2 Instance-terminate Lifecycle Action",
            "EC2 Instance Terminate Successful",
        ]
        assert {event["detail"]["EC2InstanceId"] for event in told} == {instance}
        assert {event["account"] for event in told} == {"123456789012"}
        assert told[0]["detail"]["LifecycleHookName"] == "in"
        assert told[0]["resources"][0].endswith(f"autoScalingGroupName/{name}")
        assert {event["id"] for event in messages(sqs, second, 4)} == {event["id"] for event in told}
        events.remove_targets(Rule=f"{name}-rule", Ids=["0", "1", "2"])

    def test_a_long_poll_holds_nobody_up(self, cloud: Cloud, name: str) -> None:
        import threading

        sqs = client(cloud, "sqs")
        url, _ = queue(sqs, f"{name}-poll")
        ended = threading.Event()

        def poll() -> None:
            client(cloud, "sqs").receive_message(QueueUrl=url, WaitTimeSeconds=20)
            ended.set()

        thread = threading.Thread(target=poll)
        thread.start()
        cloud.scale(name, 1)
        wait_for(cloud, name, "InService")
        assert not ended.is_set()
        sqs.send_message(QueueUrl=url, MessageBody="{}")
        thread.join(60)
        assert ended.is_set()


class TestNotices:
    def test_a_spot_notice_is_told_and_then_the_machine_ends(self, cloud: Cloud, name: str) -> None:
        sqs, events = client(cloud, "sqs"), client(cloud, "events")
        url, arn = queue(sqs, f"{name}-spot")
        kinds = ["EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation"]
        events.put_rule(Name=f"{name}-spot", EventPattern=json.dumps({"source": ["aws.ec2"], "detail-type": kinds}))
        events.put_targets(Rule=f"{name}-spot", Targets=[{"Id": "1", "Arn": arn}])
        hook(cloud, name, "out", END)
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "InService")
        cloud.announce(instance, rebalance=True)
        cloud.spot_interrupt(instance, seconds=4.0)
        told = members(cloud, name)[instance].metadata
        assert json.loads(told["meta-data/spot/instance-action"])["action"] == "terminate"
        assert told["meta-data/spot/termination-time"].endswith("Z")
        assert "noticeTime" in json.loads(told["meta-data/events/recommendations/rebalance"])
        rebalance, warning = messages(sqs, url, 2)
        assert [warning["detail-type"], rebalance["detail-type"]] == kinds
        assert warning["detail"] == {"instance-id": instance, "instance-action": "terminate"}
        wait_until(lambda: members(cloud, name)[instance].ec2 == "terminated", 60, "EC2 to take it back")
        wait_for(cloud, name, "InService", "Terminating:Wait")  # nobody waited for the hook
        events.remove_targets(Rule=f"{name}-spot", Ids=["1"])

    def test_a_notice_can_be_taken_back(self, cloud: Cloud, name: str) -> None:
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "InService")
        cloud.spot_interrupt(instance, seconds=3600)
        cloud.announce(instance, maintenance=[{"Code": "system-reboot"}])
        assert len(members(cloud, name)[instance].metadata) == 4
        cloud.announce(instance, spot=None, maintenance=None, rebalance=False)
        assert list(members(cloud, name)[instance].metadata) == [TARGET]

    def test_what_makes_no_sense_is_refused(self, cloud: Cloud, name: str) -> None:
        cloud.scale(name, 1)
        [instance] = wait_for(cloud, name, "InService")
        with pytest.raises(ValueError, match="no notice"):
            cloud.announce(instance, weather="bad")
        with pytest.raises(ValueError, match="no instance"):
            cloud.announce("i-0", rebalance=True)
        with pytest.raises(ValueError, match="nothing that EC2 does"):
            cloud.spot_interrupt(instance, action="paint")


class TestNodes:
    def test_imds_of_a_node_follows_its_lifecycle(self, lab: Lab, cloud: Cloud) -> None:
        lab.start_nodes(1)
        hook(cloud, "edge", "out", END)
        [node] = lab.nodes
        wait_until(lambda: metadata(node, TARGET) == "InService", 60, "the target state in IMDS")
        assert metadata(node, "meta-data/tags/instance/aws:autoscaling:groupName") == "edge"
        lab.terminate(node.id, decrement=True)
        wait_until(lambda: metadata(node, TARGET) == "Terminated", 60, "the end in IMDS")
        wait_for(cloud, "edge", "Terminating:Wait")
        assert [running.id for running in lab.nodes] == [node.id]
        complete(cloud, "edge", "out", node.id)
        wait_until(lambda: not lab.nodes, 60, "the node to be gone")

    def test_a_detached_node_runs_on(self, lab: Lab, cloud: Cloud) -> None:
        if "edge" not in cloud.groups():
            lab.group("edge")
        cloud.scale("edge", 1)
        wait_for(cloud, "edge", "InService")
        wait_until(lambda: len(lab.nodes) == 1, 60, "the node")
        [node] = lab.nodes
        cloud.autoscaling.detach_instances(
            AutoScalingGroupName="edge", InstanceIds=[node.id], ShouldDecrementDesiredCapacity=True
        )
        wait_for(cloud, "edge")
        wait_until(lambda: metadata(node, TARGET) == "Detached", 60, "the word in IMDS")
        tag = "meta-data/tags/instance/aws:autoscaling:groupName"
        wait_until(lambda: node.imds.lookup(tag) is None, 60, "the tag to be gone")
        assert lab.nodes == [node]
        cloud.ec2.terminate_instances(InstanceIds=[node.id])
        wait_until(lambda: not lab.nodes, 60, "the node to be gone")
