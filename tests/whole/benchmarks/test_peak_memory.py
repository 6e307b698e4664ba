"""Peak memory does not grow with the model, and never exceeds its projection."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks import peak_memory
from benchmarks.harness.process import Cost
from benchmarks.models.pairs import Pair, growing_llama
from benchmarks.peak.cases import SMALL_OPTIONS, all_cases, small_cases
from benchmarks.peak.samples import GROWTH_MIB_PER_GB, Sample, find_problems, fit_line
from benchmarks.peak_memory import describe, measure_others, measure_small

MIB = 1 << 20
GB = 1_000_000_000


def make_sample(side_gb: float, peak_mib: float, projected_mib: float = 256) -> Sample:
    return Sample(
        label=f"{side_gb} GB",
        side_bytes=int(side_gb * GB),
        measured_bytes=(int(peak_mib * MIB),),
        projected_bytes=int(projected_mib * MIB),
    )


def test_peak_memory_stays_within_its_projection_whatever_the_model(tmp_path):
    with TemporaryDirectory(dir=tmp_path) as folder:  # pytest would keep the 1.2 GB
        series, options = measure_small(Path(folder))
    assert find_problems(series, options) == []


def test_the_slope_is_that_of_the_least_squares_line():
    samples = [make_sample(0, 100), make_sample(1, 103), make_sample(2, 104)]
    line = fit_line(samples)
    assert line.slope == pytest.approx(2)
    assert line.at(1) == pytest.approx(307 / 3)


@pytest.mark.parametrize(
    ("per_gb", "problems"),
    [
        (0, 0),
        (GROWTH_MIB_PER_GB * 0.9, 0),
        (GROWTH_MIB_PER_GB * 1.1, 1),
        (-50, 0),  # less memory for a larger model is no growth
    ],
)
def test_growth_with_the_model_is_a_problem(per_gb, problems):
    series = [make_sample(size, 180 + per_gb * size) for size in (0.06, 0.14, 0.26)]
    assert len(find_problems(series, [])) == problems


def test_a_peak_above_its_projection_is_a_problem():
    flat = [make_sample(size, 180) for size in (0.1, 0.2)]
    problems = find_problems(flat, [make_sample(0.1, 257)])
    assert problems == [
        f"0.1 GB: measured {257 * MIB:,} bytes, projected {256 * MIB:,}",
    ]


@pytest.mark.parametrize(
    ("usable_mib", "sizes"),
    [
        (100, 2),  # the first two tell how it grows
        (4_500, 2),
        (5_000, 3),
        (9_000, 4),
    ],
)
def test_the_in_memory_algorithm_is_measured_as_far_as_memory_goes(
    usable_mib, sizes, tmp_path, monkeypatch
):
    series = [growing_llama(width) for width in (768, 1024, 1280, 1536)]
    needed_mib = {series[0]: 2000, series[1]: 3000, series[2]: 4614, series[3]: 6990}

    def measure(pair: Pair, _output: Path) -> Cost:
        peak_bytes = needed_mib[pair] * MIB
        return Cost(wall_seconds=1, cpu_seconds=1, peak_bytes=peak_bytes, other_cores=0, output="")

    monkeypatch.setattr(peak_memory, "make_pair", lambda pair, _folder: pair)
    monkeypatch.setattr(peak_memory, "measure_in_memory", measure)
    assert len(measure_others(series, tmp_path, usable_mib=usable_mib)) == sizes


def test_extrapolations_are_marked_as_such():
    in_memory = [make_sample(size, 500 + 10_000 * size) for size in (0.1, 0.2, 0.4)]
    flat = [make_sample(size, 180) for size in (0.1, 0.2)]
    growth, others = describe(flat, [], in_memory).remarks
    assert growth.startswith("Slope of the first 2 rows: 0.00 MiB per GB")
    assert (
        "Slope of the in-memory algorithm: 10,000 MiB per GB of one side. Extrapolated:" in others
    )
    assert "132 GiB for Llama-2-7B (13.5 GB), 1,348 GiB for Llama-2-70B (138 GB)" in others


def test_every_case_has_a_label_of_its_own():
    labels = [case.label for case in all_cases()]
    assert len(set(labels)) == len(labels)
    assert {case.label for case in small_cases()} == set(SMALL_OPTIONS)
