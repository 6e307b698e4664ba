"""Peak memory does not grow with the model, and never exceeds its projection."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.peak_memory import (
    GROWTH_MIB_PER_GB,
    Sample,
    find_problems,
    fit_slope,
    measure_small,
)
from benchmarks.process import CommandError, measure

MIB = 1 << 20
GB = 1_000_000_000


def make_sample(side_gb: float, peak_mib: float, projected_mib: float = 256) -> Sample:
    return Sample(
        label=f"{side_gb} GB",
        side_bytes=int(side_gb * GB),
        measured_bytes=(int(peak_mib * MIB),),
        projected_bytes=int(projected_mib * MIB),
    )


@pytest.mark.slow
def test_peak_memory_stays_within_its_projection_whatever_the_model(tmp_path):
    with TemporaryDirectory(dir=tmp_path) as folder:  # pytest would keep the 1.2 GB
        series, options = measure_small(Path(folder))
    assert find_problems(series, options) == []


def test_the_slope_is_that_of_the_least_squares_line():
    samples = [make_sample(0, 100), make_sample(1, 103), make_sample(2, 104)]
    assert fit_slope(samples) == pytest.approx(2)


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


def test_a_measured_peak_does_not_contain_the_measuring_process():
    ballast = b"x" * (300 * MIB)
    cost = measure([sys.executable, "-c", "b'x' * (50 << 20)"])
    assert len(ballast) > cost.peak_bytes
    assert 50 * MIB < cost.peak_bytes < 100 * MIB


def test_a_measured_command_that_fails_is_an_error_with_its_message():
    with pytest.raises(CommandError, match="status 3:\nout of luck"):
        measure(
            [sys.executable, "-c", "import sys; print('out of luck', file=sys.stderr); sys.exit(3)"]
        )
