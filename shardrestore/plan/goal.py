"""What a run is asked for, output by output."""

from __future__ import annotations

from dataclasses import dataclass

from ..selection.cut import Strategy
from .segment import Region


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What one output is to be: a share of a region, chosen by a strategy."""

    region: Region
    strategy: Strategy
    percent: float
    selected: int
    """Elements to select."""
    refines: bool
    """Whether its cut is not resolved by the scan, so that low bits are counted."""
    exact: bool
    """Whether its cut separates keys, not bins of them: for lack of need, or refined."""

    @property
    def random(self) -> bool:
        """Whether the keys that are cut are random, not scores."""
        return self.strategy == "random"
