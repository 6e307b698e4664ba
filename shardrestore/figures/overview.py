"""The distribution of scores over a model, and what cuts would restore where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..documents import INLINE, key
from ..notes import Note
from ..pairing.towers import TOWERS
from ..scores import DEFAULT_SCORE, SCORES
from .model import Choice, CutFigures

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
"""Shares of a group's elements at which its scores are given."""

KINDS = ("attention", "mlp", "norm", "embedding", "other")
"""Kinds of modules, in the order of tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreGroup:
    """The distribution of the scores in a region, a layer, or all modules of a kind."""

    label: str
    """Name of the region or kind, or the layer's as in ``layer_label``."""
    tensors: int
    elements: int
    """At least 1."""
    mean_score: float
    quantiles: Mapping[float, float]
    """For each p of ``QUANTILES`` the score of rank ``floor(p * (n - 1))``, counted from 0."""
    max_score: float
    unchanged_share: float
    """Share of the elements whose score is zero, 0 to 1."""
    zero_base_share: float
    """Share of the elements whose base weight is zero, 0 to 1."""
    nonfinite: int = field(metadata=key("nonfinite_weights"))
    """NaN and infinite weights of base and target together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewCut:
    """A choice and where it cuts.

    Not exactly where float32 scores are known to their bin only: nor is then what each tensor gets.
    """

    choice: Choice = field(metadata=INLINE)
    figures: CutFigures = field(metadata=INLINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorOverview:
    """A tensor: where it sits, how much it changed, what each cut would restore in it."""

    name: str
    tower: str
    """One of ``pairing.towers.TOWERS``."""
    layer: int | None
    """Index of its transformer block; None outside the blocks."""
    kind: str
    """One of ``KINDS``."""
    module: str
    """Name of its module: ``q_proj``, ``experts.down_proj``."""
    elements: int
    mean_score: float
    """0 for a tensor without elements."""
    unchanged_share: float | None
    """None where it is not known: a finished model does not record it."""
    restored: tuple[int | None, ...]
    """Elements that each cut restores; None where the tensor is outside the cut's region."""

    @property
    def ranked(self) -> tuple[int, ...]:
        """Elements that belong to each cut's region: all or none."""
        return tuple(0 if count is None else self.elements for count in self.restored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Sums over tensors, usually those of one kind in one layer."""

    tower: str
    layer: int | None
    """None outside the blocks."""
    kind: str
    """One of ``KINDS``; ``all`` for a total."""
    elements: int
    mean_score: float
    ranked: tuple[int, ...]
    """Elements that belong to each cut's region."""
    restored: tuple[int, ...]
    """Elements that each cut restores."""

    def restored_share(self, cut: int) -> float | None:
        """Return the share that a cut, given by position, restores of its region's elements.

        0 to 1; None where there are none.
        """
        return self.restored[cut] / self.ranked[cut] if self.ranked[cut] else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRow:
    """A row of a table of cells."""

    label: str
    """As in ``layer_label``; ``all`` for the row of totals."""
    cells: Mapping[str, Cell]
    """By kind; kinds without tensors are left out."""
    total: Cell


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Overview:
    """What a profile, or a finished model, says without a look at any weight."""

    source: Path
    """The profile, or the folder of the finished model."""
    origin: str
    """``profile``, ``model``, or ``run`` for a result that is at hand."""
    inputs: Mapping[str, Mapping[str, Any]]
    """Identities of ``base`` and ``target``, as JSON values."""
    options: Mapping[str, Any]
    """Options that decided the figures, as JSON values."""
    elements: int
    """Elements of all `tensors`."""
    unchanged_share: float
    """Share of them whose score is zero, 0 to 1."""
    zero_base_share: float
    """Share of them whose base weight is zero, 0 to 1."""
    nonfinite: int = field(metadata=key("nonfinite_weights"))
    """NaN and infinite weights among them, of base and target together."""
    regions: tuple[ScoreGroup, ...]
    """Of the regions that have elements; empty for a finished model, as `kinds` and `layers`."""
    kinds: tuple[ScoreGroup, ...]
    layers: tuple[ScoreGroup, ...]
    cuts: tuple[OverviewCut, ...]
    cells: tuple[Cell, ...]
    """Layer by layer, therein by kind."""
    tensors: tuple[TensorOverview, ...]
    """In canonical order; of a finished model only those of its region."""
    unpaired: Mapping[str, str]
    """Tensors of the target that could not be scored, and why."""
    notes: tuple[Note, ...]
    """What must not be missed."""

    @property
    def score(self) -> str:
        """What weights are ranked by: a key of ``SCORES``."""
        return str(self.options.get("score", DEFAULT_SCORE))

    @property
    def score_label(self) -> str:
        """What people call the score."""
        return SCORES[self.score].label

    def __repr__(self) -> str:
        return (
            f"<Overview of {self.origin} {self.source}: {self.elements:,} elements of "
            f"{len(self.tensors):,} tensors, {len(self.cuts)} cuts>"
        )

    def kind_names(self) -> tuple[str, ...]:
        """Return the kinds that have tensors, in the order of tables."""
        present = {cell.kind for cell in self.cells}
        return tuple(kind for kind in KINDS if kind in present)

    def rows(self) -> tuple[CellRow, ...]:
        """Return the cells as a table: a row for each layer."""
        layers: dict[tuple[str, int | None], list[Cell]] = {}
        for cell in self.cells:
            layers.setdefault((cell.tower, cell.layer), []).append(cell)
        return tuple(
            CellRow(
                label=layer_label(tower, layer),
                cells={cell.kind: cell for cell in cells},
                total=_sum_up(cells, tower, layer, "all"),
            )
            for (tower, layer), cells in layers.items()
        )

    def totals(self) -> CellRow:
        """Return the last row of the table: sums over all layers."""
        of_kind = {kind: [c for c in self.cells if c.kind == kind] for kind in self.kind_names()}
        return CellRow(
            label="all",
            cells={kind: _sum_up(cells, "all", None, kind) for kind, cells in of_kind.items()},
            total=_sum_up(self.cells, "all", None, "all"),
        )


def layer_label(tower: str, layer: int | None) -> str:
    """Return the name of a row of tables.

    Outside the blocks it is the tower's own, ``outside`` for the language model.

    Examples
    --------
    >>> [layer_label(*place) for place in (("language", 3), ("vision", 3), ("language", None))]
    ['3', 'vision 3', 'outside']
    """
    if tower == "language":
        return "outside" if layer is None else str(layer)
    return tower if layer is None else f"{tower} {layer}"


def layer_order(tower: str, layer: int | None) -> tuple[int, bool, int]:
    """Return what sorts layers: tower by tower, what lies outside the blocks last."""
    return TOWERS.index(tower), layer is None, layer or 0


def make_cells(tensors: Iterable[TensorOverview]) -> tuple[Cell, ...]:
    """Sum tensors up by layer and kind, in the order of tables."""
    groups: dict[tuple[str, int | None, str], list[TensorOverview]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.tower, tensor.layer, tensor.kind), []).append(tensor)
    ordered = sorted(groups, key=lambda at: (layer_order(at[0], at[1]), KINDS.index(at[2])))
    return tuple(_sum_up(groups[place], *place) for place in ordered)


def _sum_up(
    parts: Iterable[TensorOverview | Cell], tower: str, layer: int | None, kind: str
) -> Cell:
    parts = tuple(parts)
    elements = sum(part.elements for part in parts)
    score_sum = sum(part.mean_score * part.elements for part in parts)
    return Cell(
        tower=tower,
        layer=layer,
        kind=kind,
        elements=elements,
        mean_score=score_sum / elements if elements else 0.0,
        ranked=tuple(map(sum, zip(*(part.ranked for part in parts), strict=True))),
        restored=tuple(
            sum(count or 0 for count in counts)
            for counts in zip(*(part.restored for part in parts), strict=True)
        ),
    )
