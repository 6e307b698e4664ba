"""The picture of peak memory against model size, drawn from results that are there.

A Vega-Lite specification, turned into SVG without a browser. On white, whatever the
page around it is: black ink is then readable on a dark one too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..harness.errors import BenchmarkError
from .samples import Sample, fit_line

PICTURE_FILE = "peak_memory.svg"

LARGE = ("llama7b", "llama70b")
"""Benchmarks whose peaks come into the picture when they have been measured."""

LARGEST_GB = 138.0
"""Where the extrapolated line ends: Llama-2-70B in bfloat16, one side."""

BUDGET_MIB = 512
"""The default of ``--max-memory``."""

OURS, THEIRS, EXTRAPOLATED = "shardrestore", "in memory", "in memory, extrapolated"
_COLORS = {OURS: "#0072b2", THEIRS: "#d55e00", EXTRAPOLATED: "#d55e00"}  # Okabe and Ito's
_INK = "#222222"

Point = dict[str, Any]


def redraw(results: Path) -> Path:
    """Draw the picture from the results in a folder; return its path.

    Raises
    ------
    BenchmarkError
        If peak memory was not measured yet, or Vega-Lite is not installed.
    """
    try:
        samples = json.loads((results / "peak_memory.json").read_text(encoding="utf-8"))["samples"]
        series = [_read(entry) for entry in samples["series"]]
        in_memory = [_read(entry) for entry in samples["in_memory"]]
    except (OSError, KeyError) as error:
        raise BenchmarkError(
            f"{results}: no results to draw, or of an older form: run "
            "`python -m benchmarks peak_memory` first"
        ) from error
    for name in LARGE:
        path = results / f"{name}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))["samples"]["peaks"]
            series += map(_read, found)
    picture = results / PICTURE_FILE
    picture.write_text(_draw(specify(series, in_memory)), encoding="utf-8")
    return picture


def _read(entry: Mapping[str, Any]) -> Sample:
    lists = {key: tuple(entry[key]) for key in ("measured_bytes", "wall_seconds")}
    return Sample(**{**entry, **lists})


def _draw(specification: Mapping[str, Any]) -> str:
    try:
        import vl_convert
    except ImportError as error:
        raise BenchmarkError(
            "the picture needs vl-convert-python: `pip install vl-convert-python`, then "
            "`python -m benchmarks peak_memory --redraw`"
        ) from error
    return vl_convert.vegalite_to_svg(dict(specification))


def points(series: Sequence[Sample], in_memory: Sequence[Sample]) -> list[Point]:
    """Return what is drawn: one row for each end of a line, and each measured peak."""
    rows = [_point(OURS, sample.side_gb, sample.median_mib) for sample in series]
    rows += [_point(THEIRS, sample.side_gb, sample.median_mib) for sample in in_memory]
    if len(in_memory) > 1:
        line, last = fit_line(in_memory), in_memory[-1]
        rows.append(_point(EXTRAPOLATED, last.side_gb, last.median_mib))
        rows += [
            _point(EXTRAPOLATED, size, line.at(size))
            for size in (5.0, 13.5, 50.0, LARGEST_GB)
            if size > last.side_gb
        ]
    return rows


def _point(who: str, side_gb: float, mib: float) -> Point:
    return {"who": who, "gb": side_gb, "mib": mib}


def specify(series: Sequence[Sample], in_memory: Sequence[Sample]) -> dict[str, Any]:
    """Return the Vega-Lite specification of the picture."""
    rows = points(series, in_memory)
    x = {
        "field": "gb",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [0.05, 200]},
        "axis": {
            "title": "one side of the pair, GB (both axes logarithmic)",
            "values": [0.1, 1, 13.5, 138],
            "labelExpr": "datum.value == 13.5 ? '13.5 (7B)' : datum.value == 138 ? '138 (70B)' "
            ": datum.value == 1 ? '1' : '0.1'",
        },
    }
    y = {
        "field": "mib",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [64, 4_000_000]},
        "axis": {
            "title": "peak memory of the process",
            "values": [128, 1024, 8 * 1024, 64 * 1024, 512 * 1024],
            "labelExpr": "datum.value < 1024 ? datum.value + ' MiB' "
            ": format(datum.value / 1024, ',') + ' GiB'",
        },
    }
    color = {
        "field": "who",
        "type": "nominal",
        "scale": {"domain": list(_COLORS), "range": list(_COLORS.values())},
        "legend": None,
    }
    dash = {
        "field": "who",
        "type": "nominal",
        "scale": {"domain": list(_COLORS), "range": [[1, 0], [1, 0], [5, 4]]},
        "legend": None,
    }
    measured = {"filter": f"datum.who != '{EXTRAPOLATED}'"}
    encoding = {"x": x, "y": y, "color": color}
    lines = {"mark": {"type": "line"}, "encoding": {**encoding, "strokeDash": dash}}
    dots = {"mark": {"type": "point", "filled": True, "size": 50}, "encoding": encoding}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "description": describe(rows),
        "width": 560,
        "height": 320,
        "padding": 16,
        "background": "white",
        "config": {
            "font": "Helvetica, Arial, sans-serif",
            "axis": {
                "labelColor": _INK,
                "titleColor": _INK,
                "labelFontSize": 12,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "gridColor": "#e4e4e4",
                "domainColor": "#888888",
            },
            "view": {"stroke": None},
        },
        "layer": [
            *_budget(x, y),
            {"data": {"values": rows}, **lines},
            {"data": {"values": rows}, "transform": [measured], **dots},
            *_labels(rows, x, y, color),
        ],
    }


def _budget(x: Mapping[str, Any], y: Mapping[str, Any]) -> list[dict[str, Any]]:
    data = {"values": [_point("budget", 0.055, BUDGET_MIB)]}
    rule = {"type": "rule", "color": "#666666", "strokeDash": [2, 3]}
    text = {"type": "text", "align": "left", "dy": -7, "fontSize": 12, "color": "#555555"}
    words = {"value": f"budget: {BUDGET_MIB} MiB, the default of --max-memory"}
    return [
        {"data": data, "mark": rule, "encoding": {"y": y}},
        {"data": data, "mark": text, "encoding": {"x": x, "y": y, "text": words}},
    ]


def _labels(
    rows: Sequence[Point], x: Mapping[str, Any], y: Mapping[str, Any], color: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the names of the lines, each beside its line instead of in a legend."""
    labels = []
    for who, dx, dy in ((OURS, 0, 16), (THEIRS, -12, -4), (EXTRAPOLATED, -10, -4)):
        mine = [row for row in rows if row["who"] == who]
        if mine:
            text = {"value": _name(who, mine)}
            mark = {"type": "text", "align": "right", "dx": dx, "dy": dy, "fontSize": 12}
            encoding = {"x": x, "y": y, "color": color, "text": text}
            labels.append({"data": {"values": [mine[-1]]}, "mark": mark, "encoding": encoding})
    return labels


def _name(who: str, rows: Sequence[Point]) -> str:
    peaks = [row["mib"] for row in rows]
    if who == OURS:
        return f"shardrestore run, measured: {min(peaks):.0f} to {max(peaks):.0f} MiB"
    end = f"{peaks[-1] / 1024:,.0f} GiB"
    return f"in memory, {'measured: up to' if who == THEIRS else 'extrapolated:'} {end}"


def describe(rows: Sequence[Point]) -> str:
    """Return what the picture shows, in words, for readers who cannot see it."""
    ours = [row for row in rows if row["who"] == OURS]
    theirs = [row for row in rows if row["who"] == THEIRS]
    least, most = min(row["mib"] for row in ours), max(row["mib"] for row in ours)
    text = (
        f"Peak memory of shardrestore: {least:.0f} to {most:.0f} MiB for models of "
        f"{ours[0]['gb']:.2g} to {ours[-1]['gb']:.3g} GB a side."
    )
    if theirs:
        text += (
            f" The algorithm in memory: {theirs[0]['mib'] / 1024:.1f} GiB rising to "
            f"{theirs[-1]['mib'] / 1024:.1f} GiB at {theirs[-1]['gb']:.2g} GB a side."
        )
    return text
