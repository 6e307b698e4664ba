"""The two main pictures as Vega-Lite specifications, for the page and for PNG alike.

The page fills their data in and changes it as the slider moves; ``with_data``
puts it into the specification itself. Lines and letters have the colour of the
text around them, so that a picture is right in light, in dark and on paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

# Two of Okabe and Ito's colours, which colour-blind readers tell apart, on light and on dark.
_BLUE, _ORANGE, _GREY = "#2a86c7", "#e69f00", "#8a8f98"

CONFIG: Spec = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "tickColor": "currentColor",
        "domainColor": "currentColor",
        "gridColor": "currentColor",
        "gridOpacity": 0.12,
        "tickOpacity": 0.4,
        "domainOpacity": 0.4,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
    },
    "legend": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleLimit": 320,
    },
    "text": {"color": "currentColor", "fontSize": 12},
}


def draw_distribution(edges: Sequence[float], score_label: str) -> Spec:
    """Return the distribution of the scores of a region.

    Its data: ``bins`` (from, to, share in percent, elements), ``chosen`` (from, to: what is
    restored) and ``cuts`` (score, label).

    Parameters
    ----------
    edges : sequence of float
        Between the bins, ascending; at least two.
    score_label : str
        What people call the score.
    """
    low, high = edges[0], edges[-1]
    decades = [10.0**n for n in range(-9, 3) if low <= 10.0**n * 1.001 and 10.0**n <= high * 1.001]
    x = {
        "field": "from",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {
            "title": f"{score_label} of a weight",
            "values": decades,
            "format": "~g",
            "grid": False,
        },
    }
    share = {
        "field": "share",
        "type": "quantitative",
        "axis": {"title": "share of the region’s weights, %", "tickCount": 5},
    }
    score = {"field": "score", "type": "quantitative"}
    chosen = {
        "data": {"name": "chosen"},
        "mark": {"type": "rect", "color": _ORANGE, "opacity": 0.22},
        "encoding": {"x": x, "x2": {"field": "to"}},
    }
    bins = {
        "data": {"name": "bins"},
        "mark": {"type": "rect", "color": _BLUE},
        "encoding": {
            "x": x,
            "x2": {"field": "to"},
            "y": share,
            "y2": {"datum": 0},
            "tooltip": [
                {"field": "from", "title": "from", "format": ".3~g"},
                {"field": "to", "title": "to below", "format": ".3~g"},
                {"field": "elements", "title": "weights", "format": ","},
                {"field": "share", "title": "share, %", "format": ".3~g"},
            ],
        },
    }
    rules = {
        "data": {"name": "cuts"},
        "mark": {"type": "rule", "color": _ORANGE, "strokeWidth": 2, "strokeDash": [5, 3]},
        "encoding": {"x": score},
    }
    labels = {
        "data": {"name": "cuts"},
        "mark": {"type": "text", "dy": -7, "baseline": "bottom", "y": 0},
        "encoding": {"x": score, "text": {"field": "label"}},
    }
    return {
        "width": "container",
        "height": 260,
        "padding": {"top": 8, "left": 2, "right": 12, "bottom": 2},
        "config": CONFIG,
        "layer": [chosen, bins, rules, labels],
    }


def draw_heatmap(
    measure: str,
    rows: Sequence[str],
    columns: Sequence[str],
    ends: tuple[float, float],
    score_label: str,
) -> Spec:
    """Return a heatmap of layers by modules, or by kinds of modules.

    Its data: ``cells`` (row, column, value, elements). Cells without a value, and those of
    mean 0, which no logarithmic scale holds, are grey.

    Parameters
    ----------
    measure : {"mean", "restored"}
    rows, columns : sequence of str
        Labels in the order of the picture.
    ends : tuple of float
        Where the scale of colours begins and ends; above 0 for ``mean``.
    score_label : str
        What people call the score.
    """
    mean = measure == "mean"
    scale = {"scheme": "viridis", "type": "log"} if mean else {"scheme": "cividis"}
    drawn = "isValid(datum.value) && datum.value " + ("> 0" if mean else ">= 0")
    colour: Spec = {
        "field": "value",
        "type": "quantitative",
        "scale": {**scale, "domain": list(ends)},
        "legend": {
            "title": f"mean {score_label}" if mean else "restored share of the weights, %",
            "orient": "bottom",
            "direction": "horizontal",
            "gradientLength": 200,
            "gradientThickness": 10,
            "format": ".2~g",
            "tickCount": 3 if mean else 4,
            "labelOverlap": "greedy",
        },
    }
    encoding = {
        "x": {
            "field": "column",
            "type": "nominal",
            "scale": {"domain": list(columns), "paddingInner": 0.04},
            "axis": {
                "title": None,
                "orient": "top",
                "labelAngle": -45,
                "labelLimit": 180,
                "ticks": False,
                "domain": False,
            },
        },
        "y": {
            "field": "row",
            "type": "nominal",
            "scale": {"domain": list(rows), "paddingInner": 0.04 if len(rows) <= 48 else 0},
            "axis": {
                "title": "layer",
                "labelOverlap": "parity",
                "labelLimit": 120,
                "ticks": False,
                "domain": False,
            },
        },
        "tooltip": [
            {"field": "row", "title": "layer"},
            {"field": "column", "title": "module"},
            {"field": "shown", "title": "mean change" if mean else "restored"},
            {"field": "elements", "title": "weights", "format": ","},
        ],
    }
    return {
        "width": {"step": 34 if len(columns) > 5 else 56},
        "height": {"step": 20 if len(rows) <= 48 else 960 / len(rows)},
        "padding": {"top": 4, "left": 2, "right": 24, "bottom": 2},
        "config": CONFIG,
        "data": {"name": "cells"},
        "encoding": encoding,
        "layer": [
            {"mark": {"type": "rect", "color": _GREY, "opacity": 0.35}},
            {
                "transform": [{"filter": drawn}],
                "mark": {"type": "rect"},
                "encoding": {"color": colour},
            },
        ],
    }


def with_data(spec: Spec, data: Mapping[str, Rows]) -> Spec:
    """Return a specification that holds its data instead of naming it."""
    filled = dict(spec)
    if "data" in spec:
        filled["data"] = {"values": list(data[spec["data"]["name"]])}
    if "layer" in spec:
        filled["layer"] = [with_data(layer, data) for layer in spec["layer"]]
    return filled
