"""The lab's side of the local AWS: the process, the API clients, and the control paths."""

import http.client
import json
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore.config import Config

from hafleet.lab.network import Network
from hafleet.lab.processes import Processes, wait_until

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_route53 import Route53Client

REGION: Literal["eu-west-1"] = "eu-west-1"
NODES = "node"  # access key of the agents, so that a fault can hit them alone
ZONES = (f"{REGION}a", f"{REGION}b")
PORT = 5600
DNS_PORT = 5300  # at 127.N.255.254; at 127.0.0.1 it is 5300 + N: dig @127.0.0.1 -p 5316 lb.example.test
HOOK_TIMEOUT = 60  # seconds between two heartbeats at most
Transition = Literal["LAUNCHING", "TERMINATING"]
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "lab",
    "AWS_SECRET_ACCESS_KEY": "lab",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
}


@dataclass(frozen=True, slots=True)
class Machine:
    """One EC2 instance as the control path shows it."""

    id: str
    group: str
    lifecycle: str
    ec2: str
    address: str
    zone: str
    tags: dict[str, str]
    metadata: dict[str, str] = field(default_factory=dict)  # path under /latest/ -> text: what IMDS says of its future

    @property
    def in_service(self) -> bool:
        """True when its group counts it as serving."""
        return self.lifecycle == "InService"

    @property
    def told(self) -> dict[str, str]:
        """What IMDS says of it that can change: its notices and its tags."""
        return {**self.metadata, **{f"meta-data/tags/instance/{key}": text for key, text in self.tags.items()}}


