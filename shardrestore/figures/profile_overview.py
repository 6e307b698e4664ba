"""From a profile to its overview.

A profile has a histogram for each segment, so it answers for any group of
tensors and any cut. Segments are read one at a time, and once each for the distributions, for the
counts on either side of the cuts, and for a page's sweeps of percents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..pairing.regions import REGIONS
from ..profile.file import Profile
from .cuts import RegionCut, count_restored, place_cut
from .detail import Detail
from .distributions import make_detail
from .groups import Groups, Member, describe_groups, gather, locate_members
from .model import Choice, CutFigures
from .overview import KINDS, Overview, OverviewCut, TensorOverview, make_cells


def overview_of_profile(
    profile: Profile,
    *,
    percents: Sequence[float] = (),
    regions: Sequence[str] = (),
    strategies: Sequence[str] = (),
) -> Overview:
    """Return the distribution that a profile holds, and what cuts would restore.

    Parameters
    ----------
    profile : Profile
        Open; it stays open.
    percents : sequence of float
        Above 0, at most 100. Without any, no cut is made.
    regions, strategies : sequence of str
        Each percent is cut by each strategy in each region, in the order of a sweep.

    Raises
    ------
    RequestError
        If a region has no elements, a percent selects none, or a strategy is random.
    ProfileError
        If the profile is damaged.
    """
    look = _look(profile, percents, regions, strategies)
    return _describe(profile, look)


def detail_of_profile(
    profile: Profile,
    *,
    percents: Sequence[float],
    regions: Sequence[str],
    strategies: Sequence[str],
) -> tuple[Overview, Detail]:
    """Return a profile's overview, and what a page shows beside it.

    Parameters and errors are those of ``overview_of_profile``; at least one of each
    sequence.
    """
    look = _look(profile, percents, regions, strategies)
    ways = dict.fromkeys((placed.region, placed.cut.strategy) for placed in look.cuts)
    detail = make_detail(profile, look.members, look.groups.regions, list(ways), percents)
    return _describe(profile, look), detail


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What one read of a profile's segments finds."""

    members: list[Member]
    groups: Groups
    cuts: list[RegionCut]


def _look(
    profile: Profile,
    percents: Sequence[float],
    regions: Sequence[str],
    strategies: Sequence[str],
) -> _Look:
    members = locate_members(profile)
    groups = gather(profile, members)
    cuts = [
        place_cut(profile, groups.regions, region, strategy, percent)
        for region in regions
        for strategy in strategies
        for percent in percents
    ]
    return _Look(members=members, groups=groups, cuts=cuts)


def _describe(profile: Profile, look: _Look) -> Overview:
    groups, cuts = look.groups, look.cuts
    restored = count_restored(profile, look.members, cuts)
    tensors = tuple(map(_describe_tensor, look.members, restored))
    contents, everything = profile.contents, groups.regions["all"]
    elements = everything.scores.total()
    return Overview(
        source=profile.path,
        origin="profile",
        inputs=contents.inputs,
        options=contents.scoring.record(),
        elements=elements,
        unchanged_share=everything.scores.unchanged() / elements,
        zero_base_share=everything.zero_base / elements,
        nonfinite=everything.nonfinite,
        regions=describe_groups(groups.regions, REGIONS),
        kinds=describe_groups(groups.kinds, KINDS),
        layers=tuple(groups.layers),
        cells=make_cells(tensors),
        tensors=tensors,
        cuts=tuple(_describe_cut(cut, contents.scoring.score) for cut in cuts),
        unpaired=contents.unpaired,
        notes=(),
    )


def _describe_tensor(member: Member, restored: tuple[int | None, ...]) -> TensorOverview:
    elements = member.tensor.elements
    return TensorOverview(
        name=member.tensor.name,
        tower=member.place.tower,
        layer=member.place.layer,
        kind=member.place.kind,
        module=member.place.module,
        elements=elements,
        mean_score=member.score_sum / elements if elements else 0.0,
        unchanged_share=member.unchanged / elements if elements else 0.0,
        restored=restored,
    )


def _describe_cut(placed: RegionCut, score: str) -> OverviewCut:
    cut = placed.cut
    return OverviewCut(
        choice=Choice(
            region=placed.region, strategy=cut.strategy, percent=cut.percent, score=score
        ),
        figures=CutFigures(
            region_elements=cut.elements,
            selected_elements=cut.selected,
            threshold=cut.threshold,
            exact=placed.exact,
        ),
    )
