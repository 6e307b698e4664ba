"""From histograms to what a page shows: distributions, and what any percent would restore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..selection.cut import Strategy, selected_count
from ..selection.histogram import Histogram, HistogramStore, describe_scores
from ..selection.score import bin_scores
from .cuts import RegionCut, cut_scores, iterate_restored
from .detail import MOST_COUNTS, Detail, Distribution, Grid, PercentSweep, SweepPoint, make_grid
from .groups import Group, Member, find_quantiles

BINS_PER_DECADE = 10
_EDGES = np.array([10.0 ** (n / BINS_PER_DECADE) for n in range(-90, 21)])
"""Scores from 1e-9 to 100, evenly on a logarithmic axis."""

SWEEP_PERCENTS = (*(n / 10 for n in range(1, 10)), *(float(n) for n in range(1, 101)))
"""Percents of every sweep, besides those that are asked for."""


def make_detail(
    histograms: HistogramStore,
    members: Sequence[Member],
    groups: Mapping[str, Group],
    ways: Sequence[tuple[str, Strategy]],
    percents: Sequence[float],
) -> Detail:
    """Return distributions, and a sweep of percents for each way to restore.

    Each segment is read once, and one at a time is in memory.

    Parameters
    ----------
    histograms : HistogramStore
    members : sequence of Member
        In canonical order.
    groups : mapping
        The scores of each region that is named in `ways`.
    ways : sequence of tuple
        Region and strategy.
    percents : sequence of float
        Percents besides the usual ones.
    """
    swept = sorted({*SWEEP_PERCENTS, *percents})
    cuts_by_way = [
        [
            cut_scores(groups[region].scores, region, strategy, percent)
            for percent in swept
            if selected_count(groups[region].scores.total(), percent)
        ]
        for region, strategy in ways
    ]
    cuts = [cut for of_way in cuts_by_way for cut in of_way]
    grid = make_grid([member.place for member in members], len(cuts))
    sweeps: tuple[PercentSweep, ...] = ()
    if len(grid.spots) * len(cuts) <= MOST_COUNTS:
        restored = _count_cells(histograms, members, cuts, grid)
        ends = np.cumsum([len(of_way) for of_way in cuts_by_way])[:-1]
        sweeps = tuple(
            PercentSweep(
                region=region,
                strategy=strategy,
                elements=groups[region].scores.total(),
                points=tuple(map(_describe_point, of_way)),
                ranked=_count_ranked(members, region, grid),
                restored=counts,
            )
            for (region, strategy), of_way, counts in zip(
                ways, cuts_by_way, np.split(restored, ends, axis=1), strict=True
            )
        )
    regions = dict.fromkeys(region for region, _ in ways)
    return Detail(
        grid=grid,
        distributions=tuple(_describe_region(region, groups[region]) for region in regions),
        sweeps=sweeps,
    )


def _count_cells(
    histograms: HistogramStore,
    members: Sequence[Member],
    cuts: Sequence[RegionCut],
    grid: Grid,
) -> npt.NDArray[np.int64]:
    counts = np.zeros((len(grid.spots), len(cuts)), np.int64)
    restored = iterate_restored(histograms, members, cuts)
    for cell, of_tensor in zip(grid.of_tensor, restored, strict=True):
        counts[cell] += of_tensor
    return counts


def _count_ranked(members: Sequence[Member], region: str, grid: Grid) -> npt.NDArray[np.int64]:
    counts = np.zeros(len(grid.spots), np.int64)
    for cell, member in zip(grid.of_tensor, members, strict=True):
        if region in member.regions:
            counts[cell] += member.tensor.elements
    return counts


def _describe_point(placed: RegionCut) -> SweepPoint:
    cut = placed.cut
    assert cut.threshold is not None  # no cut here is random
    return SweepPoint(
        percent=cut.percent, selected=cut.selected, threshold=cut.threshold, exact=placed.exact
    )


def _describe_region(region: str, group: Group) -> Distribution:
    scores = group.scores
    below, counts, beyond = _count_bins(scores)
    filled = np.flatnonzero(counts)
    first, last = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, 0)
    return Distribution(
        region=region,
        elements=scores.total(),
        mean_score=describe_scores(scores).mean,
        median_score=find_quantiles(scores)[0.5],
        unchanged=scores.unchanged(),
        zero_base=group.zero_base,
        below=below,
        edges=tuple(_EDGES[first : last + 1].tolist()) if filled.size else (),
        counts=tuple(counts[first:last].tolist()),
        beyond=beyond,
    )


def _count_bins(scores: Histogram) -> tuple[int, npt.NDArray[np.int64], int]:
    """Return the elements that changed: below all edges, between each two, and beyond."""
    below, beyond = 0, 0
    between = np.zeros(_EDGES.size - 1, np.int64)
    for counts, exact in ((scores.exact, True), (scores.binned, False)):
        ranks = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        at_edges = ranks[np.searchsorted(bin_scores(exact=exact), _EDGES)]
        below += int(at_edges[0]) - int(counts[0])
        between += np.diff(at_edges)
        beyond += int(ranks[-1]) - int(at_edges[-1])
    return below, between, beyond
