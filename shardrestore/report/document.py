"""What a page shows, as one JSON document: the figures of an overview, and their detail."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..documents import to_json
from ..figures.costs import Costs
from ..figures.detail import Detail, Distribution, Grid, PercentSweep, make_grid
from ..figures.overview import Overview, TensorOverview, layer_label
from ..scores import SCORES
from ..version import __version__
from .charts import draw_distribution, draw_heatmap

LISTED_TENSORS = 2_000
"""Tensors in a page's table: if there are more, half of them are the most changed ones."""

_LISTED_FIGURES = 30_000
"""What a table holds besides names, a figure for each cut: 28 cuts would take 0.5 MB of a page."""

_WITHOUT_SLIDER = (
    "Counts of every percent would be too many for one page, so it has no slider: with fewer "
    "regions and strategies there may be room for one."
)

NAME_CHARACTERS = 120
"""Of a longer name the middle is left out; a header may hold names of megabytes."""

_MOST_ROWS = 400
"""Layers that a heatmap shows."""

_COSTS = (
    "read_bytes",
    "written_bytes",
    "scan_seconds",
    "restore_seconds",
    "seconds",
    "device",
    "workers",
    "projected_bytes",
    "peak_rss_bytes",
)
"""What a page shows of ``Costs``, in its order."""


