"""Measured figures, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass

from .table import Row, Spread, spread_cells

HEAD: Row = ("", "median", "min – max", "required", "holds")
"""Head of a table of requirements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A measured figure and what is asked of it, if anything."""

    label: str
    measured: Spread
    unit: str = ""
    digits: int
    limit: float | None = None
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the median is on the right side of the limit."""
        if self.limit is None:
            return True
        median = self.measured.median
        return median >= self.limit if self.at_least else median <= self.limit

    @property
    def demand(self) -> str:
        """What is asked: a sign, the limit and its unit; empty if nothing is."""
        if self.limit is None:
            return ""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"

    def row(self) -> Row:
        """Return the cells of the table."""
        verdict = "" if self.limit is None else "yes" if self.holds else "**no**"
        return (
            self.label,
            *spread_cells(self.measured, self.unit, self.digits),
            self.demand,
            verdict,
        )

    def problem(self) -> str | None:
        """Say what is wrong, if anything is."""
        if self.holds:
            return None
        measured, _ = spread_cells(self.measured, self.unit, self.digits)
        return f"{self.label}: {measured} measured, {self.demand} required"


def plain_row(label: str, measured: Spread, unit: str, digits: int) -> Row:
    """Return the cells of a figure of which nothing is asked."""
    return Requirement(label=label, measured=measured, unit=unit, digits=digits).row()
