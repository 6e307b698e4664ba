"""Where a cut falls, by tables and against a sort."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardrestore.selection.cut import (
    Cut,
    Strategy,
    cut_at_bin,
    cut_at_key,
    find_bin,
    selected_count,
    selected_histogram,
    tie_remainders,
)
from shardrestore.selection.histogram import Histogram
from shardrestore.selection.score import BINS, KEYS, LOWS, NAN_KEY

STRATEGIES: tuple[Strategy, ...] = ("top", "bottom", "random")


def bins(counts: dict[int, int]) -> np.ndarray:
    out = np.zeros(BINS, np.uint64)
    for at, count in counts.items():
        out[at] = count
    return out


def place(keys: np.ndarray, selected: int, strategy: Strategy) -> Cut:
    """Find the exact cut, as the two scans do."""
    counts = np.bincount(keys >> 16, minlength=BINS).astype(np.uint64)
    found = find_bin(counts, percent=1.0, selected=selected, strategy=strategy)
    inside = keys[keys >> 16 == found.bin] & 0xFFFF
    return cut_at_key(found, np.bincount(inside, minlength=LOWS).astype(np.uint64))


def taken_by(cut: Cut, keys: np.ndarray) -> np.ndarray:
    """Apply a cut as its fields are documented."""
    wide = keys.astype(np.int64)
    taken = (wide >= cut.first) & (wide < cut.first + cut.span)
    tied = np.flatnonzero((wide >= cut.tie_first) & (wide < cut.tie_first + cut.tie_span))
    for number, index in enumerate(tied):
        r, ties = cut.ties_taken, cut.ties
        taken[index] |= (number + 1) * r // ties > number * r // ties
    return taken


@pytest.mark.parametrize(
    ("elements", "percent", "expected"),
    [
        (1000, 10, 100),
        (1000, 0.25, 2),  # rounded down
        (1000, 100, 1000),
        (999, 99.9, 998),
        (3, 33.3, 0),
        (3, 33.4, 1),
        (0, 50, 0),
        (973_078_528, 10, 97_307_852),  # TinyLlama's transformer region
        (1000, 0.7, 7),
        (1000, 29, 290),
        (10**12, 1e-9, 10),
    ],
)
def test_k_is_the_rounded_down_share(elements: int, percent: float, expected: int) -> None:
    assert selected_count(elements, percent) == expected


@given(st.integers(0, 2**44), st.floats(1e-6, 100))
def test_k_is_computed_as_the_published_tool_computes_it(elements: int, percent: float) -> None:
    assert selected_count(elements, percent) == int(elements * percent / 100.0)
    assert 0 <= selected_count(elements, percent) <= elements


@pytest.mark.parametrize(
    ("strategy", "selected", "bin_", "needed"),
    [
        ("top", 1, 9, 1),
        ("top", 2, 9, 2),
        ("top", 3, 5, 1),  # the first beyond a full bin
        ("top", 5, 5, 3),
        ("top", 6, 0, 1),
        ("top", 10, 0, 5),  # everything
        ("bottom", 1, 0, 1),
        ("bottom", 5, 0, 5),
        ("bottom", 6, 5, 1),
        ("bottom", 10, 9, 2),
        ("random", 6, 5, 1),  # random keys are taken from below
    ],
)
def test_the_cut_falls_into_the_bin_of_the_last_element(
    strategy: Strategy, selected: int, bin_: int, needed: int
) -> None:
    found = find_bin(bins({0: 5, 5: 3, 9: 2}), percent=1.0, selected=selected, strategy=strategy)
    inside = {0: 5, 5: 3, 9: 2}[bin_]
    assert (found.bin, found.needed, found.inside) == (bin_, needed, inside)
    assert (found.elements, found.selected) == (10, selected)


def test_the_cut_in_the_outermost_bins_stays_within_the_keys() -> None:
    highest = cut_at_bin(
        find_bin(bins({BINS - 1: 4, 0: 1}), percent=1.0, selected=2, strategy="top")
    )
    assert (highest.first, highest.span) == (KEYS, 0)
    lowest = cut_at_bin(find_bin(bins({0: 4}), percent=1.0, selected=2, strategy="bottom"))
    assert (lowest.first, lowest.span, lowest.tie_first, lowest.tie_span) == (0, 0, 0, LOWS)


def test_counts_beyond_32_bits_and_beyond_float64_are_exact() -> None:
    huge = 2**60 + 1
    found = find_bin(bins({3: huge, 2: 7}), percent=1.0, selected=huge + 1, strategy="top")
    assert (found.bin, found.needed) == (2, 1)
    found = find_bin(bins({3: huge, 2: 7}), percent=1.0, selected=huge, strategy="top")
    assert (found.bin, found.needed) == (3, huge)


def test_the_threshold_is_the_score_of_the_tying_key_and_random_has_none() -> None:
    keys = np.array([0x3F800000, 0x40000000, 0x40400000], np.uint32)
    assert place(keys, 2, "top").threshold == 2.0
    assert place(keys, 1, "bottom").threshold == 1.0
    assert place(keys, 1, "random").threshold is None
    assert np.isnan(place(np.array([NAN_KEY], np.uint32), 1, "top").threshold)


KEY_LISTS = st.lists(
    st.sampled_from([0, 1, 0x10000, 0x10001, 0x3F800000, 0x3F80FFFF, NAN_KEY, KEYS - 1])
    | st.integers(0, KEYS - 1),
    min_size=1,
    max_size=60,
).map(lambda keys: np.array(keys, np.uint32))


@given(KEY_LISTS, st.data(), st.sampled_from(STRATEGIES))
def test_a_cut_takes_exactly_k_of_the_outermost(
    keys: np.ndarray, data: st.DataObject, strategy: Strategy
) -> None:
    selected = data.draw(st.integers(1, keys.size))
    cut = place(keys, selected, strategy)
    taken = taken_by(cut, keys)
    assert np.count_nonzero(taken) == selected
    ordered = np.sort(keys)[::-1] if strategy == "top" else np.sort(keys)
    inside = np.sort(keys[taken])
    assert np.array_equal(inside[::-1] if strategy == "top" else inside, ordered[:selected])
    assert (cut.ties, cut.tie_first) == (
        np.count_nonzero(keys == ordered[selected - 1]),
        ordered[selected - 1],
    )
    assert 1 <= cut.ties_taken <= cut.ties


@given(KEY_LISTS, st.data(), st.sampled_from(STRATEGIES))
def test_a_cut_at_a_bin_takes_exactly_k_and_errs_within_the_bin(
    keys: np.ndarray, data: st.DataObject, strategy: Strategy
) -> None:
    selected = data.draw(st.integers(1, keys.size))
    counts = np.bincount(keys >> 16, minlength=BINS).astype(np.uint64)
    cut = cut_at_bin(find_bin(counts, percent=1.0, selected=selected, strategy=strategy))
    taken = taken_by(cut, keys)
    assert np.count_nonzero(taken) == selected
    inside, outside = keys[taken] >> 16, keys[~taken] >> 16
    if outside.size:
        if strategy == "top":
            assert inside.min() >= outside.max()
        else:
            assert inside.max() <= outside.min()


def tied(ties: int, taken: int) -> Cut:
    return Cut(
        strategy="top",
        percent=1.0,
        elements=ties,
        selected=taken,
        tie_first=7,
        tie_span=1,
        ties=ties,
        ties_taken=taken,
    )


@given(st.integers(1, 300), st.data())
def test_any_prefix_of_the_ties_holds_its_even_share(ties: int, data: st.DataObject) -> None:
    taken = data.draw(st.integers(1, ties))
    chosen = taken_by(tied(ties, taken), np.full(ties, 7, np.uint32))
    assert np.cumsum(chosen).tolist() == [j * taken // ties for j in range(1, ties + 1)]


@pytest.mark.parametrize(
    ("ties", "taken", "by_segment", "expected"),
    [
        (10, 3, [10], [0]),
        (10, 3, [4, 6], [0, 2]),  # 12 % 10
        (10, 3, [0, 4, 0, 6, 0], [0, 0, 2, 2, 0]),
        (10, 10, [4, 6], [0, 0]),  # all are taken
        (10**12, 999_999_999_999, [1, 10**12 - 1], [0, 999_999_999_999]),
        (2**61, 2**61 - 1, [2**60, 2**60], [0, 2**60]),  # products beyond 64 bits
    ],
)
def test_each_segment_begins_where_the_one_before_it_ended(
    ties: int, taken: int, by_segment: list[int], expected: list[int]
) -> None:
    assert tie_remainders(tied(ties, taken), by_segment) == expected


def test_segments_that_hold_other_ties_than_the_cut_are_refused() -> None:
    with pytest.raises(ValueError, match="9 ties, the cut 10"):
        tie_remainders(tied(10, 3), [4, 5])


@given(KEY_LISTS, st.data(), st.sampled_from(["top", "bottom"]))
def test_what_is_selected_is_counted_bin_by_bin(
    keys: np.ndarray, data: st.DataObject, strategy: Strategy
) -> None:
    selected = data.draw(st.integers(1, keys.size))
    is_exact = np.array(data.draw(st.lists(st.booleans(), min_size=60, max_size=60)))[: keys.size]
    keys = np.where(is_exact, keys & 0xFFFF0000, keys).astype(np.uint32)
    histogram = Histogram(
        exact=np.bincount(keys[is_exact] >> 16, minlength=BINS).astype(np.uint64),
        binned=np.bincount(keys[~is_exact] >> 16, minlength=BINS).astype(np.uint64),
    )
    cut = place(keys, selected, strategy)
    part = selected_histogram(histogram, cut)
    taken = taken_by(cut, keys)
    assert np.array_equal(part.counts(), np.bincount(keys[taken] >> 16, minlength=BINS))
    assert (part.exact <= histogram.exact).all()
    assert (part.binned <= histogram.binned).all()


def test_top_and_bottom_of_a_bin_share_it_between_both_kinds_in_order() -> None:
    histogram = Histogram(exact=bins({5: 3}), binned=bins({5: 4}))
    for strategy, exact, binned in (("top", 0, 4), ("bottom", 3, 1)):
        cut = cut_at_bin(find_bin(bins({5: 7}), percent=1.0, selected=4, strategy=strategy))
        part = selected_histogram(histogram, cut)
        assert (int(part.exact[5]), int(part.binned[5])) == (exact, binned)


@pytest.mark.parametrize(
    ("ties", "taken"), [(n, r) for n, r in itertools.product([1, 2, 3, 7], repeat=2) if r <= n]
)
def test_as_many_ties_are_taken_as_asked_for_and_the_last_always(ties: int, taken: int) -> None:
    chosen = taken_by(tied(ties, taken), np.full(ties, 7, np.uint32))
    assert int(chosen.sum()) == taken
    assert chosen[-1]
