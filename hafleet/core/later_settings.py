"""The sections of hafleet.yaml about the node's own life: lifecycle and events; and signals, which is not acted on yet."""

from typing import Literal

from pydantic import Field

from hafleet.core.texts import HookName, Queue, TagText
from hafleet.core.values import Duration, Flag, Model, Percent, Span


class Signals(Model):
    """Thresholds of the node's own signals."""

    cpu: Percent | None = None
    """CPU use of the node."""
    errors_5xx: Percent | None = None
    """Share of responses with status 5xx."""
    connect_errors: Percent | None = None
    """Share of failed connections to servers."""
    p99: Span | None = None
    """99th percentile of the response time."""


class LifecycleDrain(Model):
    """How long a leaving node waits."""

    quiet: Duration = 10.0
    """No connection for this long means drained."""
    max: Duration = 900.0
    """It leaves after this in any case."""


class Lifecycle(Model):
    """This node's own joining and leaving."""

    hooks: tuple[HookName, ...] | None = Field(default=None, min_length=1)
    """Lifecycle hooks of this node's group that it completes. Unset: every one; those of others are left to them."""
    join_timeout: Span = 900.0
    """A node that is not ready after this gives up its launch."""
    abandon_tag: Flag = False
    """Write the reason of an abandoned launch to the instance's tag hafleet:abandoned."""
    peers_timeout: Duration = 45.0
    """A node that joins waits so long for a peer to reach it before HAProxy first starts, so that it learns the stick tables."""
    rebalance: Literal["ignore", "drain"] = "ignore"
    """What a rebalance recommendation of EC2 means for a spot instance."""
    unhealthy_after: Duration = 0.0
    """A node whose HAProxy cannot serve for this long asks to be replaced. 0: never."""
    drain: LifecycleDrain = LifecycleDrain()
    """How long a leaving node waits."""


class Events(Model):
    """Faster wake-ups by SQS."""

    queue: Queue = "none"
    """auto, none or a queue's URL."""
    interval: Span = 60.0
    """Time between two reads of the groups while events are proven to come; else every pass reads."""


class Eip(Model):
    """Elastic IP addresses for the nodes."""

    pool_tag: dict[TagText, TagText] = Field(min_length=1)
    """Tag and value; every Elastic IP that carries it is of the pool. Of several, an address carries all."""
