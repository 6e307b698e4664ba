"""From a profile to its overview.

A profile has a histogram for each segment, so it answers for any group of
tensors and any cut. Segments are read one at a time and at most twice: for the
distributions, and for the counts on either side of the cuts.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..pairing.regions import REGIONS
from ..profile.file import Profile
from ..report.overview import KINDS, Overview, OverviewCut, TensorOverview, make_cells
from .cuts import RegionCut, count_restored, place_cut
from .groups import Member, describe_groups, gather, locate_members


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
    members = locate_members(profile)
    groups = gather(profile, members)
    cuts = [
        place_cut(profile, groups.regions, region, strategy, percent)
        for region in regions
        for strategy in strategies
        for percent in percents
    ]
    restored = count_restored(profile, members, cuts)
    tensors = tuple(map(_describe_tensor, members, restored))
    contents, everything = profile.contents, groups.regions["all"]
    elements = everything.scores.total()
    return Overview(
        source=profile.path,
        origin="profile",
        inputs=contents.inputs,
        options={"dtype": contents.dtype, "rename": list(contents.rename)},
        elements=elements,
        unchanged_share=everything.scores.unchanged() / elements,
        zero_base_share=everything.zero_base / elements,
        nonfinite=everything.nonfinite,
        regions=describe_groups(groups.regions, REGIONS),
        kinds=describe_groups(groups.kinds, KINDS),
        layers=tuple(groups.layers),
        cells=make_cells(tensors),
        tensors=tensors,
        cuts=tuple(map(_describe_cut, cuts)),
        unpaired=contents.unpaired,
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


def _describe_cut(placed: RegionCut) -> OverviewCut:
    cut = placed.cut
    return OverviewCut(
        region=placed.region,
        strategy=cut.strategy,
        percent=cut.percent,
        region_elements=cut.elements,
        selected_elements=cut.selected,
        threshold=cut.threshold,
        exact=placed.exact,
    )
