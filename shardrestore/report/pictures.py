"""The main pictures as PNG, for papers and model cards."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

from ..errors import OutputError
from ..figures.detail import Detail, Distribution
from ..figures.overview import Cell, Overview, layer_label
from .charts import Spec, draw_distribution, draw_heatmap, with_data

_SCALE = 2.0
"""Pixels for each unit of length: 144 dots per inch."""

_WIDTH = 720


def check_renderer() -> None:
    """Refuse pictures where nothing can draw them.

    Raises
    ------
    OutputError
    """
    if find_spec("vl_convert") is None:
        raise OutputError(
            "--png needs vl-convert-python, which is not installed: pip install 'shardrestore[png]'"
        )


def encode_pictures(overview: Overview, detail: Detail | None) -> dict[str, bytes]:
    """Return pictures by name: ``layers``, and ``distribution`` where it is known.

    Of several regions the first one's distribution is shown, with the cuts of the first
    strategy; of several cuts the first.
    """
    import vl_convert

    specs: dict[str, Spec] = {"layers": _draw_layers(overview)}
    if detail and detail.distributions[0].edges:
        specs["distribution"] = _draw_distribution(overview, detail.distributions[0])
    return {
        name: vl_convert.vegalite_to_png(_on_paper(spec), scale=_SCALE)
        for name, spec in sorted(specs.items())
    }


def _on_paper(spec: Spec) -> Spec:
    config = {**spec["config"], "background": "white", "font": "sans-serif"}
    return {**spec, "config": config}


def _draw_distribution(overview: Overview, one: Distribution) -> Spec:
    low, high = one.edges[0], one.edges[-1]
    # "10 %" says which weights are meant only if all marks are of one strategy.
    strategy = overview.cuts[0].choice.strategy
    cuts = [
        cut
        for cut in overview.cuts
        if (cut.choice.region, cut.choice.strategy) == (one.region, strategy)
    ]
    marks = [
        {"score": cut.figures.threshold, "label": f"{cut.choice.percent:g} %"}
        for cut in cuts
        if cut.figures.threshold is not None and low < cut.figures.threshold < high
    ]
    bins = [
        {"from": start, "to": end, "elements": count, "share": 100 * count / one.elements}
        for (start, end), count in zip(pairwise(one.edges), one.counts, strict=True)
    ]
    spec = draw_distribution(one.edges, overview.score_label)
    share = 100 * one.unchanged / one.elements
    title = f"{one.elements:,} weights of {one.region}, {share:.2f} % of them unchanged"
    return {
        **with_data(spec, {"bins": bins, "cuts": marks, "chosen": []}),
        "width": _WIDTH,
        "title": {"text": title, "anchor": "start", "fontWeight": "normal", "offset": 24},
    }


def _draw_layers(overview: Overview) -> Spec:
    panels = [
        _draw_panel("mean", overview, "how much they changed", _mean_score),
    ]
    if overview.cuts:
        choice = overview.cuts[0].choice
        title = f"restored: {choice.strategy} {choice.percent:g} % of {choice.region}"
        panels.append(_draw_panel("restored", overview, title, _share_in_percent))
    return {
        "config": panels[0].pop("config"),
        "spacing": 48,
        "hconcat": [{key: panel[key] for key in panel if key != "config"} for panel in panels],
        "resolve": {"scale": {"color": "independent"}},
    }


def _mean_score(cell: Cell) -> float | None:
    return cell.mean_score if math.isfinite(cell.mean_score) else None


def _share_in_percent(cell: Cell) -> float | None:
    share = cell.restored_share(0)
    return None if share is None else 100 * share


def _draw_panel(
    measure: str, overview: Overview, title: str, value: Callable[[Cell], float | None]
) -> Spec:
    cells: list[dict[str, Any]] = [
        {
            "row": layer_label(cell.tower, cell.layer),
            "column": cell.kind,
            "value": value(cell),
            "elements": cell.elements,
        }
        for cell in overview.cells
        if measure == "mean" or value(cell) is not None
    ]
    rows = [row.label for row in overview.rows()]
    known = [cell["value"] for cell in cells if cell["value"]] or [1.0]
    ends = min(known) if measure == "mean" else 0.0, max(known)
    spec = draw_heatmap(measure, rows, overview.kind_names(), ends, overview.score_label)
    return {
        **with_data(spec, {"cells": cells}),
        "title": {"text": title, "anchor": "start", "fontWeight": "normal"},
    }
