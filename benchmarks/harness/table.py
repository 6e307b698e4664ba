"""Tables of results: medians and spreads as Markdown that is also aligned as plain text."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MIB = 1 << 20

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Repeated measurements of one quantity."""

    median: float
    least: float
    most: float


def summarize(values: Iterable[float]) -> Spread:
    """Return median and extremes of at least one value."""
    known = list(values)
    return Spread(median=statistics.median(known), least=min(known), most=max(known))


def spread_cells(spread: Spread, unit: str, digits: int) -> tuple[str, str]:
    """Return the cells of a median, with its unit, and of the extremes."""
    least, median, most = (
        f"{value:,.{digits}f}" for value in (spread.least, spread.median, spread.most)
    )
    return f"{median}{unit}", f"{least} – {most}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table whose cells are text already."""

    head: Row
    rows: tuple[Row, ...]
    caption: str = ""
    """What stands above it, if anything."""

    def markdown(self) -> str:
        """Return the table; the first column to the left, all others to the right."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        rule = [
            "-" * width if index == 0 else "-" * (width - 1) + ":"
            for index, width in enumerate(widths)
        ]
        lines = [_pad(self.head, widths), rule, *(_pad(row, widths) for row in self.rows)]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{self.caption}\n\n{text}" if self.caption else text


def _pad(row: Row, widths: Sequence[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
