"""Measuring what is compared by turns, so that a machine that slows down slows everyone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .process import Cost

Samples = dict[str, list[Cost]]
"""What each contender cost, by its label."""


def take_turns(
    contenders: Mapping[str, Callable[[], Cost]], rounds: int, *, warm_up: bool = True
) -> Samples:
    """Measure each contender once a round, after an uncounted round."""
    samples: Samples = {label: [] for label in contenders}
    for number in range(0 if warm_up else 1, rounds + 1):
        for label, turn in contenders.items():
            cost = turn()
            note = f"{number} of {rounds}" if number else "warm-up"
            seconds = f"{cost.wall_seconds:.2f} s, other cores busy: {cost.other_cores:.2f}"
            print(f"{label} ({note}): {seconds}", file=sys.stderr)
            if number:
                samples[label].append(cost)
    return samples


def walls(costs: Sequence[Cost]) -> list[float]:
    """Return the wall times in seconds."""
    return [cost.wall_seconds for cost in costs]


def round_ratios(own: Sequence[Cost], other: Sequence[Cost]) -> list[float]:
    """Return the ratio of the wall times of each round."""
    return [a / b for a, b in zip(walls(own), walls(other), strict=True)]


def record_cost(cost: Cost) -> dict[str, Any]:
    """Return a sample as JSON values."""
    return {
        "wall_seconds": cost.wall_seconds,
        "cpu_seconds": cost.cpu_seconds,
        "peak_bytes": cost.peak_bytes,
        "other_cores": cost.other_cores,
    }


def record_samples(samples: Samples) -> dict[str, list[dict[str, Any]]]:
    """Return all samples as JSON values."""
    return {label: [record_cost(cost) for cost in costs] for label, costs in samples.items()}
