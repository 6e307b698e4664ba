"""What each region would mean for two checkpoints, from headers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..checkpoint.model import Model
from ..documents import key
from ..scoring import Scoring
from .filter import Filter
from .layers import Stack, list_stacks
from .pairs import Pair, survey
from .problems import Problem
from .regions import REGIONS
from .ties import Ties


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSurvey:
    """What a region means for two checkpoints."""

    region: str
    tensors: int
    """Tensors that would be ranked."""
    elements: int
    problems: tuple[Problem, ...] = field(metadata=key("unpaired"))
    """Tensors of the region that cannot be paired."""
    stacks: tuple[Stack, ...]
    """The blocks that it takes weights of."""
    others: Mapping[str, int]
    """Elements of its blocks that are neither attention, MLP nor norm, by module."""


def survey_regions(
    base: Model,
    target: Model,
    admitted: Filter,
    scoring: Scoring,
    ties: Ties,
) -> tuple[RegionSurvey, ...]:
    """Return what each region would mean, with the patterns of `admitted`."""
    surveys = []
    for region in REGIONS:
        narrowed = replace(admitted, region=region)
        pairing, problems = survey(base, target, narrowed, scoring, ties)
        surveys.append(
            RegionSurvey(
                region=region,
                tensors=len(pairing.pairs),
                elements=pairing.elements,
                problems=problems,
                stacks=list_stacks((pair.name, pair.place.tower) for pair in pairing.pairs),
                others=_sum_others(pairing.pairs),
            )
        )
    return tuple(surveys)


def _sum_others(pairs: Sequence[Pair]) -> dict[str, int]:
    """Return elements of mixers and their like by module, the largest first."""
    elements: dict[str, int] = {}
    for pair in pairs:
        if pair.place.layer is not None and pair.place.kind == "other":
            module = pair.place.module
            elements[module] = elements.get(module, 0) + pair.target.elements
    return dict(sorted(elements.items(), key=lambda item: -item[1]))
