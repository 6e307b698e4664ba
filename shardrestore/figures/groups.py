"""The groups that a profile's tensors are summed up to: regions, kinds of modules, layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from ..errors import ProfileError
from ..pairing.regions import REGIONS, Place, in_region, locate
from ..pairing.towers import find_towers
from ..profile.contents import ProfiledTensor
from ..profile.file import Profile
from ..selection.histogram import Histogram, describe_scores
from ..selection.score import bin_scores
from .overview import QUANTILES, ScoreGroup, layer_label, layer_order


@dataclass(slots=True, kw_only=True)
class Member:
    """A tensor of a profile: where it sits, and what is gathered of it."""

    tensor: ProfiledTensor
    place: Place
    regions: tuple[str, ...]
    """Regions it belongs to."""
    segments: range
    """Numbers of its segments; empty if it has no elements."""
    score_sum: float = 0.0
    unchanged: int = 0
    """Elements whose score is zero."""

    @property
    def layer(self) -> tuple[str, int | None]:
        """Its tower, and its layer within it."""
        return self.place.tower, self.place.layer


@dataclass(slots=True, kw_only=True)
class Group:
    """Tensors whose scores are counted together."""

    scores: Histogram = field(default_factory=Histogram.empty)
    tensors: int = 0
    zero_base: int = 0
    nonfinite: int = 0

    def merge(self, other: Group) -> None:
        """Add all that another group has."""
        self.scores.exact += other.scores.exact
        self.scores.binned += other.scores.binned
        self.tensors += other.tensors
        self.zero_base += other.zero_base
        self.nonfinite += other.nonfinite


@dataclass(slots=True, kw_only=True)
class Groups:
    """Everything that a profile's segments are summed up to."""

    regions: dict[str, Group]
    kinds: dict[str, Group]
    layers: list[ScoreGroup]
    """Described as soon as they are complete, so that one at a time has its half megabyte."""


def locate_members(profile: Profile) -> list[Member]:
    """Return a profile's tensors in canonical order, as they lie in it."""
    members = []
    first = 0
    contents = profile.contents
    towers = find_towers([*(tensor.name for tensor in contents.tensors), *contents.unpaired])
    for tensor in contents.tensors:
        name, shape = tensor.name, tensor.shape
        count = contents.segments_of(tensor)
        members.append(
            Member(
                tensor=tensor,
                place=locate(name, shape, towers),
                regions=tuple(one for one in REGIONS if in_region(name, shape, one, towers)),
                segments=range(first, first + count),
            )
        )
        first += count
    return members


def gather(profile: Profile, members: Sequence[Member]) -> Groups:
    """Sum all segments up, reading each once, one layer after the other.

    Dense histograms are added much faster than sparse ones, so the tensors of a
    layer that belong to the same groups are counted together first.

    Raises
    ------
    ProfileError
        If the profile is damaged or holds no scores.
    """
    groups = Groups(regions={}, kinds={}, layers=[])
    filled = [member for member in members if member.segments]
    filled.sort(key=lambda m: (layer_order(*m.layer), m.place.kind, m.regions))
    for layer, of_layer in groupby(filled, key=lambda m: m.layer):
        whole = Group()
        for (kind, regions), alike in groupby(of_layer, key=lambda m: (m.place.kind, m.regions)):
            part = Group()
            for member in alike:
                _add(profile, member, part)
            whole.merge(part)
            groups.kinds.setdefault(kind, Group()).merge(part)
            for region in regions:
                groups.regions.setdefault(region, Group()).merge(part)
        groups.layers.append(_describe_group(layer_label(*layer), whole))
    if "all" not in groups.regions:
        raise ProfileError(f"profile {profile.path}: holds no scores: scan again")
    return groups


def _add(profile: Profile, member: Member, group: Group) -> None:
    exact, tallies = member.tensor.exact, profile.tallies
    group.tensors += 1
    for number in member.segments:
        part = profile.get(number)
        group.scores.add(part, exact=exact)
        group.zero_base += int(tallies.zero_base[number])
        group.nonfinite += int(tallies.nonfinite[number])
        member.score_sum += part.score_sum(exact=exact)
        member.unchanged += part.count(0)


def describe_groups(groups: Mapping[str, Group], order: Sequence[str]) -> tuple[ScoreGroup, ...]:
    """Return the distributions of named groups, those that there are, in an order of names."""
    return tuple(_describe_group(label, groups[label]) for label in order if label in groups)


def _describe_group(label: str, group: Group) -> ScoreGroup:
    elements = group.scores.total()
    statistics = describe_scores(group.scores)
    return ScoreGroup(
        label=label,
        tensors=group.tensors,
        elements=elements,
        mean_score=statistics.mean,
        quantiles=find_quantiles(group.scores),
        max_score=statistics.max,
        unchanged_share=group.scores.unchanged() / elements,
        zero_base_share=group.zero_base / elements,
        nonfinite=group.nonfinite,
    )


def find_quantiles(scores: Histogram) -> dict[float, float]:
    """Return the scores at ``QUANTILES`` of a histogram of at least one.

    As for ``describe_scores``: float32 scores are known to 1/256.
    """
    # Of one bin's scores, a bfloat16 one is the lowest.
    values = np.stack([bin_scores(exact=True), bin_scores(exact=False)], axis=1).ravel()
    ranks = np.cumsum(np.stack([scores.exact, scores.binned], axis=1).ravel())
    last = int(ranks[-1]) - 1
    # In thousandths: a product of floats misses a rank now and then.
    wanted = np.array([last * round(1000 * p) // 1000 for p in QUANTILES], np.uint64)
    found = values[np.searchsorted(ranks, wanted, side="right")]
    return dict(zip(QUANTILES, found.tolist(), strict=True))
