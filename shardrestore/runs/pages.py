"""What the page of each model shows besides its figures, made of the scan while it is there."""

from __future__ import annotations

from collections.abc import Sequence

from ..figures.detail import Detail
from ..figures.distributions import make_detail
from ..figures.groups import Group, Member
from ..passes.gather import Gathered
from ..passes.scan import Scan
from ..plan.goal import Goal
from ..plan.segment import Region
from ..profile.contents import ProfiledTensor
from ..selection.cut import Strategy


def detail_regions(scan: Scan, gathered: Gathered, goals: Sequence[Goal]) -> dict[str, Detail]:
    """Return what pages show of each region besides the results.

    Counts of random choices are in no histogram: their pages show the most changed
    weights' for comparison.
    """
    regions = {goal.region.name: goal.region for goal in goals}
    details = {}
    for name, region in regions.items():
        of_region = [goal for goal in goals if goal.region.name == name]
        strategies: dict[Strategy, None] = dict.fromkeys(
            "top" if goal.random else goal.strategy for goal in of_region
        )
        found = gathered.regions[name]
        group = Group(scores=found.scores, zero_base=found.zero_base, nonfinite=found.nonfinite)
        details[name] = make_detail(
            scan.histograms,
            _list_members(scan, region),
            {name: group},
            [(name, strategy) for strategy in strategies],
            [goal.percent for goal in of_region],
        )
    return details


def _list_members(scan: Scan, region: Region) -> list[Member]:
    """Return the tensors of a region, empty ones included, with their segments in the scan."""
    numbers: dict[str, list[int]] = {}
    for segment in scan.segments:
        numbers.setdefault(segment.pair.name, []).append(segment.number)
    return [
        Member(
            tensor=ProfiledTensor(
                name=pair.name,
                shape=pair.target.shape,
                dtypes=(pair.base.dtype, pair.target.dtype),
                exact=pair.exact,
            ),
            place=pair.place,
            regions=(region.name,),
            segments=range(of_pair[0], of_pair[-1] + 1) if of_pair else range(0),
        )
        for pair in region.pairs
        for of_pair in [numbers.get(pair.name, [])]
    ]
