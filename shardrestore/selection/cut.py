"""From counts to a cut: which keys are taken, and how many of those that tie.

``find_bin`` places the cut in a bin. Where the bin is a single score (bfloat16)
or an approximation is welcome, ``cut_at_bin`` ends there: the elements of the
bin tie. Otherwise one more scan counts the low bits within the bin and
``cut_at_key`` makes the cut exact. Either way exactly ``count`` elements are
selected.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .histogram import Histogram
from .score import KEYS, LOW_BITS, LOWS, score_of_key

Strategy = Literal["top", "bottom", "random"]
STRATEGIES: tuple[Strategy, ...] = ("top", "bottom", "random")


def selected_count(elements: int, percent: float) -> int:
    """Return K, the number of elements that a percentage selects.

    Rounds down, in the published tool's own arithmetic, so that both agree on
    every size.

    Examples
    --------
    >>> selected_count(1000, 0.25)
    2
    """
    return int(elements * float(percent) / 100.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A selection of exactly `selected` elements by their keys."""

    strategy: Strategy
    percent: float
    """The request, of which `selected` is the rounded-down count."""

    elements: int
    """Elements of the region."""

    selected: int
    """Elements selected, ties included."""

    tie_first: int
    """Smallest key that ties."""

    tie_span: int
    """Number of keys that tie: 1, or a bin's ``LOWS``."""

    ties: int
    """Elements whose key ties."""

    ties_taken: int
    """How many of the ties are selected."""

    @property
    def highest(self) -> bool:
        """Whether the highest keys are taken; random keys are taken from below."""
        return self.strategy == "top"

    @property
    def first(self) -> int:
        """Smallest key that is taken whatever its turn."""
        return self.tie_first + self.tie_span if self.highest else 0

    @property
    def span(self) -> int:
        """Number of keys from `first` on that are taken whatever their turn."""
        return KEYS - self.first if self.highest else self.tie_first

    @property
    def threshold(self) -> float | None:
        """The score at the cut; None for random, whose keys are no scores."""
        return None if self.strategy == "random" else score_of_key(self.tie_first)


@dataclass(frozen=True, slots=True, kw_only=True)
class BinCut:
    """A cut placed in a bin, not yet within it."""

    strategy: Strategy
    percent: float
    elements: int
    selected: int
    bin: int
    inside: int
    """Elements in the bin."""
    needed: int
    """Elements of the bin that are still needed, 1 to `inside`."""


def find_bin(
    counts: npt.NDArray[np.uint64], *, percent: float, selected: int, strategy: Strategy
) -> BinCut:
    """Find the bin in which the cut falls.

    Parameters
    ----------
    counts : ndarray of uint64, shape (BINS,)
        Elements of the region by the bin of their key (random keys for random).
    percent : float
        The request, recorded in the cut.
    selected : int
        Number of elements to select, 1 to the sum of `counts`.
    strategy : {"top", "bottom", "random"}
    """
    at, before = _find(counts, selected, highest=strategy == "top")
    return BinCut(
        strategy=strategy,
        percent=percent,
        elements=int(counts.sum()),
        selected=selected,
        bin=at,
        inside=int(counts[at]),
        needed=selected - before,
    )


def cut_at_bin(found: BinCut) -> Cut:
    """Return the cut that treats all elements of the bin as ties."""
    return Cut(
        strategy=found.strategy,
        percent=found.percent,
        elements=found.elements,
        selected=found.selected,
        tie_first=found.bin << LOW_BITS,
        tie_span=LOWS,
        ties=found.inside,
        ties_taken=found.needed,
    )


def cut_at_key(found: BinCut, lows: npt.NDArray[np.uint64]) -> Cut:
    """Return the cut at one key.

    Parameters
    ----------
    found : BinCut
    lows : ndarray of uint64, shape (LOWS,)
        Elements of the bin by the low bits of their key.
    """
    low, before = _find(lows, found.needed, highest=found.strategy == "top")
    return Cut(
        strategy=found.strategy,
        percent=found.percent,
        elements=found.elements,
        selected=found.selected,
        tie_first=(found.bin << LOW_BITS) + low,
        tie_span=1,
        ties=int(lows[low]),
        ties_taken=found.needed - before,
    )


def _find(counts: npt.NDArray[np.uint64], needed: int, *, highest: bool) -> tuple[int, int]:
    """Return the index in which the `needed`-th element lies, and how many lie before it."""
    ordered = counts[::-1] if highest else counts
    ranks = np.cumsum(ordered)
    at = int(np.searchsorted(ranks, np.uint64(needed)))
    before = int(ranks[at]) - int(ordered[at])
    return (counts.size - 1 - at if highest else at), before


def tie_remainders(cut: Cut, ties_by_segment: Iterable[int]) -> list[int]:
    """Return where each segment's ties begin in the even spread over all ties.

    Parameters
    ----------
    cut : Cut
    ties_by_segment : iterable of int
        Tying elements of each segment, in canonical order; their sum is
        ``cut.ties``.

    Returns
    -------
    list of int
        ``(j * ties_taken) % ties`` for the number j of each segment's first tie.
    """
    remainders = []
    number = 0
    for ties in ties_by_segment:
        remainders.append(number * cut.ties_taken % cut.ties)
        number += ties
    if number != cut.ties:
        raise ValueError(f"segments have {number} ties, the cut {cut.ties}")
    return remainders


def selected_histogram(histogram: Histogram, cut: Cut) -> Histogram:
    """Return the distribution of the scores that a top or bottom cut selects.

    Exact for bfloat16 scores; where both kinds share the cut's bin, the split
    between them follows their order: a bfloat16 key is the lowest of its bin.
    """
    at = cut.tie_first >> LOW_BITS
    part = Histogram.empty()
    inside = slice(at + 1, None) if cut.highest else slice(0, at)
    part.exact[inside] = histogram.exact[inside]
    part.binned[inside] = histogram.binned[inside]
    needed = cut.selected - part.total()
    first, second = (part.binned, part.exact) if cut.highest else (part.exact, part.binned)
    source = histogram.binned if cut.highest else histogram.exact
    first[at] = min(needed, int(source[at]))
    second[at] = needed - int(first[at])
    return part
