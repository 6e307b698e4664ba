"""Restoring a large model once: make the pair, run, check samples of the output, describe."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..contenders.contest import measure_floor
from ..harness.errors import BenchmarkError
from ..harness.page_cache import evict
from ..harness.process import Cost
from ..harness.results import Results
from ..harness.table import MIB, Row, Table
from ..harness.tool import measure_run, without_paths
from ..harness.turns import record_cost
from ..models.llama import LargeModel
from ..models.tiles import Prediction, make_tiles, predict, write_sides
from ..peak.samples import Sample
from .sample_check import SampleCheck, check_sample

PERCENT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one run."""

    model: LargeModel
    cost: Cost
    result: dict[str, Any]
    """What ``--json`` says."""
    predicted: Prediction
    check: SampleCheck
    floor: Cost | None
    """The I/O floor of the same pair, where it was measured."""

    @property
    def sample(self) -> Sample:
        """The peak of memory, for the picture."""
        return Sample(
            label=self.model.name,
            side_bytes=self.model.side_bytes,
            measured_bytes=(self.cost.peak_bytes,),
            projected_bytes=self.result["projected_bytes"],
            wall_seconds=(self.cost.wall_seconds,),
        )

    @property
    def gb_per_second(self) -> float:
        """Bytes read and written, by the wall time of the whole process."""
        moved = self.result["read_bytes"] + self.result["written_bytes"]
        return float(moved) / 1e9 / self.cost.wall_seconds


def restore_large(
    model: LargeModel,
    folder: Path,
    options: Sequence[str],
    *,
    workers: int,
    blocks: int,
    with_floor: bool,
    prefix: Sequence[str] = (),
    made: Callable[[], None] = lambda: None,
) -> Outcome:
    """Make a pair in a folder, restore it, check samples; outputs are removed, the pair stays.

    Nothing of the pair is in the page cache when a measurement begins.

    Parameters
    ----------
    model : LargeModel
    folder : Path
    options : sequence of str
        Of ``shardrestore run``.
    workers : int
    blocks : int
        How many random blocks of the output are checked.
    with_floor : bool
        Whether the I/O floor is measured as well, afterwards.
    prefix : sequence of str
        See ``measure_run``.
    made : callable
        Called once the pair is there.
    """
    _tell(f"making {model.name}: two sides of {model.side_bytes / 1e9:.1f} GB …")
    tiles, output = make_tiles(), folder / "output"
    write_sides(folder, model, tiles, workers=workers)
    predicted = predict(model, tiles, PERCENT)
    made()
    evict(folder)
    _tell("restoring it …")
    cost, result = measure_run(
        folder,
        output,
        options,
        percents=str(PERCENT),
        workers=workers,
        prefix=prefix,
        keep=True,
    )
    _tell(f"checking {blocks} blocks of the output …")
    try:
        record = json.loads((output / "shardrestore.json").read_text(encoding="utf-8"))
        check = check_sample(folder, output, record["cut"], predicted, blocks=blocks)
    finally:
        shutil.rmtree(output)
    floor = None
    if with_floor:
        _tell("reading and copying it without restoring …")
        evict(folder)
        floor = measure_floor(folder, output)
    return Outcome(
        model=model, cost=cost, result=result, predicted=predicted, check=check, floor=floor
    )


def check_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise ``BenchmarkError`` if a folder's disk has too little space."""
    folder.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise BenchmarkError(
            f"{folder}: {what} takes {needed_bytes / 1e9:,.1f} GB of disk, {free_bytes / 1e9:,.1f} "
            "GB are free: free some space, or name another --folder"
        )


def describe(name: str, title: str, outcome: Outcome, extra: Sequence[Row] = ()) -> Results:
    """Return what was found, ratios first.

    Parameters
    ----------
    name, title : str
    outcome : Outcome
    extra : sequence of Row
        More rows: a label, what was measured, and what was predicted or allowed.
    """
    problems = list(outcome.check.problems)
    if not outcome.sample.fits:
        problems.append("the peak of memory is above its projection")
    head = ("", "measured", "predicted or allowed")
    return Results(
        name=name,
        title=title,
        tables=(Table(head=head, rows=(*_ratio_rows(outcome), *extra, *_figure_rows(outcome))),),
        problems=tuple(problems),
        samples={
            "peaks": [asdict(outcome.sample)],
            "run": record_cost(outcome.cost),
            "floor": record_cost(outcome.floor) if outcome.floor else None,
            "result": without_paths(outcome.result),
            "predicted": asdict(outcome.predicted),
            "check": asdict(outcome.check),
        },
    )


def _ratio_rows(outcome: Outcome) -> list[Row]:
    peak, projected = outcome.cost.peak_bytes, outcome.result["projected_bytes"]
    rows: list[Row] = [("peak RSS / projected", f"{peak / projected:.0%}", "≤ 100%")]
    if outcome.floor is not None:
        ratio = outcome.cost.wall_seconds / outcome.floor.wall_seconds
        rows.insert(0, ("time / I/O floor", f"{ratio:.2f} ×", ""))
    return rows


def _figure_rows(outcome: Outcome) -> list[Row]:
    result, predicted, check = outcome.result, outcome.predicted, outcome.check
    cost = outcome.cost
    phases = f"scan {result['scan_seconds']:,.0f} s, restore {result['restore_seconds']:,.0f} s"
    return [
        ("peak RSS", _mib(cost.peak_bytes), f"≤ {_mib(result['projected_bytes'])}"),
        ("time", f"{cost.wall_seconds:,.1f} s", ""),
        ("of that", phases, ""),
        ("processor time", f"{cost.cpu_seconds:,.1f} s", ""),
        ("throughput", f"{outcome.gb_per_second:.2f} GB/s", ""),
        ("read", f"{result['read_bytes'] / 1e9:,.1f} GB", ""),
        ("written", f"{result['written_bytes'] / 1e9:,.1f} GB", ""),
        ("elements restored", f"{result['selected_elements']:,}", f"{predicted.selected:,}"),
        ("elements at the threshold", f"{result['ties']:,}", f"{predicted.ties:,}"),
        ("of those restored", f"{result['ties_taken']:,}", f"{predicted.ties_taken:,}"),
        (
            f"wrong in {check.elements:,} elements of {check.blocks} random blocks",
            f"{check.wrong:,}",
            "0",
        ),
    ]


def _mib(nbytes: int) -> str:
    return f"{nbytes / MIB:,.1f} MiB"


def _tell(what: str) -> None:
    print(what, file=sys.stderr)
