"""Peak memory of ``shardrestore run``: it must not grow with the model.

``python -m benchmarks.peak_memory``: a series of models in which everything
grows (see ``pairs.growing_llama``), a checkpoint that is one tensor, and the
options that change what a run holds. Beside each measured peak stands the one
that was projected before the first read. Fails if a run takes more than its
projection, or if the peaks of the series rise faster than ``GROWTH_MIB_PER_GB``.

``--small`` is the version for every test run: fewer, smaller models, some options.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .pairs import Pair, add_folder_option, growing_llama, make_pair, one_tensor
from .table import MIB, markdown, summarize, write_results
from .tool import make_profile, measure_run

TITLE = "Peak memory of shardrestore run, 2 workers"

GROWTH_MIB_PER_GB = 16.0
"""Allowed slope.

Holding one side of a model is 954; reading whole tensors instead of blocks gave
240 when it was tried. The same run varies by about 1 MiB, which over the small
series' 0.2 GB is a slope of 5.
"""

SERIES = tuple(growing_llama(width) for width in (768, 1024, 1280, 1536, 2048, 2560))
SMALL_SERIES = SERIES[:3]

COMPILES = "nothing compiled yet"
PROFILED = "-k 1,3,5,10,20,40,60 from a profile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to run."""

    label: str
    pair: Pair
    options: tuple[str, ...] = ()
    percents: str = "10"
    compiles: bool = False
    """Whether numba finds no compiled kernels, as in the first run after installation."""
    profiled: bool = False
    """Whether the pair was scanned before, and its profile is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A case's memory."""

    label: str
    side_bytes: int
    """Size of one side of the pair."""
    measured_bytes: tuple[int, ...]
    """Peak resident memory, of each run."""
    projected_bytes: int

    @property
    def median_bytes(self) -> float:
        """The middle of the peaks."""
        return summarize(self.measured_bytes).median

    @property
    def fits(self) -> bool:
        """Whether every run stayed within the projection."""
        return max(self.measured_bytes) <= self.projected_bytes


def series_cases(series: Sequence[Pair]) -> list[Case]:
    """Return a run with default options for each pair."""
    return [Case(label=f"{pair.side_bytes / 1e9:.2f} GB a side", pair=pair) for pair in series]


def option_cases(pair: Pair, float32: Pair) -> list[Case]:
    """Return a case for each option that changes what a run holds."""
    return [
        Case(label="float32", pair=float32),
        Case(label="float32, --approximate", pair=float32, options=("--approximate",)),
        Case(label="float32, --dtype bf16", pair=float32, options=("--dtype", "bf16")),
        Case(label="--dtype bf16", pair=pair, options=("--dtype", "bf16")),
        Case(label="--dtype fp16", pair=pair, options=("--dtype", "fp16")),
        Case(label="--dtype fp32", pair=pair, options=("--dtype", "fp32")),
        Case(label="--strategy bottom", pair=pair, options=("--strategy", "bottom")),
        Case(label="--strategy random", pair=pair, options=("--strategy", "random")),
        Case(label="--region all", pair=pair, options=("--region", "all")),
        Case(label="-k 1,3,5,10,20,40,60", pair=pair, percents="1,3,5,10,20,40,60"),
        Case(label="float32, -k 1,3,5,10,20,40,60", pair=float32, percents="1,3,5,10,20,40,60"),
        Case(
            label="2 regions × 3 strategies × 2 percents",
            pair=pair,
            options=("--region", "attention,mlp", "--strategy", "top,bottom,random"),
            percents="1,10",
        ),
        Case(label=PROFILED, pair=pair, percents="1,3,5,10,20,40,60", profiled=True),
        Case(label="--checksum", pair=pair, options=("--checksum",)),
        Case(label=COMPILES, pair=pair, compiles=True),
    ]


SMALL_OPTIONS = (
    "float32",
    "--dtype fp32",
    "--strategy random",
    "float32, -k 1,3,5,10,20,40,60",
    PROFILED,
)


def measure_case(case: Case, folder: Path, *, runs: int) -> Sample:
    """Run a case; the pair is made if it is not in the folder."""
    pair = make_pair(case.pair, folder)
    peaks = []
    projected_bytes = 0
    for _ in range(runs):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            environment = {"NUMBA_CACHE_DIR": scratch} if case.compiles else None
            options = case.options
            if case.profiled:
                options += ("--profile", str(make_profile(pair, Path(scratch))))
            cost, result = measure_run(
                pair,
                Path(scratch) / "output",
                options,
                percents=case.percents,
                environment=environment,
            )
        peaks.append(cost.peak_bytes)
        projected_bytes = result["projected_bytes"]
    sample = Sample(
        label=case.label,
        side_bytes=case.pair.side_bytes,
        measured_bytes=tuple(peaks),
        projected_bytes=projected_bytes,
    )
    print(f"{case.label}: {sample.median_bytes / MIB:.1f} MiB", file=sys.stderr)
    return sample