class Cloud:
    """A local AWS in a process of its own, with a VPC over two zones of loopback addresses."""

    def __init__(self, network: Network, processes: Processes, log: Path) -> None:
        self.url = f"http://{network.home}:{PORT}"
        self._host = network.home
        self.dns = f"{network.home}:{DNS_PORT}"  # Route 53's name server, UDP and TCP
        where = ["--host", network.home, "--port", str(PORT), "--region", REGION, "--with-parent"]
        self.dns_near = DNS_PORT + network.number  # the same on 127.0.0.1, for people
        where += ["--dns-port", str(DNS_PORT), "--dns-near", str(self.dns_near)]
        self.process = processes.start([sys.executable, "-m", "hafleet.lab.aws", *where], log=log)
        wait_until(self._answers, 60, f"the local AWS on {self.url}; its log is {log}")
        session = boto3.Session("lab", "lab", region_name=REGION)
        once = Config(retries={"mode": "standard", "total_max_attempts": 1})  # a fault shows at once
        self.ec2: EC2Client = session.client("ec2", endpoint_url=self.url, config=once)
        self.autoscaling: AutoScalingClient = session.client("autoscaling", endpoint_url=self.url, config=once)
        self.route53: Route53Client = session.client("route53", endpoint_url=self.url, config=once)
        self._vpc = vpc = self.ec2.create_vpc(CidrBlock=network.cidr)["Vpc"]["VpcId"]
        subnets = [
            self.ec2.create_subnet(VpcId=vpc, CidrBlock=network.subnet(number), AvailabilityZone=zone)
            for number, zone in enumerate(ZONES)
        ]
        self._subnets = [answer["Subnet"]["SubnetId"] for answer in subnets]
        self.ec2.create_launch_template(
            LaunchTemplateName="lab", LaunchTemplateData={"ImageId": "ami-12345678", "InstanceType": "t3.micro"}
        )

    @property
    def environment(self) -> dict[str, str]:
        """What points any AWS tool here."""
        return {"AWS_ENDPOINT_URL": self.url, **CREDENTIALS}

    def create_group(self, name: str, desired: int, tags: dict[str, str], most: int = 100) -> None:
        """A group over both zones."""
        self.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=most,
            DesiredCapacity=desired,
            LaunchTemplate={"LaunchTemplateName": "lab"},
            VPCZoneIdentifier=",".join(self._subnets),
            Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in tags.items()],
        )

    def add_hook(self, group: str, name: str, transition: Transition, result: str) -> None:
        """A lifecycle hook of a group; ``result`` (CONTINUE, ABANDON) is what it comes to when nobody completes it in time."""
        self.autoscaling.put_lifecycle_hook(
            AutoScalingGroupName=group,
            LifecycleHookName=name,
            LifecycleTransition=f"autoscaling:EC2_INSTANCE_{transition}",
            HeartbeatTimeout=HOOK_TIMEOUT,
            DefaultResult=result,
        )

    def create_zone(self, name: str, private: bool = False) -> str:
        """A hosted zone of Route 53, public or of the lab's VPC; returns its id."""
        reference = f"{name} {uuid.uuid4()}"
        if not private:
            answer = self.route53.create_hosted_zone(Name=name, CallerReference=reference)
        else:
            answer = self.route53.create_hosted_zone(
                Name=name,
                CallerReference=reference,
                VPC={"VPCRegion": REGION, "VPCId": self._vpc},
                HostedZoneConfig={"PrivateZone": True},
            )
        return answer["HostedZone"]["Id"].rpartition("/")[2]

    def scale(self, name: str, desired: int) -> None:
        """Set the DesiredCapacity of a group."""
        self.autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=desired)

    def groups(self) -> frozenset[str]:
        """The names of all groups."""
        pages = self.autoscaling.get_paginator("describe_auto_scaling_groups").paginate()
        return frozenset(group["AutoScalingGroupName"] for page in pages for group in page["AutoScalingGroups"])

    def machines(self) -> tuple[Machine, ...]:
        """Every instance that is not gone for good."""
        return tuple(Machine(**item) for item in self.control("GET", "instances"))

    def spot_interrupt(self, instance: str, seconds: float = 120.0, action: str = "terminate") -> None:
        """EC2 takes a spot instance back after this time: IMDS and EventBridge say so now."""
        self.control("POST", "notices", {"instance": instance, "spot": {"action": action, "seconds": seconds}})

    def announce(self, instance: str, **notices: Any) -> None:
        """Other notices of IMDS: ``rebalance=True``, ``maintenance=[...]``; None takes one back."""
        self.control("POST", "notices", {"instance": instance, **notices})

    def waiting(self) -> list[dict[str, Any]]:
        """Every lifecycle action that an instance waits for: group, instance, hook, token, heartbeats, left (seconds)."""
        return list(self.control("GET", "hooks"))

    def control(self, method: str, path: str, data: Any = None) -> Any:
        """One call of the control paths.

        Raises:
            OSError: the local AWS does not answer.
            ValueError: it refused the request; the message is its own.
        """
        connection = http.client.HTTPConnection(self._host, PORT, timeout=30)
        try:
            connection.request(method, f"/_lab/{path}", None if data is None else json.dumps(data))
            answer = connection.getresponse()
            found = json.load(answer)
        except http.client.HTTPException as error:
            raise OSError(f"{self.url}: {error}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError(found["error"])
        return found

    def fault(self, kind: str, **what: Any) -> int:
        """Put a fault in force (see aws_faults); returns its id."""
        return int(self.control("POST", "faults", {"kind": kind, **what})["id"])

    def enforce(self, policy: dict[str, Any] | None, caller: str = NODES) -> None:
        """From now on IAM allows this caller (an access key) what the policy says and nothing else; None: everything.

        Raises:
            ValueError: the policy is not one.
        """
        self.control("POST", "policies", {"caller": caller, "policy": policy})

    def refused(self) -> list[dict[str, str]]:
        """What IAM has refused since the last change of a policy: caller, action, resource."""
        return list(self.control("GET", "policies")["refused"])

    def heal(self, fault: int | None = None) -> None:
        """End one fault, or all."""
        self.control("DELETE", "faults" if fault is None else f"faults?id={fault}")

    def calls(self) -> dict[str, int]:
        """Calls so far, by service.Operation."""
        return dict(self.control("GET", "calls")["calls"])

    def faulted(self) -> int:
        """Calls so far that a fault has hit."""
        return int(sum(self.control("GET", "calls")["faulted"].values()))

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the local AWS ended with {self.process.returncode}")
        try:
            self.control("GET", "health")
        except OSError:
            return False
        return True
