"""What comes to a node from outside before anything is decided: EC2's announcements, and the first peer. Part of the model."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that EC2 announces for this instance."""

    action: str  # terminate, stop, hibernate; the code of a maintenance event
    at: float  # wall clock at which it happens


@dataclass(frozen=True, slots=True)
class Notices:
    """What IMDS tells of this node's future. Costs no AWS quota."""

    target: str = ""  # autoscaling/target-lifecycle-state: the state the instance is going to; "" when never set
    spot: Notice | None = None  # spot/instance-action
    rebalance: float = 0.0  # wall clock of events/recommendations/rebalance; 0 when there is none
    maintenance: tuple[Notice, ...] = ()  # events/maintenance/scheduled, active ones


QUIET = Notices()


@dataclass(frozen=True, slots=True)
class Door:
    """The peers address of a node whose HAProxy was not started yet: who comes there lists this node."""

    waited: float  # seconds since it was opened
    heard: float | None = None  # seconds since a peer came; None while none did
    problem: str = ""  # why nobody can be heard there
