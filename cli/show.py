"""``shardrestore show``: describe a profile or a finished model, without reading weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from .distribution import describe_source, format_score
from .options import takes_options
from .outcome import print_result
from .text import format_notes, format_share, format_table

if TYPE_CHECKING:
    from shardrestore import Cell, Overview, OverviewCut


@takes_options()
def show(
    path: str,
    *,
    percents: list[float] | None,
    region: list[str] | None,
    strategy: list[str] | None,
    score: str | None,
    max_memory: str,
    as_json: bool,
) -> None:
    """Show how much each layer changed, and what a restoration takes from it."""
    import shardrestore

    overview = shardrestore.show(
        path,
        percents=percents,
        region=region,
        strategy=strategy,
        score=score,
        max_memory=max_memory,
    )
    if as_json:
        print_result(json.dumps(shardrestore.summarize(overview), indent=2))
    else:
        print_result(describe(overview))


def describe(overview: Overview) -> str:
    """Return an overview as people read it: facts, changes, and a table for each cut."""
    parts = [describe_source(overview), _describe_means(overview)]
    parts += [_describe_cut(overview, number) for number in range(len(overview.cuts))]
    if overview.notes:
        parts.append(format_notes(overview.notes))
    return "\n\n".join(parts)


def _describe_means(overview: Overview) -> str:
    table = _tabulate(overview, lambda cell: format_score(cell.mean_score))
    return f"mean {overview.score_label}\n\n{table}"


def _describe_cut(overview: Overview, number: int) -> str:
    def show_share(cell: Cell) -> str:
        share = cell.restored_share(number)
        return "" if share is None else format_share(share)

    return f"{_name_cut(overview.cuts[number])}\n\n{_tabulate(overview, show_share)}"


def _name_cut(cut: OverviewCut) -> str:
    order = {"top": "most changed", "bottom": "least changed", "random": "random"}
    choice, figures = cut.choice, cut.figures
    lines = [
        f"restored: {order[choice.strategy]} {choice.percent:g} % of {choice.region}",
        f"  {figures.selected_elements:,} of {figures.region_elements:,} elements",
    ]
    if figures.threshold is not None:
        sign = "≥" if choice.strategy == "top" else "≤"
        about = "" if figures.exact else " (approximate)"
        lines.append(f"  {cut.choice.score_label} {sign} {figures.threshold:.6g}{about}")
    return "\n".join(lines)


def _tabulate(overview: Overview, show_cell: Callable[[Cell], str]) -> str:
    """Return a table of layers by module kinds with totals, except empty rows and columns."""
    totals = overview.totals()
    kinds = [kind for kind, cell in totals.cells.items() if show_cell(cell)]
    table = [["layer", *kinds, "all"]]
    for row in (*overview.rows(), totals):
        cells = [show_cell(row.cells[kind]) if kind in row.cells else "" for kind in kinds]
        if show_cell(row.total):
            table.append([row.label, *cells, show_cell(row.total)])
    return format_table(table)
