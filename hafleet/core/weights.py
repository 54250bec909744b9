"""Server weights from the shares of the sources.

Fewer than two sources with a weight: every server counts the same (100), or by its capacity where the backend asks for that.
From two on, a source's weight is its share of the backend's traffic whatever the number of its servers, as in a load
balancer's weighted target groups: each server gets ``share / servers of that source``. Servers of a source that has no weight
beside weighted ones count as average servers.

The figures are stretched to HAProxy's 1..256 by a power of two, the largest that fits. So a change in one source leaves the
weights of the others alone until the largest figure crosses a power of two, and every node finds the same weights without
knowing the others' history. A ratio beyond 256:1 between two servers is cut to that; a share of 0 stays 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import frexp

from hafleet.core.model import Member
from hafleet.core.settings import Backend
from hafleet.core.sources import PLAIN

_TOP = 256  # HAProxy's largest weight
Place = Callable[[Member], int | None]  # the index of a member's source; None when it cannot be told


def weigh(backend: Backend, members: Sequence[Member], place: Place, known: Mapping[str, Member]) -> tuple[Member, ...]:
    """Give every member in rotation its weight.

    Args:
        backend: whose sources.
        members: all members in rotation, also those held though the read does not list them: they keep their part of the
            share, so that a server which is missing for one read moves no other weight.
        place: source of a member. One that cannot be told keeps its weight, and then so does every member of the last pass.
        known: members of the last pass by name.
    """
    shares = tuple(source.weight for source in backend.sources)
    places = [place(member) for member in members]
    frozen = False
    if sum(share is not None for share in shares) >= 2:
        weights = scale(_shared(members, places, shares, by_capacity=backend.capacity_weights))
        frozen = None in places
    elif backend.capacity_weights:
        off = _off(places, shares)
        weights = scale([0.0 if o else float(max(1, m.capacity)) for o, m in zip(off, members, strict=True)])
    else:
        weights = [0 if off else PLAIN for off in _off(places, shares)]
    return tuple(
        member
        if where is None or weight == member.weight or (frozen and member.name in known)
        else replace(member, weight=weight)
        for member, where, weight in zip(members, places, weights, strict=True)
    )


def scale(figures: Sequence[float]) -> list[int]:
    """Figures >= 0 to weights: 0 stays 0, the largest lands in 129..256, none above 0 falls below 1."""
    top = max(figures, default=0.0)
    if top <= 0:
        return [0] * len(figures)
    mantissa, exponent = frexp(top)  # top = mantissa * 2**exponent, 0.5 <= mantissa < 1
    factor = 2.0 ** (8 - exponent) * (2.0 if mantissa == 0.5 else 1.0)
    return [max(1, min(_TOP, round(figure * factor))) if figure > 0 else 0 for figure in figures]


def _off(places: Sequence[int | None], shares: Sequence[int | None]) -> list[bool]:
    """True for members of a source that the settings give the weight 0."""
    return [where is not None and shares[where] == 0 for where in places]


def _shared(
    members: Sequence[Member], places: Sequence[int | None], shares: Sequence[int | None], *, by_capacity: bool
) -> list[float]:
    """Each member's part of its source's share."""
    sizes = [float(max(1, member.capacity)) if by_capacity else 1.0 for member in members]
    totals = [0.0] * len(shares)
    for where, size in zip(places, sizes, strict=True):
        if where is not None:
            totals[where] += size
    weighted = [(share, total) for share, total in zip(shares, totals, strict=True) if share is not None and total]
    everyone = sum(total for _, total in weighted)
    average = sum(share for share, _ in weighted) / everyone if everyone else 1.0
    rates = [
        average if share is None else share / total if total else 0.0
        for share, total in zip(shares, totals, strict=True)
    ]
    return [0.0 if where is None else rates[where] * size for where, size in zip(places, sizes, strict=True)]
