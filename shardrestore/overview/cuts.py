"""Cuts through a profile's regions, and what they restore in each tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import RequestError
from ..pairing.regions import REGIONS
from ..profile.file import Profile
from ..selection.cut import Cut, Strategy, cut_at_bin, find_bin, selected_count
from ..selection.histogram import SparseHistogram
from ..selection.score import LOW_BITS
from .groups import Group, Member

_RANKED: tuple[Strategy, ...] = ("top", "bottom")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionCut:
    """A cut through a region."""

    region: str
    cut: Cut
    """At a bin: all of the bin's elements tie."""
    exact: bool
    """Whether they really do."""


def place_cut(
    profile: Profile, groups: Mapping[str, Group], region: str, strategy: str, percent: float
) -> RegionCut:
    """Cut through one of a profile's regions.

    Raises
    ------
    RequestError
        If the region has no elements, the percent selects none, or the strategy is random.
    """
    scores = _find_group(profile, groups, region).scores
    elements = scores.total()
    selected = selected_count(elements, percent)
    if not selected:
        raise RequestError(
            f"{percent:g} % of the {elements:,} elements of region {region} is none: one of them "
            f"is {100 / elements:.3g} %"
        )
    found = find_bin(
        scores.counts(), percent=percent, selected=selected, strategy=_check_strategy(strategy)
    )
    # bfloat16 scores in one bin are equal; float32 ones may differ.
    return RegionCut(region=region, cut=cut_at_bin(found), exact=not scores.binned[found.bin])


def _find_group(profile: Profile, groups: Mapping[str, Group], region: str) -> Group:
    if region not in groups:
        present = ", ".join(name for name in REGIONS if name in groups)
        raise RequestError(
            f"region {region}: no weight of {profile.path} belongs to it: choose one of {present}"
        )
    return groups[region]


def _check_strategy(strategy: str) -> Strategy:
    for known in _RANKED:
        if strategy == known:
            return known
    raise RequestError(
        f"strategy {strategy}: random weights are chosen by name and index, of which a profile's "
        "scores say nothing: choose top or bottom"
    )


def count_restored(
    profile: Profile, members: Sequence[Member], cuts: Sequence[RegionCut]
) -> list[tuple[int | None, ...]]:
    """Return how many elements each cut restores in each tensor, reading each segment once.

    Returns
    -------
    list of tuple
        For each tensor a number for each cut; None where it is outside the cut's region.
    """
    if not cuts:
        return [() for _ in members]
    sides = [_count_sides(profile, member, cuts) for member in members]
    columns = [
        _spread(members, cut, [of_member[number] for of_member in sides])
        for number, cut in enumerate(cuts)
    ]
    return list(zip(*columns, strict=True))


def _count_sides(
    profile: Profile, member: Member, cuts: Sequence[RegionCut]
) -> list[tuple[int, int]]:
    """Return how many elements of a tensor each cut takes outright, and how many tie."""
    bins = np.array([placed.cut.tie_first >> LOW_BITS for placed in cuts], np.uint16)
    highest = np.array([placed.cut.highest for placed in cuts])
    outright, ties = np.zeros(len(cuts), np.int64), np.zeros(len(cuts), np.int64)
    for number in member.segments:
        below, inside, above = _split(profile.get(number), bins)
        outright += np.where(highest, above, below)
        ties += inside
    return list(zip(outright.tolist(), ties.tolist(), strict=True))


def _split(
    part: SparseHistogram, bins: npt.NDArray[np.uint16]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how many elements lie below, in, and above each of some bins."""
    ranks = np.concatenate([np.zeros(1, np.int64), np.cumsum(part.counts, dtype=np.int64)])
    below = ranks[np.searchsorted(part.bins, bins, side="left")]
    until = ranks[np.searchsorted(part.bins, bins, side="right")]
    return below, until - below, ranks[-1] - until


def _spread(
    members: Sequence[Member], placed: RegionCut, sides: Sequence[tuple[int, int]]
) -> Iterator[int | None]:
    """Yield what a cut restores in each tensor: ties are spread evenly in canonical order.

    As in ``selection.cut.tie_remainders``: of the first j ties ``j * ties_taken // ties``
    are taken. In Python's integers, because the product may exceed 64 bits.
    """
    cut, number = placed.cut, 0
    for member, (outright, ties) in zip(members, sides, strict=True):
        if placed.region in member.regions:
            before = number * cut.ties_taken // cut.ties
            number += ties
            yield outright + number * cut.ties_taken // cut.ties - before
        else:
            yield None
