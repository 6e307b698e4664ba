"""Counts of scores: exact, mergeable in any order, and what is computed from them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardrestore.selection.histogram import Histogram, ScoreStatistics, describe_scores, sparse
from shardrestore.selection.score import (
    BINS,
    INFINITY_BIN,
    NAN_KEY,
    bin_scores,
    score_of_key,
)


def histogram_of(exact: list[int], binned: list[int]) -> Histogram:
    """Count bins, given one by one."""
    out = Histogram.empty()
    for at in exact:
        out.exact[at] += np.uint64(1)
    for at in binned:
        out.binned[at] += np.uint64(1)
    return out


BIN_LISTS = st.lists(st.integers(0, INFINITY_BIN - 1), max_size=40)


def test_lanes_are_added_and_empty_bins_left_out() -> None:
    counts = np.zeros((4, BINS), np.uint32)
    counts[0, 3], counts[3, 3], counts[1, BINS - 1] = 2, 5, 1
    found = sparse(counts)
    assert found.bins.tolist() == [3, BINS - 1]
    assert found.counts.tolist() == [7, 1]
    assert found.total() == 8


def test_a_sparse_histogram_answers_for_every_bin() -> None:
    counts = np.zeros((1, 1 << 16), np.uint32)
    counts[0, [0, 7, 0xFFFF]] = [1, 2, 3]
    found = sparse(counts)
    assert [found.count(bin_) for bin_ in (0, 1, 7, 8, 0xFFFE, 0xFFFF)] == [1, 0, 2, 0, 0, 3]
    assert sparse(np.zeros((1, 8), np.uint32)).count(0) == 0


def test_sparse_counts_are_copies() -> None:
    counts = np.zeros((1, BINS), np.uint32)
    counts[0, 5] = 4
    found = sparse(counts)
    counts.fill(0)
    assert found.count(5) == 4


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, BINS - 1))), max_size=4))
def test_merging_does_not_depend_on_the_order(parts: list[tuple[bool, list[int]]]) -> None:
    merged = []
    for order in itertools.permutations(parts):
        out = Histogram.empty()
        for exact, keys in order:
            counts = np.bincount(np.array(keys, int), minlength=BINS).astype(np.uint32)
            out.add(sparse(counts[None]), exact=exact)
        merged.append(out)
    for other in merged[1:]:
        assert np.array_equal(other.exact, merged[0].exact)
        assert np.array_equal(other.binned, merged[0].binned)
    assert merged[0].total() == sum(len(keys) for _, keys in parts)


def test_merged_counts_pass_32_bits() -> None:
    out = Histogram.empty()
    counts = np.zeros((1, BINS), np.uint32)
    counts[0, 1] = 2**32 - 1
    for _ in range(5):
        out.add(sparse(counts), exact=True)
    assert out.total() == 5 * (2**32 - 1)


def test_unchanged_counts_zero_scores_of_both_kinds() -> None:
    assert histogram_of([0, 0, 1], [0, 2]).unchanged() == 3


@given(BIN_LISTS, BIN_LISTS)
def test_statistics_are_numpys_on_the_expanded_scores(exact: list[int], binned: list[int]) -> None:
    if not exact and not binned:
        return
    found = describe_scores(histogram_of(exact, binned))
    values = np.concatenate(
        [bin_scores(exact=True)[exact], bin_scores(exact=False)[binned]]
    ).astype(np.float64)
    ordered = np.sort(values)
    assert (found.min, found.max) == (ordered[0], ordered[-1])
    assert found.median == ordered[(ordered.size - 1) // 2]
    assert found.sum == pytest.approx(math.fsum(values), rel=1e-12)
    assert found.mean == pytest.approx(math.fsum(values) / values.size, rel=1e-12)


def test_the_median_is_the_lower_one() -> None:
    assert describe_scores(histogram_of([0, 0x3F80], [])).median == 0.0
    assert describe_scores(histogram_of([0, 0x3F80, 0x4000], [])).median == 1.0


def test_statistics_of_one_score_are_that_score() -> None:
    assert describe_scores(histogram_of([0x3F80], [])) == ScoreStatistics(
        max=1.0, median=1.0, mean=1.0, min=1.0, sum=1.0
    )


def test_infinite_scores_are_infinite_and_others_nan() -> None:
    found = describe_scores(histogram_of([0x3F80], [INFINITY_BIN]))
    assert (found.max, found.sum, found.min) == (math.inf, math.inf, 1.0)
    found = describe_scores(histogram_of([0x3F80, INFINITY_BIN], [NAN_KEY >> 16]))
    assert math.isnan(found.max)
    assert math.isnan(found.sum)
    assert (found.min, found.median) == (1.0, math.inf)


def test_a_segments_sum_is_that_of_its_scores() -> None:
    counts = np.zeros((2, BINS), np.uint32)
    counts[0, 0x3F80], counts[1, 0x4000], counts[0, 0] = 3, 2, 9
    assert sparse(counts).score_sum(exact=True) == 7.0


def test_an_exact_bin_stands_for_the_bfloat16_score() -> None:
    scores = bin_scores(exact=True)
    assert scores[0x3F80] == 1.0
    assert all(scores[at] == score_of_key(at << 16) for at in range(0, INFINITY_BIN + 1, 97))


def test_a_binned_score_is_off_by_at_most_half_a_bin() -> None:
    first_normal = 0x0080
    low = bin_scores(exact=True)[first_normal:INFINITY_BIN]
    middle = bin_scores(exact=False)[first_normal:INFINITY_BIN]
    high = bin_scores(exact=True)[first_normal + 1 : INFINITY_BIN + 1].copy()
    high[-1] = 2.0**128
    assert (middle - low <= low / 256).all()
    assert (high - middle <= low / 256).all()


@pytest.mark.parametrize("exact", [True, False])
def test_zero_and_infinity_stand_for_themselves(exact: bool) -> None:
    scores = bin_scores(exact=exact)
    assert scores[0] == 0.0
    assert scores[INFINITY_BIN] == math.inf
    assert np.isnan(scores[INFINITY_BIN + 1 :]).all()
    assert (np.diff(scores[: INFINITY_BIN + 1]) > 0).all()


def test_no_float32_score_but_zero_shares_zeros_bin() -> None:
    """The smallest change there is, over the smallest divisor, and over every other one."""
    bases = np.arange(0, 0x7F800000, 9973, dtype=np.uint32)
    base = bases.view(np.float32)
    next_up = (bases + np.uint32(1)).view(np.float32)
    with np.errstate(over="ignore"):
        scores = (next_up - base) / (base + np.float32(1e-8))
    assert (scores.view(np.uint32) >> 16 > 0).all()