def fit_slope(samples: Sequence[Sample]) -> float:
    """Return by how much the peak rises with the model, in MiB per GB of one side.

    The least-squares line through the medians.
    """
    sizes = [sample.side_bytes / 1e9 for sample in samples]
    peaks = [sample.median_bytes / MIB for sample in samples]
    size_mean, peak_mean = sum(sizes) / len(sizes), sum(peaks) / len(peaks)
    rise = sum(
        (size - size_mean) * (peak - peak_mean) for size, peak in zip(sizes, peaks, strict=True)
    )
    return rise / sum((size - size_mean) ** 2 for size in sizes)


def find_problems(series: Sequence[Sample], others: Sequence[Sample]) -> list[str]:
    """Return what is wrong with the measurements, in words; nothing if all is well."""
    problems = [
        f"{sample.label}: measured {max(sample.measured_bytes):,} bytes, "
        f"projected {sample.projected_bytes:,}"
        for sample in (*series, *others)
        if not sample.fits
    ]
    slope = fit_slope(series)
    if slope > GROWTH_MIB_PER_GB:
        problems.append(
            f"the peak rises by {slope:.1f} MiB for each GB of the model, "
            f"at most {GROWTH_MIB_PER_GB:g} are allowed"
        )
    return problems


def measure_small(folder: Path) -> tuple[list[Sample], list[Sample]]:
    """Measure the small version: its series, and some options."""
    smallest = SMALL_SERIES[0]
    options = option_cases(smallest, growing_llama(768, "F32"))
    chosen = [case for case in options if case.label in SMALL_OPTIONS]
    series = [measure_case(case, folder, runs=1) for case in series_cases(SMALL_SERIES)]
    return series, [measure_case(case, folder, runs=1) for case in chosen]


def measure_all(folder: Path, *, runs: int) -> tuple[list[Sample], list[Sample]]:
    """Measure the whole series, and all other cases."""
    tensor = one_tensor(1_000_000_000)
    cases = [
        Case(label="one tensor of 1 GB", pair=tensor),
        *option_cases(growing_llama(1280), growing_llama(1280, "F32")),
    ]
    series = [measure_case(case, folder, runs=runs) for case in series_cases(SERIES)]
    return series, [measure_case(case, folder, runs=runs) for case in cases]


def tabulate(samples: Sequence[Sample]) -> str:
    """Return the table of peaks."""
    rows = []
    for sample in samples:
        least, most = min(sample.measured_bytes) / MIB, max(sample.measured_bytes) / MIB
        rows.append(
            (
                sample.label,
                f"{sample.side_bytes / 1e9:.2f}",
                f"{sample.median_bytes / MIB:.1f}",
                f"{least:.1f} – {most:.1f}",
                f"{sample.projected_bytes / MIB:.1f}",
                f"{max(sample.measured_bytes) / sample.projected_bytes:.0%}",
                "yes" if sample.fits else "**no**",
            )
        )
    head = ("", "side, GB", "peak, MiB", "min – max", "projected, MiB", "used", "holds")
    return markdown(head, rows)


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the results (not of ``--small``); 1 after a problem."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peak_memory", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--small", action="store_true", help="the version for every test run")
    parser.add_argument("--runs", type=int, default=3, help="runs of each case (default: 3)")
    add_folder_option(parser)
    parsed = parser.parse_args(arguments)
    if parsed.small:
        series, others = measure_small(parsed.folder)
    else:
        series, others = measure_all(parsed.folder, runs=parsed.runs)
    problems = find_problems(series, others)
    slope = (
        f"Slope of the first {len(series)} rows: {fit_slope(series):.2f} MiB per GB of one side "
        f"(at most {GROWTH_MIB_PER_GB:g})."
    )
    text = f"{tabulate([*series, *others])}\n\n{slope}"
    print(text)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    if not parsed.small:
        record = {
            "slope_mib_per_gb": fit_slope(series),
            "series": [asdict(sample) for sample in series],
            "others": [asdict(sample) for sample in others],
            "problems": problems,
        }
        write_results("peak_memory", TITLE, text, record)
    return int(bool(problems))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
