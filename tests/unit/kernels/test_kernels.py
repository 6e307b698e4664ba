"""numba equals the NumPy reference to the last integer, and both equal torch's arithmetic."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shardrestore.kernels import cpu, load_kernels, reference
from shardrestore.kernels.interface import Kernels
from shardrestore.scores import SCORES
from shardrestore.scores.score import Score
from shardrestore.selection.score import BINS, LOWS, NAN_KEY, score_of_key
from tests.support import oracle
from tests.support.examples import examples
from tests.support.segments import (
    ALL_16_BITS,
    LENGTHS,
    SPECIAL_FLOATS,
    Selection,
    bfloat16_pairs,
    float32_pairs,
    keys_near,
    make_cut,
    neighbours_of_every_16_bit_value,
    random_floats,
    random_keys,
    selections,
)

KERNELS = [reference, cpu]
EACH_SCORE = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
EXPONENTS = [(np.uint16, 0x7F80), (np.uint16, 0x7C00), (np.uint32, 0x7F800000)]
BOTH = pytest.mark.parametrize("kernels", KERNELS, ids=["reference", "cpu"])


def nan_bfloat16(patterns: np.ndarray) -> np.ndarray:
    return (patterns & 0x7FFF) > 0x7F80


def nan_float16(patterns: np.ndarray) -> np.ndarray:
    return (patterns & 0x7FFF) > 0x7C00


def bfloat16(patterns: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(patterns.astype(np.uint16).view(np.int16)).view(torch.bfloat16)


def float32(bits: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(bits.astype(np.uint32).view(np.int32)).view(torch.float32)


def torch_keys(score: Score, base: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    """Keys of scores in torch's own arithmetic, that of the tensors' format."""
    scores = oracle.FORMULAS[score.name](base, target).float().numpy()
    keys = scores.view(np.uint32).copy()
    keys[np.isnan(scores)] = NAN_KEY
    return keys


def test_the_sets_offer_the_same_functions() -> None:
    names = {name for name in vars(Kernels) if not name.startswith("_")}
    assert all(callable(getattr(module, name)) for module in KERNELS for name in names)
    assert (load_kernels(), load_kernels("reference")) == (cpu, reference)


# Widening and narrowing


@BOTH
def test_widening_bfloat16_keeps_every_pattern(kernels: Any) -> None:
    out = np.empty(1 << 16, np.float32)
    kernels.widen_bfloat16(ALL_16_BITS, out)
    assert np.array_equal(out.view(np.uint32), ALL_16_BITS.astype(np.uint32) << 16)


@BOTH
def test_widening_float16_is_exact_on_every_pattern(kernels: Any) -> None:
    out = np.empty(1 << 16, np.float32)
    kernels.widen_float16(ALL_16_BITS, out)
    expected = torch.from_numpy(ALL_16_BITS.view(np.int16)).view(torch.float16).float().numpy()
    nan = nan_float16(ALL_16_BITS)
    assert np.array_equal(np.isnan(out), nan)
    assert np.array_equal(out.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


def test_both_widen_every_float16_pattern_alike() -> None:
    outs = [np.empty(1 << 16, np.float32) for _ in KERNELS]
    for module, out in zip(KERNELS, outs, strict=True):
        module.widen_float16(ALL_16_BITS, out)
    one, other = (out.view(np.uint32) for out in outs)
    assert not [hex(code) for code in ALL_16_BITS[one != other]]


@BOTH
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrowing_undoes_widening(kernels: Any, dtype: str) -> None:
    wide, back = np.empty(1 << 16, np.float32), np.empty(1 << 16, np.uint16)
    getattr(kernels, f"widen_{dtype}")(ALL_16_BITS, wide)
    getattr(kernels, f"narrow_{dtype}")(wide, back)
    nan = {"bfloat16": nan_bfloat16, "float16": nan_float16}[dtype]
    assert np.array_equal(back[~nan(ALL_16_BITS)], ALL_16_BITS[~nan(ALL_16_BITS)])
    assert nan(back[nan(ALL_16_BITS)]).all()


@BOTH
@pytest.mark.parametrize(
    ("dtype", "is_nan"), [("bfloat16", nan_bfloat16), ("float16", nan_float16)]
)
def test_narrowing_rounds_as_torch_does(kernels: Any, dtype: str, is_nan: Any) -> None:
    rng = np.random.default_rng(1)
    bits = np.concatenate(
        [
            neighbours_of_every_16_bit_value(getattr(reference, f"widen_{dtype}")),
            rng.integers(0, 2**32, 1 << 20, dtype=np.uint32),
            # float16 subnormals are rare among random patterns
            rng.integers(0x32000000, 0x39000000, 1 << 19, dtype=np.uint32),
        ]
    )
    out = np.empty(bits.size, np.uint16)
    getattr(kernels, f"narrow_{dtype}")(bits.view(np.float32), out)
    expected = float32(bits).to(getattr(torch, dtype)).view(torch.int16).numpy().view(np.uint16)
    nan = np.isnan(bits.view(np.float32))
    assert np.array_equal(is_nan(out), nan)
    assert np.array_equal(is_nan(expected), nan)
    assert np.array_equal(out[~nan], expected[~nan])


def test_both_narrow_alike_nan_included() -> None:
    bits = np.concatenate([SPECIAL_FLOATS, random_floats(np.random.default_rng(2), 1 << 16)])
    for name in ("narrow_bfloat16", "narrow_float16"):
        one, other = np.empty(bits.size, np.uint16), np.empty(bits.size, np.uint16)
        getattr(reference, name)(bits.view(np.float32), one)
        getattr(cpu, name)(bits.view(np.float32), other)
        assert np.array_equal(one, other)


# Scores


@EACH_SCORE
@pytest.mark.parametrize("part", range(4))
def test_bfloat16_keys_are_torchs_on_every_base_pattern(score: Score, part: int) -> None:
    base, target = bfloat16_pairs(part)
    keys, expected_zeros = np.empty(base.size, np.uint32), int(np.sum((base & 0x7FFF) == 0))
    assert cpu.score_keys(score, base, target, keys) == expected_zeros
    assert np.array_equal(keys, torch_keys(score, bfloat16(base), bfloat16(target)))
    slow = np.empty_like(keys)
    assert reference.score_keys(score, base, target, slow) == expected_zeros
    assert np.array_equal(keys, slow)


@BOTH
@EACH_SCORE
@pytest.mark.parametrize("seed", range(3))
def test_float32_keys_are_torchs(kernels: Any, score: Score, seed: int) -> None:
    base, target = float32_pairs(seed)
    keys = np.empty(base.size, np.uint32)
    zeros = kernels.score_keys(score, base.view(np.float32), target.view(np.float32), keys)
    assert zeros == np.sum((base & 0x7FFFFFFF) == 0)
    assert np.array_equal(keys, torch_keys(score, float32(base), float32(target)))


@BOTH
@EACH_SCORE
def test_keys_of_ordinary_weights_are_torchs(kernels: Any, score: Score) -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(0, 0.02, 100_003).astype(np.float32)
    target = (base + rng.normal(0, 1e-4, base.size)).astype(np.float32)
    keys = np.empty(base.size, np.uint32)
    kernels.score_keys(score, base, target, keys)
    assert np.array_equal(keys, torch_keys(score, torch.from_numpy(base), torch.from_numpy(target)))


@BOTH
def test_a_zero_base_ranks_by_a_hundred_million_times_its_change(kernels: Any) -> None:
    keys = np.empty(2, np.uint32)
    base, target = np.array([0.0, -0.0], np.float32), np.array([1.0, 2.0], np.float32)
    assert kernels.score_keys(SCORES["relative"], base, target, keys) == 2
    assert [score_of_key(int(key)) for key in keys] == pytest.approx([1e8, 2e8])


@BOTH
@EACH_SCORE
def test_no_key_reaches_beyond_31_bits_nor_between_infinity_and_nan(
    kernels: Any, score: Score
) -> None:
    bits = random_floats(np.random.default_rng(5), 1 << 17)
    keys = np.empty(bits.size // 2, np.uint32)
    kernels.score_keys(score, *np.split(bits.view(np.float32), 2), keys)
    assert np.all((keys <= 0x7F800000) | (keys == NAN_KEY))
    patterns = bits.astype(np.uint16)
    kernels.score_keys(score, *np.split(patterns, 2), keys)
    assert np.all((keys <= 0x7F800000) | (keys == NAN_KEY))
    assert np.all((keys & 0xFFFF) == 0)


# numba against the reference


@EACH_SCORE
def test_both_score_alike_at_every_length(score: Score) -> None:
    for size in LENGTHS:
        rng = np.random.default_rng(size)
        for kind in (np.float32, np.uint16):
            bits = [random_floats(rng, size) for _ in range(2)]
            base, target = (
                b.view(np.float32) if kind is np.float32 else (b >> 16).astype(np.uint16)
                for b in bits
            )
            one, other = np.empty(size, np.uint32), np.empty(size, np.uint32)
            zeros = reference.score_keys(score, base, target, one)
            assert zeros == cpu.score_keys(score, base, target, other)
            assert np.array_equal(one, other)


def test_both_draw_the_same_random_keys() -> None:
    for size, start in itertools.product(LENGTHS, [0, 1, 65_536, (1 << 26) - 1, 2**32 - 5]):
        for words in [(0, 0), (1, 2), (0xFFFFFFFF, 0xFFFFFFFF), (0x80000000, 0x7FFFFFFF)]:
            one, other = np.empty(size, np.uint32), np.empty(size, np.uint32)
            reference.random_keys(*words, start, one)
            cpu.random_keys(*words, start, other)
            assert np.array_equal(one, other)
            assert size == 0 or one.max() < 2**31


def test_both_count_the_same_bins_whatever_the_lanes() -> None:
    for size, lanes in itertools.product(LENGTHS, [1, 2, 4, 8]):
        keys = random_keys(np.random.default_rng(size), size)
        counts = [np.full((lanes, BINS), 3, np.uint32) for _ in KERNELS]
        for module, out in zip(KERNELS, counts, strict=True):
            module.count_bins(keys, out)
            out -= 3  # counts are added to what was there
        sums = [out.sum(axis=0) for out in counts]
        assert np.array_equal(*sums)
        assert np.array_equal(sums[0], np.bincount(keys >> 16, minlength=BINS))


def test_both_count_the_same_low_bits() -> None:
    for size in LENGTHS:
        keys = random_keys(np.random.default_rng(size), size)
        slots = np.full(BINS, -1, np.int32)
        for row, key in enumerate([0x3F800000, 2**31 - 1, 0]):
            slots[key >> 16] = row
        counts = [np.zeros((3, LOWS), np.uint32) for _ in KERNELS]
        for module, out in zip(KERNELS, counts, strict=True):
            module.count_lows(keys, slots, out)
        assert np.array_equal(*counts)
        assert counts[0].sum() == np.count_nonzero(slots[keys >> 16] >= 0)


def test_both_count_the_same_nonfinite_values() -> None:
    for size, (kind, exponent) in itertools.product(LENGTHS, EXPONENTS):
        bits = random_floats(np.random.default_rng(size), size)
        values = bits if kind is np.uint32 else (bits >> 16).astype(np.uint16)
        found = cpu.count_nonfinite(values, exponent)
        assert found == reference.count_nonfinite(values, exponent)
        assert found == sum((int(value) & exponent) == exponent for value in values)


@BOTH
def test_nonfinite_float16_and_float32_are_those_of_numpy(kernels: Any) -> None:
    with np.errstate(invalid="ignore"):
        expected = np.count_nonzero(~np.isfinite(ALL_16_BITS.view(np.float16)))
        bits = random_floats(np.random.default_rng(6), 10_000)
        wide = np.count_nonzero(~np.isfinite(bits.view(np.float32)))
    assert kernels.count_nonfinite(ALL_16_BITS, 0x7C00) == expected
    assert kernels.count_nonfinite(bits, 0x7F800000) == wide


# Selecting


@examples(67)
@given(selections(), st.sampled_from(LENGTHS[:-1]), st.booleans(), st.integers(0, 9))
def test_both_select_alike(chosen: Selection, size: int, wide: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cut, remainder = chosen.cut, chosen.remainder
    keys = keys_near(rng, size, cut)
    kind = np.uint32 if wide else np.uint16
    base, target = (rng.integers(0, 2**16, size).astype(kind) for _ in range(2))
    one, other = np.empty(size, kind), np.empty(size, kind)
    assert reference.select(keys, cut, remainder, base, target, one) == cpu.select(
        keys, cut, remainder, base, target, other
    )
    assert np.array_equal(one, other)


@examples(33)
@given(selections(), st.sampled_from(LENGTHS[:-1]), st.integers(0, 9))
def test_both_count_the_scores_of_what_they_select(chosen: Selection, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cut, remainder = chosen.cut, chosen.remainder
    keys, scores = keys_near(rng, size, cut), random_keys(rng, size)
    counts = [np.zeros((4, BINS), np.uint32) for _ in KERNELS]
    base, target = np.ones(size, np.uint16), np.zeros(size, np.uint16)
    out = np.empty(size, np.uint16)
    for module, count in zip(KERNELS, counts, strict=True):
        module.count_selected(keys, cut, remainder, scores, count)
    selected, _ = reference.select(keys, cut, remainder, base, target, out)
    assert np.array_equal(counts[0].sum(axis=0), counts[1].sum(axis=0))
    expected = np.bincount(scores[out == 1] >> 16, minlength=BINS)
    assert np.array_equal(counts[0].sum(axis=0), expected)
    assert selected == counts[1].sum()


@BOTH
@examples(20)
@given(
    size=st.integers(1, 200),
    share=st.integers(1, 200),
    first=st.integers(0, 99),
    cuts=st.lists(st.integers(0, 200), max_size=4),
)
def test_a_tie_is_taken_by_its_number_alone(
    kernels: ModuleType, size: int, share: int, first: int, cuts: list[int]
) -> None:
    """Calls of any length, the remainder handed on, take the ties that the formula names."""
    ties, needed = first + size, min(share, first + size)
    cut = make_cut("top", 5, 1, needed, ties)
    keys = np.full(size, 5, np.uint32)
    base, target = np.ones(size, np.uint16), np.zeros(size, np.uint16)
    out, remainder, total = np.empty(size, np.uint16), first * needed % ties, 0
    borders = sorted({0, size, *(border for border in cuts if border < size)})
    for low, high in itertools.pairwise(borders):
        selected, remainder = kernels.select(
            keys[low:high], cut, remainder, base[low:high], target[low:high], out[low:high]
        )
        total += selected
    expected = [(j + 1) * needed // ties > j * needed // ties for j in range(first, first + size)]
    assert out.astype(bool).tolist() == expected
    assert (total, remainder) == (sum(expected), (first + size) * needed % ties)


@BOTH
def test_selecting_may_write_over_its_target(kernels: Any) -> None:
    keys = np.arange(20, dtype=np.uint32)
    base, target = np.arange(20, dtype=np.uint32), np.full(20, 99, np.uint32)
    kernels.select(keys, make_cut("top", 10, 1, 1, 1), 0, base, target, target)
    assert target.tolist() == [99] * 10 + list(range(10, 20))


def test_both_note_the_same_changes_and_put_them_back() -> None:
    for size, dtype, share in itertools.product(LENGTHS, [np.uint16, np.uint32], [0, 0.1, 0.6, 1]):
        rng = np.random.default_rng(size)
        held = rng.integers(0, 1 << 16, size).astype(dtype)
        codes = np.where(rng.random(size) < share, held + dtype(1), held).astype(dtype)
        noted = []
        for kernels in KERNELS:
            changed, former = np.empty(-(-size // 8), np.uint8), np.empty_like(held)
            count = kernels.note_changes(held, codes, changed, former)
            noted.append((count, changed.tolist(), former[:count].tolist()))
            again = codes.copy()
            kernels.put_back(changed, former[:count].copy(), again)
            assert np.array_equal(again, held)
        assert noted[0] == noted[1]
        assert noted[0][0] == np.count_nonzero(held != codes)
