"""What a page shows beside an overview: distributions, and counts at every percent of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .overview import KINDS, layer_order

MOST_COLUMNS = 16
"""Modules of different names that a heatmap shows side by side; with more it shows kinds."""

MOST_COUNTS = 100_000
"""Counts of all sweeps together: 330 kB of the page for 80 layers of a Llama."""


class Placed(Protocol):
    """Whatever has a place in the model."""

    @property
    def tower(self) -> str:
        """One of ``TOWERS``."""

    @property
    def layer(self) -> int | None:
        """Index of its transformer block; None outside the blocks."""

    @property
    def kind(self) -> str:
        """One of ``KINDS``."""

    @property
    def module(self) -> str:
        """Name of its module."""


Spot = tuple[str, int | None, str, str]
"""Tower, layer, kind and module; the module is empty where a cell holds a whole kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The cells of a heatmap of layers by modules."""

    spots: tuple[Spot, ...]
    """Where each cell is: layer by layer, therein by kind and module."""
    of_tensor: tuple[int, ...]
    """The cell of each tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How many weights of a region changed by how much."""

    region: str
    elements: int
    mean_score: float
    median_score: float
    unchanged: int
    """Elements whose score is zero."""
    zero_base: int
    """Elements whose base weight is zero."""
    below: int
    """Elements whose score is above zero, and below the first edge."""
    beyond: int
    """Elements whose score is at the last edge, above it, infinite or no number."""
    edges: tuple[float, ...]
    """Ascending scores: bin n holds those from edge n on, below edge n + 1."""
    counts: tuple[int, ...]
    """Elements in each bin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One percent of a sweep: a position of the page's slider."""

    percent: float
    selected: int
    """Elements that are restored there."""
    threshold: float
    exact: bool
    """As in ``OverviewCut``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PercentSweep:
    """What each percent would restore where, for one region and strategy."""

    region: str
    strategy: str
    elements: int
    """Elements of the region."""
    points: tuple[SweepPoint, ...]
    """By ascending percent."""
    ranked: npt.NDArray[np.int64]
    """Elements of each cell that belong to the region, shape (cells,)."""
    restored: npt.NDArray[np.int64]
    """Elements that each point restores in each cell, shape (cells, points)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """What histograms of scores tell beyond an overview."""

    grid: Grid
    distributions: tuple[Distribution, ...]
    """One for each region, in the order of the request."""
    sweeps: tuple[PercentSweep, ...]
    """One for each region and strategy; empty if they would be too large for a page."""


def make_grid(tensors: Sequence[Placed], counts_per_cell: int = 0) -> Grid:
    """Return the finest grid that a page has room for: of modules, or else of kinds.

    Parameters
    ----------
    tensors : sequence of Placed
    counts_per_cell : int
        Numbers that each cell will hold.
    """
    fine: list[Spot] = [(one.tower, one.layer, one.kind, one.module) for one in tensors]
    columns = {(kind, module) for _, _, kind, module in fine}
    if len(columns) > MOST_COLUMNS or len(set(fine)) * counts_per_cell > MOST_COUNTS:
        fine = [(tower, layer, kind, "") for tower, layer, kind, _ in fine]
    spots = sorted(set(fine), key=lambda at: (layer_order(at[0], at[1]), KINDS.index(at[2]), at[3]))
    number = {spot: position for position, spot in enumerate(spots)}
    return Grid(spots=tuple(spots), of_tensor=tuple(number[spot] for spot in fine))
