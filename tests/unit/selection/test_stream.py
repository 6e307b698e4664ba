"""Random keys: a hash of seed, name and index, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardrestore.granularity import DEFAULT_GRANULARITY
from shardrestore.kernels.reference import random_keys
from shardrestore.selection.stream import stream_words


def mix(x: int) -> int:
    """lowbias32 in Python's own integers."""
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ x >> 16


def keys_of(seed: int, name: str, elements: int, segment: int = 0, start: int = 0) -> np.ndarray:
    keys = np.empty(elements, np.uint32)
    random_keys(*stream_words(seed, name, segment), start, keys)
    return keys


def test_the_words_never_change() -> None:
    """Else the same seed would restore other weights after an upgrade."""
    assert stream_words(32, "model.layers.0.mlp.up_proj.weight", 0) == (118674016, 3796228452)
    assert keys_of(32, "model.layers.0.mlp.up_proj.weight", 3).tolist() == [
        1621255191,
        1369927014,
        1121516931,
    ]
    assert DEFAULT_GRANULARITY.segment_elements == 2**26


WORD = st.integers(0, 2**32 - 1)


@given(WORD, WORD, WORD)
def test_a_key_is_two_rounds_of_the_mixer(word0: int, word1: int, index: int) -> None:
    keys = np.empty(1, np.uint32)
    random_keys(word0, word1, index, keys)
    assert keys[0] == mix(mix(index ^ word0) ^ word1) >> 1


@given(st.integers(0, 2**31), st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_keys_do_not_depend_on_how_they_are_asked_for(start: int, lengths: list[int]) -> None:
    whole = keys_of(1, "w", sum(lengths), start=start)
    parts = [
        keys_of(1, "w", length, start=start + sum(lengths[:at]))
        for at, length in enumerate(lengths)
    ]
    assert np.array_equal(np.concatenate(parts), whole)


def test_seed_name_and_segment_each_make_another_stream() -> None:
    words = {
        stream_words(seed, name, segment)
        for seed in (0, 1, 2, 11, 2**64, -1)
        for name in ("a", "b", "aa", "1\0a", "é", "")
        for segment in (0, 1, 2, 11)
    }
    assert len(words) == 6 * 6 * 4


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "été", "\ud800", "a\0b"])
def test_words_fit_32_bits_for_any_name(name: str) -> None:
    assert all(0 <= word < 2**32 for word in stream_words(32, name, 0))


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("seed", range(5))
def test_keys_are_uniform(seed: int) -> None:
    """256 cells: 255 degrees of freedom, so beyond 360 once in 50,000 honest samples."""
    keys = keys_of(seed, "model.layers.0.mlp.up_proj.weight", 1 << 20)
    assert keys.max() < 2**31
    for shift in (23, 12, 0):
        assert 165 < chi_square(np.bincount(keys >> shift & 255, minlength=256)) < 360


def test_neighbouring_seeds_and_neighbouring_elements_are_unrelated() -> None:
    one, other = (keys_of(seed, "w", 1 << 18) for seed in (1, 2))
    for first, second in ((one, other), (one[:-1], one[1:])):
        cells = (first >> 27).astype(np.int64) * 16 + (second >> 27)
        assert 165 < chi_square(np.bincount(cells, minlength=256)) < 360
        assert np.count_nonzero(first == second) < 5


def test_any_share_of_the_keys_below_a_threshold_is_near_its_expectation() -> None:
    keys = keys_of(7, "w", 1 << 20)
    for share in (0.01, 0.1, 0.5):
        found = np.count_nonzero(keys < share * 2**31)
        deviation = (keys.size * share * (1 - share)) ** 0.5
        assert abs(found - keys.size * share) < 4.5 * deviation
