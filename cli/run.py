"""``shardrestore run``: restore and write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as o
from .outcome import print_result, reports_errors
from .progress import ProgressBars
from .text import format_bytes, format_facts, format_mib, format_share, format_table

if TYPE_CHECKING:
    from shardrestore import Restoration


@reports_errors
def run(
    base: o.Base,
    target: o.Target,
    output: Annotated[str, typer.Option(metavar="FOLDER", help="Where to write the model.")],
    percent: o.Percents = ["10"],  # noqa: B006
    region: o.Region = "transformer",
    include: o.Include = [],  # noqa: B006
    exclude: o.Exclude = [],  # noqa: B006
    rename: o.Rename = [],  # noqa: B006
    strategy: o.Strategy = "top",
    seed: o.Seed = 32,
    device: o.Device = "auto",
    workers: o.Workers = None,
    max_memory: o.MaxMemory = "512MiB",
    approximate: o.Approximate = False,
    dtype: o.Dtype = "auto",
    allow_nonfinite: o.AllowNonfinite = False,
    overwrite: o.Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run (not yet available).")
    ] = False,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Restore weights and write a complete model folder."""
    percents = o.parse_percents(percent)
    import shardrestore

    if resume:
        raise shardrestore.RequestError(
            "--resume is not available yet: run again without it, an interrupted run leaves "
            "nothing behind"
        )
    settings = shardrestore.Options(
        region=region,
        include=include,
        exclude=exclude,
        rename=rename,
        strategy=strategy,
        seed=seed,
        device=device,
        workers=workers,
        max_memory=max_memory,
        approximate=approximate,
        dtype=dtype,
        allow_nonfinite=allow_nonfinite,
        overwrite=overwrite,
    )
    bars = ProgressBars(quiet=quiet)
    if len(percents) == 1:
        results: tuple[Restoration, ...] = (
            shardrestore.restore(
                base, target, output, percent=percents[0], observer=bars, **settings
            ),
        )
    else:
        results = shardrestore.sweep(
            base, target, output, percents=percents, observer=bars, **settings
        )
    if as_json:
        runs = [shardrestore.summarize(result) for result in results]
        print_result(json.dumps(runs[0] if len(runs) == 1 else {"runs": runs}, indent=2))
    elif not quiet:
        print_result("\n\n".join(describe(result) for result in results))


def describe(result: Restoration) -> str:
    """Return the closing summary of a restoration."""
    order = {"top": "most changed", "bottom": "least changed", "random": "random"}
    facts = [
        ("output", str(result.output)),
        ("region", f"{result.region}: {len(result.tensors)} tensors"),
        ("chosen", f"{order[result.strategy]} {result.percent:g} %"),
        ("threshold", _describe_threshold(result)),
        ("unchanged", f"{format_share(result.unchanged_share)} of the region"),
        ("zero base", f"{format_share(result.zero_base_share)} of the region"),
    ]
    if result.threshold is not None:
        ties = f"{result.ties:,} at the threshold, {result.ties_taken:,} of them restored"
        facts.insert(4, ("ties", ties))
    if result.nonfinite:
        facts.append(("non-finite", f"{result.nonfinite:,} weights"))
    rows = [("module kind", "elements", "restored", "share")] + [
        (kind.kind, f"{kind.elements:,}", f"{kind.restored:,}", format_share(kind.restored_share))
        for kind in result.module_kinds()
    ]
    passes_seconds = result.scan_seconds + result.restore_seconds
    moved = result.read_bytes + result.written_bytes
    speed = format_bytes(moved / max(passes_seconds, 1e-9))
    passes = f"scan {result.scan_seconds:.2f}, restore {result.restore_seconds:.2f}"
    rest = f"start and reports {max(result.seconds - passes_seconds, 0):.2f}"
    read, written = format_bytes(result.read_bytes), format_bytes(result.written_bytes)
    memory = f"{format_mib(result.peak_rss_bytes)} of {format_mib(result.projected_bytes)} planned"
    costs = [
        ("time", f"{result.seconds:.2f} s: {passes}, {rest}"),
        ("throughput", f"{speed}/s: {read} read, {written} written"),
        ("peak memory", memory),
    ]
    head = (
        f"restored {result.selected_elements:,} of {result.region_elements:,} elements to the "
        "base's values"
    )
    return "\n".join(
        [head, "", format_facts(facts), "", format_table(rows), "", format_facts(costs)]
    )


def _describe_threshold(result: Restoration) -> str:
    if result.threshold is None:
        return "none: chosen by hash of name and index"
    sign = "≥" if result.strategy == "top" else "≤"
    exact = "" if result.exact else " (approximate)"
    return f"relative change {sign} {result.threshold:.6g}{exact}"
