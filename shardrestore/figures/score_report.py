"""From ``selected_param_stats.json`` of a finished model to the statistics in it."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..checkpoint.allowance import Allowance
from ..errors import CheckpointError
from ..names import STATISTICS_FILE
from ..selection.histogram import ScoreStatistics
from .model import ScoreFigures

_NAMES = [field.name for field in fields(ScoreStatistics)]


def read_scores(folder: Path, allowance: Allowance) -> ScoreFigures:
    """Return the statistics of the scores of a finished model.

    Parameters
    ----------
    folder : Path
    allowance : Allowance
        What parsing the report may take.

    Raises
    ------
    CheckpointError
        If the report is missing or damaged.
    MemoryBudgetError
        If it is too large to be parsed.
    """
    path = folder / STATISTICS_FILE
    text = allowance.read(path)
    try:
        document = json.loads(text)
        return ScoreFigures(
            total=_parse(document["total_rel_diffs"]),
            selected=_parse(document["selected_rel_diffs"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: damaged: it should hold {', '.join(_NAMES)} of total_rel_diffs and of "
            "selected_rel_diffs: copy it again from where the model was written, or restore again"
        ) from error


def _parse(values: Any) -> ScoreStatistics:
    return ScoreStatistics(**{name: _parse_number(values[name]) for name in _NAMES})


def _parse_number(value: Any) -> float:
    """Return a number; what JSON could not hold was no finite one."""
    if value is None:
        return float("nan")
    if type(value) not in (int, float):
        raise TypeError("not a number")
    return float(value)
