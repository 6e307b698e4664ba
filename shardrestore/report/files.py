"""The reports in an output folder.

Three of them have the names, columns and keys of the published tool
(UmeanNever/ParamRestore), so that notebooks written for it go on working;
``shardrestore.json`` says what was done, to whom, and with what.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..figures.overview import finite
from ..figures.restoration import Restoration, RestorationReport, TensorResult
from ..names import REPORT_FILES
from ..selection.histogram import ScoreStatistics
from ..version import __version__

RECORD_FORMAT = 1
"""Version of the record's keys; raised when one changes its meaning."""


def encode_reports(
    result: Restoration, inputs: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the reports of a restoration: file name to contents.

    The contents depend on inputs and options alone, not on time, workers or
    memory: the same request writes the same bytes.

    Parameters
    ----------
    result : Restoration
    inputs : mapping
        Identities of ``base`` and ``target``, as JSON values.
    options : mapping
        The options that decided the result, as JSON values.
    """
    contents = (
        _diff_summary(result.tensors),
        _restore_stats(result.tensors),
        encode_json(_selected_stats(result)),
        encode_json(_record(result, inputs, options)),
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


def _selected_stats(result: Restoration) -> dict[str, Any]:
    return {
        "k_count": result.selected_elements,
        "strategy": result.strategy,
        "selected_rel_diffs": _statistics(result.selected_scores),
        "total_rel_diffs": _statistics(result.total_scores),
    }


def _statistics(scores: ScoreStatistics) -> dict[str, float | None]:
    return {key: finite(value) for key, value in dataclasses.asdict(scores).items()}


def _record(
    result: Restoration, inputs: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "format": RECORD_FORMAT,
        **inputs,
        "options": dict(options),
        "cut": {
            "region_elements": result.region_elements,
            "selected_elements": result.selected_elements,
            "threshold": finite(result.threshold),
            "exact": result.exact,
            "tie_first_key": result.tie_first,
            "tie_keys": result.tie_span,
            "ties": result.ties,
            "ties_taken": result.ties_taken,
            "unchanged_share": result.unchanged_share,
            "zero_base_share": result.zero_base_share,
            "nonfinite_weights": result.nonfinite,
        },
        "versions": {
            "shardrestore": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def summarize(result: RestorationReport) -> dict[str, Any]:
    """Return what ``--json`` prints of a restoration, as plain JSON values."""
    return {
        "outputs": [str(result.output)] if isinstance(result, Restoration) else [],
        "region": result.region,
        "strategy": result.strategy,
        "percent": result.percent,
        "region_elements": result.region_elements,
        "selected_elements": result.selected_elements,
        "threshold": finite(result.threshold),
        "exact": result.exact,
        "ties": result.ties,
        "ties_taken": result.ties_taken,
        "unchanged_share": result.unchanged_share,
        "zero_base_share": result.zero_base_share,
        "nonfinite_weights": result.nonfinite,
        "total_rel_diffs": _statistics(result.total_scores),
        "selected_rel_diffs": _statistics(result.selected_scores),
        "module_kinds": [
            {
                "kind": kind.kind,
                "tensors": kind.tensors,
                "elements": kind.elements,
                "restored": kind.restored,
            }
            for kind in result.module_kinds()
        ],
        "read_bytes": result.read_bytes,
        "written_bytes": result.written_bytes,
        "download_seconds": round(result.download_seconds, 3),
        "scan_seconds": round(result.scan_seconds, 3),
        "restore_seconds": round(result.restore_seconds, 3),
        "seconds": round(result.seconds, 3),
        "workers": result.workers,
        "projected_bytes": result.projected_bytes,
        "device": result.device,
        "device_reason": result.device_reason,
        "peak_rss_bytes": result.peak_rss_bytes,
    }


def encode_json(document: Mapping[str, Any]) -> bytes:
    """Return a document as indented JSON."""
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()
