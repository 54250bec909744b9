"""Where the fleet's nodes may stand, for one who is no node of it: whoever reaps by hand, or the Lambda."""

from hafleet.core.dns.layout import has_tree, tree_aliases
from hafleet.core.dns_settings import Dns

_HOLE = "{zone}"


def zones(dns: Dns, region: str) -> tuple[str, ...]:
    """The zones of a region whose nodes have a leaf group in the tree; none where the group is not named after the zone."""
    name = (dns.group or "").replace("{region}", region)
    if not has_tree(dns) or _HOLE not in name:
        return ()
    begin, end = name.split(_HOLE)[0], name.rsplit(_HOLE, maxsplit=1)[-1]
    found = {label.removeprefix(begin).removesuffix(end) for label in _groups(dns)}
    return tuple(sorted(z for z in found if z.startswith(region) and name.replace(_HOLE, z) in _groups(dns)))


def _groups(dns: Dns) -> frozenset[str]:
    """The leaf groups that the tree leads to: what has one label below the root."""
    targets = (alias.alias.target for alias in tree_aliases(dns, "") if alias.alias)
    labels = frozenset(target.removesuffix(f".{dns.name}") for target in targets)
    return frozenset(label for label in labels if "." not in label)
