"""From segments to regions: the distributions that cuts are made through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..plan.segment import Region
from ..selection.histogram import Histogram
from .scan import Scan


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionScores:
    """What a scan says of one region."""

    scores: Histogram
    zero_base: int
    """Elements whose base weight is zero."""
    nonfinite: int
    """NaN and infinite weights of base and target together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What a scan says of regions and tensors."""

    regions: dict[str, RegionScores]
    """By the region's name."""
    tensor_means: dict[str, float]
    """Mean score of each tensor that has elements, in canonical order."""


def gather(scan: Scan, regions: Sequence[Region]) -> Gathered:
    """Merge the segments' histograms into those of regions, in one look at each."""
    histograms = [Histogram.empty() for _ in regions]
    sums: dict[str, float] = {}
    for segment in scan.segments:
        part, exact = scan.histograms.get(segment.number), segment.pair.exact
        name = segment.pair.name
        sums[name] = sums.get(name, 0.0) + part.score_sum(exact=exact)
        for region, histogram in zip(regions, histograms, strict=True):
            if region.members[segment.number]:
                histogram.add(part, exact=exact)
    elements = {segment.pair.name: segment.pair.target.elements for segment in scan.segments}
    return Gathered(
        regions={
            region.name: RegionScores(
                scores=histogram,
                zero_base=int(np.sum(scan.zero_base[region.members])),
                nonfinite=int(np.sum(scan.nonfinite[region.members])),
            )
            for region, histogram in zip(regions, histograms, strict=True)
        },
        tensor_means={name: total / elements[name] for name, total in sums.items()},
    )
