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
from ..selection.histogram import Histogram, HistogramStore, SparseHistogram
from ..selection.score import LOW_BITS
from .groups import Group, Member

_RANKED: tuple[Strategy, ...] = ("top", "bottom")

_MOST_TIES = 1 << 30
"""Ties of a cut up to which a segment's share of them is computed in 64 bits: a segment's own
have 32."""


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
    return cut_scores(
        _find_group(profile, groups, region).scores, region, _check_strategy(strategy), percent
    )


def cut_scores(scores: Histogram, region: str, strategy: Strategy, percent: float) -> RegionCut:
    """Cut through the scores of a region.

    Raises
    ------
    RequestError
        If the percent selects none of them.
    """
    elements = scores.total()
    selected = selected_count(elements, percent)
    if not selected:
        raise RequestError(
            f"{percent:g} % of the {elements:,} elements of region {region} is none: one of them "
            f"is {100 / elements:.3g} %"
        )
    found = find_bin(scores.counts(), percent=percent, selected=selected, strategy=strategy)
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
    histograms: HistogramStore, members: Sequence[Member], cuts: Sequence[RegionCut]
) -> list[tuple[int | None, ...]]:
    """Return how many elements each cut restores in each tensor, reading each segment once.

    Returns
    -------
    list of tuple
        For each tensor a number for each cut; None where it is outside the cut's region.
    """
    if not cuts:
        return [() for _ in members]
    return [
        tuple(
            count if cut.region in member.regions else None
            for cut, count in zip(cuts, counts.tolist(), strict=True)
        )
        for member, counts in zip(members, iterate_restored(histograms, members, cuts), strict=True)
    ]


def iterate_restored(
    histograms: HistogramStore, members: Sequence[Member], cuts: Sequence[RegionCut]
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield how many elements each cut restores in each tensor, one tensor after the other.

    Ties are spread evenly in canonical order, as in ``selection.cut.tie_remainders``:
    of the first j ties ``j * ties_taken // ties`` are taken. From one segment to the
    next only the remainder of that division is kept, so that its products stay small.

    Parameters
    ----------
    histograms : HistogramStore
    members : sequence of Member
        In canonical order.
    cuts : sequence of RegionCut

    Yields
    ------
    ndarray of int64, shape (cuts,)
        0 where the tensor is outside the cut's region.
    """
    bins = np.array([placed.cut.tie_first >> LOW_BITS for placed in cuts], np.uint16)
    highest = np.array([placed.cut.highest for placed in cuts])
    # A segment's ties times those taken of all: beyond 64 bits Python's integers take over.
    kind = object if max(placed.cut.ties for placed in cuts) >= _MOST_TIES else np.int64
    ties = np.array([placed.cut.ties for placed in cuts], kind)
    ties_taken = np.array([placed.cut.ties_taken for placed in cuts], kind)
    remainders = np.zeros(len(cuts), kind)
    inside_regions = {
        regions: np.array([placed.region in regions for placed in cuts])
        for regions in {member.regions for member in members}
    }
    for member in members:
        ranked = inside_regions[member.regions]
        restored = np.zeros(len(cuts), np.int64)
        for number in member.segments if ranked.any() else ():
            below, inside, above = _split(histograms.get(number), bins)
            reached = remainders + np.where(ranked, inside, 0) * ties_taken
            restored += np.where(highest, above, below) + (reached // ties).astype(np.int64)
            remainders = reached % ties
        yield np.where(ranked, restored, 0)


def _split(
    part: SparseHistogram, bins: npt.NDArray[np.uint16]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how many elements lie below, in, and above each of some bins."""
    ranks = np.concatenate([np.zeros(1, np.int64), np.cumsum(part.counts, dtype=np.int64)])
    below = ranks[np.searchsorted(part.bins, bins, side="left")]
    until = ranks[np.searchsorted(part.bins, bins, side="right")]
    return below, until - below, ranks[-1] - until
