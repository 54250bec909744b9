"""EC2's own word on single instances."""

from hafleet.adapters import aws
from hafleet.adapters.asg import listings
from hafleet.core.sources import INSTANCE_ID
from hafleet.errors import SourceUnavailable


class Ec2Instances:
    """Implements ``ports.Instances``."""

    def __init__(self, account: aws.Account) -> None:
        self._account = account

    def states(self, ids: frozenset[str]) -> dict[str, str]:
        """See ``ports.Instances.states``. An id that is none of EC2's is an error: that EC2 does not know it proves nothing."""
        odd = sorted(key for key in ids if not INSTANCE_ID.fullmatch(key))
        if odd:
            what = f"{odd[0][:40]!r} is no instance of EC2"
            raise SourceUnavailable(what, where=listings.DESCRIBE_INSTANCES, fix="remove its record by hand")
        if not ids:  # without one the question would be for the whole region
            return {}
        clients = listings.Clients(*self._account.scaling())
        items, unheard = listings.instances(clients, sorted(ids))
        states = {key: str((item.get("State") or {}).get("Name") or "") for key, item in items.items()}
        lost = ids - unheard - {key for key, state in states.items() if state}
        if lost:
            what = f"nothing is told of instance {min(lost)}"
            raise listings.partial(listings.DESCRIBE_INSTANCES, clients.region, what)
        return states
