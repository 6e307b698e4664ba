"""What was found and done in one restored model: a function of inputs and options alone.

Neither time nor memory, workers or devices matter here: see ``costs`` for those.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..documents import INLINE, OMITTED, key, unless
from ..notes import Note
from ..scores import DEFAULT_SCORE, SCORES
from ..selection.histogram import ScoreStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which weights are asked for."""

    region: str
    strategy: str
    percent: float
    """Share of the region's elements, above 0, at most 100."""
    score: str = field(metadata=unless(DEFAULT_SCORE))
    """What weights are ranked by: a key of ``SCORES``."""

    @property
    def score_label(self) -> str:
        """What people call the score."""
        return SCORES[self.score].label


@dataclass(frozen=True, slots=True, kw_only=True)
class CutFigures:
    """Where a choice cuts."""

    region_elements: int
    """Elements that were ranked."""
    selected_elements: int
    """Elements on the selected side: exactly ``int(region_elements * percent / 100)``."""
    threshold: float | None
    """Score at the cut; None for random."""
    exact: bool
    """Whether the cut separates scores exactly, not only to the bin of float32 ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRange:
    """The keys that tie at a cut; see ``selection.score`` for what a key is."""

    first: int = field(metadata=key("tie_first_key"))
    """The smallest."""
    count: int = field(metadata=key("tie_keys"))
    """How many: 1 if the cut is exact in float32, a bin's otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TieFigures:
    """The elements that tie at a cut."""

    count: int = field(metadata=key("ties"))
    """Elements whose key ties."""
    taken: int = field(metadata=key("ties_taken"))
    """How many of them were restored, spread evenly in canonical order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFigures:
    """What fine-tuning did to a region."""

    unchanged_share: float
    """Share of the region whose score is zero: fine-tuning left it alone."""
    zero_base_share: float
    """Share of the region whose base weight is zero; such weights rank highest if changed."""
    nonfinite: int = field(metadata=key("nonfinite_weights"))
    """NaN and infinite weights in the region, of base and target together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFigures:
    """Scores before the restoration."""

    total: ScoreStatistics = field(metadata=key("total_rel_diffs"))
    """Of the region."""
    selected: ScoreStatistics = field(metadata=key("selected_rel_diffs"))
    """Of the restored elements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorResult:
    """What was measured and done in one tensor of the region."""

    name: str
    tower: str
    """``language``, ``vision``, ``audio`` or ``projector``."""
    kind: str
    """``attention``, ``mlp``, ``embedding``, ``norm`` or ``other``."""
    layer: int | None
    """Index of its transformer block; None outside the blocks."""
    module: str
    """Name of its module: ``q_proj``, ``experts.down_proj``."""
    elements: int
    restored: int
    """Elements set back to the base's values."""
    mean_score: float
    """Mean score before the restoration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleKind:
    """Sums over the tensors of one kind."""

    kind: str
    tensors: int
    elements: int
    restored: int

    @property
    def restored_share(self) -> float:
        """Share of the elements that was restored, 0 to 1."""
        return self.restored / self.elements if self.elements else 0.0


def sum_kinds(tensors: Iterable[TensorResult]) -> tuple[ModuleKind, ...]:
    """Return what was restored per kind of module, the largest kind first."""
    of_kind: dict[str, list[TensorResult]] = {}
    for tensor in tensors:
        of_kind.setdefault(tensor.kind, []).append(tensor)
    sums = (
        ModuleKind(
            kind=kind,
            tensors=len(alike),
            elements=sum(tensor.elements for tensor in alike),
            restored=sum(tensor.restored for tensor in alike),
        )
        for kind, alike in of_kind.items()
    )
    return tuple(sorted(sums, key=lambda kind: -kind.elements))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """What a restoration found and did in one model."""

    choice: Choice = field(metadata=INLINE)
    cut: CutFigures = field(metadata=INLINE)
    tie_keys: KeyRange = field(metadata=OMITTED)
    ties: TieFigures = field(metadata=INLINE)
    changes: ChangeFigures = field(metadata=INLINE)
    scores: ScoreFigures = field(metadata=INLINE)
    tensors: tuple[TensorResult, ...] = field(
        repr=False, metadata=key("module_kinds", convert=sum_kinds)
    )
    """Tensors of the region, in canonical order."""
    notes: tuple[Note, ...]
    """What must not be missed."""
    is_rounded: bool = field(default=False, metadata=OMITTED)
    """Whether the base was rounded to the target's format, not both cast as was asked for."""

    def module_kinds(self) -> tuple[ModuleKind, ...]:
        """Return what was restored per kind of module, the largest kind first."""
        return sum_kinds(self.tensors)
