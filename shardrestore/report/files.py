"""The reports in an output folder.

Three of them have the names, columns and keys of the published tool
(UmeanNever/ParamRestore), so that notebooks written for it go on working;
``shardrestore.json`` says what was done, to whom, and with what.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..documents import INLINE, encode_json
from ..figures.model import (
    ChangeFigures,
    CutFigures,
    KeyRange,
    ModelFigures,
    TensorResult,
    TieFigures,
)
from ..figures.side_files import SideFileFigures
from ..names import REPORT_FILES
from ..scores import DEFAULT_SCORE
from ..selection.histogram import ScoreStatistics
from ..version import __version__

RECORD_FORMAT = 1
"""Version of the record's keys; raised when one changes its meaning."""

SCORED_FORMAT = 2
"""Version of records that name their score, so that versions with one score refuse them."""


def encode_reports(
    figures: ModelFigures,
    inputs: Mapping[str, Any],
    options: Mapping[str, Any],
    files: SideFileFigures,
    *,
    checksum: bool,
) -> dict[str, bytes]:
    """Return the reports of a restoration: file name to contents.

    The contents depend on inputs and options alone, not on time, workers or
    memory: the same request writes the same bytes.

    Parameters
    ----------
    figures : ModelFigures
    inputs : mapping
        Identities of ``base`` and ``target``, as JSON values.
    options : mapping
        The options that decided the result, as JSON values.
    files : SideFileFigures
        What became of the target's other files.
    checksum : bool
        Whether checksums are written beside them.
    """
    contents = (
        _diff_summary(figures.tensors),
        _restore_stats(figures.tensors),
        encode_json(_describe_scores(figures)),
        encode_json(_record(figures, inputs, options, files, checksum=checksum)),
    )
    return dict(zip(REPORT_FILES, contents, strict=True))


def _diff_summary(tensors: Sequence[TensorResult]) -> bytes:
    rows = [
        f"{_cell(tensor.name)}\t{_layer_name(tensor)}\t{tensor.mean_score:.8f}\t{tensor.elements}"
        for tensor in tensors
    ]
    return _table("param_name\tlayer_name\taverage_mean_diff\tnumel", rows)


def _restore_stats(tensors: Sequence[TensorResult]) -> bytes:
    rows = []
    for tensor in tensors:
        share = tensor.restored / tensor.elements if tensor.elements else 0.0
        counts = f"{tensor.restored}\t{tensor.elements}\t{share:.8f}"
        rows.append(f"{_cell(tensor.name)}\t{_layer_name(tensor)}\t{counts}")
    return _table("param_name\tlayer_name\trestored_numel\tnumel\trestored_ratio", rows)


def _cell(name: str) -> str:
    """Return a name that stays in its cell: control characters as escapes."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _layer_name(tensor: TensorResult) -> str:
    return "" if tensor.layer is None else str(tensor.layer)


def _table(head: str, rows: Sequence[str]) -> bytes:
    return ("\n".join([head, *rows]) + "\n").encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True, kw_only=True)
class _SelectedStatistics:
    """``selected_param_stats.json``, as the published tool writes it."""

    k_count: int
    strategy: str
    selected_rel_diffs: ScoreStatistics
    total_rel_diffs: ScoreStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class _RecordedCut:
    """What ``shardrestore.json`` says of a cut: enough to check every element by."""

    cut: CutFigures = field(metadata=INLINE)
    tie_keys: KeyRange = field(metadata=INLINE)
    ties: TieFigures = field(metadata=INLINE)
    changes: ChangeFigures = field(metadata=INLINE)


def _describe_scores(figures: ModelFigures) -> _SelectedStatistics:
    return _SelectedStatistics(
        k_count=figures.cut.selected_elements,
        strategy=figures.choice.strategy,
        selected_rel_diffs=figures.scores.selected,
        total_rel_diffs=figures.scores.total,
    )


def _record(
    figures: ModelFigures,
    inputs: Mapping[str, Any],
    options: Mapping[str, Any],
    files: SideFileFigures,
    *,
    checksum: bool,
) -> dict[str, object]:
    return {
        "format": RECORD_FORMAT if figures.choice.score == DEFAULT_SCORE else SCORED_FORMAT,
        **({"rounded": True} if figures.is_rounded else {}),
        **inputs,
        "options": options,
        "cut": _RecordedCut(
            cut=figures.cut,
            tie_keys=figures.tie_keys,
            ties=figures.ties,
            changes=figures.changes,
        ),
        "notes": figures.notes,
        "files": files,
        **({"checksum": True} if checksum else {}),
        "versions": {
            "shardrestore": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
