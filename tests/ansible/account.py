"""An account of the local AWS for the playbooks that make and destroy a fleet: what is in it, whose nodes it boots."""

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import ClientError

from hafleet.core.dns.checks import Author, fleet_prefix, make_reference
from hafleet.core.dns.model import CheckConfig
from hafleet.lab.cloud import REGION, Cloud
from hafleet.lab.fleet import Lab
from hafleet.lab.plan import DNS_NAME, DNS_TTL, Plan, shop_dns, shop_life
from hafleet.lab.servers import PORT
from tests.ansible.tools import ROOT, TOOLS, Played, play
from tests.resources import beside

COMMAND = str(ROOT / ".venv/bin/hafleet")
FLEET, APP, ROLE = "edge", "site-blue", f"hafleet-edge-{REGION}"
DEAD = "i-0dead0dead0dead00"  # a node that EC2 does not know any more
CHECK = {"path": "/healthz", "interval": "300ms", "rise": 1, "fall": 2}
ALARM = {
    "name": f"hafleet-{FLEET}-cpu",
    "namespace": "AWS/EC2",
    "metric_name": "CPUUtilization",
    "dimensions": {"AutoScalingGroupName": FLEET},
    "statistic": "Average",
    "comparison": "GreaterThanThreshold",
    "threshold": 80.0,
    "period": 60,
    "evaluation_periods": 5,
}
SETTINGS: dict[str, Any] = {
    "fleet": FLEET,
    "frontends": [{"name": "web", "bind": ":80", "default_backend": "site"}],
    "backends": [{"name": "site", "port": PORT, "sources": [{"asg": APP}], "check": CHECK, "drain": "2s"}],
    "dns": {**shop_dns(), "interval": "5s", "reap": {"interval": "1h"}},  # what the dead left is destroy.yml's here
    "lifecycle": {**shop_life(), "join_timeout": "10m"},
    "events": {"queue": "auto"},
}


def plan() -> Plan:
    """The settings of the nodes: those of the fleet, at their own addresses and ports."""
    extra = {key: SETTINGS[key] for key in ("fleet", "lifecycle", "events")}
    return Plan(backends=SETTINGS["backends"], default_backend="site", interval=5.0, dns=SETTINGS["dns"], extra=extra)


def lacking() -> str:
    """Why playbooks cannot be run here, or "" where they can."""
    if os.environ.get("HAFLEET_AMI") != "1":
        return "playbooks: `make test-ami` and continuous integration run them"
    return "" if (TOOLS / "ansible-playbook").exists() else "playbooks: no Ansible here; `scripts/setup ansible`"


Inventory = dict[str, list[str]]


