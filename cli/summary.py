"""The closing summaries of restorations, as people read them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .text import (
    describe_files,
    describe_score,
    format_bytes,
    format_device,
    format_facts,
    format_mib,
    format_share,
    format_table,
    mark_note,
)

if TYPE_CHECKING:
    from shardrestore import Note, Restoration


def describe(result: Restoration) -> str:
    """Return the closing summary of a restoration."""
    order = {"top": "most changed", "bottom": "least changed", "random": "random"}
    threshold = ("threshold", _describe_threshold(result))
    facts = [
        ("output", str(result.output)),
        ("region", f"{result.region}: {len(result.tensors)} tensors"),
        ("chosen", f"{order[result.strategy]} {result.percent:g} %"),
        *describe_score(result.figures.choice),
        threshold,
        ("unchanged", f"{format_share(result.unchanged_share)} of the region"),
        ("zero base", f"{format_share(result.zero_base_share)} of the region"),
        *describe_files(result.files),
    ]
    if result.threshold is not None:
        ties = result.figures.ties
        tied = f"{ties.count:,} at the threshold, {ties.taken:,} of them restored"
        facts.insert(facts.index(threshold) + 1, ("ties", tied))
    nonfinite = result.figures.changes.nonfinite
    if nonfinite:
        facts.append(("non-finite", f"{nonfinite:,} weights"))
    rows = [("module kind", "elements", "restored", "share")] + [
        (kind.kind, f"{kind.elements:,}", f"{kind.restored:,}", format_share(kind.restored_share))
        for kind in result.figures.module_kinds()
    ]
    head = (
        f"restored {result.selected_elements:,} of {result.region_elements:,} elements to the "
        "base's values"
    )
    tables = [format_facts(facts), "", format_table(rows), "", _describe_costs([result])]
    return "\n".join([head, "", *tables])


def describe_sweep(results: Sequence[Restoration]) -> str:
    """Return the closing summary of several restorations of one target."""
    rows = [("model", "restored", "of", "threshold")]
    rows += [
        (
            result.output.name,
            f"{result.selected_elements:,}",
            f"{result.region_elements:,}",
            "–" if result.threshold is None else f"{_sign(result)} {result.threshold:.4g}",
        )
        for result in results
    ]
    shares = {
        result.region: f"{format_share(result.unchanged_share)} unchanged, "
        f"{format_share(result.zero_base_share)} with a zero base"
        for result in results
    }
    facts = [
        ("output", str(results[0].output.parent)),
        *describe_score(results[0].figures.choice),
        *shares.items(),
        *describe_files(results[0].files),
    ]
    models = "1 model" if len(results) == 1 else f"{len(results)} models"
    written = results[0].costs.times.restore_seconds > 0
    head = f"wrote {models}" if written else f"{models} already finished"
    tables = [format_facts(facts), "", format_table(rows), "", _describe_costs(results)]
    return "\n".join([head, "", *tables])


def describe_notes(results: Sequence[Restoration]) -> str:
    """Return what must not be missed, each once; with its models, unless all of them have it."""
    models: dict[Note, list[str]] = {}
    above = os.path.commonpath([result.output.parent for result in results]) if results else ""
    for result in results:
        for note in result.notes:
            models.setdefault(note, []).append(os.path.relpath(result.output, above))
    return "\n".join(
        mark_note(note, () if len(names) == len(results) else names)
        for note, names in models.items()
    )


def _describe_costs(results: Sequence[Restoration]) -> str:
    """Return time, throughput and memory, which the models of a sweep share."""
    costs = results[0].costs
    times = costs.times
    passes_seconds = times.scan_seconds + times.restore_seconds
    others_seconds = costs.seconds - passes_seconds - times.download_seconds
    if not passes_seconds:
        return format_facts([("time", f"{costs.seconds:.2f} s: it was already finished")])
    written_bytes = sum(one.costs.written_bytes for one in results)
    speed = format_bytes((costs.read_bytes + written_bytes) / passes_seconds)
    passes = f"scan {times.scan_seconds:.2f}, restore {times.restore_seconds:.2f}"
    rest = f"start and reports {max(others_seconds, 0):.2f}"
    if times.download_seconds:
        passes = f"download {times.download_seconds:.2f}, {passes}"
    read, written = format_bytes(costs.read_bytes), format_bytes(written_bytes)
    memory = f"{format_mib(costs.peak_rss_bytes)} of {format_mib(costs.projected_bytes)} planned"
    return format_facts(
        [
            ("time", f"{costs.seconds:.2f} s: {passes}, {rest}"),
            ("throughput", f"{speed}/s: {read} read, {written} written"),
            ("peak memory", memory),
            ("device", format_device(costs.device)),
        ]
    )


def _describe_threshold(result: Restoration) -> str:
    if result.strategy == "random":
        return "none: chosen by hash of name and index"
    if result.threshold is None:  # read back from a report: JSON has no infinity
        return f"{result.figures.choice.score_label} not finite"
    exact = "" if result.figures.cut.exact else " (approximate)"
    return f"{result.figures.choice.score_label} {_sign(result)} {result.threshold:.6g}{exact}"


def _sign(result: Restoration) -> str:
    return "≥" if result.strategy == "top" else "≤"
