"""How many weights have which score: exact, mergeable, order-free counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .score import BINS, bin_scores

BIN_BYTES = 6
"""A bin of a stored sparse histogram: its number in 2 bytes, its count in 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseHistogram:
    """The bins of one segment that are not empty."""

    bins: npt.NDArray[np.uint16]
    """Ascending bins."""

    counts: npt.NDArray[np.uint32]
    """Elements in each of `bins`, none zero."""

    def count(self, bin_: int) -> int:
        """Return the number of elements in one bin."""
        at = int(np.searchsorted(self.bins, bin_))
        found = at < self.bins.size and int(self.bins[at]) == bin_
        return int(self.counts[at]) if found else 0

    def total(self) -> int:
        """Return the number of elements in all bins."""
        return int(self.counts.sum(dtype=np.uint64))

    def score_sum(self, *, exact: bool) -> float:
        """Return the sum of all scores; `exact` as in ``bin_scores``."""
        return float(np.sum(bin_scores(exact=exact)[self.bins] * self.counts))


class HistogramStore(Protocol):
    """Histograms by number: a work file's, or a profile's."""

    def get(self, number: int) -> SparseHistogram:
        """Return one histogram; empty if none was stored."""

    def close(self) -> None:
        """Release what the store holds."""


def sparse(counts: npt.NDArray[np.uint32]) -> SparseHistogram:
    """Compress dense counts, of at most 2^16 bins, summed over their lanes.

    Parameters
    ----------
    counts : ndarray of uint32, shape (lanes, bins)
        As a counting kernel leaves them. The sum of a bin over its lanes must
        be below 2^32: a segment has at most 2^26 elements.
    """
    dense = counts.sum(axis=0, dtype=np.uint32)
    bins = np.flatnonzero(dense)
    return SparseHistogram(bins=bins.astype(np.uint16), counts=dense[bins])


@dataclass(slots=True, kw_only=True)
class Histogram:
    """The distribution of scores over many segments.

    bfloat16 and float32 scores are counted apart: a bin is one score of the
    former, a narrow range of the latter.
    """

    exact: npt.NDArray[np.uint64]
    """bfloat16 scores, shape (BINS,)."""

    binned: npt.NDArray[np.uint64]
    """float32 scores, shape (BINS,)."""

    @classmethod
    def empty(cls) -> Histogram:
        """Return a histogram of nothing."""
        return cls(exact=np.zeros(BINS, np.uint64), binned=np.zeros(BINS, np.uint64))

    def add(self, part: SparseHistogram, *, exact: bool) -> None:
        """Add a segment's counts; `exact` where its scores are bfloat16."""
        counts = self.exact if exact else self.binned
        counts[part.bins] += part.counts

    def counts(self) -> npt.NDArray[np.uint64]:
        """Return the elements of each bin, shape (BINS,)."""
        return self.exact + self.binned

    def total(self) -> int:
        """Return the number of elements."""
        return int(self.counts().sum())

    def unchanged(self) -> int:
        """Return the number of elements whose score is zero."""
        return int(self.exact[0] + self.binned[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreStatistics:
    """Summary of a set of scores, as the published tool reports it.

    Computed in float64 from exact counts. float32 scores are known to 1/256.
    """

    max: float
    median: float
    """The lower median: the element of rank ``(n - 1) // 2``."""
    mean: float
    min: float
    sum: float


def describe_scores(histogram: Histogram) -> ScoreStatistics:
    """Return the statistics of the scores in a histogram of at least one."""
    values = np.concatenate([bin_scores(exact=True), bin_scores(exact=False)])
    counts = np.concatenate([histogram.exact, histogram.binned])
    order = np.argsort(np.tile(np.arange(BINS), 2), kind="stable")
    order = order[counts[order] > 0]
    values, counts = values[order], counts[order]
    ranks = np.cumsum(counts)
    total = int(ranks[-1])
    middle = int(np.searchsorted(ranks, np.uint64((total - 1) // 2), side="right"))
    score_sum = float(np.sum(values * counts))
    return ScoreStatistics(
        max=float(values[-1]),
        median=float(values[middle]),
        mean=score_sum / total,
        min=float(values[0]),
        sum=score_sum,
    )
