"""Peak memory over sizes, shardings and options: within its projection, and not growing.

A series of models in which everything grows (see ``pairs.growing_llama``), a checkpoint
that is one tensor, one file or many shards, and the options that change what a run
holds. Beside each measured peak stands the one that was projected before the first
read. Fails if a run takes more than its projection, or if the peaks of the series rise
faster than ``GROWTH_MIB_PER_GB``. The in-memory algorithm is measured on the same
series, as far as this machine's memory goes.

``--small`` is the version for every test run: fewer, smaller models, some options.
``--redraw`` draws the picture again, from results that are there: those of the two large
models come into it when they have been measured.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .contenders.contest import measure_in_memory
from .harness.machine import memory_bytes
from .harness.options import make_parser
from .harness.results import Results, publish
from .harness.scratch import scratch_folder
from .harness.table import MIB
from .harness.tool import make_profile, measure_run
from .models.pairs import Pair, make_pair
from .peak.cases import SERIES, SMALL_SERIES, Case, all_cases, series_cases, small_cases
from .peak.picture import redraw
from .peak.samples import (
    GROWTH_MIB_PER_GB,
    Sample,
    find_problems,
    fit_line,
    tabulate,
)

TITLE = "Peak memory of shardrestore run, and of the in-memory algorithm"

USABLE_SHARE = 0.9
"""Share of the machine's memory that the in-memory algorithm may be expected to take."""


def measure_case(case: Case, folder: Path, *, runs: int) -> Sample:
    """Run a case; the pair is made if it is not in the folder."""
    pair = make_pair(case.pair, folder)
    costs = []
    projected_bytes = 0
    for _ in range(runs):
        with scratch_folder(folder, "peak") as scratch:
            environment = {"NUMBA_CACHE_DIR": str(scratch)} if case.compiles else None
            options = case.options
            if case.profiled:
                options += ("--profile", str(make_profile(pair, scratch)))
            if case.twice:
                options += ("--target", str(pair / "base"))
            cost, result = measure_run(
                pair,
                scratch / "output",
                options,
                percents=case.percents,
                workers=case.workers,
                environment=environment,
            )
        costs.append(cost)
        projected_bytes = result["projected_bytes"]
    return _announce(
        Sample(
            label=case.label,
            side_bytes=case.pair.side_bytes,
            measured_bytes=tuple(cost.peak_bytes for cost in costs),
            projected_bytes=projected_bytes,
            wall_seconds=tuple(cost.wall_seconds for cost in costs),
        )
    )


def measure_others(series: Sequence[Pair], folder: Path, *, usable_mib: float) -> list[Sample]:
    """Measure the in-memory algorithm on the series, as long as it can be expected to fit.

    The first two sizes tell how it grows.
    """
    samples: list[Sample] = []
    for pair in series:
        if len(samples) > 1 and fit_line(samples).at(pair.side_bytes / 1e9) > usable_mib:
            break
        cost = measure_in_memory(make_pair(pair, folder), folder / "output")
        sample = Sample(
            label=f"in memory, {pair.side_bytes / 1e9:.2f} GB a side",
            side_bytes=pair.side_bytes,
            measured_bytes=(cost.peak_bytes,),
            projected_bytes=None,
            wall_seconds=(cost.wall_seconds,),
        )
        samples.append(_announce(sample))
    return samples


def _announce(sample: Sample) -> Sample:
    print(f"{sample.label}: {sample.median_mib:,.1f} MiB", file=sys.stderr)
    return sample


def measure_small(folder: Path) -> tuple[list[Sample], list[Sample]]:
    """Measure the small version: its series, and some options."""
    series = [measure_case(case, folder, runs=1) for case in series_cases(SMALL_SERIES)]
    return series, [measure_case(case, folder, runs=1) for case in small_cases()]


def describe(
    series: Sequence[Sample], others: Sequence[Sample], in_memory: Sequence[Sample]
) -> Results:
    """Return what was found."""
    slope = fit_line(series).slope
    growth = f"{slope:.2f} MiB per GB of one side (at most {GROWTH_MIB_PER_GB:g})"
    remarks = [f"Slope of the first {len(series)} rows: {growth}."]
    if len(in_memory) > 1:
        line = fit_line(in_memory)
        remarks.append(
            f"Slope of the in-memory algorithm: {line.slope:,.0f} MiB per GB of one side. "
            f"Extrapolated: {line.at(13.5) / 1024:,.0f} GiB for Llama-2-7B (13.5 GB), "
            f"{line.at(138) / 1024:,.0f} GiB for Llama-2-70B (138 GB)."
        )
    return Results(
        name="peak_memory",
        title=TITLE,
        tables=(tabulate([*series, *others, *in_memory]),),
        remarks=tuple(remarks),
        problems=tuple(find_problems(series, others)),
        samples={
            "slope_mib_per_gb": slope,
            "series": [asdict(sample) for sample in series],
            "others": [asdict(sample) for sample in others],
            "in_memory": [asdict(sample) for sample in in_memory],
        },
    )


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the results (not of ``--small``); 1 after a problem."""
    parser = make_parser("peak_memory", __doc__)
    parser.add_argument("--small", action="store_true", help="the version for every test run")
    parser.add_argument("--redraw", action="store_true", help="measure nothing, draw the picture")
    parser.add_argument("--runs", type=int, default=3, help="runs of each case (default: 3)")
    parsed = parser.parse_args(arguments)
    if parsed.redraw:
        print(redraw(parsed.results))
        return 0
    if parsed.small:
        series, others = measure_small(parsed.folder)
        return publish(describe(series, others, ()), None)
    series = [measure_case(case, parsed.folder, runs=parsed.runs) for case in series_cases(SERIES)]
    others = [measure_case(case, parsed.folder, runs=parsed.runs) for case in all_cases()]
    usable_mib = USABLE_SHARE * memory_bytes() / MIB
    in_memory = measure_others(SERIES, parsed.folder, usable_mib=usable_mib)
    status = publish(describe(series, others, in_memory), parsed.results)
    redraw(parsed.results)
    return status
