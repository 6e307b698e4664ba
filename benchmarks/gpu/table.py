"""The table of what was measured on a device: requirements first, then the figures behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..harness.requirements import HEAD, Requirement, plain_row
from ..harness.results import Results
from ..harness.table import MIB, Row, Table, summarize
from ..harness.tool import without_paths
from ..harness.turns import Samples, record_samples, round_ratios, walls
from .figures import Facts, Kernels, Turns
from .passes import (
    LINK_NAMES,
    LINKS,
    ON_DEVICE,
    ON_PROCESSORS,
    PASSES,
    compare_pass,
    read_links,
    start_seconds,
)

GB = 1e9

LEAST_PASS_SHARE = 0.8
LEAST_KERNEL_SHARE = 0.5
LEAST_MODULE_RATIO = 20
MOST_EXTRA_MIB = 1024

NO_GPU = (
    "**No GPU**: torch computed on processors, with small sizes. This shows that the benchmark "
    "runs; its figures say nothing, and nothing is asked of them."
)

PASSES_REMARK = (
    "A pass is compared with the link that needs longest, when nothing else is done, for the bytes "
    "that the pass moves over it: files of the pair read from the page cache by all workers, "
    "copies from and to page-locked memory, the target's bytes written until they are on disk."
)

KERNELS_REMARK = (
    "Rates of kernels are bytes that must be moved: both weights of an element are read once, and "
    "one is written by `restore_scores`. A copy on the device counts bytes read and written. "
    "The smaller tensors are what a worker of the runs scores at once; they may fit into caches."
)

MODULE_REMARK = (
    "The published algorithm has its tensors on the same device, and leaves out its statistics. "
    "Neither side's time contains the making of the models."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that was measured in one run of the benchmark."""

    facts: Facts
    samples: Samples
    """Links and whole commands."""
    kernels: Kernels
    alone: Turns
    """``restore_module`` on the largest model that fits."""
    beside: Turns | None
    """The published algorithm and ours on the largest model that it can restore, if any."""
    failures: tuple[str, ...] = ()
    """Sizes at which the published algorithm failed, and why."""
    problems: tuple[str, ...] = ()
    """What is wrong with the results."""


def describe(measured: Measured) -> Results:
    """Return what was found."""
    is_gpu = measured.facts.gpu is not None
    requirements = list(judge(measured))
    if not is_gpu:
        requirements = [replace(one, limit=None) for one in requirements]
    rows = [*(one.row() for one in requirements), *_figure_rows(measured)]
    failed = [problem for one in requirements if (problem := one.problem())]
    if measured.beside is None:
        failed.append("the published algorithm restores no model on this device")
    elif not measured.beside.agree():
        failed.append("restore_module and the published algorithm disagree on count or threshold")
    remarks = [
        *(PASSES_REMARK, _describe_work(measured), KERNELS_REMARK, MODULE_REMARK),
        *measured.failures,
    ]
    return Results(
        name="gpu",
        title=f"Restoring on {measured.facts.gpu}" if is_gpu else "A trial without a GPU",
        tables=(Table(head=HEAD, rows=tuple(rows)),),
        samples=_record(measured),
        remarks=tuple(remarks if is_gpu else [NO_GPU, *remarks]),
        problems=(*measured.problems, *failed),
        versions=measured.facts.versions(),
    )


def judge(measured: Measured) -> Iterator[Requirement]:
    """Yield the figures that something is asked of."""
    links = read_links(measured.samples[LINKS])
    results = [cost.document() for cost in measured.samples[ON_DEVICE]]
    for name in PASSES:
        found = compare_pass(name, links, results)
        yield _at_least(
            f"speed of {name} / of its slowest link, {found.slowest}, of each round",
            found.shares,
            LEAST_PASS_SHARE,
            digits=2,
        )
    largest = max(one.elements for one in measured.kernels.kernels)
    for one in measured.kernels.kernels:
        limit = LEAST_KERNEL_SHARE if one.in_use and one.elements == largest else None
        yield _at_least(f"{one.label}: rate / of a copy on the device", one.shares, limit, digits=2)
    if measured.beside is not None:
        own = summarize(turn.seconds for turn in measured.beside.ours).median
        yield _at_least(
            f"published algorithm / restore_module, {_size(measured.beside)}",
            [turn.seconds / own for turn in measured.beside.published],
            LEAST_MODULE_RATIO,
            digits=1,
        )
    extra = _extra_mib(measured.alone.ours)
    if extra:
        yield Requirement(
            label=f"extra memory of the GPU, restore_module, {_size(measured.alone)}",
            measured=summarize(extra),
            unit=" MiB",
            digits=0,
            limit=MOST_EXTRA_MIB,
        )


