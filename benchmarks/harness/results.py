"""What a benchmark found: printed, and written as Markdown and JSON of one form."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .machine import describe_machine, list_versions, today
from .table import Table

RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a benchmark found."""

    name: str
    """The benchmark's, and the files'."""
    title: str
    tables: tuple[Table, ...]
    samples: Mapping[str, Any]
    """Every single measurement, as JSON values."""
    remarks: tuple[str, ...] = ()
    """Sentences below the tables: what was predicted, what was left out."""
    problems: tuple[str, ...] = ()
    """What is not as it must be."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of what was measured besides the usual libraries."""

    def markdown(self) -> str:
        """Return tables, remarks and problems."""
        problems = (f"**Problem:** {problem}" for problem in self.problems)
        parts = [*(table.markdown() for table in self.tables), *self.remarks, *problems]
        return "\n\n".join(parts)


def publish(results: Results, folder: Path | None) -> int:
    """Print results and write them, with the machine they come from; 1 if there are problems.

    Parameters
    ----------
    results : Results
    folder : Path or None
        Receives ``<name>.md`` and ``<name>.json``; None writes nothing.
    """
    print(results.markdown())
    for problem in results.problems:
        print(f"problem: {problem}", file=sys.stderr)
    if folder is not None:
        _write(results, folder)
    return int(bool(results.problems))


def _write(results: Results, folder: Path) -> None:
    machine = describe_machine()
    versions = {**list_versions(), **results.versions}
    date = today()
    folder.mkdir(parents=True, exist_ok=True)
    facts = ", ".join(f"{key} {value}" for key, value in {**machine, **versions}.items())
    document = f"# {results.title}\n\n{results.markdown()}\n\nMeasured on {date}: {facts}.\n"
    (folder / f"{results.name}.md").write_text(document, encoding="utf-8")
    record = {
        "title": results.title,
        "date": date,
        "machine": machine,
        "versions": versions,
        "tables": [asdict(table) for table in results.tables],
        "remarks": results.remarks,
        "problems": results.problems,
        "samples": results.samples,
    }
    text = json.dumps(record, indent=2, ensure_ascii=False)
    (folder / f"{results.name}.json").write_text(text + "\n", encoding="utf-8")
