"""Rules about the alias records above the leaf groups. They are the same on every node, so they name no node."""

import re
from collections.abc import Iterator

from hafleet.core.checks.finding import Finding, Path
from hafleet.core.dns.layout import has_tree, parse_place, tree_aliases
from hafleet.core.dns_settings import Dns, DnsBranch
from hafleet.core.settings import Settings

_KINDS = ("latency", "failover", "geolocation")
_LONGEST_NAME = 253  # characters of a DNS name
_MOST = 100  # record sets of one name and type that Route 53 takes
_SHARD = "shard-00."  # what stands before a group's name when it has shards

_TREE: Path = ("dns", "tree")
_GROUP: Path = ("dns", "group")


def branches(settings: Settings) -> Iterator[Finding]:
    """Every branch is of one kind and has somewhere to lead to."""
    if settings.dns is None:
        return
    for path, branch in _branches(_TREE, settings.dns.tree):
        label = ".".join(map(str, path))
        chosen = [kind for kind in _KINDS if getattr(branch, kind) is not None]
        if len(chosen) > 1:
            what = f"{label} has {' and '.join(chosen)}"
            yield Finding(path, what, f"write at most one of {', '.join(_KINDS)}", also=(path,))
        if not chosen and path != _TREE:
            yield Finding(path, f"{label} leads nowhere", f"write one of {', '.join(_KINDS)}", also=(path,))
        for kind in ("latency", "geolocation"):
            targets = getattr(branch, kind)
            if targets is not None and not targets:
                yield Finding((*path, kind), f"{label}.{kind} is empty", "write `KEY: GROUP` lines below it")
            if targets is not None and len(targets) > _MOST:
                what = f"{label}.{kind} leads to {len(targets)} targets"
                yield Finding((*path, kind), what, f"Route 53 takes {_MOST} at one name; nest some of them")


def places(settings: Settings) -> Iterator[Finding]:
    """Clients of every place are answered, and the places are ones that Route 53 knows."""
    if settings.dns is None:
        return
    for path, branch in _branches(_TREE, settings.dns.tree):
        here = (*path, "geolocation")
        if branch.geolocation and "*" not in branch.geolocation:
            what = "clients of any other place would get no answer"
            yield Finding(here, what, 'add "*": GROUP to the geolocation', also=(here,))
        for text in branch.geolocation or {}:
            place = parse_place(text)
            if place.subdivision and place.country not in ("US", "UA"):  # botocore's model, GeoLocation; UA is newer
                what = f"Route 53 knows no parts of {place.country}"
                yield Finding((*here, text), what, f"write {place.country}, or a state such as US-CA")


def chains(settings: Settings) -> Iterator[Finding]:
    """A failover chain tries each of its groups once."""
    if settings.dns is None:
        return
    for path, branch in _branches(_TREE, settings.dns.tree):
        seen: set[str] = set()
        for index, target in enumerate(branch.failover or ()):
            if isinstance(target, str) and target in seen:
                what = f"the group {target!r} stands in this failover chain already"
                yield Finding((*path, "failover", index), what, "remove it", also=((*path, "failover"),))
            seen |= {target} if isinstance(target, str) else set()


def groups(settings: Settings) -> Iterator[Finding]:
    """A tree leads to groups, and this node is in one of them."""
    dns = settings.dns
    if dns is None:
        return
    if dns.group is not None and not has_tree(dns):
        what = f"dns.group {dns.group!r} is a leaf group, but nothing in dns.tree leads to it"
        fix = "add latency, geolocation or failover, or remove group: the records then stand at dns.name"
        yield Finding(_GROUP, what, fix, also=(_TREE,))
    if dns.group is None and has_tree(dns):
        what = "dns.tree leads to leaf groups, but the node is in none"
        yield Finding(_TREE, what, "add dns.group; {region} and {zone} stand for the node's", also=(_TREE, _GROUP))
    named = dict(_groups(_TREE, dns.tree))
    for path, group in named.items():
        if "{" in group:
            what = f"the group {group!r} in dns.tree would differ from node to node"
            yield Finding(path, what, "write each group's name out; placeholders belong into dns.group")
    if dns.group is not None and named and not any(_may_be(settings, dns.group, each) for each in named.values()):
        known = ", ".join(sorted(set(named.values())))
        what = f"no group of dns.tree is dns.group {dns.group!r}"
        yield Finding(_GROUP, what, f"groups there: {known}", also=(_TREE, ("node", "static")))


def names(settings: Settings) -> Iterator[Finding]:
    """All names that the tree and the shards make are names that DNS can hold."""
    dns = settings.dns
    if dns is None:
        return
    here: Path = ("dns", "name")
    if dns.name.startswith("*") and (has_tree(dns) or dns.tree.shards > 1):
        what = "alias records need names below dns.name, and below a star there are none"
        yield Finding(here, what, "write a name without a star, or remove dns.tree", also=(_TREE,))
    longest = max(map(len, _names(dns))) + (len(_SHARD) if dns.tree.shards > 1 else 0)
    if longest > _LONGEST_NAME:
        what = f"dns.tree makes names of {longest} characters below {dns.name!r}"
        yield Finding(here, what, f"DNS allows {_LONGEST_NAME}; shorten it, or the groups, or nest less", also=(_TREE,))


def _names(dns: Dns) -> Iterator[str]:
    """The names of all records but those of shards."""
    yield dns.name
    for record in tree_aliases(dns, ""):
        yield record.name
        yield record.alias.target if record.alias else ""


def _may_be(settings: Settings, group: str, named: str) -> bool:
    """True when this node's ``dns.group`` can be that group: certain where the node is described by hand."""
    static = settings.node.static
    if static is not None:
        return group.replace("{region}", static.region).replace("{zone}", static.zone) == named
    pattern = re.escape(group).replace(r"\{region\}", "[a-z0-9-]+").replace(r"\{zone\}", "[a-z0-9-]+")
    return re.fullmatch(pattern, named) is not None


def _targets(path: Path, branch: DnsBranch) -> Iterator[tuple[Path, "str | DnsBranch"]]:
    """What a branch leads to, each with its path in the settings."""
    for kind, targets in (("latency", branch.latency), ("geolocation", branch.geolocation)):
        for key, target in (targets or {}).items():
            yield (*path, kind, key), target
    for index, target in enumerate(branch.failover or ()):
        yield (*path, "failover", index), target


def _branches(path: Path, branch: DnsBranch) -> Iterator[tuple[Path, DnsBranch]]:
    """A branch and all below it."""
    yield path, branch
    for here, target in _targets(path, branch):
        if isinstance(target, DnsBranch):
            yield from _branches(here, target)


def _groups(path: Path, branch: DnsBranch) -> Iterator[tuple[Path, str]]:
    """Every group that the branch leads to, at any depth."""
    for here, target in _targets(path, branch):
        if isinstance(target, str):
            yield here, target
        else:
            yield from _groups(here, target)


RULES = (branches, places, chains, groups, names)