def _at_least(
    label: str, ratios: Sequence[float], limit: float | None, *, digits: int
) -> Requirement:
    return Requirement(
        label=label, measured=summarize(ratios), digits=digits, limit=limit, at_least=True
    )


def _size(turns: Turns) -> str:
    return f"{turns.parameters / GB:.3g} billion weights"


def _extra_mib(turns: Sequence[Any]) -> list[float]:
    return [turn.extra_bytes / MIB for turn in turns if turn.extra_bytes is not None]


def _figure_rows(measured: Measured) -> Iterator[Row]:
    samples = measured.samples
    links = read_links(samples[LINKS])
    for field, name in LINK_NAMES.items():
        rates = summarize(getattr(one, field) / GB for one in links)
        yield plain_row(f"link: {name}", rates, " GB/s", 1)
    ratios = round_ratios(samples[ON_PROCESSORS], samples[ON_DEVICE])
    yield plain_row(f"{ON_PROCESSORS} / on the device, of each round", summarize(ratios), "", 2)
    for label in (ON_DEVICE, ON_PROCESSORS):
        costs = samples[label]
        yield plain_row(f"{label}: wall time", summarize(walls(costs)), " s", 2)
        for name in PASSES:
            seconds = [cost.document()[f"{name}_seconds"] for cost in costs]
            yield plain_row(f"{label}: {name}", summarize(seconds), " s", 3)
        start = summarize(map(start_seconds, costs))
        yield plain_row(f"{label}: libraries, check of the device, reports", start, " s", 2)
        peaks = summarize(cost.peak_bytes / MIB for cost in costs)
        yield plain_row(f"{label}: peak RSS", peaks, " MiB", 0)
    copies = summarize(rate / GB for rate in measured.kernels.copies)
    yield plain_row("copy on the device", copies, " GB/s", 0)
    for one in measured.kernels.kernels:
        rates = summarize(rate / GB for rate in one.rates)
        yield plain_row(one.label, rates, " GB/s", 1 if rates.median < 100 else 0)
    yield from _module_rows(measured)


def _module_rows(measured: Measured) -> Iterator[Row]:
    contenders = [("restore_module", measured.alone, measured.alone.ours)]
    if beside := measured.beside:
        contenders += [
            ("restore_module, beside the published algorithm", beside, beside.ours),
            ("published algorithm", beside, beside.published),
        ]
    for label, turns, taken in contenders:
        seconds = summarize(turn.seconds for turn in taken)
        yield plain_row(f"{label}, {_size(turns)}", seconds, " s", 3)
        if extra := _extra_mib(taken):
            label = f"{label}, {_size(turns)}: extra memory of the GPU"
            yield plain_row(label, summarize(extra), " MiB", 0)


def _describe_work(measured: Measured) -> str:
    links = read_links(measured.samples[LINKS])[0]
    return (
        f"Runs had {links.workers} workers with blocks of {links.block_bytes / MIB:g} MiB, "
        f"{links.chunk_elements:,} elements at once on the device."
    )


def _record(measured: Measured) -> dict[str, Any]:
    return {
        "passes": record_samples(measured.samples),
        "told": {
            label: [without_paths(cost.document()) for cost in costs]
            for label, costs in measured.samples.items()
        },
        "kernels": asdict(measured.kernels),
        "alone": asdict(measured.alone),
        "beside": asdict(measured.beside) if measured.beside else None,
    }
