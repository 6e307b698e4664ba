"""Between the passes: from the scan to one cut for each goal.

A histogram of bfloat16 scores is exact, and so is a cut through it. For others
the low bits of the keys are counted within the bins that cuts fall into: one
refining scan of the weights for all cuts of float32 scores together, and none
for random keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..engine.interface import SegmentCut
from ..plan.goal import Goal
from ..plan.segment import Region, Segment
from ..selection.cut import (
    BinCut,
    Cut,
    cut_at_bin,
    cut_at_key,
    find_bin,
    tie_remainders,
)
from ..selection.score import LOWS
from .context import Context
from .gather import RegionScores
from .refine import LowBits, count_random_bins
from .scan import Scan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCut:
    """A cut, and where each segment's ties begin in the spread over all ties."""

    cut: Cut
    members: npt.NDArray[np.bool_]
    """By segment number: whether the cut concerns the segment."""
    remainders: npt.NDArray[np.int64]
    """By segment number, see ``tie_remainders``; for members alone."""

    def meet(self, segment: Segment) -> SegmentCut | None:
        """Return the cut where it meets a segment; None if it does not concern it."""
        if not self.members[segment.number]:
            return None
        return SegmentCut(cut=self.cut, remainder=int(self.remainders[segment.number]))


def place_cuts(
    context: Context, scan: Scan, goals: Sequence[Goal], scores: Mapping[str, RegionScores]
) -> list[PlacedCut]:
    """Find the cut of every goal.

    Parameters
    ----------
    context : Context
    scan : Scan
        Tells the ties of each segment.
    goals : sequence of Goal
    scores : mapping
        Distribution of the scores of each region, by its name.

    Returns
    -------
    list of PlacedCut
        In the order of `goals`.
    """
    found = _find_bins(context, scan, goals, scores)
    placed: dict[int, PlacedCut] = {}
    for random in (False, True):
        numbers = [n for n, goal in enumerate(goals) if goal.refines and goal.random == random]
        if numbers:
            chosen = [(goals[n].region, found[n]) for n in numbers]
            placed |= zip(
                numbers, _place_at_keys(context, scan, chosen, random=random), strict=True
            )
    return [
        placed[n] if goal.refines else _place_at_bin(scan, goal.region, found[n])
        for n, goal in enumerate(goals)
    ]


def _find_bins(
    context: Context, scan: Scan, goals: Sequence[Goal], scores: Mapping[str, RegionScores]
) -> list[BinCut]:
    drawn = {goal.region.name: goal.region for goal in goals if goal.random}
    random_bins = (
        dict(zip(drawn, count_random_bins(context, scan, [*drawn.values()]), strict=True))
        if drawn
        else {}
    )
    return [
        find_bin(
            random_bins[goal.region.name]
            if goal.random
            else scores[goal.region.name].scores.counts(),
            percent=goal.percent,
            selected=goal.selected,
            strategy=goal.strategy,
        )
        for goal in goals
    ]


def _place_at_bin(scan: Scan, region: Region, found: BinCut) -> PlacedCut:
    """Place a cut without another scan: all elements of its bin tie."""

    def count_ties(segment: Segment) -> int:
        return scan.histograms.get(segment.number).count(found.bin)

    return _place(scan, region, cut_at_bin(found), count_ties)


def _place_at_keys(
    context: Context, scan: Scan, chosen: Sequence[tuple[Region, BinCut]], *, random: bool
) -> list[PlacedCut]:
    """Place cuts exactly: by the low bits of the keys within their bins."""
    lows = LowBits(context, scan, [found.bin for _, found in chosen], random=random)
    try:
        lows.count(context, np.logical_or.reduce([region.members for region, _ in chosen]))
        placed = []
        for region, found in chosen:
            cut = cut_at_key(found, lows.total(region, found.bin))
            placed.append(_place(scan, region, cut, _tie_counter(lows, cut)))
        return placed
    finally:
        lows.close()


def _tie_counter(lows: LowBits, cut: Cut) -> Callable[[Segment], int]:
    bin_, low = divmod(cut.tie_first, LOWS)
    return lambda segment: lows.get(segment, bin_).count(low)


def _place(scan: Scan, region: Region, cut: Cut, count_ties: Callable[[Segment], int]) -> PlacedCut:
    members = [segment for segment in scan.segments if region.members[segment.number]]
    remainders = np.zeros(len(scan.segments), np.int64)
    remainders[region.members] = tie_remainders(cut, map(count_ties, members))
    return PlacedCut(cut=cut, members=region.members, remainders=remainders)
