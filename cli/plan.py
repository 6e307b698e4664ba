"""``shardrestore plan``: what a run would do, from headers alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as o
from .outcome import print_result, reports_errors
from .text import format_bytes, format_facts, format_mib, format_table

if TYPE_CHECKING:
    from shardrestore import Plan


@reports_errors
def plan(
    base: o.Base,
    target: o.Target,
    output: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the result would go.")
    ] = None,
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
    as_json: o.Json = False,
) -> None:
    """Show what a run would do; reads headers only."""
    percents = o.parse_percents(percent)
    import shardrestore

    result = shardrestore.plan(
        base,
        target,
        output,
        percent=percents if len(percents) > 1 else percents[0],
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
    print_result(json.dumps(_summarize(result), indent=2) if as_json else describe(result))


def describe(plan: Plan) -> str:
    """Return a plan as people read it."""
    rows = [("region", "tensors", "elements", f"restored at {plan.percents[0]:g} %", "unpaired")]
    for survey in plan.regions:
        mark = " *" if survey.region == plan.region else ""
        rows.append(
            (
                survey.region + mark,
                f"{survey.tensors:,}",
                f"{survey.elements:,}",
                f"{int(survey.elements * plan.percents[0] / 100):,}",
                f"{len(survey.problems):,}" if survey.problems else "–",
            )
        )
    selected = [
        ("" if number else "restored", f"{count:,} ({percent:g} %) of {plan.region_elements:,}")
        for number, (percent, count) in enumerate(
            zip(plan.percents, plan.selected_elements, strict=True)
        )
    ]
    sizing, others = plan.sizing, len(plan.side_files)
    memory = f"{format_mib(sizing.projected_bytes)} of {format_mib(plan.max_memory_bytes)}"
    facts = [
        ("base", f"{plan.base} ({format_bytes(plan.base_bytes)})"),
        ("target", f"{plan.target} ({format_bytes(plan.target_bytes)})"),
        *selected,
        ("reads", f"{format_bytes(plan.read_bytes)}: the region {plan.reads} times"),
        ("writes", f"{format_bytes(plan.written_bytes)} of weights; side files: {others}"),
        ("disk", _describe_disk(plan)),
        ("memory", f"{memory}: workers: {sizing.workers}, blocks: {sizing.block_bytes >> 10} KiB"),
    ]
    if plan.output_problem:
        facts.append(("output", plan.output_problem))
    return "\n".join([format_facts(facts), "", format_table(rows), "  * the region chosen"])


def _describe_disk(plan: Plan) -> str:
    needed = f"{format_bytes(plan.disk_needed_bytes)} needed"
    enough = "" if plan.disk_free_bytes >= plan.disk_needed_bytes else ": NOT ENOUGH"
    return f"{needed}, {format_bytes(plan.disk_free_bytes)} free{enough}"


def _summarize(plan: Plan) -> dict[str, Any]:
    return {
        "base": str(plan.base),
        "target": str(plan.target),
        "base_bytes": plan.base_bytes,
        "target_bytes": plan.target_bytes,
        "region": plan.region,
        "regions": [
            {
                "region": survey.region,
                "tensors": survey.tensors,
                "elements": survey.elements,
                "unpaired": [
                    {"name": problem.name, "problem": problem.text} for problem in survey.problems
                ],
            }
            for survey in plan.regions
        ],
        "percents": list(plan.percents),
        "region_elements": plan.region_elements,
        "selected_elements": list(plan.selected_elements),
        "reads": plan.reads,
        "read_bytes": plan.read_bytes,
        "written_bytes": plan.written_bytes,
        "disk_needed_bytes": plan.disk_needed_bytes,
        "disk_free_bytes": plan.disk_free_bytes,
        "output_problem": plan.output_problem,
        "side_files": list(plan.side_files),
        "workers": plan.sizing.workers,
        "block_bytes": plan.sizing.block_bytes,
        "projected_bytes": plan.sizing.projected_bytes,
        "max_memory_bytes": plan.max_memory_bytes,
    }