@dataclass
class Account:
    """One account, with a zone and nothing of a fleet in it. Instances of the group edge are booted as real nodes."""

    lab: Lab
    folder: Path
    subnets: list[str]
    zone: str

    @property
    def cloud(self) -> Cloud:
        """Its AWS."""
        return self.lab.cloud

    def client(self, service: str) -> Any:
        """A client of boto3."""
        return boto3.Session("lab", "lab", region_name=REGION).client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.cloud.url,
        )

    def play(self, book: str, *options: str, **over: object) -> "Run":
        """Run a playbook of ours about the fleet edge; ``over`` are variables of this run alone."""
        return self.run(book, *options, variables={**self.variables, **over})

    @property
    def variables(self) -> dict[str, object]:
        """What a user's file of variables holds."""
        return {
            "hafleet_fleet_settings": SETTINGS,
            "hafleet_fleet_command": COMMAND,
            "hafleet_fleet_region": REGION,
            "hafleet_fleet_subnets": self.subnets,
            "hafleet_fleet_ami": "ami-12345678",
            "hafleet_fleet_key_name": "ops",
            "hafleet_fleet_ingress": [{"ports": ["80"], "cidr_ip": ["0.0.0.0/0"]}],
            "hafleet_fleet_alarms": [ALARM],
        }

    def run(self, book: str, *options: str, variables: dict[str, object]) -> "Run":
        """Run a playbook of ours with these variables; what ``options`` give goes first."""
        told = self.folder / "vars.yml"
        told.write_text(yaml.safe_dump(variables))
        done = play(book, self.folder, "--extra-vars", f"@{told}", *options, **self.cloud.environment)
        return Run(done.code, done.said)

    def leave_behind(self, fleet: str, node: str) -> None:
        """A record, a health check and a queue, as a node of this fleet leaves them when it dies."""
        config = CheckConfig("TCP", address="127.2.0.9", port=8403)
        route53, address = self.client("route53"), {"Value": f"127.2.0.{len(fleet)}"}
        made = route53.create_health_check(
            CallerReference=make_reference(Author(fleet, node, REGION), "A/endpoint", config, "00000000"),
            HealthCheckConfig={"Type": "TCP", "IPAddress": "127.2.0.9", "Port": 8403},
        )
        record = {"Name": DNS_NAME, "Type": "A", "SetIdentifier": node, "Weight": 100, "TTL": DNS_TTL}
        record |= {"ResourceRecords": [address], "HealthCheckId": made["HealthCheck"]["Id"]}
        changes = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
        route53.change_resource_record_sets(HostedZoneId=self.zone, ChangeBatch=changes)
        self.client("sqs").create_queue(QueueName=f"hafleet-{fleet}-{node}")

    def add_neighbour(self, fleet: str) -> None:
        """Another fleet, whose name begins alike: something of each kind that a fleet has."""
        ec2, sns, bridge = self.client("ec2"), self.client("sns"), self.client("events")
        topic = sns.create_topic(Name=f"hafleet-{fleet}")["TopicArn"]
        self.client("sqs").create_queue(QueueName=f"hafleet-{fleet}-dead")
        bridge.put_rule(Name=f"hafleet-{fleet}-pulse", ScheduleExpression="rate(1 day)")
        bridge.put_targets(Rule=f"hafleet-{fleet}-pulse", Targets=[{"Id": "topic", "Arn": topic}])
        vpc = ec2.describe_subnets(SubnetIds=self.subnets)["Subnets"][0]["VpcId"]
        ec2.create_security_group(GroupName=fleet, Description=fleet, VpcId=vpc)
        ec2.create_launch_template(LaunchTemplateName=fleet, LaunchTemplateData={"ImageId": "ami-12345678"})
        self.client("iam").create_role(RoleName=f"hafleet-{fleet}-{REGION}", AssumeRolePolicyDocument="{}")
        self.cloud.create_group(fleet, 1, {})
        self.leave_behind(fleet, "i-0beef0beef0beef00")

    def inventory(self) -> Inventory:
        """Everything in the account, by kind, each thing as a text that tells all of it."""
        return {
            kind: sorted(json.dumps(each, default=str, sort_keys=True) for each in list_) for kind, list_ in self._all()
        }

    def _all(self) -> Iterator[tuple[str, list[Any]]]:
        ec2, iam, asg = self.client("ec2"), self.client("iam"), self.client("autoscaling")
        sns, sqs, bridge, route53 = (self.client(name) for name in ("sns", "sqs", "events", "route53"))
        yield "groups", [_bare(g) for g in asg.describe_auto_scaling_groups()["AutoScalingGroups"]]
        yield "templates", ec2.describe_launch_templates()["LaunchTemplates"]
        yield "security groups", ec2.describe_security_groups()["SecurityGroups"]
        reservations = ec2.describe_instances()["Reservations"]
        machines = [i for each in reservations for i in each["Instances"] if i["State"]["Name"] != "terminated"]
        tags = [{tag["Key"]: tag["Value"] for tag in machine["Tags"]} for machine in machines]
        yield "instances", [each["aws:autoscaling:groupName"] for each in tags]
        yield "roles", iam.list_roles()["Roles"]
        yield "profiles", iam.list_instance_profiles()["InstanceProfiles"]
        yield "policies", iam.list_policies(Scope="Local")["Policies"]
        yield "topics", sns.list_topics()["Topics"]
        yield "subscriptions", sns.list_subscriptions()["Subscriptions"]
        yield "queues", sqs.list_queues().get("QueueUrls", [])
        rules = bridge.list_rules()["Rules"]
        yield "rules", [(rule, bridge.list_targets_by_rule(Rule=rule["Name"])["Targets"]) for rule in rules]
        yield "zones", route53.list_hosted_zones()["HostedZones"]
        yield "records", route53.list_resource_record_sets(HostedZoneId=self.zone)["ResourceRecordSets"]
        yield "checks", route53.list_health_checks()["HealthChecks"]
        yield "alarms", self.client("cloudwatch").describe_alarms()["MetricAlarms"]

    def subscribed(self) -> set[str]:
        """The names of the queues that hang on the fleet's topic."""
        topic = f"arn:aws:sns:{REGION}:123456789012:hafleet-{FLEET}"
        found = self.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        return {item["Endpoint"].rpartition(":")[2] for item in found}

    def completed(self) -> int:
        """How many lifecycle actions nodes have completed."""
        return self.cloud.calls().get("autoscaling.CompleteLifecycleAction", 0)

    def checks(self, fleet: str) -> int:
        """How many health checks a fleet has."""
        found = self.client("route53").list_health_checks()["HealthChecks"]
        return sum(check["CallerReference"].startswith(fleet_prefix(fleet)) for check in found)

    @contextmanager
    def nodes_have_their_role(self) -> Iterator[None]:
        """As soon as the role has its policy, the nodes may do what it says and nothing else, as in AWS."""
        ended, iam = threading.Event(), self.client("iam")

        def follow() -> None:
            while not ended.wait(0.5):
                try:
                    policy = iam.get_role_policy(RoleName=ROLE, PolicyName="hafleet")["PolicyDocument"]
                except ClientError:
                    continue  # not yet
                self.cloud.enforce(policy)
                return

        with beside(follow, ended.set):
            yield


class Run(Played):
    """A playbook's run on this machine alone."""

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks were ok, changed, failed."""
        return self.hosts["localhost"]

    @property
    def plus(self) -> list[str]:
        """What its differences add, line by line."""
        found = re.findall(r"^\+(?!\+\+)(.*)$", self.said, re.MULTILINE)
        return [line.strip().rstrip(",") for line in found]

    @property
    def changed(self) -> list[str]:
        """The tasks that changed something, by name, in order."""
        tasks = re.split(r"^TASK \[(?:\w+ : )?(.+?)\] \*+$", self.said, flags=re.MULTILINE)
        return [
            name
            for name, text in zip(tasks[1::2], tasks[2::2], strict=True)
            if re.search("^changed:", text, re.MULTILINE)
        ]


def _bare(group: dict[str, Any]) -> dict[str, Any]:
    """A group without what its instances go through by themselves."""
    kept = {key: value for key, value in group.items() if key != "Instances"}
    return kept | {"Instances": len(group["Instances"])}
