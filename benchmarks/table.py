"""Results as a Markdown table and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .machine import describe_machine

RESULTS = Path(__file__).with_name("results")

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Repeated measurements of one quantity."""

    median: float
    least: float
    most: float


def summarize(values: Sequence[float]) -> Spread:
    """Return median and extremes of at least one value."""
    return Spread(median=statistics.median(values), least=min(values), most=max(values))


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns are also aligned as plain text; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    cells = [
        [_pad(cell, width, left=index == 0) for index, (cell, width) in enumerate(zipped)]
        for zipped in (zip(row, widths, strict=True) for row in (head, *rows))
    ]
    rule = [
        "-" * width if index == 0 else "-" * (width - 1) + ":" for index, width in enumerate(widths)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:]))


def _pad(cell: str, width: int, *, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)


def write_results(name: str, title: str, text: str, measured: Mapping[str, Any]) -> None:
    """Write ``results/<name>.md`` and ``.json``, with the machine they come from.

    Parameters
    ----------
    name, title : str
    text : str
        Table and remarks, in Markdown.
    measured : mapping
        The same as numbers, each single measurement included.
    """
    machine = describe_machine()
    RESULTS.mkdir(exist_ok=True)
    facts = ", ".join(f"{key} {value}" for key, value in machine.items())
    document = f"# {title}\n\n{text}\n\nMeasured on: {facts}.\n"
    (RESULTS / f"{name}.md").write_text(document, encoding="utf-8")
    record = json.dumps({"machine": machine, **measured}, indent=2, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(record + "\n", encoding="utf-8")
