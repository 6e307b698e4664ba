"""From the reports of a finished model to its overview."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.allowance import Allowance
from ..checkpoint.document import weigh_table
from ..checkpoint.entry import show
from ..errors import CheckpointError
from ..names import RECORD_FILE, SHARES_FILE, SUMMARY_FILE
from ..pairing.regions import locate
from ..pairing.towers import Towers, find_towers
from ..verification.record import Record, parse_record, read_values
from .model import Choice, CutFigures
from .overview import Overview, OverviewCut, TensorOverview, make_cells

_SUMMARY_HEAD = ["param_name", "layer_name", "average_mean_diff", "numel"]
_STATS_HEAD = ["param_name", "layer_name", "restored_numel", "numel", "restored_ratio"]
_COPY_AGAIN = "copy it again from where the model was written, or restore again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """What a finished model's folder says of it."""

    record: Record
    values: Mapping[str, Any]
    """All that the record holds."""
    overview: Overview


def overview_of_folder(folder: Path, allowance: Allowance | None = None) -> Overview:
    """Return what the reports in a finished model's folder say of it.

    It has no quantiles, and no tensors but those of the region.

    Parameters
    ----------
    folder : Path
    allowance : Allowance, optional
        What parsing them may take.

    Raises
    ------
    CheckpointError
        If a report is missing or damaged.
    MemoryBudgetError
        If one is too large to be parsed.
    """
    return read_reports(folder, allowance or Allowance()).overview


def read_reports(folder: Path, allowance: Allowance) -> Reports:
    """Read record and tables of a finished model; see ``overview_of_folder``."""
    if not (os.path.lexists(folder / RECORD_FILE) or any(folder.glob(f"*/{RECORD_FILE}"))):
        raise CheckpointError(
            f"{folder}: not a finished model, there is no {RECORD_FILE} in it: name a folder that "
            "`shardrestore run` has written, or a profile that `shardrestore scan` has"
        )
    values = read_values(folder, allowance)
    record = parse_record(values, folder)
    tensors = _read_tensors(folder, allowance)
    _compare_sums(folder, tensors, record)
    overview = _describe(folder, record, values, tensors)
    return Reports(record=record, values=values, overview=overview)


def _describe(
    folder: Path, record: Record, values: Mapping[str, Any], tensors: tuple[TensorOverview, ...]
) -> Overview:
    cut = _Facts(values["cut"], folder / RECORD_FILE)
    return Overview(
        source=folder,
        origin="model",
        inputs={role: values[role] for role in ("base", "target")},
        options=values["options"],
        elements=record.region_elements,
        unchanged_share=cut.share("unchanged_share"),
        zero_base_share=cut.share("zero_base_share"),
        nonfinite=cut.count("nonfinite_weights"),
        regions=(),
        kinds=(),
        layers=(),
        cells=make_cells(tensors),
        tensors=tensors,
        cuts=(
            OverviewCut(
                choice=Choice(
                    region=record.region,
                    strategy=record.strategy,
                    percent=record.percent,
                    score=record.scoring.score,
                ),
                figures=CutFigures(
                    region_elements=record.region_elements,
                    selected_elements=record.selected_elements,
                    threshold=record.threshold,
                    exact=cut.flag("exact"),
                ),
            ),
        ),
        unpaired={},
        notes=record.notes,
    )


def _compare_sums(folder: Path, tensors: Sequence[TensorOverview], record: Record) -> None:
    """Refuse a table of tensors that is not of the record's run."""
    for what, found, recorded in (
        ("elements", sum(tensor.elements for tensor in tensors), record.region_elements),
        ("restored", sum(tensor.restored[0] or 0 for tensor in tensors), record.selected_elements),
    ):
        if found != recorded:
            raise CheckpointError(
                f"{folder / SHARES_FILE}: damaged: {found:,} {what} in all, {RECORD_FILE} says "
                f"{recorded:,}; {_COPY_AGAIN}"
            )


