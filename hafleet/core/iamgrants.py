"""What hafleet calls of AWS, and for what: the one table from a call to the statement of the policy that allows it. Pure.

Which resources and conditions an action knows is of AWS's Service Authorization Reference; ``iampolicy`` writes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """What one statement allows, and what it is for."""

    actions: tuple[str, ...]
    purpose: str
    without: str  # what is lost when the statement is missing


GRANTS: Mapping[str, Grant] = {
    "Membership": Grant(
        ("autoscaling:DescribeAutoScalingGroups", "ec2:DescribeInstances"),
        "who serves, who the peers are, and whether a node is dead",
        "HAProxy keeps the servers it has; nothing of dead nodes is reaped",
    ),
    "OwnGroup": Grant(
        ("autoscaling:DescribeAutoScalingInstances",),
        "the node's own group, where IMDS does not show the instance's tags",
        "such a node knows neither peers nor hooks",
    ),
    "ZoneByName": Grant(("route53:ListHostedZonesByName",), "the id of dns.zone", "the node does not register"),
    "ZoneById": Grant(("route53:GetHostedZone",), "whether dns.zone_id holds dns.name", "the node does not register"),
    "RecordList": Grant(
        ("route53:ListResourceRecordSets",), "the records at and below dns.name", "the node does not register"
    ),
    "Records": Grant(
        ("route53:ChangeResourceRecordSets",),
        "the node's own record, the aliases above it, and the records of dead nodes",
        "records stay as they are",
    ),
    "Changes": Grant(
        ("route53:GetChange",),
        "whether a change is in force everywhere (INSYNC)",
        "no launch hook is completed, and no health check goes",
    ),
    "HealthCheckList": Grant(
        ("route53:ListHealthChecks",), "the fleet's health checks", "the node does not register, and nothing is reaped"
    ),
    "NewHealthCheck": Grant(
        ("route53:CreateHealthCheck",), "the node's own health check", "a new node does not register"
    ),
    "HealthChecks": Grant(
        ("route53:DeleteHealthCheck", "route53:GetHealthCheck"),
        "reading the own health check, deleting it or a dead node's",
        "health checks are left behind",
    ),
    "HookList": Grant(
        ("autoscaling:DescribeLifecycleHooks",),
        "the hooks of the node's group; for doctor, those of servers' groups",
        "every hook of the node runs into its timeout",
    ),
    "Hooks": Grant(
        ("autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"),
        "CONTINUE, ABANDON and heartbeats of the node itself",
        "every hook runs into its timeout",
    ),
    "DrainedTag": Grant(
        ("ec2:CreateTags",),
        "what this node has drained, in a tag of its own instance (terminate_hook)",
        "servers' hooks run into their timeouts",
    ),
    "DrainedTagList": Grant(
        ("ec2:DescribeTags",), "what the other nodes have drained", "servers' hooks run into their timeouts"
    ),
    "ServerHooks": Grant(
        ("autoscaling:CompleteLifecycleAction",),
        "the servers' own terminate hook (terminate_hook), once all nodes have drained one",
        "it runs into its timeout",
    ),
    "TaggedServerHooks": Grant(
        ("autoscaling:CompleteLifecycleAction",),
        "the same for groups that are found by tag",
        "it runs into its timeout",
    ),
    "Replacement": Grant(
        ("autoscaling:SetInstanceHealth",),
        "asking for another node after lifecycle.unhealthy_after",
        "a node whose HAProxy cannot serve stays",
    ),
    "AbandonedTag": Grant(
        ("ec2:CreateTags",), "why a launch was given up (lifecycle.abandon_tag)", "the reason is in the log only"
    ),
    "AddressList": Grant(("ec2:DescribeAddresses",), "the pool of Elastic IPs", "the node does not register"),
    "Addresses": Grant(
        ("ec2:AssociateAddress", "ec2:DisassociateAddress"),
        "taking an address of the pool, and giving it back",
        "the node does not register",
    ),
    "AddressInstance": Grant(("ec2:AssociateAddress",), "the instance that takes it", "the node does not register"),
    "AddressInterface": Grant(
        ("ec2:AssociateAddress", "ec2:DisassociateAddress"),
        "the network interface that has it",
        "the node does not register",
    ),
    "Queue": Grant(
        (
            "sqs:CreateQueue",
            "sqs:DeleteMessage",
            "sqs:DeleteQueue",
            "sqs:GetQueueAttributes",
            "sqs:GetQueueUrl",
            "sqs:ReceiveMessage",
            "sqs:SetQueueAttributes",
            "sqs:TagQueue",
        ),
        "the node's own event queue, and those of dead nodes",
        "changes are found by the timer",
    ),
    "GivenQueue": Grant(
        ("sqs:DeleteMessage", "sqs:ReceiveMessage"), "the event queue of events.queue", "changes are found by the timer"
    ),
    "QueueList": Grant(("sqs:ListQueues",), "the queues of dead nodes", "they stay"),
    "Subscribing": Grant(
        ("sns:Subscribe",), "the own queue's subscription to the fleet's topic", "changes are found by the timer"
    ),
    "SubscriptionList": Grant(
        ("sns:ListSubscriptionsByTopic",), "the subscription of a queue that goes", "queues stay behind"
    ),
    "Unsubscribing": Grant(("sns:Unsubscribe",), "taking it away before its queue", "queues stay behind"),
    "Orders": Grant(
        ("autoscaling:CreateOrUpdateTags", "autoscaling:DeleteTags"),
        "`hafleet server` and `hafleet zone`, typed on a node",
        "these commands are refused; the agents obey as before",
    ),
}

RENAMED: Mapping[str, tuple[str, ...]] = {  # calls that are not allowed by an action of the same name
    "sqs:CreateQueue": ("sqs:CreateQueue", "sqs:TagQueue"),  # it tags the queue
    "sqs:DeleteMessageBatch": ("sqs:DeleteMessage",),
}

REAPER = frozenset(  # what the Lambda that reaps for a fleet without nodes needs of them
    {"Membership", "ZoneByName", "ZoneById", "RecordList", "Records", "Changes", "HealthCheckList", "HealthChecks"}
)


def needed(service: str, operation: str) -> tuple[str, ...]:
    """The IAM actions that one call of AWS's API needs."""
    call = f"{service}:{operation}"
    return RENAMED.get(call, (call,))