def describe_page(
    overview: Overview,
    detail: Detail | None,
    costs: Costs | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Return everything that a page shows, as JSON values.

    Parameters
    ----------
    overview : Overview
    detail : Detail, optional
        Of the same tensors; None where no histograms are at hand.
    costs : Costs, optional
        What the restoration took.
    notes : sequence of str
        Further sentences for the reader, after the overview's own notes.
    """
    score = SCORES[overview.score]
    grid = detail.grid if detail else make_grid(overview.tensors)
    rows = list(dict.fromkeys((tower, layer) for tower, layer, _, _ in grid.spots))
    labels = [layer_label(*row) for row in rows]
    listed = _choose_tensors(overview.tensors, len(overview.cuts))
    if detail and not detail.sweeps:
        notes = [*notes, _WITHOUT_SLIDER]
    return {
        "generator": f"shardrestore {__version__}",
        "origin": overview.origin,
        "source": overview.source.name,
        "notes": [*(note.text for note in overview.notes), *notes],
        "inputs": {role: _describe_input(one) for role, one in overview.inputs.items()},
        "options": dict(overview.options),
        "score": {
            key: getattr(score, key)
            for key in ("label", "definition", "is_share", "zero_base", "large")
        },
        "elements": overview.elements,
        "unchanged_share": overview.unchanged_share,
        "zero_base_share": overview.zero_base_share,
        "nonfinite_weights": overview.nonfinite,
        "unpaired": len(overview.unpaired),
        "cuts": to_json(overview.cuts),
        "costs": _describe_costs(costs) if costs else None,
        "distributions": [
            _describe_distribution(one, overview.score_label)
            for one in (detail.distributions if detail else ())
        ],
        "rows": labels,
        "cells": list(_describe_cells(overview, grid, rows)) if len(rows) <= _MOST_ROWS else [],
        "sweeps": [_describe_sweep(sweep) for sweep in (detail.sweeps if detail else ())],
        "tensor_count": len(overview.tensors),
        "tensors": [_describe_tensor(tensor) for tensor in listed],
        "charts": {
            # The page fills in what the reader chooses: columns, and with them the scale.
            measure: draw_heatmap(measure, (), (), (0.1, 1), overview.score_label)
            for measure in ("mean", "restored")
        },
    }


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Return a document as JSON that nothing in it can break out of an HTML script with.

    Names of tensors come from the author of the checkpoint. JSON in ASCII has no line
    separators and no lone surrogates; without "<" no tag begins or ends in it.
    """
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").encode("ascii")


def shorten(name: str) -> str:
    """Return a name of at most ``NAME_CHARACTERS`` characters: its ends tell most."""
    if len(name) <= NAME_CHARACTERS:
        return name
    half = NAME_CHARACTERS // 2
    return f"{name[: half - 1]}…{name[-half:]}"


def _describe_input(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return where an input came from, and its size; the identity may have come from anyone.

    Of a folder its name alone: pages are shared, and where it lies is private.
    """
    shards = identity.get("shards")
    sizes = [
        shard["bytes"]
        for shard in (shards if isinstance(shards, list) else ())
        if isinstance(shard, dict) and type(shard.get("bytes")) is int
    ]
    names = ("repository", "revision", "commit")
    known = {name: shorten(str(identity[name])) for name in names if identity.get(name)}
    if "repository" not in known and identity.get("path"):
        known["path"] = shorten(PurePath(str(identity["path"])).name)
    return {**known, "files": len(sizes), "bytes": sum(sizes)}


def _describe_costs(costs: Costs) -> dict[str, Any]:
    members = to_json(costs)
    return {key: members[key] for key in _COSTS}


def _describe_distribution(one: Distribution, score: str) -> dict[str, Any]:
    return {**to_json(one), "chart": draw_distribution(one.edges, score) if one.edges else None}


def _describe_cells(
    overview: Overview, grid: Grid, rows: Sequence[tuple[str, int | None]]
) -> Iterator[list[Any]]:
    """Yield row, kind, module, elements, mean score; ranked and restored by each cut."""
    numbers = {row: number for number, row in enumerate(rows)}
    of_cell: list[list[TensorOverview]] = [[] for _ in grid.spots]
    for cell, tensor in zip(grid.of_tensor, overview.tensors, strict=True):
        of_cell[cell].append(tensor)
    for (tower, layer, kind, module), tensors in zip(grid.spots, of_cell, strict=True):
        elements = sum(tensor.elements for tensor in tensors)
        scores = sum(tensor.mean_score * tensor.elements for tensor in tensors)
        by_cut = range(len(overview.cuts))
        ranked = [sum(tensor.ranked[cut] for tensor in tensors) for cut in by_cut]
        restored = [sum(tensor.restored[cut] or 0 for tensor in tensors) for cut in by_cut]
        mean = to_json(scores / elements if elements else 0.0)
        yield [numbers[tower, layer], kind, module, elements, mean, ranked, restored]


def _describe_sweep(sweep: PercentSweep) -> dict[str, Any]:
    ranked = np.flatnonzero(sweep.ranked)
    return {
        "region": sweep.region,
        "strategy": sweep.strategy,
        "elements": sweep.elements,
        "points": [
            [point.percent, point.selected, to_json(point.threshold), point.exact]
            for point in sweep.points
        ],
        "cells": ranked.tolist(),
        "ranked": sweep.ranked[ranked].tolist(),
        "restored": pack(sweep.restored[ranked]),
    }


def pack(counts: npt.NDArray[np.int64]) -> str:
    """Return rows of counts as text: the steps within each row, seven bits a byte, in Base64.

    A step's sign is its lowest bit: among weights that tie, more may be restored in all
    and one less in a cell.
    """
    steps = np.diff(counts, axis=1, prepend=0).ravel()
    codes = ((steps << 1) ^ (steps >> 63)).astype(np.uint64)
    groups = codes[:, None] >> np.arange(0, 64, 7, dtype=np.uint64)
    more = groups >> np.uint64(7) > 0
    last = np.argmin(more, axis=1)
    kept = np.arange(groups.shape[1]) <= last[:, None]
    parts = (groups & np.uint64(0x7F)).astype(np.uint8) | (more.astype(np.uint8) << 7)
    return base64.b64encode(parts[kept].tobytes()).decode("ascii")


def _choose_tensors(tensors: Sequence[TensorOverview], cuts: int) -> list[TensorOverview]:
    """Return the tensors of the table, most changed first; a mean that is no number leads."""

    def rank(tensor: TensorOverview) -> tuple[bool, float]:
        known = to_json(tensor.mean_score)
        return known is not None, -(known or 0.0)

    ordered = sorted(tensors, key=rank)
    # A row has seven figures and words, and one figure for each cut.
    most = min(LISTED_TENSORS, _LISTED_FIGURES // (7 + cuts))
    if len(ordered) <= most:
        return ordered
    half = most // 2
    return [*ordered[:half], *ordered[len(ordered) - half :]]


def _describe_tensor(tensor: TensorOverview) -> list[Any]:
    return [
        shorten(tensor.name),
        layer_label(tensor.tower, tensor.layer),
        tensor.kind,
        shorten(tensor.module),
        tensor.elements,
        to_json(tensor.mean_score),
        tensor.unchanged_share,
        list(tensor.restored),
    ]