class _Facts:
    """Values of the record's cut that ``read_record`` leaves out."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self._values = values
        self._path = path

    def share(self, key: str) -> float:
        value = self._values.get(key)
        if isinstance(value, (int, float)) and type(value) is not bool and 0 <= value <= 1:
            return float(value)
        raise self._damaged(key, "a number from 0 to 1")

    def count(self, key: str) -> int:
        value = self._values.get(key)
        if type(value) is not int or value < 0:
            raise self._damaged(key, "a whole number")
        return value

    def flag(self, key: str) -> bool:
        value = self._values.get(key)
        if type(value) is not bool:
            raise self._damaged(key, "true or false")
        return value

    def _damaged(self, key: str, expected: str) -> CheckpointError:
        found = f"is {self._values[key]!r:.80}" if key in self._values else "is missing"
        return CheckpointError(
            f"{self._path}: damaged: cut.{key} {found}, expected {expected}; {_COPY_AGAIN}"
        )


def _read_tensors(folder: Path, allowance: Allowance) -> tuple[TensorOverview, ...]:
    """Read both tables of tensors, which have the same rows."""
    means = _read_table(folder / SUMMARY_FILE, _SUMMARY_HEAD, allowance)
    stats = _read_table(folder / SHARES_FILE, _STATS_HEAD, allowance)
    if [(row[0], row[3]) for row in means] != [(row[0], row[3]) for row in stats]:
        raise CheckpointError(
            f"{folder / SHARES_FILE}: its tensors are not those of {SUMMARY_FILE}: one of the two "
            f"is damaged or another run's; {_COPY_AGAIN}"
        )
    towers = find_towers(row[0] for row in stats)
    tensors = []
    for number, (mean, stat) in enumerate(zip(means, stats, strict=True), start=2):
        try:
            tensors.append(_read_tensor(stat[0], towers, mean[2], stat[2], stat[3]))
        except ValueError as error:
            raise CheckpointError(
                f"{folder}: line {number} of {SUMMARY_FILE} or {SHARES_FILE} is damaged: "
                f"{error}; {_COPY_AGAIN}"
            ) from error
    return tuple(tensors)


def _read_table(path: Path, head: Sequence[str], allowance: Allowance) -> list[list[str]]:
    try:
        text = allowance.read(path, weigh_table).decode("utf-8", "surrogatepass")
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {_COPY_AGAIN}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: damaged: not UTF-8; {_COPY_AGAIN}") from error
    *lines, rest = text.split("\n")
    rows = [line.split("\t") for line in lines]
    if rest or not rows or rows[0] != list(head):
        raise CheckpointError(
            f"{path}: damaged: it has not the columns {', '.join(head)}, or does not end with a "
            f"line; {_COPY_AGAIN}"
        )
    for number, row in enumerate(rows, start=1):
        if len(row) != len(head):
            raise CheckpointError(
                f"{path}: damaged: line {number} has {len(row)} columns, expected {len(head)}; "
                f"{_COPY_AGAIN}"
            )
    return rows[1:]


def _read_tensor(
    name: str, towers: Towers, mean: str, restored: str, elements: str
) -> TensorOverview:
    place = locate(name, (), towers)
    counts = _read_count(restored), _read_count(elements)
    if counts[0] > counts[1]:
        raise ValueError(f"{counts[0]:,} of {counts[1]:,} elements")
    return TensorOverview(
        name=name,
        tower=place.tower,
        layer=place.layer,
        kind=place.kind,
        module=place.module,
        elements=counts[1],
        mean_score=_read_mean(mean),
        unchanged_share=None,
        restored=(counts[0],),
    )


def _read_count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise ValueError(f"{show(text)} is no count")
    return int(text)


def _read_mean(text: str) -> float:
    mean = float(text[:40])
    if mean < 0:
        raise ValueError(f"{show(text)} is below zero")
    return mean
