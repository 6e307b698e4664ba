"""``shardrestore plan``: what a run would do, from headers alone."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Unpack

import typer

from .options import takes_options
from .outcome import print_result
from .push import check_upload, count_models
from .text import (
    describe_files,
    describe_score,
    format_bytes,
    format_device,
    format_facts,
    format_mib,
    format_notes,
    format_table,
)

if TYPE_CHECKING:
    from shardrestore import Options, Plan

_SHOWN_MODULES = 3


@takes_options()
def plan(
    base: str,
    targets: list[str],
    output: str | None,
    *,
    percents: list[float],
    push_to: str | None,
    delete_after_upload: bool,
    public: bool,
    revision: str | None,
    as_json: bool,
    **options: Unpack[Options],
) -> None:
    """Show what a run would do; reads headers only."""
    if len(targets) > 1:
        raise typer.BadParameter("plan one target at a time", param_hint="'--target'")
    check_upload(
        push_to,
        models=count_models(targets, percents, options),
        public=public,
        revision=revision,
        delete_after_upload=delete_after_upload,
    )
    import shardrestore

    if push_to is not None:
        shardrestore.check_push(push_to, revision=revision)
    result = shardrestore.plan(
        base,
        targets[0],
        output,
        percent=percents if len(percents) > 1 else percents[0],
        delete_after_upload=delete_after_upload,
        **options,
    )
    if as_json:
        print_result(json.dumps(shardrestore.summarize(result), indent=2))
    else:
        print_result(describe(result, push_to, one_by_one=delete_after_upload))


def describe(plan: Plan, repository: str | None = None, *, one_by_one: bool = False) -> str:
    """Return a plan as people read it, with what is uploaded to the Hub."""
    percent = plan.models[0].choice.percent
    chosen = {model.choice.region for model in plan.models}
    rows = [("region", "tensors", "elements", f"restored at {percent:g} %", "unpaired")]
    for survey in plan.regions:
        mark = " *" if survey.region in chosen else ""
        rows.append(
            (
                survey.region + mark,
                f"{survey.tensors:,}",
                f"{survey.elements:,}",
                f"{int(survey.elements * percent / 100):,}",
                f"{len(survey.problems):,}" if survey.problems else "–",
            )
        )
    memory = f"{format_mib(plan.memory.projected_bytes)} of {format_mib(plan.max_memory_bytes)}"
    facts = [
        ("base", f"{plan.base} ({format_bytes(plan.base_bytes)})"),
        ("target", f"{plan.target} ({format_bytes(plan.target_bytes)})"),
        *_describe_models(plan),
        *_describe_stacks(plan),
        *describe_score(plan.models[0].choice),
        ("reads", _describe_reads(plan)),
        ("writes", f"{format_bytes(plan.written_bytes)} of weights"),
        *describe_files(plan.files),
        *_describe_download(plan),
        *_describe_upload(plan, repository, one_by_one),
        ("disk", _describe_disk(plan)),
        ("memory", f"{memory}: {_describe_workers(plan)}"),
        ("device", _describe_device(plan)),
    ]
    facts += [("read from", remark) for remark in plan.remarks]
    if plan.output_problem:
        facts.append(("output", plan.output_problem))
    notes = ["", format_notes(plan.notes)] if plan.notes else []
    return "\n".join([format_facts(facts), "", format_table(rows), "  * chosen", *notes])


def _describe_reads(plan: Plan) -> str:
    """Return how much is read, and how often: a refining scan reads some of the weights again."""
    times = {1: "once", 2: "twice"}.get(plan.reads, f"up to {plan.reads} times")
    how_often = f"the region's weights are read {times}, others once"
    return f"{format_bytes(plan.read_bytes)}: {how_often}"


def _describe_workers(plan: Plan) -> str:
    memory = plan.memory
    return f"workers: {memory.workers}, blocks: {memory.block_bytes >> 10} KiB"


def _describe_models(plan: Plan) -> list[tuple[str, str]]:
    several = len({(model.choice.region, model.choice.strategy) for model in plan.models}) > 1
    return [
        (
            "" if number else "restored",
            f"{model.selected_elements:,} ({model.choice.percent:g} %) of {model.region_elements:,}"
            + (f", {model.choice.strategy} of {model.choice.region}" if several else ""),
        )
        for number, model in enumerate(plan.models)
    ]


def _describe_stacks(plan: Plan) -> list[tuple[str, str]]:
    """Return the blocks that the chosen regions hold, and what of them has no region of its own."""
    chosen = {model.choice.region for model in plan.models}
    facts = []
    for survey in plan.regions:
        if survey.region not in chosen:
            continue
        label = "blocks" if len(chosen) == 1 else survey.region
        of_tower = Counter(stack.tower for stack in survey.stacks)
        for stack in survey.stacks:
            name = f" {stack.name}" if of_tower[stack.tower] > 1 else ""
            facts.append((label, f"{stack.tower}:{name} {stack.describe()}"))
        if survey.others:
            shown = ", ".join([*survey.others][:_SHOWN_MODULES])
            more = len(survey.others) - _SHOWN_MODULES
            rest = f" and {more} more" if more > 0 else ""
            facts.append(("", f"{sum(survey.others.values()):,} neither attention nor mlp:"))
            facts.append(("", f"{shown}{rest}"))
    return facts


def _describe_download(plan: Plan) -> list[tuple[str, str]]:
    if not plan.download_bytes:
        return []
    return [("download", f"{format_bytes(plan.download_bytes)} into the Hub's cache")]


def _describe_upload(plan: Plan, repository: str | None, one_by_one: bool) -> list[tuple[str, str]]:
    if repository is None:
        return []
    order = ", each shard deleted before the next is written" if one_by_one else ""
    return [("upload", f"{format_bytes(plan.written_bytes)} of weights to {repository}{order}")]


def _describe_device(plan: Plan) -> str:
    device = format_device(plan.device)
    if not plan.projected_device_bytes:
        return device
    needed = format_mib(plan.projected_device_bytes)
    return f"{device}: {needed} of {format_mib(plan.max_device_memory_bytes)}"


def _describe_disk(plan: Plan) -> str:
    needed = f"{format_bytes(plan.disk_needed_bytes)} needed"
    enough = "" if plan.disk_free_bytes >= plan.disk_needed_bytes else ": NOT ENOUGH"
    return f"{needed}, {format_bytes(plan.disk_free_bytes)} free{enough}"
