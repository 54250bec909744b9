"""The sections of hafleet.yaml that are read and checked, but not acted on yet: signals, lifecycle and events."""

from hafleet.core.texts import Queue
from hafleet.core.values import Duration, Model, Percent, Span


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

    join_timeout: Span = 900.0
    """A node that is not ready after this gives up its launch."""
    drain: LifecycleDrain = LifecycleDrain()
    """How long a leaving node waits."""


class Events(Model):
    """Faster wake-ups by SQS."""

    queue: Queue = "none"
    """auto, none or a queue's URL."""
