"""How far AWS regions are from each other: great circles between their cities, for want of Route 53's latency tables."""

import math
from collections.abc import Iterable

from hafleet.core.dns.model import Record

# region -> latitude and longitude, in degrees
REGIONS: dict[str, tuple[float, float]] = {
    "af-south-1": (-33.9, 18.4),
    "ap-east-1": (22.3, 114.2),
    "ap-northeast-1": (35.7, 139.7),
    "ap-northeast-2": (37.6, 127.0),
    "ap-northeast-3": (34.7, 135.5),
    "ap-south-1": (19.1, 72.9),
    "ap-south-2": (17.4, 78.5),
    "ap-southeast-1": (1.4, 103.8),
    "ap-southeast-2": (-33.9, 151.2),
    "ap-southeast-3": (-6.2, 106.8),
    "ap-southeast-4": (-37.8, 145.0),
    "ca-central-1": (45.5, -73.6),
    "ca-west-1": (51.0, -114.1),
    "eu-central-1": (50.1, 8.7),
    "eu-central-2": (47.4, 8.5),
    "eu-north-1": (59.3, 18.1),
    "eu-south-1": (45.5, 9.2),
    "eu-south-2": (41.6, -0.9),
    "eu-west-1": (53.3, -6.3),
    "eu-west-2": (51.5, -0.1),
    "eu-west-3": (48.9, 2.3),
    "il-central-1": (32.1, 34.8),
    "me-central-1": (25.2, 55.3),
    "me-south-1": (26.1, 50.6),
    "sa-east-1": (-23.5, -46.6),
    "us-east-1": (38.9, -77.4),
    "us-east-2": (40.0, -83.0),
    "us-west-1": (37.4, -121.9),
    "us-west-2": (45.9, -119.7),
}
# Where Route 53's checkers stand (FACTS: all eight unless the check names some).
CHECKER_REGIONS = (
    "us-east-1",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "sa-east-1",
)


def by_distance(region: str, records: Iterable[Record]) -> list[Record]:
    """Latency records, the nearest region first; the client's own before all, regions off the map last and by name."""
    return sorted(records, key=lambda record: (_distance(region, record.region), record.region))


def _distance(one: str, other: str) -> float:
    """The angle between two regions, in radians; infinite when one of them is not on the map."""
    if one == other:
        return 0.0
    if one not in REGIONS or other not in REGIONS:
        return math.inf
    (lat, lon), (lat2, lon2) = ([math.radians(x) for x in REGIONS[region]] for region in (one, other))
    cosine = math.sin(lat) * math.sin(lat2) + math.cos(lat) * math.cos(lat2) * math.cos(lon - lon2)
    return math.acos(max(-1.0, min(1.0, cosine)))
